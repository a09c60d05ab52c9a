//! What is right, by the words of `docs/egress.md`: plain, slow, and without a line of the product's.

use std::net::{Ipv4Addr, SocketAddr};

use super::{
    names::{ip, is_opened},
    world::{Action, Callers, Entry, GATEWAY_NAMESPACE, Pod, Policy, Port, Verdict, World},
};

pub(super) const HOST_NOT_LISTED: &str = "host_not_listed";
pub(super) const UNKNOWN_CALLER: &str = "unknown_caller";
pub(super) const DENIED: &str = "denied_by_policy";
pub(super) const NOT_ALLOWED: &str = "not_allowed_by_policy";
pub(super) const ADDRESS_REFUSED: &str = "address_refused";

/// What is asked.
#[derive(Clone, Copy)]
struct Question<'a> {
    caller: Option<&'a Pod>,
    host: &'a str,
    port: u16,
}

/// An entry that opens what is asked for: how it ranks, its namespace and name, itself, and its port.
type Opened<'w> = (
    (bool, usize, bool, i64),
    &'w String,
    &'w String,
    &'w Entry,
    Port,
);

/// Whether a policy is about a caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Speaks {
    No,
    /// The caller is not known, and may be one of those it speaks of.
    Perhaps,
    Yes,
}

/// What is right for a tunnel to `host` and `port`, in this world. A caller who is not known is `None`.
pub(super) fn decide(world: &World, caller: Option<&Pod>, host: &str, port: u16) -> Verdict {
    let question = Question { caller, host, port };
    let (entry, opened) = match open(world, question) {
        Ok(opened) => opened,
        Err(reason) => return Verdict::Refused(reason),
    };
    if let Some(reason) = refusal(world, question) {
        return Verdict::Refused(reason);
    }
    let address = entry.endpoint.or_else(|| world.names.address(host));
    match address {
        Some(address) if opens(world, question, address) => Verdict::Open {
            to: SocketAddr::new(ip(address), opened.target),
            protocol: opened.protocol,
        },
        _ => Verdict::Refused(ADDRESS_REFUSED),
    }
}

/// The entry that wins: "A caller gets the entries of its own namespace and of the Gateway's before those of others. Of both exact
/// hosts go before `*.suffix`, long suffixes before short ones. Of the same host the caller's own goes first. Of all others the order
/// of hosts is the same; then comes the oldest, then the first by namespace and name. An entry that does not have the port, or is not
/// exported to the caller, is passed over."
fn open<'w>(world: &'w World, question: Question<'_>) -> Result<(&'w Entry, Port), &'static str> {
    let mut opened: Vec<Opened<'_>> = Vec::new();
    let mut for_others = false;
    for (narrowness, pattern) in patterns(question.host).iter().enumerate() {
        for entry in world.listing(pattern) {
            let mut ports = entry.ports.iter();
            let Some(port) = ports.find(|port| port.number == question.port) else {
                continue;
            };
            if !is_exported(entry, question.caller) {
                for_others = true;
                continue;
            }
            let is_own = question
                .caller
                .is_some_and(|caller| caller.namespace == entry.namespace);
            let is_far = !is_own && entry.namespace != GATEWAY_NAMESPACE;
            let rank = (is_far, narrowness, !is_own, entry.created);
            opened.push((rank, &entry.namespace, &entry.name, entry, *port));
        }
    }
    let best = opened
        .into_iter()
        .min_by_key(|(rank, namespace, name, ..)| (*rank, *namespace, *name));
    match best {
        Some((.., entry, port)) => Ok((entry, port)),
        // It would be open to somebody, and who calls is not known.
        None if for_others && question.caller.is_none() => Err(UNKNOWN_CALLER),
        None => Err(HOST_NOT_LISTED),
    }
}

/// What lists a host: the host itself, and `*.` before each end of it, the longest first.
fn patterns(host: &str) -> Vec<String> {
    let mut patterns = vec![host.to_owned()];
    let mut rest = host;
    while let Some((_, suffix)) = rest.split_once('.') {
        patterns.push(format!("*.{suffix}"));
        rest = suffix;
    }
    patterns
}

/// "A caller who is not known may use only what is for everybody."
fn is_exported(entry: &Entry, caller: Option<&Pod>) -> bool {
    match (&entry.exported_to, caller) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(namespaces), Some(caller)) => namespaces.contains(&caller.namespace),
    }
}

