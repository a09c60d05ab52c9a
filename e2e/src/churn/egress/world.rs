//! What is in the cluster, in plain words: pods and their addresses, ServiceEntries and EgressPolicies. Nothing in here is the
//! product's own.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::{names::Names, shared::SharedMap};

/// The namespace of the Gateway.
pub(super) const GATEWAY_NAMESPACE: &str = "egress-system";

/// What a port of an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Http,
    Https,
    Tls,
    Tcp,
}

impl Protocol {
    /// As a ServiceEntry has it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
        }
    }
}

/// A port of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    /// As callers name it.
    pub(super) number: u16,
    pub(super) protocol: Protocol,
    /// Where connections go.
    pub(super) target: u16,
}

/// A ServiceEntry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) namespace: String,
    pub(super) name: String,
    /// When it was made, in seconds of Unix time.
    pub(super) created: i64,
    pub(super) hosts: Vec<String>,
    pub(super) ports: Vec<Port>,
    /// Where its hosts are, if not where DNS says.
    pub(super) endpoint: Option<Ipv4Addr>,
    /// The namespaces that may use it; `None` is everybody, known or not.
    pub(super) exported_to: Option<Vec<String>>,
}

/// Whom a policy speaks of: all that is given must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Callers {
    pub(super) namespaces: Vec<String>,
    /// Namespace and name.
    pub(super) accounts: Vec<(String, String)>,
    /// A label of the pod.
    pub(super) tier: Option<&'static str>,
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Deny,
}

/// An EgressPolicy.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) namespace: String,
    pub(super) name: String,
    /// `None` is every caller that it may speak of.
    pub(super) from: Option<Callers>,
    /// Empty is every host.
    pub(super) hosts: Vec<String>,
    /// Empty is every port.
    pub(super) ports: Vec<u16>,
    pub(super) action: Action,
    /// Its refusals are told, and not carried out.
    pub(super) reports: bool,
    /// Whether the addresses in [`super::names::OPENED`] may be reached by it.
    pub(super) opens_private: bool,
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) account: String,
    pub(super) tier: &'static str,
    pub(super) address: Ipv4Addr,
}

/// Namespace and name.
pub(super) type Key = (String, String);

/// One thing that happens in the cluster.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// It is there from now on, in place of the one of its name.
    Entry(Arc<Entry>),
    Policy(Arc<Policy>),
    Pod(Arc<Pod>),
    NoEntry(Key),
    NoPolicy(Key),
    NoPod(Key),
}

/// All of it at one moment. A copy shares what is the same.
#[derive(Clone)]
pub(super) struct World {
    pub(super) names: Arc<Names>,
    entries: SharedMap<Key, Arc<Entry>>,
    /// The same, by each host as it is listed.
    listed: SharedMap<String, Vec<Arc<Entry>>>,
    policies: Arc<BTreeMap<Key, Arc<Policy>>>,
    pods: SharedMap<Key, Arc<Pod>>,
    /// The same, by address. At times two have one.
    addresses: SharedMap<Ipv4Addr, Vec<Arc<Pod>>>,
}

impl World {
    pub(super) fn new(names: Arc<Names>) -> Self {
        Self {
            names,
            entries: SharedMap::new(),
            listed: SharedMap::new(),
            policies: Arc::default(),
            pods: SharedMap::new(),
            addresses: SharedMap::new(),
        }
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Entry(entry) => {
                let key = (entry.namespace.clone(), entry.name.clone());
                self.remove_entry(&key);
                for host in &entry.hosts {
                    let part = self.listed.part_mut(host);
                    let all = part.entry(host.clone()).or_default();
                    all.push(Arc::clone(entry));
                }
                let part = self.entries.part_mut(&key);
                part.insert(key, Arc::clone(entry));
            }
            Change::Policy(policy) => {
                let key = (policy.namespace.clone(), policy.name.clone());
                Arc::make_mut(&mut self.policies).insert(key, Arc::clone(policy));
            }
            Change::Pod(pod) => {
                let key = (pod.namespace.clone(), pod.name.clone());
                self.remove_pod(&key);
                let part = self.addresses.part_mut(&pod.address);
                part.entry(pod.address).or_default().push(Arc::clone(pod));
                self.pods.part_mut(&key).insert(key, Arc::clone(pod));
            }
            Change::NoEntry(key) => self.remove_entry(key),
            Change::NoPolicy(key) => {
                Arc::make_mut(&mut self.policies).remove(key);
            }
            Change::NoPod(key) => self.remove_pod(key),
        }
    }

    fn remove_entry(&mut self, key: &Key) {
        let Some(gone) = self.entries.part_mut(key).remove(key) else {
            return;
        };
        for host in &gone.hosts {
            if let Some(all) = self.listed.part_mut(host).get_mut(host) {
                all.retain(|it| !Arc::ptr_eq(it, &gone));
            }
        }
    }

    fn remove_pod(&mut self, key: &Key) {
        let Some(gone) = self.pods.part_mut(key).remove(key) else {
            return;
        };
        let part = self.addresses.part_mut(&gone.address);
        if let Some(all) = part.get_mut(&gone.address) {
            all.retain(|it| !Arc::ptr_eq(it, &gone));
        }
    }

    /// The entries that list a host by exactly these letters.
    pub(super) fn listing(&self, host: &String) -> &[Arc<Entry>] {
        self.listed.get(host).map_or(&[], Vec::as_slice)
    }

    /// The policies in the order of their namespaces and names.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values().map(|policy| &**policy)
    }

    /// Who calls from an address: the one pod that has it.
    pub(super) fn caller(&self, address: Ipv4Addr) -> Option<&Arc<Pod>> {
        match self.addresses.get(&address).map(Vec::as_slice) {
            Some([only]) => Some(only),
            _ => None,
        }
    }

    pub(super) fn entry_count(&self) -> usize {
        self.entries.values().count()
    }

    pub(super) fn policy_count(&self) -> usize {
        self.policies.len()
    }

    /// Addresses of which it is known who calls from them.
    pub(super) fn caller_count(&self) -> usize {
        let addresses = self.addresses.values();
        addresses.filter(|pods| pods.len() == 1).count()
    }
}

/// What is right for a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It leads there.
    Open { to: SocketAddr, protocol: Protocol },
    /// It is refused, and the caller is told this reason.
    Refused(&'static str),
}
