//! From a published table to what is served of it, and back.

use std::sync::Arc;

use portcullis_routing::{
    Listener, ListenerKey, ListenerProtocol, PathMatch, ResourceKind, RouteKey,
};

use crate::world::{World, changed, gateway, gateway_key, route, table, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_follows_its_controller() {
    let mut world = World::new().await;
    let proxy = world.proxy();
    let (status, why) = proxy.admin("/readyz").await;
    assert_eq!(
        (status, why.as_str()),
        (503, "not ready: no routing table yet\n")
    );
    assert!(!proxy.is_bound(), "no port before the first table");

    let first = table(501, 3);
    world.publish(&first);
    proxy.until_serves(501).await;
    assert_eq!(proxy.admin("/readyz").await.0, 200);
    world.until_acknowledged(&first).await;
    assert_eq!(proxy.metric("portcullis_controller_connected").await, 1);
    assert_eq!(proxy.metric("portcullis_table_stale").await, 0);
    assert_eq!(proxy.frames().await, [1, 0]);

    let second = table(502, 3);
    world.publish(&second);
    proxy.until_serves(502).await;
    world.until_acknowledged(&second).await;
    assert_eq!(proxy.frames().await, [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proxy_cannot_serve_is_known_to_the_controller() {
    let mut world = World::new().await;
    let proxy = world.proxy();
    let good = table(501, 1);
    world.publish(&good);
    proxy.until_serves(501).await;

    let broken = changed(&good, |table| {
        let regex = PathMatch::Regex("(".into());
        table.routes.insert(
            RouteKey::of("HTTPRoute", "a", "broken", 0),
            Arc::new(route("broken", regex, 200)),
        );
    });
    world.publish(&broken);
    world.until_acknowledged(&broken).await;
    let rejected = world
        .until_fleet("the rejection is known", |fleet| {
            let acknowledged = fleet.get(&gateway())?.acknowledged.clone()?;
            Some(acknowledged.rejected)
        })
        .await;
    let ((kind, key), why) = rejected.first_key_value().unwrap();
    assert_eq!(
        (*kind, key.as_str()),
        (ResourceKind::Route, "httproute/a/broken/0")
    );
    assert!(why.contains("regex"), "{why}");
    assert_eq!(proxy.get().await, Some(501), "all else is served");

    let mended = table(502, 1);
    world.publish(&mended);
    world.until_acknowledged(&mended).await;
    let fleet = world.fleet.borrow().clone();
    assert!(
        fleet
            .get(&gateway())
            .unwrap()
            .acknowledged
            .as_ref()
            .unwrap()
            .rejected
            .is_empty()
    );
}

/// A port that cannot be bound is the listener's fault, although its table is good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_a_rejected_listener() {
    let mut world = World::new().await;
    let proxy = world.proxy();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let key = ListenerKey::of(&gateway_key(), "taken");
    let table = changed(&table(501, 0), |table| {
        let listener = Listener {
            port,
            protocol: ListenerProtocol::Http,
            hostname: None,
            tls: None,
            direction: portcullis_routing::Direction::Ingress,
        };
        table.listeners.insert(key.clone(), Arc::new(listener));
    });
    world.publish(&table);
    world.until_acknowledged(&table).await;
    let fleet = world.fleet.borrow().clone();
    let acknowledged = fleet.get(&gateway()).unwrap().acknowledged.clone().unwrap();
    assert_eq!(
        acknowledged.rejected.keys().collect::<Vec<_>>(),
        [&(ResourceKind::Listener, key.to_string())]
    );
    assert_eq!(proxy.get().await, Some(501));
}

/// Two proxies of one Gateway: one that is late or gone takes nothing back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_proxies_is_enough() {
    let mut world = World::new().await;
    let present = table(501, 0);
    world.publish(&present);
    let first = world.proxy();
    world.until_acknowledged(&present).await;
    let second = world.start_proxy();
    second.until_serves(501).await;
    until("both are connected", || async {
        (world.connected().len() == 2).then_some(())
    })
    .await;
    drop(first);
    drop(second);
    until("both are gone", || async {
        world.connected().is_empty().then_some(())
    })
    .await;
    world.until_acknowledged(&present).await;
}
