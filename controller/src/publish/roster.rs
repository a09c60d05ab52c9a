//! Keeps the [`Fleet`]: who comes and goes, what they report, and what the other replicas tell.
//!
//! A report may be of a table that this replica does not have yet, for its watches may be behind those of the replica that
//! published it. Such a report is kept, one per data plane, until the table is there or another report comes.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use portcullis_routing::{GatewayKey, Report};
use tokio::sync::watch;

use super::{
    board::{Board, Editions},
    data_planes::{Acknowledgement, DataPlane, DataPlanes, Fleet, Word},
};
use crate::resources::ObjectKey;

/// Keeps the [`Fleet`].
#[derive(Debug)]
pub(super) struct Roster {
    fleet: watch::Sender<Arc<Fleet>>,
    connections: AtomicU64,
    /// Read while the fleet is changed: what is heard before a new board is looked at again after it, and what is heard
    /// after it is looked at with it.
    board: watch::Receiver<Option<Arc<Board>>>,
}

impl Roster {
    pub(super) fn new(board: watch::Receiver<Option<Arc<Board>>>) -> Self {
        Self {
            fleet: watch::Sender::default(),
            connections: AtomicU64::default(),
            board,
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<Fleet>> {
        self.fleet.subscribe()
    }

    /// A number for a connection.
    pub(super) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// A data plane of `gateway` connected.
    pub(super) fn enter(&self, gateway: &ObjectKey, connection: u64, address: SocketAddr) {
        self.change(gateway, |data_planes, _| {
            let data_plane = DataPlane {
                address,
                word: Word::default(),
            };
            data_planes.connected.insert(connection, data_plane);
        });
    }

    /// A data plane that had entered is gone.
    pub(super) fn leave(&self, gateway: &ObjectKey, connection: u64) {
        self.change(gateway, |data_planes, _| {
            data_planes.connected.remove(&connection);
        });
    }

    /// A data plane that had entered says what it serves.
    pub(super) fn report(&self, gateway: &ObjectKey, connection: u64, report: Report) {
        self.change(gateway, |data_planes, editions| {
            if let Some(data_plane) = data_planes.connected.get_mut(&connection) {
                data_plane.word.hear(report, editions);
            }
        });
    }

    /// Another replica says what its data planes serve: all of them, in place of what it said before.
    pub(super) fn relay(&self, connection: u64, reports: BTreeMap<ObjectKey, Vec<Report>>) {
        self.fleet.send_modify(|fleet| {
            let board = self.board.borrow().clone();
            let fleet = &mut Arc::make_mut(fleet).0;
            for of in fleet.values_mut() {
                if of.relayed.contains_key(&connection) {
                    let data_planes = Arc::make_mut(of);
                    data_planes.relayed.remove(&connection);
                    data_planes.settle();
                }
            }
            for (gateway, reports) in reports {
                let editions = editions(board.as_ref(), &gateway);
                let words = reports.into_iter().map(|report| {
                    let mut word = Word::default();
                    word.hear(report, editions);
                    word
                });
                let data_planes = Arc::make_mut(fleet.entry(gateway).or_default());
                data_planes.relayed.insert(connection, words.collect());
                data_planes.settle();
            }
        });
    }

    /// Another replica is gone, and what it said with it.
    pub(super) fn forget(&self, connection: u64) {
        self.relay(connection, BTreeMap::new());
    }

    /// There are new tables. Forgets Gateways that are gone, once nobody speaks of them, and looks again at the reports that
    /// could not be understood.
    pub(super) fn tables_changed(&self) {
        self.fleet.send_if_modified(|fleet| {
            let board = self.board.borrow().clone();
            let is_kept = |key: &ObjectKey, of: &DataPlanes| {
                !of.is_deserted() || editions(board.as_ref(), key).is_some()
            };
            let is_clear = |key: &ObjectKey, of: &DataPlanes| {
                let editions = editions(board.as_ref(), key);
                !of.words().any(|word| word.can_be_understood(editions))
            };
            let mut all = fleet.0.iter();
            if all.all(|(key, of)| is_kept(key, of) && is_clear(key, of)) {
                return false;
            }
            let fleet = &mut Arc::make_mut(fleet).0;
            fleet.retain(|key, of| is_kept(key, of));
            for (key, of) in fleet.iter_mut().filter(|(key, of)| !is_clear(key, of)) {
                let of = Arc::make_mut(of);
                let editions = editions(board.as_ref(), key);
                of.words_mut().for_each(|word| word.look_again(editions));
                of.settle();
            }
            true
        });
    }

    fn change(&self, gateway: &ObjectKey, change: impl FnOnce(&mut DataPlanes, Option<&Editions>)) {
        self.fleet.send_modify(|fleet| {
            let board = self.board.borrow().clone();
            let entry = Arc::make_mut(fleet).0.entry(gateway.clone()).or_default();
            let data_planes = Arc::make_mut(entry);
            change(data_planes, editions(board.as_ref(), gateway));
            data_planes.settle();
        });
    }
}

impl Word {
    /// It is this now.
    fn hear(&mut self, report: Report, editions: Option<&Editions>) {
        self.pending = Some(Arc::new(report));
        self.look_again(editions);
    }

    fn can_be_understood(&self, editions: Option<&Editions>) -> bool {
        let pending = self.pending.as_deref();
        pending.is_some_and(|report| editions.is_some_and(|it| it.find(&report.version).is_some()))
    }

    fn look_again(&mut self, editions: Option<&Editions>) {
        let Some(pending) = self.pending.as_deref() else {
            return;
        };
        if let Some(edition) = editions.and_then(|editions| editions.find(&pending.version)) {
            let rejected = pending.rejected.clone();
            self.acknowledged = Some(Acknowledgement::new(
                &edition.table,
                edition.serial,
                rejected,
            ));
            self.pending = None;
        }
    }
}

fn editions<'a>(board: Option<&'a Arc<Board>>, gateway: &ObjectKey) -> Option<&'a Editions> {
    let key = GatewayKey::of(&gateway.namespace, &gateway.name);
    board?.editions(&key).map(AsRef::as_ref)
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{
        ListenerKey, ListenerProtocol, Rejection, ResourceKind, RoutingTable, TableVersion,
    };

