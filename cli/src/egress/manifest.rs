//! ServiceEntries and EgressPolicies as manifests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Hosts, ports and destinations that one object may have, by its CRD.
pub(super) const MAX_HOSTS: usize = 256;
pub(super) const MAX_ENTRY_PORTS: usize = 256;
pub(super) const MAX_PORTS: usize = 64;
pub(super) const MAX_DESTINATIONS: usize = 64;
/// Longest stem of a name, bytes: a hash goes behind it, and perhaps a number (253 at most).
const MAX_STEM: usize = 230;
/// Bytes of the hash that are written.
const HASHED: usize = 5;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Spoken {
    /// Requests in clear text.
    Http,
    /// TLS.
    Tls,
    /// Something else.
    Tcp,
}

/// As a ServiceEntry writes it.
impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
        })
    }
}

/// Name of a port: `tls-443`.
pub(super) fn port_name(port: u16, spoken: Spoken) -> String {
    format!("{}-{port}", spoken.to_string().to_lowercase())
}

/// A name for an object about this host. No label of it begins or ends with a `-`, which an underscore would become.
pub(super) fn name_of(host: &str) -> String {
    let labels = host.split('.').map(|label| label.replace('_', "-"));
    let labels = labels.map(|label| label.trim_matches('-').to_owned());
    let labels: Vec<_> = labels.filter(|label| !label.is_empty()).collect();
    labels.join(".")
}

/// A ServiceEntry for callers of these namespaces.
pub(super) fn service_entry<'a>(
    (namespace, name): (&str, &str),
    hosts: impl IntoIterator<Item = &'a str>,
    ports: impl IntoIterator<Item = (u16, Spoken)>,
    export_to: &str,
) -> Value {
    let ports = ports.into_iter().map(|(number, spoken)| {
        json!({ "number": number, "name": port_name(number, spoken), "protocol": spoken.to_string() })
    });
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "hosts": hosts.into_iter().collect::<Vec<_>>(),
            "ports": ports.collect::<Vec<_>>(),
            "resolution": "DNS",
            "location": "MESH_EXTERNAL",
            "exportTo": [export_to],
        },
    })
}

/// An EgressPolicy that allows destinations to some callers.
pub(super) fn egress_policy(
    (namespace, name): (&str, &str),
    callers: &Value,
    mode: &str,
    to: &[Value],
) -> Value {
    json!({
        "apiVersion": "portcullis.dev/v1alpha1",
        "kind": "EgressPolicy",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "action": "Allow",
            "mode": mode,
            "from": [callers],
            "to": to,
        },
    })
}

/// Destinations of an EgressPolicy: each host with its ports, and hosts of the same ports together.
pub(super) fn destinations<'a>(places: impl Iterator<Item = (&'a str, u16)>) -> Vec<Value> {
    let mut ports: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
    for (host, port) in places {
        ports.entry(host).or_default().insert(port);
    }
    let mut hosts: BTreeMap<BTreeSet<u16>, Vec<&str>> = BTreeMap::new();
    for (host, ports) in ports {
        hosts.entry(ports).or_default().push(host);
    }
    let mut destinations = Vec::new();
    for (ports, hosts) in hosts {
        let ports: Vec<_> = ports.into_iter().collect();
        for hosts in hosts.chunks(MAX_HOSTS) {
            let chunks = ports.chunks(MAX_PORTS);
            destinations.extend(chunks.map(|ports| json!({ "hosts": hosts, "ports": ports })));
        }
    }
    destinations
}

/// As YAML.
pub(super) fn yaml(manifest: &Value) -> anyhow::Result<String> {
    serde_saphyr::to_string(manifest).context("cannot write YAML")
}

/// Names of objects of one kind and namespace: valid, each once, the same for the same input.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// Others than these.
    pub(super) fn beside(taken: impl Iterator<Item = String>) -> Self {
        Self(taken.collect())
    }

    /// `stem`, which is valid but for its length, with a hash of `content` behind it: an object that says something else has another
    /// name, be it written now, before or after, and replaces none. If the name is taken, with a number behind that.
    pub(super) fn name(&mut self, stem: &str, content: &str) -> String {
        let mut hash = String::new();
        for byte in Sha256::digest(content).iter().take(HASHED) {
            write!(hash, "{byte:02x}").ok();
        }
        let cut = stem.get(..MAX_STEM).unwrap_or(stem);
        let wanted = format!("{}-{hash}", cut.trim_end_matches(['-', '.']));
        let numbered = (2_u32..).map(|number| format!("{wanted}-{number}"));
        let mut names = std::iter::once(wanted.clone()).chain(numbered);
        let free = names.find(|name| !self.0.contains(name));
        let name = free.unwrap_or(wanted);
        self.0.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_used_once() {
        let mut names = Names::default();
        let first = names.name("learned-web", "a");
        assert!(first.starts_with("learned-web-"), "{first}");
        assert_eq!(names.name("learned-web", "a"), format!("{first}-2"));
        let mut others = Names::default();
        assert_eq!(others.name("learned-web", "a"), first);
        let other = others.name("learned-web", "b");
        assert_eq!(other.len(), first.len());
        assert_ne!(other, first);
        let long = format!("{}.{}", "a".repeat(MAX_STEM - 1), "b".repeat(20));
        let long = names.name(&long, "a");
        assert!(
            long.starts_with(&("a".repeat(MAX_STEM - 1) + "-")),
            "{long}"
        );
        assert!(long.len() <= 253, "{long}");
    }

    #[test]
    fn hosts_with_underscores_have_valid_names() {
        for (host, name) in [
            ("a.example", "a.example"),
            ("my_bucket.example", "my-bucket.example"),
            ("_dmarc.a_.example", "dmarc.a.example"),
            ("_.example", "example"),
        ] {
            assert_eq!(name_of(host), name, "{host}");
        }
    }

    /// Readers of YAML 1.1 take more for numbers, truth and nothing than those of 1.2; kubectl is one.
    #[test]
    fn names_that_look_like_something_else_are_quoted() {
        for name in [
            "true", "null", "on", "y", "no", "123", "0123", "1e3", "0x1f", "0o17", "1.5", "1.e5",
        ] {
            let entry = service_entry((name, name), [name], [(443, Spoken::Tls)], ".");
            let text = yaml(&entry).unwrap();
            let bare = text.lines().any(|line| line.ends_with(&format!(" {name}")));
            assert!(!bare, "{text}");
            let read: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(read, entry);
        }
    }

    #[test]
    fn hosts_of_the_same_ports_stand_together_and_no_other_pair_is_named() {
        let places = [
            ("b.example", 443),
            ("a.example", 443),
            ("a.example", 80),
            ("c.example", 443),
        ];
        assert_eq!(
            destinations(places.into_iter()),
            [
                json!({ "hosts": ["a.example"], "ports": [80, 443] }),
                json!({ "hosts": ["b.example", "c.example"], "ports": [443] }),
            ]
        );
        let many: Vec<_> = (0..=MAX_HOSTS)
            .map(|n| format!("h{n:04}.example"))
            .collect();
        let many = destinations(many.iter().map(|host| (host.as_str(), 443)));
        let lengths = many.iter().map(|to| to["hosts"].as_array().unwrap().len());
        assert_eq!(lengths.collect::<Vec<_>>(), [MAX_HOSTS, 1]);
        let ports = destinations((1..=65).map(|port| ("a.example", port)));
        assert_eq!(ports.len(), 2);
    }
}
