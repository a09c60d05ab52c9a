//! Hints beyond the conditions of the Gateway API: what is valid, yet hardly what was meant.

use std::collections::BTreeMap;

use portcullis_controller::{
    Finding, ObjectKey, ObjectRef, Resources, Translation,
    status::{RouteParentStatus, condition::kind, reason},
};
use portcullis_routing::{
    GatewayKey, Listener, ListenerKey, ListenerProtocol, Route, RouteAction, RoutingTable,
    egress::PolicyMode,
};

/// Where objects are that name no namespace.
const DEFAULT: &str = "default";

/// Hints about one Gateway's table.
pub(crate) fn table(table: &RoutingTable) -> Vec<Finding> {
    let routes = table.routes.values();
    let routes = routes.filter_map(|route| no_weight(route));
    routes.chain(all_or_nothing(table)).collect()
}

/// An egress Gateway that lets nothing out, or whatever nobody is against.
fn all_or_nothing(table: &RoutingTable) -> Option<Finding> {
    let settings = table.settings.egress.as_ref()?;
    let (namespace, name) = table.gateway.as_str().split_once('/')?;
    let gateway = ObjectRef::new("Gateway", ObjectKey::new(namespace, name));
    match settings.mode {
        PolicyMode::Report => Some(gateway.note(
            "ReportOnly",
            "spec.gatewayClassName",
            "the egress Gateway is in mode Report: hosts that no ServiceEntry opens pass and are told",
            "nothing to do while you learn what is needed; then remove `mode: Report` (spec.proxy.egress) of its GatewayParameters",
        )),
        PolicyMode::Enforce => table.entries.is_empty().then(|| {
            gateway.warning(
                "NothingOpened",
                "spec.gatewayClassName",
                "no ServiceEntry opens anything, so the egress Gateway lets nothing out",
                "add a ServiceEntry with the hosts and ports that may be reached",
            )
        }),
    }
}

/// Hints about objects that lead nowhere, so that no table shows them.
pub(crate) fn unserved(resources: &Resources, translation: &Translation) -> Vec<Finding> {
    orphans(resources)
        .chain(listeners_without_routes(translation))
        .chain(unused_addresses(resources))
        .chain(policies_of_default(resources, translation))
        .collect()
}

fn no_weight(route: &Route) -> Option<Finding> {
    let RouteAction::Forward(backends) = &route.action else {
        return None;
    };
    if backends.is_empty() || backends.iter().any(|backend| backend.weight > 0) {
        return None;
    }
    Some(source(route).error(
        "WeightsAllZero",
        format!("spec.rules[{}].backendRefs", route.source.rule),
        if route.takes_connections() {
            "every backend has weight 0, so all connections of this rule are refused"
        } else {
            "every backend has weight 0, so all requests of this rule are answered with 500"
        },
        "give at least one backendRef a weight above 0 (without `weight` it is 1)",
    ))
}

/// Routes without any parent. (A parent that does not exist is a finding of the translation.)
fn orphans(resources: &Resources) -> impl Iterator<Item = Finding> {
    let orphans = resources.routes().filter(|route| route.parents.is_empty());
    orphans.map(|route| {
        route.object.error(
            "NoParent",
            "spec.parentRefs",
            "the route names no Gateway, so nobody serves it",
            "add a parentRef with the name (and the namespace, if it is another one) of a Gateway",
        )
    })
}

/// In a cluster they become addresses of the Gateway's Service. Here they would be those of the machine, and one who writes an
/// internal one means that no other is bound.
fn unused_addresses(resources: &Resources) -> impl Iterator<Item = Finding> {
    resources
        .gateways
        .iter()
        .filter(|(_, gateway)| gateway.spec.addresses.as_ref().is_some_and(|all| !all.is_empty()))
        .map(|(key, _)| {
            ObjectRef::new("Gateway", key.clone()).warning(
                "AddressesNotUsed",
                "spec.addresses",
                "they are for the Gateway's Service in a cluster; `portcullis run` listens where --address says, without it \
                 on all addresses of the machine, for egress on loopback",
                "give `portcullis run` the same addresses by --address",
            )
        })
}

