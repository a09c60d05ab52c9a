//! Tests of applying tables, and of where they come from.

mod credentials;
mod egress;
mod rules;
mod salvage;
mod trust;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use http::{HeaderMap, Method};
use portcullis_routing::{
    Backend, Cluster, ClusterTls, CompiledPort, CompiledRoute, Listener, ListenerProtocol,
    ListenerTls, Millis, PathMatch, RequestHead, ResourceKind, RouteAction, RoutingTable, Secret,
    TableVersion, egress::EgressSettings, listener::TlsVersion, policy::Retry, settings::AccessLog,
};

use super::{
    Overrides, Snapshot, TableError, TableSource, TableState,
    fixtures::{
        broken, certificate, certificate_key, changed, cluster, gateway, listener, path_route,
        plain, route, table,
    },
};
use crate::{
    plan::PreparedRoute,
    telemetry::{Metrics, MetricsOptions},
};

fn state() -> TableState {
    TableState::new(
        Arc::new(Metrics::new(MetricsOptions::default())),
        Overrides::default(),
    )
}

fn snapshot(state: &TableState) -> Arc<Snapshot> {
    state.current().clone().unwrap()
}

/// The rule that takes `path` on a port.
fn found(state: &TableState, port: u16, path: &str) -> Option<Arc<CompiledRoute<PreparedRoute>>> {
    let snapshot = snapshot(state);
    let listener = snapshot.compiled.port(port)?.listener_for("a.example")?;
    let (method, headers) = (&Method::GET, &HeaderMap::new());
    let found = listener.lookup(&RequestHead {
        host: "a.example",
        path,
        query: None,
        method,
        headers,
    })?;
    Some(Arc::clone(found.route))
}

/// The key of the one on port 8000.
fn winner(state: &TableState, path: &str) -> Option<String> {
    Some(found(state, 8000, path)?.key().to_string())
}

/// What that one does.
fn answer(state: &TableState, path: &str) -> Option<String> {
    answer_at(state, 8000, path)
}

fn answer_at(state: &TableState, port: u16, path: &str) -> Option<String> {
    Some(match &found(state, port, path)?.route().action {
        RouteAction::Forward(backends) => match &backends.first()?.backend {
            Backend::Cluster(key) => key.to_string(),
            Backend::External { entry, .. } => entry.to_string(),
            Backend::Invalid { reason } => reason.clone(),
        },
        RouteAction::Respond { status, reason } => format!("{status} {reason}"),
        RouteAction::Redirect(redirect) => redirect.status.to_string(),
    })
}

/// What a rule answers that nothing stands in for.
const REFUSED: &str = "500 invalid_rule";

fn rejected(report: &portcullis_routing::Report) -> Vec<(ResourceKind, &str)> {
    report
        .rejected
        .iter()
        .map(|rejection| (rejection.kind, rejection.key.as_str()))
        .collect()
}

fn https(certificate: portcullis_routing::Certificate) -> impl FnOnce(&mut RoutingTable) {
    move |table| {
        let tls = ListenerTls {
            certificates: vec![certificate_key()],
            min_version: TlsVersion::default(),
            client_validation: None,
        };
        let listener_value = Listener {
            port: 8443,
            protocol: ListenerProtocol::Https,
            hostname: None,
            tls: Some(tls),
            direction: portcullis_routing::Direction::Ingress,
        };
        table
            .listeners
            .insert(listener("tls"), Arc::new(listener_value));
        table
            .certificates
            .insert(certificate_key(), Arc::new(certificate));
    }
}

#[test]
fn an_empty_table_is_not_served_by_accident() {
    let state = state();
    let mut empty = RoutingTable::new(gateway());
    assert_eq!(
        state.apply(Arc::new(empty.clone())),
        Err(TableError::Unsealed)
    );
    empty.seal();
    let empty = Arc::new(empty);
    assert_eq!(state.apply(Arc::clone(&empty)), Err(TableError::EmptyFirst));
    assert!(state.current().is_none());
    assert!(state.status().last_error.is_some());

    let full = Arc::new(table(1, 1));
    state.apply(Arc::clone(&full)).unwrap();
    assert_eq!(state.status().last_error, None);
    let unsealed = RoutingTable {
        version: TableVersion::default(),
        ..(*empty).clone()
    };
    assert_eq!(state.apply(Arc::new(unsealed)), Err(TableError::Unsealed));
    assert_eq!(winner(&state, "/r0"), Some(route(0).to_string()));

    // A finished table without listeners is somebody's wish.
    state.apply(empty).unwrap();
    assert_eq!(snapshot(&state).compiled.ports().count(), 0);
}

