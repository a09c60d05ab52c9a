//! What egress Gateways that share one proxy come to: never more open than any of them.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_controller::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
};
use portcullis_routing::{
    GatewayKey, PolicyKey, RoutingTable,
    egress::{EgressSettings, Policy, PolicyMode, PolicyScope},
};

/// The settings `one`, with what `other` refuses besides.
pub(super) fn stricter(mut one: EgressSettings, other: EgressSettings) -> EgressSettings {
    if other.mode == PolicyMode::Enforce {
        one.mode = PolicyMode::Enforce;
    }
    one.protected.extend(other.protected);
    one.protected.sort_unstable();
    one.protected.dedup();
    one.own.extend(other.own);
    one.own.sort_unstable();
    one.own.dedup();
    let longest = one.tunnel_max_duration.into_iter();
    one.tunnel_max_duration = longest.chain(other.tunnel_max_duration).min();
    if one.dns_servers.is_empty() {
        one.dns_servers = other.dns_servers;
    }
    one
}

/// The policies of all egress Gateways. Which Gateway a caller came by is not known here, so one that is for some of them is in
/// force for all; where it is in two forms, in the one that speaks of every caller.
pub(super) fn policies(
    tables: &BTreeMap<GatewayKey, RoutingTable>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<PolicyKey, Arc<Policy>> {
    let egress = || {
        tables
            .values()
            .filter(|table| table.settings.egress.is_some())
    };
    let mut merged = BTreeMap::<_, Arc<Policy>>::new();
    for (key, policy) in egress().flat_map(|table| &table.policies) {
        let known = merged
            .entry(key.clone())
            .or_insert_with(|| Arc::clone(policy));
        if policy.scope == PolicyScope::Gateway {
            *known = Arc::clone(policy);
        }
    }
    for (key, policy) in &mut merged {
        let opened = |table: &RoutingTable| {
            let there = table.policies.get(key);
            there.is_some_and(|there| there.allow_private == policy.allow_private)
        };
        if !policy.allow_private.is_empty() && !egress().all(opened) {
            Arc::make_mut(policy).allow_private.clear();
        }
        if egress().any(|table| table.policies.get(key) != Some(policy)) {
            findings.push(policy_shared(key));
        }
    }
    merged
}

fn policy_shared(key: &PolicyKey) -> Finding {
    let mut names = key.as_str().split('/').skip(1);
    let (namespace, name) = (
        names.next().unwrap_or_default(),
        names.next().unwrap_or_default(),
    );
    ObjectRef::new("EgressPolicy", ObjectKey::new(namespace, name)).warning(
        "PolicyShared",
        "spec.targetRefs",
        "it is meant for some egress Gateways, or for some of their callers, and is in force for all of them; private ranges that it \
         opens for some stay shut",
        "here all Gateways share one proxy: have the egress Gateways in one namespace, or run each in a process of its own",
    )
}

#[cfg(test)]
mod tests {
    use portcullis_controller::{Options, manifests::Loaded, translate};

    use super::super::merge;
    use super::*;

    /// An egress Gateway with settings of its own, and a policy that opens a private range to its callers.
    fn gateway(namespace: &str, port: u16, egress: &str) -> String {
        format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: out, namespace: {namespace}}}
spec:
  gatewayClassName: portcullis-egress
  listeners: [{{name: proxy, protocol: HTTP, port: {port}}}]
  infrastructure: {{parametersRef: {{group: portcullis.dev, kind: GatewayParameters, name: own}}}}
---
apiVersion: portcullis.dev/v1alpha1
kind: GatewayParameters
metadata: {{name: own, namespace: {namespace}}}
spec: {{proxy: {{egress: {egress}}}}}
---
apiVersion: portcullis.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: inside, namespace: {namespace}}}
spec: {{allowPrivate: [10.1.0.0/16]}}
"
        )
    }

    fn merged(gateways: &[String]) -> (RoutingTable, Vec<&'static str>) {
        let mut loaded = Loaded::default();
        loaded.read_text("test", &gateways.concat());
        assert_eq!(loaded.problems, []);
        let translation = translate(&loaded.resources, &Options::standalone());
        let (table, findings) = merge(&translation.tables);
        let codes = findings.into_iter().map(|finding| finding.code);
        (table, codes.collect())
    }

    #[test]
    fn the_strictest_settings_are_in_force() {
        let open = gateway(
            "a",
            3128,
            "{mode: Report, protectedCIDRs: [198.51.100.0/24], tunnelMaxDuration: 2h}",
        );
        let strict = gateway(
            "b",
            3129,
            "{protectedCIDRs: [203.0.113.0/24], tunnelMaxDuration: 1h}",
        );
        let (table, codes) = merged(&[open, strict]);
        let settings = table.settings.egress.as_ref().unwrap();
        let ranges = ["198.51.100.0/24", "203.0.113.0/24"].map(|range| range.parse().unwrap());
        assert_eq!(settings.mode, PolicyMode::Enforce);
        assert_eq!(settings.protected, ranges);
        assert_eq!(settings.tunnel_max_duration.map(|it| it.0), Some(3_600_000));
        assert!(codes.contains(&"SettingsConflict"), "{codes:?}");
    }

    #[test]
    fn a_policy_is_in_force_for_all_and_opens_private_ranges_only_if_it_does_for_each() {
        let (one, other) = (gateway("a", 3128, "{}"), gateway("b", 3129, "{}"));
        let opened = |table: &RoutingTable| {
            let policies = table.policies.values();
            let opened: Vec<_> = policies.map(|it| it.allow_private.len()).collect();
            opened
        };
        let (table, codes) = merged(std::slice::from_ref(&one));
        assert_eq!((opened(&table), codes), (vec![1], vec![]));
        let (table, codes) = merged(&[one, other]);
        let scopes: Vec<_> = table.policies.values().map(|it| &it.scope).collect();
        assert_eq!(scopes, [&PolicyScope::Gateway, &PolicyScope::Gateway]);
        assert_eq!(opened(&table), [0, 0]);
        assert_eq!(codes, ["PolicyShared", "PolicyShared"]);
    }
}