/// EgressPolicies in the namespace of objects that say none, where no egress Gateway is: they speak of callers there only.
fn policies_of_default(
    resources: &Resources,
    translation: &Translation,
) -> impl Iterator<Item = Finding> {
    let tables = translation.tables.values();
    let mut of_egress = tables.filter(|table| table.settings.egress.is_some());
    let is_there = |table: &RoutingTable| {
        let namespace = table.gateway.as_str().split_once('/');
        namespace.is_some_and(|(namespace, _)| namespace == DEFAULT)
    };
    let is_elsewhere = of_egress.clone().next().is_some() && !of_egress.any(is_there);
    let policies = resources.egress_policies.keys();
    policies
        .filter(move |key| is_elsewhere && key.namespace == DEFAULT)
        .map(|key| {
            ObjectRef::new("EgressPolicy", key.clone()).note(
                "InDefaultNamespace",
                "metadata.namespace",
                "the policy is in namespace default, as what has no metadata.namespace is, and speaks of callers of that namespace only",
                "nothing to do if that is meant; else write the namespace of the Gateway, or that of the callers",
            )
        })
}

/// A listener that is served, and has no route.
struct Bare<'a> {
    object: &'a ObjectRef,
    index: usize,
    name: &'a str,
    served: &'a Listener,
}

/// Listeners that are served, and have no route. Those of a ListenerSet are in the table of its Gateway.
fn listeners_without_routes(translation: &Translation) -> Vec<Finding> {
    let statuses = &translation.statuses;
    let gateways = statuses.gateways.iter();
    let gateways = gateways.map(|(key, status)| ("Gateway", key, &status.listeners));
    let sets = statuses.listener_sets.iter();
    let sets = sets.map(|(key, status)| ("ListenerSet", key, &status.listeners));
    let served = translation.tables.values().flat_map(|table| {
        // Those of egress serve what entries open, without any route.
        let listeners = table.listeners.iter();
        let listeners = listeners.filter(|(_, listener)| listener.direction.is_ingress());
        listeners.map(|(key, listener)| (place(&table.gateway, key), &**listener))
    });
    let served: BTreeMap<_, _> = served.collect();
    let mut findings = Vec::new();
    for (kind, key, listeners) in gateways.chain(sets) {
        let object = ObjectRef::new(kind, key.clone());
        for (index, listener) in listeners.iter().enumerate() {
            let place = (kind, key.to_string(), &*listener.name);
            if let (0, Some(served)) = (listener.attached_routes, served.get(&place)) {
                let bare = Bare {
                    object: &object,
                    index,
                    name: &listener.name,
                    served,
                };
                findings.push(without_routes(&bare, translation));
            }
        }
    }
    findings
}

/// That may follow from the findings of a route.
fn without_routes(bare: &Bare<'_>, translation: &Translation) -> Finding {
    let Bare {
        object,
        index,
        name,
        served,
    } = bare;
    let (wanted, hence) = match served.protocol {
        ListenerProtocol::Http | ListenerProtocol::Https => {
            ("an HTTPRoute", "answers 404 to everything")
        }
        ListenerProtocol::Tls => ("a TLSRoute", "refuses every connection"),
    };
    let message = format!("no route is attached to listener {name}, so it {hence}");
    let kind = &object.kind;
    let (message, remedy) = match refused(bare, translation) {
        Some(route) => (
            format!("{message}: {route} names this {kind}, and is refused"),
            format!("mend what is said of {route}"),
        ),
        None => (
            message,
            format!(
                "add {wanted} whose parentRef names this {kind} and whose hostnames fit the listener's"
            ),
        ),
    };
    let field = format!("spec.listeners[{index}]");
    object.warning("ListenerWithoutRoutes", field, message, remedy)
}

/// The first route that names a listener, or the whole object it stands in, or a listener that this has not, and is not
/// accepted there.
fn refused(bare: &Bare<'_>, translation: &Translation) -> Option<String> {
    let object = bare.object;
    let mut routes = translation.statuses.routes();
    let names_it = |route: &ObjectKey, parent: &RouteParentStatus| {
        let accepted = parent.conditions.get(kind::ACCEPTED);
        let is_stray = accepted.is_some_and(|it| it.reason == reason::NO_MATCHING_PARENT);
        let parent = &parent.parent_ref;
        let namespace = parent.namespace.as_ref().unwrap_or(&route.namespace);
        let section = parent.section_name.as_deref();
        parent.kind == object.kind
            && (namespace, &parent.name) == (&object.key.namespace, &object.key.name)
            && (is_stray
                || section.is_none_or(|name| name == bare.name)
                    && parent
                        .port
                        .is_none_or(|port| port == i32::from(bare.served.port)))
    };
    let found = routes.find(|(_, key, route)| {
        let mut parents = route.parents.iter();
        parents.any(|it| names_it(key, it) && !it.conditions.is_true(kind::ACCEPTED))
    });
    found.map(|(kind, key, _)| format!("{kind} {key}"))
}

