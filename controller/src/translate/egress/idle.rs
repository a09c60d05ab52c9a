//! Policies that are valid, and hardly say what was meant: destinations that nobody can ask for, and requests that nobody sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use portcullis_crds::gateway_parameters::EgressMode;
use portcullis_routing::{
    cluster::SubjectAltName,
    egress::{
        DestinationMatch, Entry, EntryPort, MAX_CLAIMS, Policy, PolicyAction, PolicyMode,
        PolicyScope,
    },
};

use super::{
    claim::Tally,
    entries::Entries,
    listed::{Asked, Audience, Callers, Names, Pattern},
    policies::{KIND, Policies},
};
use crate::{
    finding::{Finding, ObjectRef},
    resources::{ObjectKey, RouteView},
    translate::{Context, GATEWAY_GROUP, field::Field, gateway::GatewayState, listener_set},
};

/// Hosts and ports of one destination multiply to this many at most, or its ports are not looked at: nobody writes more by hand.
const MAX_PAIRS: usize = 1024;
/// Who speaks of callers of more namespaces is taken to speak of anybody.
const MAX_NAMESPACES: usize = 64;

/// What is told of policies. `gateways` are those of our classes.
pub(super) fn find(
    ctx: &Context<'_>,
    gateways: &BTreeMap<ObjectKey, GatewayState<'_>>,
    policies: &Policies,
    entries: &Entries,
) -> Vec<(ObjectKey, Finding)> {
    let asked = asked(policies);
    if asked.names.is_empty() {
        return Vec::new();
    }
    let routes: Vec<_> = ctx.resources.routes().collect();
    let routes = routes.iter().filter(|it| is_outward(ctx, it, gateways));
    let there = There::collect(&asked, entries, routes, gateways);
    let of_egress = gateways.iter().filter(|(_, gateway)| gateway.is_egress());
    let lenient: Vec<_> = of_egress
        .filter(|(_, gateway)| {
            let parameters = gateway.parameters();
            parameters.is_some_and(|it| it.egress.mode == EgressMode::Report)
        })
        .map(|(key, _)| key)
        .collect();
    let mut found = Vec::new();
    for (key, translated, policy) in policies.good() {
        let Some(callers) = callers(policy) else {
            continue;
        };
        let speech = Speech {
            object: ObjectRef::new(KIND, key.clone()),
            action: policy.action,
            callers,
            is_ahead: is_trial(policy)
                // There whatever nothing lists passes, unless a policy is against it.
                || lenient.iter().any(|it| translated.at(key, it).is_some()),
        };
        let destinations = policy.to.iter().flatten();
        for (index, to) in translated.indices.iter().zip(destinations) {
            let root = Field::root("spec");
            let field = root.child("to");
            let findings = speech.look_at(to, &there, &field.at(*index));
            found.extend(findings.into_iter().map(|finding| (key.clone(), finding)));
        }
    }
    found
}

/// What there is to be known for all policies.
fn asked(policies: &Policies) -> Asked<'_> {
    let mut asked = Asked::default();
    let destinations = policies.good().flat_map(|(_, _, policy)| &policy.to);
    for to in destinations.flatten() {
        if to.hosts.is_empty() && !to.is_of_requests() {
            continue;
        }
        asked.names.extend(names_of(to).map(|it| it.suffix));
        asked.ports.extend(&to.ports);
    }
    asked
}

/// The names that a destination has; without hosts it has all.
fn names_of(to: &DestinationMatch) -> impl Iterator<Item = Pattern<'_>> {
    let all = to.hosts.is_empty().then_some(Pattern::EVERYTHING);
    named(to).map(|(_, name)| name).chain(all)
}

/// Its hosts but for addresses, which any entry may come to.
fn named(to: &DestinationMatch) -> impl Iterator<Item = (&str, Pattern<'_>)> {
    let hosts = to.hosts.iter().map(String::as_str);
    let names = hosts.filter(|host| host.parse::<IpAddr>().is_err());
    names.map(|host| (host, Pattern::of(host)))
}

/// Of whom a policy speaks; `None` is nobody.
fn callers(policy: &Policy) -> Option<Callers<'_>> {
    if let PolicyScope::Namespace(own) = &policy.scope {
        return Some(Callers::Of(vec![own]));
    }
    let Some(from) = &policy.from else {
        return Some(Callers::Any);
    };
    let mut namespaces = BTreeSet::new();
    for caller in from {
        match (&caller.namespaces, &caller.service_accounts) {
            (Some(names), _) => namespaces.extend(names.iter().map(String::as_str)),
            (None, Some(accounts)) => {
                namespaces.extend(accounts.iter().map(|(namespace, _)| namespace.as_str()));
            }
            (None, None) => return Some(Callers::Any),
        }
        if namespaces.len() > MAX_NAMESPACES {
            return Some(Callers::Any);
        }
    }
    (!namespaces.is_empty()).then(|| Callers::Of(namespaces.into_iter().collect()))
}

