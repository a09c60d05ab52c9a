//! Which entry is in force, as the documentation words it: take all that open the destination to the caller, and sort them.

use std::{cmp::Reverse, net::IpAddr, sync::Arc};

use portcullis_routing::{
    CompiledTable, EntryKey, GatewayKey, RouteOrder, RoutingTable, compile,
    egress::{
        Caller, Destination, EgressSettings, Entry, EntryPort, EntryProtocol, ExportedTo, Question,
        Resolution, Seen,
    },
};
use proptest::{collection::vec, prelude::*, sample::select};

const GATEWAY: &str = "gateways";
const NAMESPACES: &[&str] = &["a", "b", GATEWAY, "c"];
const HOSTS: &[&str] = &["x.y.z", "y.z", "*.z", "*.y.z", "z"];
const RANGES: &[&str] = &[
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/32",
    "fd00::/8",
    "fd00::1/128",
];
const PORTS: &[u16] = &[80, 81, 82];

fn entry() -> impl Strategy<Value = Entry> {
    let exported_to = prop_oneof![
        Just(ExportedTo::All),
        vec(select(NAMESPACES), 0..3).prop_map(|mut names| {
            names.sort_unstable();
            names.dedup();
            ExportedTo::Namespaces(names.into_iter().map(str::to_owned).collect())
        }),
    ];
    let hosts = vec(select(HOSTS), 1..3);
    let addresses = vec(select(RANGES), 0..3);
    let ports = vec(select(PORTS), 1..3);
    (
        hosts,
        addresses,
        ports,
        exported_to,
        0..3_i64,
        select(NAMESPACES),
    )
        .prop_map(
            |(hosts, addresses, mut ports, exported_to, created_at, namespace)| {
                ports.sort_unstable();
                ports.dedup();
                Entry {
                    hosts: hosts.into_iter().map(str::to_owned).collect(),
                    addresses: addresses
                        .iter()
                        .map(|range| range.parse().unwrap())
                        .collect(),
                    ports: ports.into_iter().map(port).collect(),
                    tls: vec![],
                    resolution: Resolution::None,
                    endpoints: vec![],
                    exported_to,
                    order: RouteOrder {
                        created_at,
                        namespace: namespace.to_owned(),
                        name: String::new(),
                        rule: 0,
                    },
                }
            },
        )
}

fn port(number: u16) -> EntryPort {
    EntryPort {
        number,
        protocol: EntryProtocol::Tcp,
        target_port: None,
        tls: None,
        shut: false,
    }
}

fn table(entries: Vec<Entry>) -> CompiledTable<()> {
    let mut table = RoutingTable::new(GatewayKey::of(GATEWAY, "egress"));
    Arc::make_mut(&mut table.settings).egress = Some(EgressSettings::default());
    for (number, mut entry) in entries.into_iter().enumerate() {
        entry.order.name = format!("e{number}");
        let key = EntryKey::of(&entry.order.namespace, &entry.order.name);
        table.entries.insert(key, Arc::new(entry));
    }
    let (compiled, rejections) = compile(None, Arc::new(table), |_, _| Ok(()));
    assert_eq!(rejections, []);
    compiled
}

/// How narrowly an entry lists a destination; `None` if it does not.
fn narrowness(entry: &Entry, destination: Destination<'_>) -> Option<usize> {
    match destination {
        Destination::Name(name) => {
            let hosts = entry.hosts.iter();
            let narrow = hosts.filter_map(|host| match host.strip_prefix('*') {
                None => (host == name).then_some(usize::MAX),
                Some(end) => (name.len() > end.len() && name.ends_with(end)).then_some(end.len()),
            });
            narrow.max()
        }
        Destination::Address(address) => {
            let ranges = entry.addresses.iter();
            let narrow = ranges.filter(|range| range.contains(&address));
            narrow.map(|range| usize::from(range.prefix_len())).max()
        }
    }
}

fn is_exported(entry: &Entry, caller: Option<&str>) -> bool {
    match &entry.exported_to {
        ExportedTo::All => true,
        ExportedTo::Namespaces(names) => {
            caller.is_some_and(|caller| names.iter().any(|name| name == caller))
        }
    }
}

/// The key of the entry in force, or the code of why there is none.
fn reference(
    table: &RoutingTable,
    destination: Destination<'_>,
    port: u16,
    caller: Option<&str>,
) -> Result<String, &'static str> {
    let entries = table.entries.iter();
    let listing: Vec<_> = entries
        .filter_map(|(key, entry)| Some((key, entry, narrowness(entry, destination)?)))
        .collect();
    let with_port: Vec<_> = listing
        .iter()
        .filter(|(_, entry, _)| entry.ports.iter().any(|it| it.number == port))
        .collect();
    let exported = with_port
        .iter()
        .filter(|(_, entry, _)| is_exported(entry, caller));
    let winner = exported.min_by_key(|(_, entry, narrowness)| {
        let order = &entry.order;
        let is_own = caller == Some(&order.namespace);
        let is_far = !is_own && order.namespace != GATEWAY;
        (
            is_far,
            Reverse(*narrowness),
            !is_own,
            order.created_at,
            &order.namespace,
            &order.name,
        )
    });
    match winner {
        Some((key, ..)) => Ok(key.to_string()),
        None if listing.is_empty() => Err("host_not_listed"),
        None if with_port.is_empty() => Err("port_not_listed"),
        None if caller.is_some() => Err("not_exported"),
        None => Err("unknown_caller"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_entry_in_force_is_the_first_of_all(entries in vec(entry(), 0..10)) {
        let compiled = table(entries);
        let egress = compiled.egress().unwrap();
        let names = ["x.y.z", "y.z", "w.y.z", "w.z", "z", "other"].map(Destination::Name);
        let addresses = ["10.1.2.3", "10.1.9.9", "10.9.9.9", "11.0.0.1", "fd00::1", "fd00::2"];
        let addresses = addresses.map(|text| Destination::Address(text.parse::<IpAddr>().unwrap()));
        let destinations: Vec<_> = names.into_iter().chain(addresses).collect();
        for destination in destinations {
            for port in [80, 81, 82, 83] {
                for namespace in NAMESPACES.iter().chain(&["d"]).copied().map(Some).chain([None]) {
                    let question = Question {
                        destination,
                        port,
                        caller: namespace.map(|namespace| Caller {
                            namespace,
                            service_account: "x",
                            labels: None,
                        }),
                        seen: Seen::Tunnel,
                    };
                    let decision = egress.decide(&question);
                    let found = decision.opened.map(|opened| opened.key.to_string());
                    let found = found.ok_or(decision.reason.code());
                    let wanted = reference(compiled.table(), destination, port, namespace);
                    prop_assert_eq!(found, wanted, "{:?}", question);
                }
            }
        }
    }
}