#[test]
fn a_table_that_cannot_be_meant_for_this_proxy_is_refused() {
    let state = state();
    let good = table(1, 1);
    state.apply(Arc::new(good.clone())).unwrap();
    let later = changed(&good, |table| table.schema = 99);
    assert_eq!(state.apply(later), Err(TableError::Schema { found: 99 }));
    let other = portcullis_routing::GatewayKey::of("infra", "other");
    let foreign = changed(&good, |table| table.gateway = other.clone());
    assert_eq!(
        state.apply(foreign),
        Err(TableError::OtherGateway {
            found: other,
            serving: gateway()
        })
    );
    assert_eq!(snapshot(&state).compiled.table().version, good.version);
}

#[test]
fn the_same_table_again_changes_nothing() {
    let state = state();
    let first = state.apply(Arc::new(table(1, 1))).unwrap();
    let before = snapshot(&state);
    assert_eq!(state.apply(Arc::new(table(1, 1))).unwrap(), first);
    assert!(Arc::ptr_eq(&before, &snapshot(&state)));
}

#[test]
fn what_is_equal_in_the_next_table_is_held_once() {
    let state = state();
    state.apply(Arc::new(table(1, 3))).unwrap();
    let before = snapshot(&state);
    let next = changed(&table(1, 3), |table| {
        _ = table
            .routes
            .insert(route(0), path_route(0, PathMatch::Exact("/x".into())));
    });
    state.apply(next).unwrap();
    let after = snapshot(&state);
    let shared = |number| {
        Arc::ptr_eq(
            before.compiled.route(&route(number)).unwrap(),
            after.compiled.route(&route(number)).unwrap(),
        )
    };
    assert!(shared(1) && shared(2) && !shared(0));
}

#[test]
fn the_command_line_overrules_the_table() {
    let metrics = Arc::new(Metrics::new(MetricsOptions::default()));
    let state = TableState::new(
        metrics,
        Overrides {
            access_log: Some(AccessLog::Off),
            dns_servers: vec!["192.0.2.53:53".parse().unwrap()],
        },
    );
    state.apply(Arc::new(table(1, 1))).unwrap();
    assert_eq!(snapshot(&state).settings().access_log, AccessLog::Off);
    assert!(snapshot(&state).settings().egress.is_none());

    let of_egress = changed(&table(1, 1), |table| {
        let settings = Arc::make_mut(&mut table.settings);
        settings.egress = Some(EgressSettings {
            dns_servers: vec!["[2001:db8::53]:53".parse().unwrap()],
            ..EgressSettings::default()
        });
    });
    state.apply(of_egress.clone()).unwrap();
    let before = snapshot(&state);
    let servers = before.settings().egress.as_ref().unwrap();
    assert_eq!(servers.dns_servers, ["192.0.2.53:53".parse().unwrap()]);

    // Many tables follow one another with the same settings.
    let other = changed(&of_egress, |table| _ = table.routes.pop_first());
    state.apply(other).unwrap();
    assert!(Arc::ptr_eq(&before.settings, &snapshot(&state).settings));
}