/// Whether it allows what is only tried: nobody is refused anything for what it does not name.
fn is_trial(policy: &Policy) -> bool {
    (policy.action, policy.mode) == (PolicyAction::Allow, PolicyMode::Report)
}

/// Whether a route names an egress Gateway, or a ListenerSet of one.
fn is_outward(
    ctx: &Context<'_>,
    route: &RouteView<'_>,
    gateways: &BTreeMap<ObjectKey, GatewayState<'_>>,
) -> bool {
    route.parents.iter().any(|parent| {
        let namespace = parent.namespace.as_ref();
        let namespace = namespace.unwrap_or(&route.object.key.namespace);
        let key = ObjectKey::new(namespace, &parent.name);
        let gateway = match (parent.group.as_str(), parent.kind.as_str()) {
            (GATEWAY_GROUP, "Gateway") => Some(key),
            (GATEWAY_GROUP, "ListenerSet") => {
                let set = ctx.resources.listener_sets.get(&key);
                set.and_then(|set| listener_set::gateway_of(&key, set))
            }
            _ => None,
        };
        let gateway = gateway.and_then(|key| gateways.get(&key));
        gateway.is_some_and(GatewayState::is_egress)
    })
}

/// What callers can ask for.
#[derive(Default)]
struct There<'a> {
    /// Hosts that entries list, with their ports.
    listed: Names<'a>,
    /// Those of them at which nobody sees requests.
    unseen: Names<'a>,
    /// Hosts that policies are held against besides: those of routes, and, for each Deny, those that entries lead to.
    besides: Names<'a>,
}

impl<'a> There<'a> {
    fn collect(
        asked: &Asked<'_>,
        entries: &'a Entries,
        routes: impl Iterator<Item = &'a RouteView<'a>>,
        gateways: &BTreeMap<ObjectKey, GatewayState<'_>>,
    ) -> Self {
        let mut there = Self::default();
        for entry in entries.known() {
            there.add(asked, entry);
        }
        let of_egress = gateways.iter().filter(|(_, gateway)| gateway.is_egress());
        let inside: BTreeSet<_> = of_egress.map(|(key, _)| key.namespace.as_str()).collect();
        for route in routes {
            // One of the Gateway's namespace takes everybody's requests, any other those of its own.
            let home = &route.object.key.namespace;
            let audience = if inside.contains(home.as_str()) {
                Audience::Everybody
            } else {
                Audience::Namespaces(std::slice::from_ref(home))
            };
            let all = route.hostnames.is_empty().then_some(Pattern::EVERYTHING);
            let names = route.hostnames.iter().map(|name| Pattern::of(name));
            for name in names.chain(all) {
                there.besides.add(asked, name, &[None], audience);
            }
        }
        there
    }

    fn add(&mut self, asked: &Asked<'_>, entry: &'a Entry) {
        let audience = Audience::from(&entry.exported_to);
        let ports = entry.ports.iter();
        let unseen = ports.clone().filter(|it| is_unseen(it));
        let unseen = asked.at(unseen.map(|it| it.number).collect());
        // A Deny of the port that is connected to holds as well.
        let listed = asked.at(ports.flat_map(|it| [it.number, it.target()]).collect());
        for host in &entry.hosts {
            let name = Pattern::of(host);
            self.listed.add(asked, name, &listed, audience);
            self.unseen.add(asked, name, &unseen, audience);
        }
        // As an entry has bounds for its hosts only, so has this.
        let namespaces = match audience {
            Audience::Everybody => 1,
            Audience::Namespaces(namespaces) => namespaces.len().max(1),
        };
        for name in led_to(entry).take(MAX_CLAIMS / namespaces) {
            let name = Pattern::of(name);
            self.besides.add(asked, name, &[None], audience);
        }
    }
}

/// Whether requests to a port of an entry are never read, as clients speak with the host itself.
fn is_unseen(port: &EntryPort) -> bool {
    !port.protocol.is_clear_http() && port.tls.is_none() && !port.shut
}

/// The names that stand in for those of an entry; its own too if endpoints have ports of their own, which are ports of theirs then.
fn led_to(entry: &Entry) -> impl Iterator<Item = &str> {
    let endpoints = entry.endpoints.iter().filter_map(|it| it.host.name());
    let of_tls = entry.tls.iter().flat_map(|tls| {
        let names = tls.subject_alt_names.iter();
        let names = names.filter_map(|name| match name {
            SubjectAltName::Hostname(name) => Some(name.as_str()),
            SubjectAltName::Uri(_) => None,
        });
        names.chain(tls.server_name.as_deref())
    });
    let has_own_ports = entry.endpoints.iter().any(|it| !it.ports.is_empty());
    let own = entry.hosts.iter().filter(move |_| has_own_ports);
    own.map(String::as_str).chain(of_tls).chain(endpoints)
}

