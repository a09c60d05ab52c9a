//! Entries by host and by address.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::entry::{Entry, EntryPort};
use crate::{
    hostname::{HostMap, HostPattern},
    key::EntryKey,
};

/// Entries in the order in which they are asked.
#[derive(Debug, Default)]
pub(super) struct EntryIndex {
    by_key: BTreeMap<EntryKey, Arc<CompiledEntry>>,
    hosts: HostMap<Box<[Arc<CompiledEntry>]>>,
    /// Narrow ranges first, then by age.
    addresses: Box<[(IpNet, Arc<CompiledEntry>)]>,
}

/// An entry that is served.
#[derive(Debug)]
pub(super) struct CompiledEntry {
    pub(super) key: EntryKey,
    pub(super) entry: Arc<Entry>,
}

impl CompiledEntry {
    /// The port that callers name by this number.
    pub(super) fn port(&self, number: u16) -> Option<&EntryPort> {
        self.entry.ports.iter().find(|port| port.number == number)
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
            .map(|(key, entry)| {
                Arc::new(CompiledEntry {
                    key: key.clone(),
                    entry: Arc::clone(entry),
                })
            })
            .collect();
        all.sort_by(|a, b| age(&a.entry).cmp(&age(&b.entry)));
        let mut hosts: BTreeMap<HostPattern<'_>, Vec<Arc<CompiledEntry>>> = BTreeMap::new();
        let mut addresses = Vec::new();
        for compiled in &all {
            for host in &compiled.entry.hosts {
                let pattern = HostPattern::new(Some(host));
                hosts.entry(pattern).or_default().push(Arc::clone(compiled));
            }
            let ranges = compiled.entry.addresses.iter();
            addresses.extend(ranges.map(|range| (*range, Arc::clone(compiled))));
        }
        addresses.sort_by_key(|(range, _)| std::cmp::Reverse(range.prefix_len()));
        let mut by_host = HostMap::default();
        for (pattern, entries) in hosts {
            by_host.insert(pattern, entries.into());
        }
        Self {
            hosts: by_host,
            addresses: addresses.into(),
            by_key: all.into_iter().map(|it| (it.key.clone(), it)).collect(),
        }
    }

    pub(super) fn entry(&self, key: &EntryKey) -> Option<&Arc<Entry>> {
        self.by_key.get(key).map(|compiled| &compiled.entry)
    }

    pub(super) fn by_name(&self, name: &str) -> impl Iterator<Item = &Arc<CompiledEntry>> {
        self.hosts.matching(name).flatten()
    }

    pub(super) fn by_address(&self, address: IpAddr) -> impl Iterator<Item = &Arc<CompiledEntry>> {
        let addresses = self.addresses.iter();
        addresses
            .filter(move |(range, _)| range.contains(&address))
            .map(|(_, compiled)| compiled)
    }
}
