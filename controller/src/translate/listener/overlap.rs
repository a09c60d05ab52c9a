//! HTTPS listeners of one port whose hostnames overlap, so that a connection for one may be used for another.

use std::collections::BTreeMap;

use portcullis_routing::ListenerProtocol;

use super::{ListenerState, names};
use crate::{finding::Finding, status::reason};

/// Marks the HTTPS listeners among `indices`, all of one port, whose hostnames overlap with another's.
///
/// Those that are left when conflicts are settled have a hostname each, so it is enough to look up the wildcards above
/// each one: a Gateway with its ListenerSets may have thousands.
pub(super) fn find(listeners: &mut [ListenerState<'_>], indices: &[usize]) {
    let mut overlaps = BTreeMap::<usize, Vec<usize>>::new();
    let candidates = || {
        let https = indices.iter().copied().filter(|index| {
            let listener = &listeners[*index];
            listener.protocol == Some(ListenerProtocol::Https) && listener.accepted()
        });
        https.map(|index| (index, listeners[index].hostname.as_deref()))
    };
    let any_host = candidates().find(|(_, hostname)| hostname.is_none());
    let wildcards: BTreeMap<&str, usize> = candidates()
        .filter_map(|(index, hostname)| Some((hostname?.strip_prefix("*.")?, index)))
        .collect();
    for (index, hostname) in candidates() {
        let Some(hostname) = hostname else { continue };
        let wider = parents(hostname).filter_map(|parent| wildcards.get(parent).copied());
        for wider in wider.chain(any_host.map(|(index, _)| index)) {
            overlaps.entry(index).or_default().push(wider);
            overlaps.entry(wider).or_default().push(index);
        }
    }
    for (index, mut others) in overlaps {
        others.sort_unstable();
        let others: Vec<_> = others.into_iter().map(|other| &listeners[other]).collect();
        listeners[index].overlap = finding(&listeners[index], &others);
    }
}

/// `b.c` and `c` for `a.b.c`, `c` for `*.b.c`.
fn parents(hostname: &str) -> impl Iterator<Item = &str> {
    let base = hostname.strip_prefix("*.").unwrap_or(hostname);
    let dots = base.match_indices('.');
    dots.map(move |(dot, _)| &base[dot + 1..])
}

fn finding(listener: &ListenerState<'_>, others: &[&ListenerState<'_>]) -> Option<Finding> {
    let own = names(others, |other| other.object == listener.object);
    let foreign = others.iter().any(|other| other.object != listener.object);
    // Neither how many there are nor what they are called: they may be somebody else's.
    let foreign = foreign.then(|| {
        let whose = if listener.is_of_gateway() {
            "of ListenerSets"
        } else {
            "of the Gateway or of other ListenerSets"
        };
        format!("listeners {whose}")
    });
    let parts: Vec<_> = own.into_iter().chain(foreign).collect();
    if parts.is_empty() {
        return None;
    }
    Some(listener.object.note(
        reason::OVERLAPPING_HOSTNAMES,
        format!("{}.hostname", listener.field),
        format!(
            "the hostname overlaps with that of {} on the same port",
            parts.join(" and ")
        ),
        "nothing to do: a browser that reuses a connection of the other listener gets 421 and connects anew",
    ))
}

#[cfg(test)]
mod tests {
    use crate::{
        manifests::Loaded,
        status::condition::kind,
        translate::{Options, hostname::intersects, translate},
    };

    /// Whether either of two HTTPS listeners of a port says that they overlap.
    fn overlap(one: Option<&str>, other: Option<&str>) -> Vec<bool> {
        let listener = |name: &str, hostname: Option<&str>| {
            let hostname = hostname.map(|hostname| format!(", hostname: '{hostname}'"));
            format!(
                "  - {{name: {name}, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: c}}]}}{}}}\n",
                hostname.unwrap_or_default()
            )
        };
        let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  \
                       gatewayClassName: portcullis\n  listeners:\n"
            .to_owned()
            + &listener("one", one)
            + &listener("other", other);
        let mut loaded = Loaded::default();
        loaded.read_text("gateway.yaml", &gateway);
        assert_eq!(loaded.problems, []);
        let statuses = translate(&loaded.resources, &Options::standalone()).statuses;
        let listeners = statuses.gateways.values().flat_map(|it| &it.listeners);
        listeners
            .map(|listener| listener.conditions.is_true(kind::OVERLAPPING_TLS_CONFIG))
            .collect()
    }

    /// What is looked up is what a comparison of each with each would find.
    #[test]
    fn two_listeners_overlap_if_some_host_is_of_both() {
        let names = [
            "example.com",
            "a.example.com",
            "a.b.example.com",
            "badexample.com",
            "*.example.com",
            "*.b.example.com",
            "*.com",
            "*.example.org",
        ];
        for (index, one) in names.iter().enumerate() {
            assert_eq!(overlap(Some(one), None), [true, true], "{one}");
            for other in &names[index + 1..] {
                let expected = [intersects(one, other); 2];
                assert_eq!(overlap(Some(one), Some(other)), expected, "{one}, {other}");
                assert_eq!(overlap(Some(other), Some(one)), expected, "{other}, {one}");
            }
        }
    }
}