/// Why policies refuse, if they do: first those of the Gateway's namespace, then those of the caller's. Who is not known may be
/// of any namespace.
fn refusal(world: &World, question: Question<'_>) -> Option<&'static str> {
    let mut namespaces: Vec<&str> = match question.caller {
        Some(caller) => vec![&caller.namespace],
        None => world.policies().map(|it| it.namespace.as_str()).collect(),
    };
    namespaces.retain(|namespace| *namespace != GATEWAY_NAMESPACE);
    namespaces.dedup();
    namespaces.insert(0, GATEWAY_NAMESPACE);
    let mut levels = namespaces.into_iter();
    levels.find_map(|namespace| {
        let policies = world.policies();
        // What one in mode Report would refuse passes, and what one would allow besides does not.
        let of_level = policies.filter(|it| it.namespace == namespace && !it.reports);
        level(of_level, question)
    })
}

/// Why the policies of one level refuse: "Deny goes before Allow. A caller that is selected by Allow policies of a level reaches
/// only what some of them names. A caller who is not known may be any caller, so every policy that might speak of it holds
/// against it."
fn level<'w>(
    policies: impl Iterator<Item = &'w Policy>,
    question: Question<'_>,
) -> Option<&'static str> {
    let mut narrowed = Speaks::No;
    let mut allowed = false;
    for policy in policies {
        let speaks = speaks(policy, question.caller);
        if speaks == Speaks::No {
            continue;
        }
        let named = names(policy, question);
        match policy.action {
            Action::Deny if named => return Some(reason(speaks, DENIED)),
            Action::Deny => {}
            Action::Allow => {
                narrowed = narrowed.max(speaks);
                allowed |= named && speaks == Speaks::Yes;
            }
        }
    }
    (narrowed > Speaks::No && !allowed).then(|| reason(narrowed, NOT_ALLOWED))
}