    use super::*;
    use crate::{
        publish::{limits::Limits, waiting::Waiting},
        run::Tables,
        status::Observed,
    };

    const HERE: u64 = 1;
    const ALSO_HERE: u64 = 2;
    const THERE: u64 = 3;

    fn edge() -> ObjectKey {
        ObjectKey::new("infra", "edge")
    }

    fn table(port: u16) -> Arc<RoutingTable> {
        let gateway = GatewayKey::of("infra", "edge");
        let mut table = RoutingTable::new(gateway.clone());
        let listener = Arc::new(portcullis_routing::Listener {
            port,
            protocol: ListenerProtocol::Http,
            hostname: None,
            tls: None,
            direction: portcullis_routing::Direction::Ingress,
        });
        for name in ["a", "b", "late"] {
            let key = ListenerKey::of(&gateway, name);
            table.listeners.insert(key, Arc::clone(&listener));
        }
        table.seal();
        Arc::new(table)
    }

    fn report(port: u16, problem: Option<&str>) -> Report {
        let rejection = |message: &str| Rejection {
            kind: ResourceKind::Listener,
            key: format!("infra/edge/{message}"),
            message: message.into(),
        };
        Report {
            version: table(port).version.clone(),
            rejected: problem.map(rejection).into_iter().collect(),
        }
    }

    /// A roster, and the tables that it knows.
    struct Scene {
        board: watch::Sender<Option<Arc<Board>>>,
        roster: Roster,
    }

    impl Scene {
        /// These tables have been published one after the other.
        fn new(ports: &[u16]) -> Self {
            let board = watch::Sender::new(None);
            let scene = Self {
                roster: Roster::new(board.subscribe()),
                board,
            };
            for port in ports {
                scene.publish(*port);
            }
            scene
        }

