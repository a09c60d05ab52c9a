//! Several replicas: the one that leads knows what the data planes of all of them serve.

use hyper::{Method, StatusCode};
use portcullis_controller::{publish::Fleet, status::Observed};
use portcullis_routing::{Rejection, Report, ResourceKind, RoutingTable};

use crate::{
    client::Client,
    world::{TRUST_DOMAIN, World, controller, data_plane, gateway, gateway_key, table, until},
};

const DATA_PLANES: &str = "/v1/data-planes";
const REPORTS: &str = "/v1/gateways/infra/edge/reports";

/// A data plane of `replica` that serves `table` without its listener, if there is something in its way.
async fn report(replica: &World, table: &RoutingTable, problem: Option<&str>) -> Client {
    let identity = replica.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = replica.client(&identity).await.unwrap();
    let rejection = |message: &str| Rejection {
        kind: ResourceKind::Listener,
        key: "infra/edge/http".into(),
        message: message.into(),
    };
    let report = Report {
        version: table.version.clone(),
        rejected: problem.map(rejection).into_iter().collect(),
    };
    let body = serde_json::to_vec(&report).unwrap();
    let answer = client.ask(Method::POST, REPORTS, body).await.unwrap();
    assert_eq!(answer.0, StatusCode::NO_CONTENT);
    client
}

/// From how many replicas something was heard of the Gateway.
fn replicas(fleet: &Fleet) -> usize {
    fleet.get(&gateway()).map_or(0, |of| of.relayed.len())
}

async fn until_replicas(world: &mut World, number: usize) {
    let what = format!("{number} replicas are heard of");
    let probe = |fleet: &Fleet| (replicas(fleet) == number).then_some(());
    world.until_fleet(&what, probe).await;
}