/// The kind and name of the object that a listener stands in, and its own name.
fn place<'a>(gateway: &GatewayKey, key: &'a ListenerKey) -> (&'static str, String, &'a str) {
    match key.listener_set() {
        None => ("Gateway", gateway.to_string(), key.name()),
        Some((namespace, set)) => ("ListenerSet", format!("{namespace}/{set}"), key.name()),
    }
}

fn source(route: &Route) -> ObjectRef {
    let source = &route.source;
    ObjectRef::new(
        source.kind.clone(),
        ObjectKey::new(source.namespace.clone(), source.name.clone()),
    )
}

#[cfg(test)]
mod tests {
    use crate::source::Configuration;

    const EGRESS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: out, namespace: egress}
spec:
  gatewayClassName: portcullis-egress
  infrastructure: {parametersRef: {group: portcullis.dev, kind: GatewayParameters, name: out}}
  listeners: [{name: proxy, protocol: HTTP, port: 3128}]
---
apiVersion: portcullis.dev/v1alpha1
kind: GatewayParameters
metadata: {name: out, namespace: egress}
spec: {proxy: {egress: {mode: Enforce}}}
";

    fn codes(text: &str) -> Vec<String> {
        let texts = [("a.yaml".to_owned(), text.to_owned())];
        let issues = Configuration::of_texts(&texts).issues;
        issues.into_iter().map(|it| it.code).collect()
    }

    #[test]
    fn a_gateway_that_only_reports_is_not_said_to_let_nothing_out() {
        assert_eq!(codes(EGRESS), ["NothingOpened"]);
        assert_eq!(codes(&EGRESS.replace("Enforce", "Report")), ["ReportOnly"]);
    }

    #[test]
    fn a_policy_without_namespace_is_told_where_it_is_unless_the_gateway_is_there() {
        let policy = "---\napiVersion: portcullis.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: all}\nspec: {}\n";
        let text = format!("{EGRESS}{policy}");
        assert_eq!(codes(&text), ["InDefaultNamespace", "NothingOpened"]);
        let beside = text.replace(", namespace: egress", "");
        assert_eq!(codes(&beside), ["NothingOpened"]);
    }

    const MANIFESTS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: portcullis
  listeners:
  - {name: one, protocol: HTTP, port: 80, hostname: one.example}
  - {name: two, protocol: HTTP, port: 8080, hostname: two.example}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  hostnames: [three.example]
  parentRefs: [{name: edge, port: 8080}]
";

    #[test]
    fn a_refused_route_is_named_for_listeners_of_its_port_only() {
        let texts = [("a.yaml".to_owned(), MANIFESTS.to_owned())];
        let issues = Configuration::of_texts(&texts).issues;
        let hints = issues
            .iter()
            .filter(|it| it.code == "ListenerWithoutRoutes");
        let blames: Vec<_> = hints
            .map(|it| {
                (
                    it.field.as_str(),
                    it.message.contains("HTTPRoute default/web"),
                )
            })
            .collect();
        assert_eq!(
            blames,
            [("spec.listeners[0]", false), ("spec.listeners[1]", true)]
        );
    }

    #[test]
    fn a_route_with_a_listener_that_is_not_there_is_named_for_those_that_are() {
        let text = MANIFESTS.replace("port: 8080}]", "sectionName: three}]");
        let issues = Configuration::of_texts(&[("a.yaml".to_owned(), text)]).issues;
        let hints = issues
            .iter()
            .filter(|it| it.code == "ListenerWithoutRoutes");
        let remedies: Vec<_> = hints.map(|it| it.remedy.as_str()).collect();
        assert_eq!(remedies, ["mend what is said of HTTPRoute default/web"; 2]);
    }
}
