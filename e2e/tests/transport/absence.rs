//! What a proxy does without a controller, and a controller without its proxies.

use std::{fs, sync::Arc, time::Duration};

use portcullis_controller::{publish::Limits, run::Tables};
use portcullis_routing::{Frame, RoutingTable};

use crate::world::{World, gateway, gateway_key, table, until};

fn often() -> Limits {
    Limits {
        heartbeat: Duration::from_millis(100),
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_controller_a_proxy_serves_on() {
    let mut world = World::new().await;
    let proxy = world.proxy();
    let present = table(501, 3);
    world.publish(&present);
    world.until_acknowledged(&present).await;
    world.kill().await;
    proxy
        .until_metric("portcullis_controller_connected", 0)
        .await;
    assert_eq!(proxy.get().await, Some(501));
    assert_eq!(proxy.admin("/readyz").await.0, 200);
    let age = proxy.table_age().await;

    // Back, and still without any table: nothing is sent, least of all an empty one.
    world.start().await;
    assert_eq!(proxy.get().await, Some(501));
    // With the same content, made anew: the proxy says what it serves, and nothing is sent.
    world.publish(&table(501, 3));
    proxy
        .until_metric("portcullis_controller_connected", 1)
        .await;
    world.until_acknowledged(&present).await;
    assert_eq!(proxy.frames().await, [1, 0]);
    assert!(proxy.table_age().await > age);

    // With other content: what is new comes as a whole, for this controller does not know what was before.
    world.kill().await;
    world.start().await;
    let other = table(502, 3);
    world.publish(&other);
    world.until_acknowledged(&other).await;
    assert_eq!(proxy.get().await, Some(502));
    assert_eq!(proxy.frames().await, [2, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_forgot_the_gateway_takes_nothing_away() {
    let mut world = World::new().await;
    let proxy = world.proxy();
    let present = table(501, 0);
    world.publish(&present);
    world.until_acknowledged(&present).await;
    world.tables.send_replace(Some(Tables::default()));
    proxy
        .until_metric("portcullis_controller_connected", 0)
        .await;
    assert_eq!(proxy.get().await, Some(501));
    let second = table(502, 0);
    world.publish(&second);
    world.until_acknowledged(&second).await;
}

/// Even a controller that sends an empty table at the start does not make a proxy ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_first_table_is_not_served() {
    let world = World::new().await;
    let proxy = world.proxy();
    let mut empty = RoutingTable::new(gateway_key());
    empty.seal();
    world.publish(&Arc::new(empty));
    until("it is refused", || async {
        let (status, why) = proxy.admin("/readyz").await;
        (status == 503 && why.contains("no listener")).then_some(())
    })
    .await;
    assert!(!proxy.is_bound());
    world.publish(&table(501, 0));
    proxy.until_serves(501).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_without_controller_the_last_known_good_table_is_served() {
    let mut world = World::with(often()).await;
    let proxy = world.proxy();
    let present = table(501, 3);
    world.publish(&present);
    world.until_acknowledged(&present).await;
    until("it is kept", || async {
        world.cache().exists().then_some(())
    })
    .await;
    drop(proxy);
    world.kill().await;

    let proxy = world.start_proxy();
    proxy.until_serves(501).await;
    assert_eq!(proxy.admin("/readyz").await.0, 200);
    assert_eq!(proxy.metric("portcullis_table_stale").await, 1);
    assert!(proxy.admin("/table").await.1.contains("\"stale\": true"));

    // The controller is back with the same content: no frame but heartbeats, and the table is stale no more.
    world.start().await;
    world.publish(&present);
    world.until_acknowledged(&present).await;
    proxy.until_metric("portcullis_table_stale", 0).await;
    assert_eq!(proxy.frames().await, [0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_not_served() {
    let mut world = World::new().await;
    let proxy = world.proxy();
    let present = table(501, 3);
    world.publish(&present);
    world.until_acknowledged(&present).await;
    until("it is kept", || async {
        world.cache().exists().then_some(())
    })
    .await;
    drop(proxy);
    world.kill().await;
    let line = fs::read_to_string(world.cache()).unwrap();
    fs::write(world.cache(), line.replace("501", "502")).unwrap();

    let proxy = world.start_proxy();
    proxy.until_failed(3).await;
    let (status, why) = proxy.admin("/readyz").await;
    assert_eq!(
        (status, why.as_str()),
        (503, "not ready: no routing table yet\n")
    );
    assert!(!proxy.is_bound());
    // A controller mends it.
    world.start().await;
    world.publish(&present);
    proxy.until_serves(501).await;
    until("the file is whole again", || async {
        let line = fs::read(world.cache()).ok()?;
        match Frame::parse(&line) {
            Ok(Frame::Snapshot(table)) if table == present => Some(()),
            _ => None,
        }
    })
    .await;
}

/// A controller that is there but silent is as good as gone: another connection is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_hears_no_heartbeat_connects_again() {
    let mut world = World::new().await;
    // Its heartbeats come every ten seconds; the proxy waits for three of a hundred milliseconds.
    world.set_patience(often().heartbeat);
    world.publish(&table(501, 0));
    let proxy = world.proxy();
    proxy.until_serves(501).await;
    let first = world
        .until_fleet("it is connected", |fleet| {
            fleet.get(&gateway())?.connected.keys().next().copied()
        })
        .await;
    world
        .until_fleet("it connects again", |fleet| {
            let connected = &fleet.get(&gateway())?.connected;
            connected
                .keys()
                .any(|connection| *connection > first)
                .then_some(())
        })
        .await;
    assert_eq!(proxy.get().await, Some(501));
}
