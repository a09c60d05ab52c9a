//! What is wrong with ServiceEntries and EgressPolicies that may be meant for the host: an answer goes by what is left of them.

use ipnet::IpNet;
use portcullis_controller::{Finding, Resources, Severity};
use portcullis_routing::egress::host::Host;

/// Whether somebody who asks for this host should know of a finding: something is left out of an object that may name it.
pub(super) fn concerns(finding: &Finding, host: &Host, resources: &Resources) -> bool {
    if finding.severity != Severity::Error {
        return false;
    }
    let key = &finding.object.key;
    match finding.object.kind.as_str() {
        "ServiceEntry" => resources.service_entries.get(key).is_some_and(|entry| {
            let named = entry.spec.hosts.iter().chain(&entry.spec.addresses);
            named.into_iter().any(|text| may_name(text, host))
        }),
        "EgressPolicy" => resources.egress_policies.get(key).is_some_and(|policy| {
            let destinations = policy.spec.to.as_deref();
            destinations.is_none_or(|destinations| {
                destinations.iter().any(|to| match &to.hosts {
                    Some(hosts) => hosts.iter().any(|text| may_name(text, host)),
                    None => true,
                })
            })
        }),
        _ => false,
    }
}

/// Whether a text, good or bad, looks as if it were to name the host.
fn may_name(text: &str, host: &Host) -> bool {
    match host {
        Host::Name(name) => {
            let text = text.to_lowercase();
            let is_suffix = |suffix: &str| !suffix.is_empty() && name.ends_with(suffix);
            text.contains(&**name) || text.strip_prefix('*').is_some_and(is_suffix) || text == "*"
        }
        Host::Address(address) => {
            let range: Option<IpNet> = text.parse().ok();
            range.map_or_else(
                || text.contains(&address.to_string()),
                |range| range.contains(address),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_the_host_may_name_it() {
        let name = Host::Name("api.example".into());
        for text in [
            "api.example",
            "https://API.example/",
            "*.example",
            "*example",
            "*",
        ] {
            assert!(may_name(text, &name), "{text}");
        }
        for text in ["b.example", "*.b.example", "192.0.2.1", ""] {
            assert!(!may_name(text, &name), "{text}");
        }
        let address = Host::Address([192, 0, 2, 1].into());
        for text in ["192.0.2.1", "192.0.2.0/24", "192.0.2.1/33"] {
            assert!(may_name(text, &address), "{text}");
        }
        assert!(!may_name("198.51.100.0/24", &address));
    }
}