/// What is in the way of the Gateway's listeners.
fn problems(world: &World) -> Vec<String> {
    let Observed::Cluster(mut gateways) = world.fleet.borrow().observed(&[].into()) else {
        panic!("a cluster");
    };
    let observation = gateways.remove(&gateway()).unwrap_or_default();
    observation.rejected.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_knows_what_a_proxy_of_another_replica_serves() {
    let mut leader = World::new().await;
    let follower = leader.replica().await;
    let proxy = follower.proxy();
    follower.follow(Some(leader.address));
    for status in [501, 502] {
        let present = table(status, 3);
        leader.publish(&present);
        follower.publish(&present);
        proxy.until_serves(status).await;
        leader.until_acknowledged(&present).await;
    }
    assert_eq!(
        leader.fleet.borrow().connected(),
        0,
        "it is not connected here"
    );
    drop(proxy);
    until_replicas(&mut leader, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_any_data_plane_rejects_is_known_once() {
    let mut leader = World::new().await;
    let follower = leader.replica().await;
    follower.follow(Some(leader.address));
    let present = table(501, 0);
    leader.publish(&present);
    follower.publish(&present);
    let here = report(&leader, &present, None).await;
    leader.until_acknowledged(&present).await;
    assert!(problems(&leader).is_empty());
    let there = [
        report(&follower, &present, Some("the port is in use")).await,
        report(&follower, &present, Some("the port is in use")).await,
    ];
    until("the rejection is known", || async {
        (problems(&leader) == ["the port is in use"]).then_some(())
    })
    .await;
    drop(there);
    until("it is gone with those who rejected it", || async {
        problems(&leader).is_empty().then_some(())
    })
    .await;
    drop(here);
}

/// The watches of the leader may be behind those of another replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_of_a_table_to_come_is_kept_until_it_is_there() {
    let mut leader = World::new().await;
    let follower = leader.replica().await;
    follower.follow(Some(leader.address));
    let (first, second) = (table(501, 0), table(502, 0));
    follower.publish(&second);
    let _there = report(&follower, &second, None).await;
    until_replicas(&mut leader, 1).await;
    leader.publish(&first);
    let mut here = World::replica(&leader).await;
    here.publish(&first);
    let _here = report(&here, &second, None).await;
    for world in [&mut leader, &mut here] {
        let known = world.fleet.borrow().get(&gateway()).cloned().unwrap();
        assert!(known.acknowledged.is_none());
        world.publish(&second);
        world.until_acknowledged(&second).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_hears_of_everybody_and_the_old_one_forgets() {
    let mut old = World::new().await;
    let (mut new, follower) = (old.replica().await, old.replica().await);
    let present = table(501, 0);
    for replica in [&old, &new, &follower] {
        replica.publish(&present);
    }
    let _data_plane = report(&follower, &present, None).await;
    follower.follow(Some(old.address));
    old.until_acknowledged(&present).await;
    let _other = report(&old, &present, None).await;

    follower.follow(Some(new.address));
    old.follow(Some(new.address));
    until_replicas(&mut new, 2).await;
    new.until_acknowledged(&present).await;
    until_replicas(&mut old, 0).await;

    // It leads itself, and tells nobody.
    follower.follow(None);
    until_replicas(&mut new, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_told_goes_with_it_and_comes_back_with_its_leader() {
    let mut leader = World::new().await;
    let mut follower = leader.replica().await;
    let present = table(501, 0);
    leader.publish(&present);
    follower.publish(&present);
    follower.follow(Some(leader.address));
    let _data_plane = report(&follower, &present, None).await;
    leader.until_acknowledged(&present).await;

    leader.kill().await;
    leader.start().await;
    leader.publish(&present);
    leader.until_acknowledged(&present).await;

    follower.kill().await;
    until_replicas(&mut leader, 0).await;
    let known = leader.fleet.borrow().get(&gateway()).cloned().unwrap();
    let acknowledged = known.acknowledged.unwrap();
    let acknowledged = &acknowledged.table.version;
    assert_eq!(
        *acknowledged, present.version,
        "proxies serve on without it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_replica_is_believed() {
    let world = World::new().await;
    let present = table(501, 0);
    world.publish(&present);
    let line = |gateway: &str| {
        let line = serde_json::json!({ "gateway": gateway, "version": present.version });
        line.to_string().into_bytes()
    };
    let told = line(gateway_key().as_str());
    let mut forger = world
        .client(&world.issue(&data_plane(TRUST_DOMAIN, "edge")))
        .await
        .unwrap();
    let answer = forger.ask(Method::PUT, DATA_PLANES, told.clone()).await;
    let (status, words) = answer.unwrap();
    assert_eq!(
        (status, words.trim()),
        (
            StatusCode::FORBIDDEN,
            "the certificate is for Gateway infra/edge, not the controller's"
        )
    );
    let other_name = portcullis_controller::ca::Subject::Controller {
        names: vec!["other.example".into()],
    };
    let mut stranger = world.client(&world.issue(&other_name)).await.unwrap();
    let answer = stranger.ask(Method::PUT, DATA_PLANES, told.clone()).await;
    assert_eq!(answer.unwrap().0, StatusCode::FORBIDDEN);
    assert!(world.fleet.borrow().get(&gateway()).is_none());

    let mut replica = world.client(&world.issue(&controller())).await.unwrap();
    for (method, body, status) in [
        (Method::GET, vec![], StatusCode::METHOD_NOT_ALLOWED),
        (Method::PUT, line("edge"), StatusCode::BAD_REQUEST),
        (Method::PUT, b"{}".to_vec(), StatusCode::BAD_REQUEST),
        (Method::PUT, told, StatusCode::NO_CONTENT),
    ] {
        let answer = replica.ask(method, DATA_PLANES, body).await.unwrap();
        assert_eq!(answer.0, status, "{}", answer.1);
    }
    assert_eq!(replicas(&world.fleet.borrow()), 1);
    // All that it says is what it says last.
    replica.ask(Method::PUT, DATA_PLANES, vec![]).await.unwrap();
    assert_eq!(replicas(&world.fleet.borrow()), 0);
}
