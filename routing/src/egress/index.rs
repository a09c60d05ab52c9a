//! Entries by host and by address, and which of several goes first.
//!
//! Of the entries that open the same host and port to somebody only the first can ever be in force, so only that is kept: a look
//! costs the same however many there are.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::RandomState;
use ipnet::IpNet;

use super::{
    decide::{DecisionReason, Destination},
    entry::{Entry, EntryPort, ExportedTo},
    opened::Opened,
    ranges::Ranges,
};
use crate::{
    hostname::{HostMap, HostPattern},
    key::EntryKey,
};

/// The entries of a table.
#[derive(Debug, Default)]
pub(super) struct EntryIndex {
    by_key: BTreeMap<EntryKey, Arc<CompiledEntry>>,
    hosts: HostMap<Arc<Claims>>,
    addresses: AddressMap,
}

/// An entry that is served.
#[derive(Debug)]
pub(super) struct CompiledEntry {
    pub(super) key: EntryKey,
    pub(super) entry: Arc<Entry>,
    /// Its hosts, found at once: there may be thousands.
    hosts: HostMap<()>,
    /// The same for its addresses.
    addresses: Ranges,
}

/// What is asked for, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) destination: Destination<'a>,
    pub(super) port: u16,
    /// The caller's namespace, if it is known.
    pub(super) caller: Option<&'a str>,
    /// The Gateway's namespace.
    pub(super) gateway: &'a str,
}

/// What entries say of one pattern of hosts, or of one range of addresses.
#[derive(Debug)]
struct Claims {
    /// Ports that some of them have, for whomever, in order.
    ports: Box<[u16]>,
    all: Arc<Openings>,
    /// Those of each namespace, by its name, in order.
    of_namespace: Box<[(Box<str>, Arc<Openings>)]>,
}

/// What some entries open, to whom: of each port the first.
#[derive(Debug, Default)]
struct Openings {
    everybody: Ports,
    /// To the callers of a namespace, by its name, in order. Each is older than the one for everybody.
    namespaces: Box<[(Box<str>, Ports)]>,
}

/// By port, in order.
type Ports = Box<[(u16, Arc<CompiledEntry>)]>;

/// Ranges of addresses.
#[derive(Debug, Default)]
struct AddressMap {
    ranges: HashMap<IpNet, Arc<Claims>, RandomState>,
    /// Prefix lengths that occur, long ones first. Only these are tried.
    v4_lengths: Box<[u8]>,
    v6_lengths: Box<[u8]>,
}

impl CompiledEntry {
    fn new(key: &EntryKey, entry: &Arc<Entry>) -> Self {
        let mut hosts = HostMap::default();
        for host in &entry.hosts {
            hosts.insert(HostPattern::new(Some(host)), ());
        }
        Self {
            key: key.clone(),
            entry: Arc::clone(entry),
            hosts,
            addresses: Ranges::new(&entry.addresses),
        }
    }

    /// It, as what opens that port.
    pub(super) fn opened(&self, number: u16) -> Option<Opened<'_>> {
        let mut ports = self.entry.ports.iter();
        Some(Opened {
            key: &self.key,
            entry: &self.entry,
            port: ports.find(|port| port.number == number)?,
        })
    }

    /// Whether it lists a destination.
    pub(super) fn lists(&self, destination: Destination<'_>) -> bool {
        match destination {
            Destination::Name(name) => self.hosts.matching(name).next().is_some(),
            Destination::Address(address) => self.addresses.contain(address),
        }
    }
}

/// The oldest goes first, then the name decides.
fn age(entry: &Entry) -> (i64, &str, &str) {
    let order = &entry.order;
    (order.created_at, &order.namespace, &order.name)
}

