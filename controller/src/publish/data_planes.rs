//! What is known of the data planes: who is connected, and what they say of their tables.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use portcullis_routing::{
    GatewayKey, Listener, ListenerKey, Rejection, ResourceKind, RoutingTable, TableVersion,
};
use tokio::sync::watch;

use crate::{
    resources::ObjectKey,
    status::{GatewayAddress, Observed, programmed::Observation},
};

/// The data planes of all Gateways. A Gateway that is absent has had none.
#[derive(Clone, Debug, Default)]
pub struct Fleet(BTreeMap<ObjectKey, Arc<DataPlanes>>);

/// The data planes of one Gateway.
#[derive(Clone, Debug, Default)]
pub struct DataPlanes {
    /// Those that are connected, by a number of their connection.
    pub connected: BTreeMap<u64, DataPlane>,
    /// The newest table that one of them serves. It stays when they are gone, until another one says something.
    pub acknowledged: Option<Acknowledgement>,
}

/// One data plane.
#[derive(Clone, Debug)]
pub struct DataPlane {
    /// Where it connected from.
    pub address: SocketAddr,
    /// What it serves; `None` before its first report.
    pub acknowledged: Option<Acknowledgement>,
}

/// A table that is served.
#[derive(Clone, Debug)]
pub struct Acknowledgement {
    /// Its version.
    pub version: TableVersion,
    /// Its listeners.
    pub listeners: BTreeMap<ListenerKey, Arc<Listener>>,
    /// What is not served of it, by kind and key.
    pub rejected: BTreeMap<(ResourceKind, String), String>,
    serial: u64,
}

impl Acknowledgement {
    /// Of a table, but for what is rejected of it. `serial` counts up with the tables of a Gateway.
    pub fn new(table: &RoutingTable, serial: u64, rejected: Vec<Rejection>) -> Self {
        let rejected = rejected
            .into_iter()
            .map(|rejection| ((rejection.kind, rejection.key), rejection.message));
        Self {
            version: table.version.clone(),
            listeners: table.listeners.clone(),
            rejected: rejected.collect(),
            serial,
        }
    }
}

impl FromIterator<(ObjectKey, DataPlanes)> for Fleet {
    fn from_iter<I: IntoIterator<Item = (ObjectKey, DataPlanes)>>(fleet: I) -> Self {
        let fleet = fleet.into_iter();
        Self(fleet.map(|(key, of)| (key, Arc::new(of))).collect())
    }
}

impl Fleet {
    /// How many data planes are connected.
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
    fn observation(&self) -> Observation {
        let Some(acknowledged) = &self.acknowledged else {
            return Observation::default();
        };
        let listeners = acknowledged
            .rejected
            .iter()
            .filter(|((kind, _), _)| *kind == ResourceKind::Listener);
        Observation {
            addresses: Vec::new(),
            acknowledged: acknowledged.listeners.clone(),
            rejected: listeners
                .map(|((_, key), message)| (ListenerKey::new(key.as_str()), message.clone()))
                .collect(),
        }
    }

    /// The newest table that a connected data plane serves, with everything that any of those who serve it rejects. A
    /// data plane that is late, or just starting, takes nothing back.
    fn settle(&mut self) {
        let all = || {
            self.connected
                .values()
                .filter_map(|data_plane| data_plane.acknowledged.as_ref())
        };
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

/// Keeps the [`Fleet`].
#[derive(Debug, Default)]
pub(super) struct Roster {
    fleet: watch::Sender<Arc<Fleet>>,
    connections: AtomicU64,
}

impl Roster {
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Fleet>> {
        self.fleet.subscribe()
    }

    /// A data plane of `gateway` connected.
    pub(super) fn enter(&self, gateway: &ObjectKey, address: SocketAddr) -> u64 {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        self.change(gateway, |data_planes| {
            let data_plane = DataPlane {
                address,
                acknowledged: None,
            };
            data_planes.connected.insert(connection, data_plane);
        });
        connection
    }

    /// A data plane that had entered is gone.
    pub(super) fn leave(&self, gateway: &ObjectKey, connection: u64) {
        self.change(gateway, |data_planes| {
            data_planes.connected.remove(&connection);
        });
    }

    /// A data plane that had entered serves a table.
    pub(super) fn acknowledge(
        &self,
        gateway: &ObjectKey,
        connection: u64,
        acknowledged: Acknowledgement,
    ) {
        self.change(gateway, |data_planes| {
            if let Some(data_plane) = data_planes.connected.get_mut(&connection) {
                data_plane.acknowledged = Some(acknowledged);
            }
        });
    }

    /// Forgets Gateways that are gone, once nobody of them is connected.
    pub(super) fn retain(&self, exists: impl Fn(&GatewayKey) -> bool) {
        let is_kept = |key: &ObjectKey, data_planes: &DataPlanes| {
            !data_planes.connected.is_empty() || exists(&GatewayKey::of(&key.namespace, &key.name))
        };
        self.fleet.send_if_modified(|fleet| {
            if fleet.0.iter().all(|(key, of)| is_kept(key, of)) {
                return false;
            }
            Arc::make_mut(fleet).0.retain(|key, of| is_kept(key, of));
            true
        });
    }

    fn change(&self, gateway: &ObjectKey, change: impl FnOnce(&mut DataPlanes)) {
        self.fleet.send_modify(|fleet| {
            let entry = Arc::make_mut(fleet).0.entry(gateway.clone()).or_default();
            let data_planes = Arc::make_mut(entry);
            change(data_planes);
            data_planes.settle();
        });
    }
}