/// What a policy says of whom.
struct Speech<'a> {
    object: ObjectRef,
    action: PolicyAction,
    callers: Callers<'a>,
    /// Hosts that nothing lists are as good as others.
    is_ahead: bool,
}

impl Speech<'_> {
    /// What is told of one of its destinations.
    fn look_at(&self, to: &DestinationMatch, there: &There<'_>, field: &Field<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !self.is_ahead {
            findings.extend(self.unlisted_hosts(to, there, field));
            findings.extend(self.unlisted_ports(to, there, field));
        }
        findings.extend(self.unseen_requests(to, there, field));
        findings
    }

    fn nothing(&self) -> &'static str {
        match self.action {
            PolicyAction::Allow => {
                "it allows nothing there, and its callers reach only what it or another policy allows"
            }
            PolicyAction::Deny => "it denies nothing there",
        }
    }

    fn is_besides(&self, there: &There<'_>, name: Pattern<'_>) -> bool {
        there.besides.has(name, None, &self.callers)
    }

    fn unlisted_hosts(
        &self,
        to: &DestinationMatch,
        there: &There<'_>,
        field: &Field<'_>,
    ) -> Option<Finding> {
        let is_listed = |name| there.listed.has(name, None, &self.callers);
        let unlisted = named(to).filter(|(_, name)| !is_listed(*name));
        let (mut all, mut apex) = (Tally::default(), None);
        for (host, name) in unlisted.filter(|(_, name)| !self.is_besides(there, *name)) {
            all.add(host);
            apex = apex.or_else(|| is_listed(name.below()).then_some(host));
        }
        all.first()?;
        let remedy = match apex {
            Some(host) => format!(
                "names below {host} are listed: write *.{host} if these are meant; nothing to do if it will be listed itself"
            ),
            None => "correct the names; nothing to do if an entry will list them".to_owned(),
        };
        Some(self.object.warning(
            "HostNotListed",
            field.child("hosts").to_string(),
            format!(
                "no ServiceEntry lists {all} for callers of this policy, so {}",
                self.nothing()
            ),
            remedy,
        ))
    }

    fn unlisted_ports(
        &self,
        to: &DestinationMatch,
        there: &There<'_>,
        field: &Field<'_>,
    ) -> Option<Finding> {
        if to.hosts.len().saturating_mul(to.ports.len()) > MAX_PAIRS {
            return None;
        }
        let is_listed = |name: Pattern<'_>, port| there.listed.has(name, port, &self.callers);
        let names: Vec<_> = named(to).map(|(_, name)| name).collect();
        let is_known =
            |name: &Pattern<'_>| is_listed(*name, None) && !self.is_besides(there, *name);
        // Of the ports of addresses, of what routes name and of hosts that nothing lists nothing is known.
        if names.is_empty() || names.len() < to.hosts.len() || !names.iter().all(is_known) {
            return None;
        }
        let mut unlisted = Tally::default();
        for port in &to.ports {
            if !names.iter().any(|name| is_listed(*name, Some(*port))) {
                unlisted.add(port);
            }
        }
        unlisted.first()?;
        Some(self.object.warning(
            "PortNotListed",
            field.child("ports").to_string(),
            format!(
                "no ServiceEntry lists port {unlisted} of these hosts for callers of this policy, so {}",
                self.nothing()
            ),
            "correct the ports: they are those that callers name; nothing to do if an entry will list them",
        ))
    }

    fn unseen_requests(
        &self,
        to: &DestinationMatch,
        there: &There<'_>,
        field: &Field<'_>,
    ) -> Option<Finding> {
        if !to.is_of_requests() || to.hosts.len().saturating_mul(to.ports.len()) > MAX_PAIRS {
            return None;
        }
        let is_unseen = |name, port| there.unseen.has(name, port, &self.callers);
        let mut unseen = Tally::default();
        let all = to.hosts.is_empty();
        let all = all.then_some((
            "hosts that are listed for TLS, HTTPS or TCP",
            Pattern::EVERYTHING,
        ));
        for (host, name) in named(to).chain(all) {
            let mut ports = to.ports.iter();
            let is_met = match to.ports.as_slice() {
                [] => is_unseen(name, None),
                _ => ports.any(|port| is_unseen(name, Some(*port))),
            };
            if is_met {
                unseen.add(host);
            }
        }
        unseen.first()?;
        let follows = match self.action {
            PolicyAction::Allow => "it allows none of these",
            PolicyAction::Deny => "it denies all of these",
        };
        Some(self.object.note(
            "RequestsNotSeen",
            field.to_string(),
            format!(
                "methods and paths are not seen in tunnels, and in TLS that passes through, to {unseen}: {follows}"
            ),
            "nothing to do if that is meant; else list the host for HTTP, with targetPort 443 and a BackendTLSPolicy, so that the gateway begins TLS",
        ))
    }
}
