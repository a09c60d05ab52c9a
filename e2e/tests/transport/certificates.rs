//! Certificates change while tables flow.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use portcullis_controller::ca::{
    AUTHORITY_LIFETIME, Authority, HANDOVER, IDENTITY_LIFETIME, Identity,
};

use crate::world::{
    TRUST_DOMAIN, World, controller, data_plane, gateway, table, until, write_identity,
};

/// Authority, controller and data plane get new keys one after the other. The stream that is there goes on, and a proxy
/// that starts at any moment is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_authorities_change_without_a_lost_stream() {
    let now = SystemTime::now();
    let mut world = World::new().await;
    // An authority that is due to be replaced.
    world.authority = Authority::create(now - AUTHORITY_LIFETIME * 2 / 3 - HANDOVER * 2).unwrap();
    let mut server = world.issue(&controller());
    let mut client = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    world.tls.replace(&server).unwrap();
    write_identity(&world.identity_folder(), &client);
    world.publish(&table(501, 0));
    let proxy = world.start_proxy();
    proxy.until_serves(501).await;
    let stream = world
        .until_fleet("it is connected", |fleet| {
            fleet.get(&gateway())?.connected.keys().next().copied()
        })
        .await;

    let announced_at = now - HANDOVER - Duration::from_hours(1);
    let announced = world.authority.advanced(announced_at).unwrap().unwrap();
    let signing = announced.advanced(now).unwrap().unwrap();
    let after = signing
        .advanced(now + AUTHORITY_LIFETIME / 3)
        .unwrap()
        .unwrap();
    let renew = |authority: &Authority, identity: &Identity, subject| {
        authority
            .renewed(Some(identity), &subject, now)
            .unwrap()
            .unwrap()
    };
    let mut status = 501;
    for authority in [&announced, &signing, &after] {
        server = renew(authority, &server, controller());
        world.tls.replace(&server).unwrap();
        let late = world.start_proxy();
        late.until_serves(status).await;
        drop(late);
        client = renew(authority, &client, data_plane(TRUST_DOMAIN, "edge"));
        write_identity(&world.identity_folder(), &client);
        let fresh = world.start_proxy();
        status += 1;
        world.publish(&table(status, 0));
        proxy.until_serves(status).await;
        fresh.until_serves(status).await;
    }
    assert!(
        world.connected().contains(&stream),
        "it is the stream of the start"
    );
    assert_eq!(proxy.frames().await, [1, 3]);

    // It was all for something: with a certificate of the first authority alone nobody gets in any more.
    let old = world
        .authority
        .issue(&data_plane(TRUST_DOMAIN, "edge"), now)
        .unwrap();
    let refused = match world
        .client(&Identity {
            authorities: after.bundle(),
            ..old
        })
        .await
    {
        Ok(mut client) => client.ask(hyper::Method::GET, "/", vec![]).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
}

/// A connection does not outlive its certificate; with the new one that is there by then, nothing is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_with_its_certificate() {
    let mut world = World::new().await;
    let soon = SystemTime::now() - IDENTITY_LIFETIME + Duration::from_secs(3);
    let edge = data_plane(TRUST_DOMAIN, "edge");
    let expiring = world.authority.issue(&edge, soon).unwrap();
    write_identity(&world.identity_folder(), &expiring);
    world.publish(&table(501, 0));
    let proxy = world.start_proxy();
    proxy.until_serves(501).await;
    let first = world.connected();
    write_identity(&world.identity_folder(), &world.issue(&edge));
    until("it has connected again", || async {
        let connected = world.connected();
        (!connected.is_empty() && first.iter().all(|old| !connected.contains(old))).then_some(())
    })
    .await;
    let next = table(502, 0);
    world.publish(&next);
    world.until_acknowledged(&next).await;
    assert_eq!(proxy.frames().await, [1, 1]);
}

/// A controller must be who it says: another name, or another authority, gets no proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_trusts_no_other_controller() {
    let world = World::new().await;
    world.publish(&table(501, 0));
    let other_name = portcullis_controller::ca::Subject::Controller {
        names: vec!["other.example".to_owned()],
    };
    let stranger = Authority::create(SystemTime::now()).unwrap();
    let mut foreign = stranger.issue(&controller(), SystemTime::now()).unwrap();
    foreign.authorities = world.authority.bundle();
    let proxy = world.proxy();
    proxy.until_serves(501).await;
    drop(proxy);
    let served = Arc::clone(&world.tls);
    std::fs::remove_file(world.cache()).unwrap();
    for identity in [world.issue(&other_name), foreign] {
        served.replace(&identity).unwrap();
        let proxy = world.start_proxy();
        proxy.until_failed(3).await;
        assert_eq!(proxy.admin("/readyz").await.0, 503);
        drop(proxy);
    }
    served.replace(&world.issue(&controller())).unwrap();
    let proxy = world.start_proxy();
    proxy.until_serves(501).await;
}