impl EntryIndex {
    pub(super) fn new<'a>(entries: impl Iterator<Item = (&'a EntryKey, &'a Arc<Entry>)>) -> Self {
        let mut all: Vec<_> = entries
            .map(|(key, entry)| Arc::new(CompiledEntry::new(key, entry)))
            .collect();
        all.sort_by(|a, b| age(&a.entry).cmp(&age(&b.entry)));
        let mut by_host: BTreeMap<HostPattern<'_>, Vec<&Arc<CompiledEntry>>> = BTreeMap::new();
        let mut by_range: BTreeMap<IpNet, Vec<&Arc<CompiledEntry>>> = BTreeMap::new();
        for compiled in &all {
            for host in &compiled.entry.hosts {
                let pattern = HostPattern::new(Some(host));
                by_host.entry(pattern).or_default().push(compiled);
            }
            for range in &compiled.entry.addresses {
                by_range.entry(range.trunc()).or_default().push(compiled);
            }
        }
        let mut shared = Shared::default();
        let mut hosts = HostMap::default();
        for (pattern, entries) in by_host {
            hosts.insert(pattern, shared.claims(&entries));
        }
        Self {
            hosts,
            addresses: AddressMap::new(&by_range, &mut shared),
            by_key: all.into_iter().map(|it| (it.key.clone(), it)).collect(),
        }
    }

    pub(super) fn entry(&self, key: &EntryKey) -> Option<&Arc<CompiledEntry>> {
        self.by_key.get(key)
    }

    /// The entry that is in force, or why none is. Those of the caller's own namespace and of the Gateway's go before all others, so
    /// that nobody else decides where it is led. Of both the narrower pattern goes first: what is made for one host is meant for it,
    /// whoever has made something for many. Of the same pattern the caller's own goes first. Then the older entry does.
    pub(super) fn find(&self, wanted: &Wanted<'_>) -> Result<&CompiledEntry, DecisionReason> {
        match wanted.destination {
            Destination::Name(name) => first(self.hosts.matching(name), wanted),
            Destination::Address(address) => first(self.addresses.matching(address), wanted),
        }
    }
}

/// What is in force of `claims`, narrow ones first.
fn first<'t>(
    claims: impl Iterator<Item = &'t Arc<Claims>>,
    wanted: &Wanted<'_>,
) -> Result<&'t CompiledEntry, DecisionReason> {
    let Wanted {
        port,
        caller,
        gateway,
        ..
    } = *wanted;
    let mut lack = DecisionReason::HostNotListed;
    let mut of_others = None;
    for claims in claims {
        let of = |namespace: &str| claims.of(namespace)?.first(port, caller);
        if let Some(near) = caller.and_then(of).or_else(|| of(gateway)) {
            return Ok(near);
        }
        of_others = of_others.or_else(|| claims.all.first(port, caller));
        lack = lack.max(claims.lack(port, caller));
    }
    of_others.ok_or(lack)
}

/// What is said of a host is as a rule said of others too, by the same entries.
#[derive(Default)]
struct Shared<'a>(BTreeMap<Vec<&'a EntryKey>, Arc<Claims>>);

impl<'a> Shared<'a> {
    fn claims(&mut self, entries: &[&'a Arc<CompiledEntry>]) -> Arc<Claims> {
        let keys = entries.iter().map(|compiled| &compiled.key).collect();
        let claims = self.0.entry(keys);
        Arc::clone(claims.or_insert_with(|| Arc::new(Claims::new(entries))))
    }
}

impl Claims {
    /// `entries` are in their order.
    fn new(entries: &[&Arc<CompiledEntry>]) -> Self {
        let mut ports: Vec<_> = entries
            .iter()
            .flat_map(|compiled| &compiled.entry.ports)
            .map(|port| port.number)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        let mut namespaces: BTreeMap<&str, Vec<&Arc<CompiledEntry>>> = BTreeMap::new();
        for compiled in entries {
            let namespace = compiled.entry.order.namespace.as_str();
            namespaces.entry(namespace).or_default().push(compiled);
        }
        let of_namespace: Box<[_]> = namespaces
            .into_iter()
            .map(|(namespace, entries)| (namespace.into(), Arc::new(Openings::new(&entries))))
            .collect();
        let all = match &*of_namespace {
            [(_, only)] => Arc::clone(only),
            _ => Arc::new(Openings::new(entries)),
        };
        Self {
            ports: ports.into(),
            all,
            of_namespace,
        }
    }

