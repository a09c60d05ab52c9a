//! What is known of the data planes: who is connected, and what they say of their tables.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use portcullis_routing::{
    EntryKey, ListenerKey, PolicyKey, Rejection, Report, ResourceKind, RoutingTable, TableVersion,
};

use crate::{
    resources::ObjectKey,
    status::{
        GatewayAddress, Observed,
        programmed::{Observation, Served},
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
    /// The table as it was published, which all who serve it share.
    pub table: Arc<RoutingTable>,
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
        Some((&acknowledged.table.version, rejected.collect()))
    }
}

impl Word {
    /// Whether all that was said is of a table that is not known here.
    const fn is_of_unknown(&self) -> bool {
        self.acknowledged.is_none() && self.pending.is_some()
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
    pub fn new(table: &Arc<RoutingTable>, serial: u64, rejected: Vec<Rejection>) -> Self {
        let rejected = rejected
            .into_iter()
            .filter(|rejection| has(table, rejection))
            .map(|rejection| ((rejection.kind, rejection.key), rejection.message));
        Self {
            table: Arc::clone(table),
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

    fn served(&self) -> Served {
        Served {
            table: Arc::clone(&self.table),
            rejected_entries: self.rejected(ResourceKind::Entry, |key| EntryKey::new(key)),
            rejected_policies: self.rejected(ResourceKind::Policy, |key| PolicyKey::new(key)),
        }
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
        ResourceKind::Credential => table.credentials.contains_key(key),
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
        let serves_unknown = self.words().any(Word::is_of_unknown);
        let Some(acknowledged) = &self.acknowledged else {
            return Observation {
                is_connected,
                serves_unknown,
                ..Observation::default()
            };
        };
        Observation {
            is_connected,
            acknowledged: acknowledged.table.listeners.clone(),
            rejected: acknowledged.rejected(ResourceKind::Listener, |key| ListenerKey::new(key)),
            served: self.served(acknowledged),
            serves_unknown,
            ..Observation::default()
        }
    }

    /// Each table that a data plane serves which is connected anywhere, with what any of those who serve it rejects; the `last` one
    /// where there is none.
    fn served(&self, last: &Acknowledgement) -> Vec<Served> {
        let mut tables = BTreeMap::<u64, Acknowledgement>::new();
        for one in self.words().filter_map(|word| word.acknowledged.as_ref()) {
            let known = tables.entry(one.serial);
            let known = known.or_insert_with(|| one.clone());
            known.rejected.extend(one.rejected.clone());
        }
        if tables.is_empty() {
            return vec![last.served()];
        }
        tables.values().map(Acknowledgement::served).collect()
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