        fn publish(&self, port: u16) {
            let table = table(port);
            self.publish_all(&Tables::new([(table.gateway.clone(), table)].into()));
        }

        fn publish_all(&self, tables: &Tables) {
            let before = self.board.borrow().clone();
            let before =
                before.unwrap_or_else(|| Arc::new(Board::new(Waiting::new(Limits::default()))));
            self.board
                .send_replace(Some(Arc::new(before.successor(tables))));
            self.roster.tables_changed();
        }

        fn connect(&self, connection: u64) {
            let address = SocketAddr::from(([192, 0, 2, 1], 1));
            self.roster.enter(&edge(), connection, address);
        }

        fn reports(&self, connection: u64, port: u16, problem: Option<&str>) {
            self.roster
                .report(&edge(), connection, report(port, problem));
        }

        fn relays(&self, reports: Vec<Report>) {
            self.roster.relay(THERE, [(edge(), reports)].into());
        }

        /// The port of the table that is served, and what is rejected of it.
        fn served(&self) -> Option<(u16, Vec<String>)> {
            let fleet = self.roster.watch().borrow().clone();
            let acknowledged = fleet.get(&edge())?.acknowledged.clone()?;
            let listener = acknowledged.table.listeners.values().next()?;
            Some((listener.port, acknowledged.rejected.into_values().collect()))
        }
    }

    fn only(port: u16) -> (u16, Vec<String>) {
        (port, Vec::new())
    }

    #[test]
    fn the_newest_table_that_is_served_anywhere_counts() {
        let scene = Scene::new(&[80, 81]);
        scene.connect(HERE);
        assert_eq!(scene.served(), None);
        scene.relays(vec![report(80, None)]);
        assert_eq!(scene.served(), Some(only(80)));
        scene.reports(HERE, 81, None);
        assert_eq!(scene.served(), Some(only(81)));
        // Late ones take nothing back, wherever they are.
        scene.relays(vec![report(80, Some("late"))]);
        scene.connect(ALSO_HERE);
        scene.reports(ALSO_HERE, 80, None);
        assert_eq!(scene.served(), Some(only(81)));
        // Nor do those who go, until another one is all that there is.
        scene.roster.leave(&edge(), HERE);
        scene.roster.leave(&edge(), ALSO_HERE);
        assert_eq!(scene.served(), Some((80, vec!["late".into()])));
        scene.roster.forget(THERE);
        assert_eq!(scene.served(), Some((80, vec!["late".into()])));
    }

    /// The ports of the tables that are served, and whether there is one that is not known here.
    fn all_served(scene: &Scene) -> (Vec<u16>, bool) {
        let Observed::Cluster(mut gateways) =
            scene.roster.watch().borrow().observed(&BTreeMap::new())
        else {
            panic!("a cluster");
        };
        let observation = gateways.remove(&edge()).unwrap();
        let tables = observation.served.iter().map(|served| &served.table);
        let ports = tables.filter_map(|table| Some(table.listeners.values().next()?.port));
        (ports.collect(), observation.serves_unknown)
    }

    /// What is allowed is allowed everywhere once nobody serves a table that says otherwise.
    #[test]
    fn every_table_that_is_served_anywhere_is_known() {
        let scene = Scene::new(&[80, 81]);
        scene.connect(HERE);
        assert_eq!(all_served(&scene), (vec![], false), "it is just starting");
        scene.reports(HERE, 81, None);
        scene.relays(vec![report(80, None), report(81, None)]);
        assert_eq!(all_served(&scene), (vec![80, 81], false));
        scene.connect(ALSO_HERE);
        scene.reports(ALSO_HERE, 82, None);
        assert_eq!(all_served(&scene), (vec![80, 81], true));
        scene.publish(82);
        assert_eq!(all_served(&scene), (vec![80, 81, 82], false));
        scene.roster.forget(THERE);
        scene.roster.leave(&edge(), HERE);
        assert_eq!(all_served(&scene), (vec![82], false));
        scene.roster.leave(&edge(), ALSO_HERE);
        assert_eq!(
            all_served(&scene),
            (vec![82], false),
            "until another one speaks"
        );
    }

