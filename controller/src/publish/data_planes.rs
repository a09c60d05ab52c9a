//! What is known of the data planes: who is connected, and what they say of their tables.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use portcullis_routing::{
    EntryKey, Listener, ListenerKey, PolicyKey, Rejection, Report, ResourceKind, RoutingTable,
    TableVersion,
    egress::{Entry, Policy},
};

use crate::{
    resources::ObjectKey,
    status::{
        GatewayAddress, Observed,
        programmed::{Heard, Observation},
    },
};

/// The data planes of all Gateways. A Gateway that is absent has had none.
#[derive(Clone, Debug, Default)]
pub struct Fleet(pub(super) BTreeMap<ObjectKey, Arc<DataPlanes>>);

/// The data planes of one Gateway.
#[derive(Clone, Debug, Default)]
pub struct DataPlanes {
    /// Those that are connected, by a number of their connection.
    pub connected: BTreeMap<u64, DataPlane>,
    /// What other replicas say of those that are connected to them, by a number of the replica's connection: one word for
    /// each table that is served.
    pub relayed: BTreeMap<u64, Vec<Word>>,
    /// The newest table that one of them serves. It stays when they are gone, until another one says something.
    pub acknowledged: Option<Acknowledgement>,
}

/// One data plane.
#[derive(Clone, Debug)]
pub struct DataPlane {
    /// Where it connected from.
    pub address: SocketAddr,
    /// What it says.
    pub word: Word,
}

/// What is said of the table that is served.
#[derive(Clone, Debug, Default)]
pub struct Word {
    /// The last report of a table that is known here; `None` before the first one.
    pub acknowledged: Option<Acknowledgement>,
    /// A later report, of a table that is not known here yet, or never will be.
    pub pending: Option<Arc<Report>>,
}

/// A table that is served.
#[derive(Clone, Debug)]
pub struct Acknowledgement {
    /// Its version.
    pub version: TableVersion,
    /// Its listeners.
    pub listeners: BTreeMap<ListenerKey, Arc<Listener>>,
    /// Its entries.
    pub entries: BTreeMap<EntryKey, Arc<Entry>>,
    /// Its policies.
    pub policies: BTreeMap<PolicyKey, Arc<Policy>>,
    /// What is not served of it, by kind and key.
    pub rejected: BTreeMap<(ResourceKind, String), String>,
    serial: u64,
}

/// Kind and key of what is not served, and why.
type Unserved<'a> = (ResourceKind, &'a str, &'a str);

impl Word {
    /// The last table that was spoken of, and what of it is not served, and why: of that which has a status that says so.
    pub(super) fn last(&self) -> Option<(&TableVersion, Vec<Unserved<'_>>)> {
        if let Some(pending) = &self.pending {
            let rejected = pending.rejected.iter().filter(|it| has_status(it.kind));
            let rejected = rejected.map(|it| (it.kind, it.key.as_str(), it.message.as_str()));
            return Some((&pending.version, rejected.collect()));
        }
        let acknowledged = self.acknowledged.as_ref()?;
        let rejected = acknowledged.rejected.iter();
        let rejected = rejected.filter(|((kind, _), _)| has_status(*kind));
        let rejected =
            rejected.map(|((kind, key), message)| (*kind, key.as_str(), message.as_str()));
        Some((&acknowledged.version, rejected.collect()))
    }
}

/// Whether there is a status that says whether a resource of this kind is served.
const fn has_status(kind: ResourceKind) -> bool {
    matches!(
        kind,
        ResourceKind::Listener | ResourceKind::Entry | ResourceKind::Policy
    )
}

impl Acknowledgement {
    /// Of a table, but for what is rejected of it. What the table does not have is not kept, however much a data plane
    /// says of it. `serial` counts up with the tables of a Gateway.
    pub fn new(table: &RoutingTable, serial: u64, rejected: Vec<Rejection>) -> Self {
        let rejected = rejected
            .into_iter()
            .filter(|rejection| has(table, rejection))
            .map(|rejection| ((rejection.kind, rejection.key), rejection.message));
        Self {
            version: table.version.clone(),
            listeners: table.listeners.clone(),
            entries: table.entries.clone(),
            policies: table.policies.clone(),
            rejected: rejected.collect(),
            serial,
        }
    }
}

impl Acknowledgement {
    /// What of one kind is not served of it, by key.
    fn rejected<K: Ord>(&self, kind: ResourceKind, key: impl Fn(&str) -> K) -> BTreeMap<K, String> {
        let rejected = self.rejected.iter();
        let rejected = rejected.filter(|((of, _), _)| *of == kind);
        rejected
            .map(|((_, name), message)| (key(name), message.clone()))
            .collect()
    }
}