/// Every snapshot that a reader sees belongs to one table as a whole, and never goes back.
#[test]
fn a_table_is_swapped_as_a_whole() {
    let state = Arc::new(state());
    state.apply(Arc::new(table(1, 1))).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (cell, done) = (Arc::clone(state.cell()), Arc::clone(&done));
            thread::spawn(move || {
                let mut seen = 0;
                loop {
                    let last = done.load(Ordering::Acquire);
                    let snapshot = cell.load_full().unwrap();
                    let routes = snapshot.compiled.table().routes.len();
                    assert!(routes >= seen, "went back from {seen} to {routes}");
                    assert_eq!(snapshot.compiled.table().clusters.len(), routes);
                    assert!(snapshot.compiled.route(&route(routes - 1)).is_some());
                    assert!(snapshot.compiled.route(&route(routes)).is_none());
                    seen = routes;
                    if last {
                        return seen;
                    }
                }
            })
        })
        .collect();
    for routes in 2..=60 {
        state.apply(Arc::new(table(1, routes))).unwrap();
    }
    done.store(true, Ordering::Release);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), 60);
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_table_is_dropped_here_and_not_by_the_worker() {
    let state = Arc::new(state());
    let (sender, source) = TableSource::channel();
    let mut changes = state.changes();
    let follower = Arc::clone(&state);
    let follow = tokio::spawn(async move { follower.follow(source).await });
    sender.send_replace(Some(Arc::new(table(1, 1))));
    changes.changed().await.unwrap();
    let held_by_a_worker = snapshot(&state);
    sender.send_replace(Some(Arc::new(table(1, 2))));
    changes.changed().await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(
        Arc::strong_count(&held_by_a_worker),
        2,
        "the state holds on to it as long as the worker does"
    );
    let watched = Arc::downgrade(&held_by_a_worker);
    drop(held_by_a_worker);
    assert!(watched.upgrade().is_some(), "the worker was not the last");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(watched.upgrade().is_none());
    drop(sender);
    follow.await.unwrap();
}

/// What a person would do to a table file, in order. Each step waits for the one before to be seen.
#[tokio::test]
async fn a_file_is_followed_through_all_ways_of_writing_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.json");
    let mut source = TableSource::file(&path).unwrap();
    let error = next(&mut source).await.unwrap_err();
    assert!(error.contains("table.json"), "{error}");

    // In place.
    fs::write(&path, json(1)).unwrap();
    assert_eq!(next(&mut source).await, Ok(1));
    // Half a file, and then all of it.
    fs::write(&path, &json(2)[..40]).unwrap();
    let error = next(&mut source).await.unwrap_err();
    assert!(error.contains("line"), "{error}");
    fs::write(&path, json(2)).unwrap();
    assert_eq!(next(&mut source).await, Ok(2));
    // Beside it and renamed; another file in the directory is of no interest, nor is the same content again.
    fs::write(directory.path().join("other"), "x").unwrap();
    fs::write(&path, json(2)).unwrap();
    replace(&path, &json(3));
    assert_eq!(next(&mut source).await, Ok(3));
    // Gone for a while.
    fs::remove_file(&path).unwrap();
    replace(&path, &json(4));
    assert_eq!(next(&mut source).await, Ok(4));
}

/// Kubernetes mounts a ConfigMap as links into a directory that is replaced by moving a link.
#[tokio::test]
async fn a_file_behind_a_moved_link_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, routes) in [("v1", 1), ("v2", 2)] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("table.json"), json(routes)).unwrap();
    }
    std::os::unix::fs::symlink("v1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/table.json", at("table.json")).unwrap();
    let mut source = TableSource::file(&at("table.json")).unwrap();
    assert_eq!(next(&mut source).await, Ok(1));
    std::os::unix::fs::symlink("v2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    assert_eq!(next(&mut source).await, Ok(2));
}

/// The number of routes of the next table.
async fn next(source: &mut TableSource) -> Result<usize, String> {
    let frame = tokio::time::timeout(Duration::from_mins(1), source.next())
        .await
        .expect("a change is seen");
    frame
        .unwrap()
        .map(|table| table.routes.len())
        .map_err(|error| error.to_string())
}

fn json(routes: usize) -> Vec<u8> {
    serde_json::to_vec_pretty(&table(1, routes)).unwrap()
}

fn replace(path: &Path, content: &[u8]) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn a_file_needs_no_version() {
    let mut table = table(1, 1);
    let version = std::mem::take(&mut table.version);
    let decoded = super::source::decode(&serde_json::to_vec(&table).unwrap()).unwrap();
    assert_eq!(decoded.version, version);
}