    /// Proxies that serve the same table cost no copy of it.
    #[test]
    fn a_table_is_held_once_for_all_who_serve_it() {
        let scene = Scene::new(&[80]);
        for connection in [HERE, ALSO_HERE] {
            scene.connect(connection);
            scene.reports(connection, 80, None);
        }
        let fleet = scene.roster.watch().borrow().clone();
        let words = fleet.get(&edge()).unwrap().words();
        let tables: Vec<_> = words
            .map(|word| &word.acknowledged.as_ref().unwrap().table)
            .collect();
        assert!(Arc::ptr_eq(tables[0], tables[1]));
    }

    #[test]
    fn what_anybody_rejects_of_it_counts() {
        let scene = Scene::new(&[80]);
        scene.connect(HERE);
        scene.reports(HERE, 80, Some("a"));
        scene.relays(vec![report(80, Some("b"))]);
        assert_eq!(scene.served(), Some((80, vec!["a".into(), "b".into()])));
        scene.relays(vec![report(80, None)]);
        assert_eq!(scene.served(), Some((80, vec!["a".into()])));
        scene.relays(vec![]);
        assert_eq!(scene.served(), Some((80, vec!["a".into()])));
    }

    #[test]
    fn only_what_the_table_has_can_be_rejected() {
        let scene = Scene::new(&[80]);
        scene.connect(HERE);
        let mut forged = report(80, Some("a"));
        forged.rejected.extend(report(80, Some("none")).rejected);
        let route = Rejection {
            kind: ResourceKind::Route,
            key: "infra/edge/b".into(),
            message: "b".into(),
        };
        forged.rejected.push(route);
        scene.roster.report(&edge(), HERE, forged);
        assert_eq!(scene.served(), Some((80, vec!["a".into()])));
    }

    #[test]
    fn a_report_waits_for_its_table() {
        let scene = Scene::new(&[]);
        scene.connect(HERE);
        scene.reports(HERE, 80, None);
        scene.relays(vec![report(81, Some("b")), report(82, None)]);
        assert_eq!(scene.served(), None);
        scene.publish(80);
        assert_eq!(scene.served(), Some(only(80)));
        scene.publish(81);
        assert_eq!(scene.served(), Some((81, vec!["b".into()])));
        // The last report is the one that waits, and until then the one before counts.
        scene.reports(HERE, 83, None);
        scene.reports(HERE, 84, None);
        scene.publish(83);
        assert_eq!(scene.served(), Some((81, vec!["b".into()])));
        scene.publish(84);
        assert_eq!(scene.served(), Some(only(84)));
    }

    #[test]
    fn nobody_is_woken_by_a_table_that_nobody_speaks_of() {
        let scene = Scene::new(&[80]);
        scene.connect(HERE);
        scene.reports(HERE, 80, None);
        let mut fleet = scene.roster.watch();
        fleet.mark_unchanged();
        scene.publish(81);
        assert!(!fleet.has_changed().unwrap());
        scene.reports(HERE, 81, None);
        assert!(fleet.has_changed().unwrap());
    }

    #[test]
    fn a_gateway_that_is_gone_is_forgotten_once_nobody_speaks_of_it() {
        let scene = Scene::new(&[80]);
        scene.relays(vec![report(80, None)]);
        scene.publish_all(&Tables::default());
        assert_eq!(scene.served(), Some(only(80)));
        scene.roster.forget(THERE);
        scene.publish_all(&Tables::default());
        assert_eq!(scene.served(), None);
        assert!(scene.roster.watch().borrow().get(&edge()).is_none());
        let unknown = TableVersion("0".into());
        scene.relays(vec![Report {
            version: unknown,
            rejected: vec![],
        }]);
        assert_eq!(scene.served(), None);
    }
}