/// Whether a table has what is rejected.
fn has(table: &RoutingTable, rejection: &Rejection) -> bool {
    let key = rejection.key.as_str();
    match rejection.kind {
        ResourceKind::Settings => key == table.gateway.as_str(),
        ResourceKind::Listener => table.listeners.contains_key(key),
        ResourceKind::Route => table.routes.contains_key(key),
        ResourceKind::Cluster => table.clusters.contains_key(key),
        ResourceKind::Endpoints => table.endpoints.contains_key(key),
        ResourceKind::Certificate => table.certificates.contains_key(key),
        ResourceKind::Entry => table.entries.contains_key(key),
        ResourceKind::Policy => table.policies.contains_key(key),
        ResourceKind::Workload => table.workloads.contains_key(key),
    }
}

impl FromIterator<(ObjectKey, DataPlanes)> for Fleet {
    fn from_iter<I: IntoIterator<Item = (ObjectKey, DataPlanes)>>(fleet: I) -> Self {
        let fleet = fleet.into_iter();
        Self(fleet.map(|(key, of)| (key, Arc::new(of))).collect())
    }
}

impl Fleet {
    /// How many data planes are connected to this replica.
    pub fn connected(&self) -> usize {
        self.0.values().map(|of| of.connected.len()).sum()
    }

    /// The data planes of one Gateway.
    pub fn get(&self, gateway: &ObjectKey) -> Option<&DataPlanes> {
        self.0.get(gateway).map(AsRef::as_ref)
    }

    /// For the statuses: what the data planes say, with the addresses that each Gateway has.
    pub fn observed(&self, addresses: &BTreeMap<ObjectKey, Vec<GatewayAddress>>) -> Observed {
        let observation = |gateway: &ObjectKey| Observation {
            addresses: addresses.get(gateway).cloned().unwrap_or_default(),
            ..self
                .get(gateway)
                .map(DataPlanes::observation)
                .unwrap_or_default()
        };
        let gateways = self.0.keys().chain(addresses.keys());
        Observed::Cluster(
            gateways
                .map(|gateway| (gateway.clone(), observation(gateway)))
                .collect(),
        )
    }
}

impl DataPlanes {
    /// Everything that is said of the tables that are served, here and at other replicas.
    pub(super) fn words(&self) -> impl Iterator<Item = &Word> {
        let connected = self.connected.values().map(|data_plane| &data_plane.word);
        connected.chain(self.relayed.values().flatten())
    }

    pub(super) fn words_mut(&mut self) -> impl Iterator<Item = &mut Word> {
        let connected = self.connected.values_mut();
        let connected = connected.map(|data_plane| &mut data_plane.word);
        connected.chain(self.relayed.values_mut().flatten())
    }

    /// Whether nobody is there who could say anything.
    pub(super) fn is_deserted(&self) -> bool {
        self.connected.is_empty() && self.relayed.is_empty()
    }

    fn observation(&self) -> Observation {
        let is_connected = !self.is_deserted();
        let Some(acknowledged) = &self.acknowledged else {
            return Observation {
                is_connected,
                ..Observation::default()
            };
        };
        Observation {
            is_connected,
            acknowledged: acknowledged.listeners.clone(),
            rejected: acknowledged.rejected(ResourceKind::Listener, |key| ListenerKey::new(key)),
            entries: Heard {
                acknowledged: acknowledged.entries.clone(),
                rejected: acknowledged.rejected(ResourceKind::Entry, |key| EntryKey::new(key)),
            },
            policies: Heard {
                acknowledged: acknowledged.policies.clone(),
                rejected: acknowledged.rejected(ResourceKind::Policy, |key| PolicyKey::new(key)),
            },
            ..Observation::default()
        }
    }

    /// The newest table that a data plane that is connected anywhere serves, with everything that any of those who serve it rejects. A
    /// data plane that is late, or just starting, takes nothing back.
    pub(super) fn settle(&mut self) {
        let all = || self.words().filter_map(|word| word.acknowledged.as_ref());
        let Some(newest) = all().max_by_key(|acknowledged| acknowledged.serial) else {
            return;
        };
        let mut newest = newest.clone();
        for other in all().filter(|other| other.serial == newest.serial) {
            newest.rejected.extend(other.rejected.clone());
        }
        self.acknowledged = Some(newest);
    }
}
