//! What Portcullis is told: a Gateway of the class `portcullis-egress`, and a `ServiceEntry` for each host that is allowed.

use crate::bench::ground::fill;

/// The Gateway, as `portcullis translate --table` calls it.
pub(super) const GATEWAY: &str = "egress-system/egress";
/// The port of its listener.
pub(super) const PORT: u16 = 3128;
/// The host whose requests are read, one by one.
pub(super) const HOST: &str = "target.bench.example";
/// The same servers as [`HOST`], by tunnels that nobody looks into: other proxies do not look into any.
pub(super) const TUNNELS: &str = "tunnels.bench.example";

/// What templates call by a name.
pub(super) type Values = [(&'static str, String)];

/// The manifests with `entries` entries besides that for tunnels, of which one is for [`HOST`].
pub(super) fn all(values: &Values, entries: u32) -> String {
    let values: Vec<_> = values.iter().map(|(name, it)| (*name, &**it)).collect();
    let gateway = fill(
        include_str!("../../../bench/egress/portcullis.yaml"),
        &values,
    );
    let listed = [("target", HOST, "HTTP"), ("tunnels", TUNNELS, "TCP")];
    let listed = listed.map(|(name, host, protocol)| entry(name, host, protocol, &values));
    let others = (1..entries).map(|number| {
        let name = format!("other-{number}");
        entry(&name, &format!("{name}.example"), "HTTP", &values)
    });
    [gateway].into_iter().chain(listed).chain(others).collect()
}

fn entry(name: &str, host: &str, protocol: &str, values: &[(&str, &str)]) -> String {
    let own = [("NAME", name), ("HOST", host), ("PROTOCOL", protocol)];
    let others = values.iter().filter(|(name, _)| *name != "HOST");
    let values: Vec<_> = own.iter().chain(others).copied().collect();
    fill(include_str!("../../../bench/egress/entry.yaml"), &values)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{GATEWAY, HOST, PORT, TUNNELS, all};

    #[test]
    fn one_entry_of_many_is_for_the_host() {
        let values = [
            ("HOST", HOST),
            ("TUNNELS", TUNNELS),
            ("DNS", "5353"),
            ("HTTP", "8080"),
            ("BULK", "8081"),
        ];
        let text = all(&values.map(|(name, it)| (name, it.to_owned())), 10);
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
        assert_eq!(entries.len(), 11);
        let protocols_of = |host| {
            let entries = entries.iter();
            let listed = entries.filter(|entry| entry["spec"]["hosts"][0] == host);
            listed
                .map(|entry| entry["spec"]["ports"][1]["protocol"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(protocols_of(HOST), ["HTTP"]);
        assert_eq!(protocols_of(TUNNELS), ["TCP"]);
        assert_eq!(entries[0]["spec"]["ports"][1]["number"], 8081);
    }
}
