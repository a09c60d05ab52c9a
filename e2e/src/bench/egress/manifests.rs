//! What Portcullis is told: a Gateway of the class `portcullis-egress`, and a `ServiceEntry` for each host that is allowed.

use crate::bench::ground::fill;

/// The Gateway, as `portcullis translate --table` calls it.
pub(super) const GATEWAY: &str = "egress-system/egress";
/// The port of its listener.
pub(super) const PORT: u16 = 3128;

/// Ports that may be forwarded to, by what they are called in templates.
pub(super) type Ports = [(&'static str, String); 2];

/// The manifests with `entries` entries, of which one is for `host`.
pub(super) fn all(host: &str, ports: &Ports, entries: u32) -> String {
    let gateway = include_str!("../../../bench/egress/portcullis.yaml").to_owned();
    let others = (1..entries).map(|number| {
        let name = format!("other-{number}");
        entry(&name, &format!("{name}.example"), ports)
    });
    [gateway, entry("target", host, ports)]
        .into_iter()
        .chain(others)
        .collect()
}

fn entry(name: &str, host: &str, ports: &Ports) -> String {
    let ports = ports.iter().map(|(name, port)| (*name, port.as_str()));
    let values: Vec<_> = [("NAME", name), ("HOST", host)]
        .into_iter()
        .chain(ports)
        .collect();
    fill(include_str!("../../../bench/egress/entry.yaml"), &values)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{GATEWAY, PORT, all};

    #[test]
    fn one_entry_of_many_is_for_the_host() {
        let ports = [("HTTP", "8080".to_owned()), ("BULK", "8081".to_owned())];
        let text = all("a.example", &ports, 10);
        assert!(!text.contains('@'), "a value is missing:\n{text}");
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let of = |kind| {
            let documents = documents.iter();
            documents
                .filter(move |document| document["kind"] == kind)
                .collect::<Vec<_>>()
        };
        let [gateway] = of("Gateway")[..] else {
            panic!("one Gateway");
        };
        let name = |part| gateway["metadata"][part].as_str().unwrap();
        assert_eq!(format!("{}/{}", name("namespace"), name("name")), GATEWAY);
        assert_eq!(gateway["spec"]["listeners"][0]["port"], PORT);

        let entries = of("ServiceEntry");
        assert_eq!(entries.len(), 10);
        let hosts: Vec<_> = entries
            .iter()
            .map(|entry| entry["spec"]["hosts"][0].as_str().unwrap())
            .collect();
        let asked_for = hosts.iter().filter(|host| **host == "a.example").count();
        assert_eq!(asked_for, 1, "{hosts:?}");
        assert_eq!(entries[0]["spec"]["ports"][1]["number"], 8081);
    }
}