    /// What the entries of a namespace open.
    fn of(&self, namespace: &str) -> Option<&Openings> {
        by_name(&self.of_namespace, namespace).map(|openings| &**openings)
    }

    /// Why nothing is in force, if that is so.
    fn lack(&self, port: u16, caller: Option<&str>) -> DecisionReason {
        match (self.ports.binary_search(&port), caller) {
            (Err(_), _) => DecisionReason::PortNotListed,
            (Ok(_), Some(_)) => DecisionReason::NotExported,
            (Ok(_), None) => DecisionReason::UnknownCaller,
        }
    }
}

impl Openings {
    /// `entries` are in their order.
    fn new(entries: &[&Arc<CompiledEntry>]) -> Self {
        let mut everybody: BTreeMap<u16, Arc<CompiledEntry>> = BTreeMap::new();
        let mut namespaces: BTreeMap<&str, BTreeMap<u16, Arc<CompiledEntry>>> = BTreeMap::new();
        for compiled in entries {
            for EntryPort { number, .. } in &compiled.entry.ports {
                // An older one for everybody is for everybody.
                if everybody.contains_key(number) {
                    continue;
                }
                match &compiled.entry.exported_to {
                    ExportedTo::All => {
                        everybody.insert(*number, Arc::clone(compiled));
                    }
                    ExportedTo::Namespaces(names) => {
                        for name in names {
                            let ports = namespaces.entry(name).or_default();
                            ports.entry(*number).or_insert_with(|| Arc::clone(compiled));
                        }
                    }
                }
            }
        }
        let namespaces = namespaces.into_iter();
        Self {
            everybody: everybody.into_iter().collect(),
            namespaces: namespaces
                .map(|(name, ports)| (name.into(), ports.into_iter().collect()))
                .collect(),
        }
    }

    /// The first for a caller of this namespace, or of none that is known.
    fn first(&self, port: u16, caller: Option<&str>) -> Option<&CompiledEntry> {
        let own = caller.and_then(|caller| by_name(&self.namespaces, caller));
        let own = own.and_then(|ports| at(ports, port));
        own.or_else(|| at(&self.everybody, port))
    }
}

fn by_name<'t, T>(sorted: &'t [(Box<str>, T)], name: &str) -> Option<&'t T> {
    let index = sorted.binary_search_by(|(known, _)| (**known).cmp(name));
    sorted.get(index.ok()?).map(|(_, found)| found)
}

fn at(ports: &Ports, number: u16) -> Option<&CompiledEntry> {
    let index = ports.binary_search_by_key(&number, |(port, _)| *port);
    ports.get(index.ok()?).map(|(_, compiled)| &**compiled)
}

impl AddressMap {
    fn new<'a>(
        by_range: &BTreeMap<IpNet, Vec<&'a Arc<CompiledEntry>>>,
        shared: &mut Shared<'a>,
    ) -> Self {
        let lengths = |is_v4: bool| {
            let ranges = by_range.keys();
            let ranges = ranges.filter(|range| range.addr().is_ipv4() == is_v4);
            let mut lengths: Vec<_> = ranges.map(IpNet::prefix_len).collect();
            lengths.sort_unstable();
            lengths.dedup();
            lengths.reverse();
            lengths.into_boxed_slice()
        };
        let claims = by_range.iter();
        Self {
            v4_lengths: lengths(true),
            v6_lengths: lengths(false),
            ranges: claims
                .map(|(range, entries)| (*range, shared.claims(entries)))
                .collect(),
        }
    }

    /// What is said of the ranges that have an address, narrow ones first.
    fn matching(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Claims>> {
        let lengths = match address {
            IpAddr::V4(_) => &self.v4_lengths,
            IpAddr::V6(_) => &self.v6_lengths,
        };
        lengths.iter().filter_map(move |length| {
            let range = IpNet::new(address, *length).ok()?;
            self.ranges.get(&range.trunc())
        })
    }
}