fn reason(speaks: Speaks, sure: &'static str) -> &'static str {
    if speaks == Speaks::Yes {
        sure
    } else {
        UNKNOWN_CALLER
    }
}

/// "A policy in the namespace of an egress Gateway speaks of every caller. A policy in any other namespace speaks of the callers of
/// its own namespace only."
fn speaks(policy: &Policy, caller: Option<&Pod>) -> Speaks {
    let is_of_gateway = policy.namespace == GATEWAY_NAMESPACE;
    match (caller, &policy.from) {
        (None, None) if is_of_gateway => Speaks::Yes,
        (None, _) => Speaks::Perhaps,
        (Some(caller), from) => {
            let is_in_scope = is_of_gateway || policy.namespace == caller.namespace;
            let is_meant = from.as_ref().is_none_or(|from| is_from(from, caller));
            if is_in_scope && is_meant {
                Speaks::Yes
            } else {
                Speaks::No
            }
        }
    }
}

fn is_from(from: &Callers, caller: &Pod) -> bool {
    let account = (caller.namespace.clone(), caller.account.clone());
    (from.namespaces.is_empty() || from.namespaces.contains(&caller.namespace))
        && (from.accounts.is_empty() || from.accounts.contains(&account))
        && from.tier.is_none_or(|tier| tier == caller.tier)
}

/// Whether a policy names what is asked for, as it is named.
fn names(policy: &Policy, question: Question<'_>) -> bool {
    let patterns = patterns(question.host);
    let host = policy.hosts.is_empty() || policy.hosts.iter().any(|it| patterns.contains(it));
    let port = policy.ports.is_empty() || policy.ports.contains(&question.port);
    host && port
}

/// Whether a policy of the Gateway's opens an address to the caller: without one nobody is led to loopback.
fn opens(world: &World, question: Question<'_>, address: Ipv4Addr) -> bool {
    let mut policies = world.policies();
    is_opened(address)
        && policies.any(|policy| {
            policy.namespace == GATEWAY_NAMESPACE
                && policy.opens_private
                && speaks(policy, question.caller) == Speaks::Yes
                && names(policy, question)
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{
            names::{Names, OPEN},
            world::{Change, Protocol},
        },
        *,
    };

    const HOST: &str = "s0.g0.open.example";

    /// A world where the Gateway's policies let everybody reach `*.open.example`.
    fn world(entries: impl IntoIterator<Item = Entry>, policies: &[Policy]) -> World {
        let mut world = World::new(Arc::new(Names::new(300)));
        let open = Policy {
            opens_private: true,
            ..policy(GATEWAY_NAMESPACE, Action::Allow, &[&format!("*.{OPEN}")])
        };
        for policy in policies.iter().cloned().chain([open]) {
            world.apply(&Change::Policy(Arc::new(policy)));
        }
        for entry in entries {
            world.apply(&Change::Entry(Arc::new(entry)));
        }
        world
    }

    fn entry(namespace: &str, host: &str, target: u16) -> Entry {
        Entry {
            namespace: namespace.to_owned(),
            name: format!("to-{target}"),
            created: 0,
            hosts: vec![host.to_owned()],
            ports: vec![Port {
                number: 80,
                protocol: Protocol::Http,
                target,
            }],
            endpoint: None,
            exported_to: None,
        }
    }

    fn policy(namespace: &str, action: Action, hosts: &[&str]) -> Policy {
        Policy {
            namespace: namespace.to_owned(),
            name: format!("{action:?}-{}", hosts.len()),
            from: None,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ports: Vec::new(),
            action,
            reports: false,
            opens_private: false,
        }
    }

    fn pod(namespace: &str) -> Pod {
        Pod {
            namespace: namespace.to_owned(),
            name: "pod".to_owned(),
            account: "web".to_owned(),
            tier: "front",
            address: Ipv4Addr::LOCALHOST,
        }
    }

    /// The target port that it leads to, or why it is refused.
    fn outcome(world: &World, caller: Option<&Pod>, host: &str, port: u16) -> String {
        match decide(world, caller, host, port) {
            Verdict::Open { to, .. } => to.port().to_string(),
            Verdict::Refused(reason) => reason.to_owned(),
        }
    }

    #[test]
    fn what_is_near_goes_first_then_the_narrowest_then_the_callers_own() {
        let entries = [
            entry("a", HOST, 1),
            entry(GATEWAY_NAMESPACE, "*.open.example", 2),
            entry("b", HOST, 3),
            Entry {
                created: -1,
                ..entry("c", "*.g0.open.example", 4)
            },
            entry("d", "*.open.example", 5),
            entry("e", "*.example", 6),
        ];
        let of_all = world(entries.clone(), &[]);
        for (namespace, led_to) in [
            ("a", "1"),
            ("b", "3"),
            ("c", "4"),
            ("d", "5"),
            ("e", "2"),
            ("f", "2"),
        ] {
            let caller = pod(namespace);
            assert_eq!(outcome(&of_all, Some(&caller), HOST, 80), led_to);
        }
        assert_eq!(outcome(&of_all, None, HOST, 80), "2");
        let [of_a, _, of_b, of_c, ..] = entries;
        let without_gateway = world([of_a, of_b, of_c], &[]);
        assert_eq!(outcome(&without_gateway, None, HOST, 80), "1");
    }

    #[test]
    fn a_wildcard_is_never_its_suffix_and_ports_are_asked_for() {
        let world = world([entry("a", "*.w4.g4.open.example", 1)], &[]);
        let caller = pod("b");
        let asked = |host, port| outcome(&world, Some(&caller), host, port);
        assert_eq!(asked("a.w4.g4.open.example", 80), "1");
        assert_eq!(asked("b.a.w4.g4.open.example", 80), "1");
        assert_eq!(asked("w4.g4.open.example", 80), HOST_NOT_LISTED);
        assert_eq!(asked("a.w4.g4.open.example", 81), HOST_NOT_LISTED);
    }

    #[test]
    fn who_is_not_known_gets_what_is_for_everybody_and_nobody_speaks_of() {
        let exported = Entry {
            exported_to: Some(vec!["a".to_owned()]),
            ..entry("a", HOST, 1)
        };
        let for_some = world([exported], &[]);
        assert_eq!(outcome(&for_some, None, HOST, 80), UNKNOWN_CALLER);
        assert_eq!(outcome(&for_some, Some(&pod("a")), HOST, 80), "1");
        assert_eq!(
            outcome(&for_some, Some(&pod("b")), HOST, 80),
            HOST_NOT_LISTED
        );
        for policy in [
            policy("b", Action::Deny, &[HOST]),
            policy("b", Action::Allow, &["other.example"]),
        ] {
            let narrowed = world([entry("a", HOST, 1)], &[policy]);
            assert_eq!(outcome(&narrowed, None, HOST, 80), UNKNOWN_CALLER);
            assert_eq!(outcome(&narrowed, Some(&pod("a")), HOST, 80), "1");
        }
    }

    #[test]
    fn deny_wins_and_report_passes() {
        let deny = policy("a", Action::Deny, &[HOST]);
        let report = Policy {
            reports: true,
            ..deny.clone()
        };
        let entries = || [entry("a", HOST, 1)];
        let caller = pod("a");
        let allow = policy("a", Action::Allow, &[HOST, "other.example"]);
        let denied = world(entries(), &[deny, allow]);
        assert_eq!(outcome(&denied, Some(&caller), HOST, 80), DENIED);
        assert_eq!(outcome(&denied, Some(&pod("b")), HOST, 80), "1");
        let reported = world(entries(), &[report]);
        assert_eq!(outcome(&reported, Some(&caller), HOST, 80), "1");
        let narrowed = world(entries(), &[policy("a", Action::Allow, &["o.example"])]);
        assert_eq!(outcome(&narrowed, Some(&caller), HOST, 80), NOT_ALLOWED);
    }

    #[test]
    fn addresses_that_no_policy_opens_are_refused() {
        let caller = pod("b");
        let world = world([entry("a", "*.open.example", 1)], &[]);
        let asked = |host| outcome(&world, Some(&caller), host, 80);
        assert_eq!(asked("s96.g46.open.example"), ADDRESS_REFUSED);
        assert_eq!(asked("s97.g47.open.example"), "1");
    }
}
