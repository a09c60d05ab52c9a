//! What a client of the protocol sees.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use hyper::{Method, StatusCode};
use portcullis_controller::{
    ca::Identity,
    publish::{Limits, MAX_REPORT},
    run::Tables,
};
use portcullis_routing::{Frame, Report, ResourceKind, Route, RoutingTable, TableVersion, apply};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    client::Client,
    world::{TRUST_DOMAIN, World, changed, controller, data_plane, gateway, table, until},
};

const TABLE: &str = "/v1/gateways/infra/edge/table?watch=true";
const REPORTS: &str = "/v1/gateways/infra/edge/reports";

fn often() -> Limits {
    Limits {
        heartbeat: Duration::from_millis(200),
        ..Limits::default()
    }
}

fn snapshot(frame: Frame) -> Arc<RoutingTable> {
    match frame {
        Frame::Snapshot(table) => table,
        other => panic!("no snapshot but a {}", other.kind()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_then_deltas() {
    let world = World::new().await;
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = world.client(&identity).await.unwrap();
    let (first, second) = (table(501, 3), table(502, 3));
    world.publish(&first);
    let mut frames = client.watch(None).await;
    let received = snapshot(frames.news().await);
    assert_eq!(received, first);

    world.publish(&second);
    let Frame::Delta(delta) = frames.news().await else {
        panic!("no delta");
    };
    assert_eq!(delta.upserts.routes.len(), 1, "only what changed");
    assert_eq!(apply(&received, &delta).unwrap(), *second);

    // What the controller still knows is a base for another stream too; what it does not know is not.
    let mut frames = client.watch(Some(&first)).await;
    assert_eq!(frames.news().await.kind(), "delta");
    let mut frames = client.watch(Some(&table(503, 0))).await;
    assert_eq!(snapshot(frames.news().await), second);
}

/// A data plane comes from a replica that was faster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_behind_takes_nobody_back() {
    let patient = Limits {
        heartbeat: Duration::from_mins(1),
        catch_up: Duration::from_mins(1),
        ..Limits::default()
    };
    let world = World::with(patient).await;
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = world.client(&identity).await.unwrap();
    let (first, second, third) = (table(501, 3), table(502, 3), table(503, 3));
    world.publish(&first);
    let catches_up = async {
        until("the client has come", || async {
            (!world.connected().is_empty()).then_some(())
        })
        .await;
        world.publish(&second);
    };
    let (mut frames, ()) = tokio::join!(client.watch(Some(&second)), catches_up);
    world.publish(&third);
    let Frame::Delta(delta) = frames.news().await else {
        panic!("it was sent what it had before");
    };
    assert_eq!(apply(&second, &delta).unwrap(), *third);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_the_present_table_hears_heartbeats_only() {
    let world = World::with(often()).await;
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = world.client(&identity).await.unwrap();
    let present = table(501, 3);
    world.publish(&present);
    let mut frames = client.watch(Some(&present)).await;
    for _ in 0..3 {
        assert_eq!(frames.next().await, Some(Frame::HEARTBEAT));
    }
    // The same content again is no news, whatever it was made from.
    world.publish(&changed(&present, |_| {}));
    assert_eq!(frames.next().await, Some(Frame::HEARTBEAT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_changes_while_nobody_reads_are_few_frames() {
    let world = World::new().await;
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = world.client(&identity).await.unwrap();
    // Longer than all that a connection holds back, so that the controller has to wait for the reader.
    let base = table(500, 600);
    world.publish(&base);
    let mut frames = client.watch(None).await;
    let last = table(510, 600);
    for status in 501..=510 {
        let next = changed(&base, |table| {
            table.routes.clone_from(&self::table(status, 600).routes);
        });
        world.publish(&next);
        // The publisher takes it in before the next one comes.
        tokio::task::yield_now().await;
    }
    let mut held = snapshot(frames.news().await);
    let mut deltas = 0;
    while held.version != last.version {
        let Frame::Delta(delta) = frames.news().await else {
            panic!("no delta");
        };
        held = Arc::new(apply(&held, &delta).unwrap());
        deltas += 1;
    }
    assert!(deltas <= 2, "{deltas} deltas for ten changes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_before_the_first_tables_are_there() {
    let world = World::with(often()).await;
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = world.client(&identity).await.unwrap();
    // Many times longer than a silent connection is kept.
    let wait = often().heartbeat * 8;
    let early = tokio::time::timeout(wait, client.watch(None)).await;
    assert!(early.is_err() && !client.is_closed());
    world.publish(&table(501, 0));
    assert_eq!(
        snapshot(client.watch(None).await.news().await),
        table(501, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_watch_there_is_one_answer() {
    let world = World::new().await;
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = world.client(&identity).await.unwrap();
    let present = table(501, 3);
    world.publish(&present);
    let path = "/v1/gateways/infra/edge/table";
    let (status, line) = client.ask(Method::GET, path, vec![]).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(snapshot(Frame::parse(line.as_bytes()).unwrap()), present);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_gateway() {
    let world = World::new().await;
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = world.client(&identity).await.unwrap();
    world.publish(&table(501, 0));
    let mut frames = client.watch(None).await;
    frames.news().await;
    world.tables.send_replace(Some(Tables::default()));
    assert_eq!(
        frames.next().await,
        None,
        "no table rather than an empty one"
    );
    let (status, words) = client.ask(Method::GET, TABLE, vec![]).await.unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(words.contains("no table for Gateway infra/edge"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_is_served_its_own_gateway_only() {
    let world = World::new().await;
    world.publish(&table(501, 0));
    for (subject, words) in [
        (
            data_plane(TRUST_DOMAIN, "other"),
            "the certificate is for Gateway infra/other, not for infra/edge",
        ),
        (
            data_plane("example.org", "edge"),
            "the certificate is of trust domain example.org, not of cluster.local",
        ),
    ] {
        let identity = world.issue(&subject);
        let mut client = world.client(&identity).await.unwrap();
        for (method, path) in [(Method::GET, TABLE), (Method::POST, REPORTS)] {
            let (status, told) = client.ask(method, path, vec![]).await.unwrap();
            assert_eq!((status, told.trim()), (StatusCode::FORBIDDEN, words));
        }
    }
    // The controller's own.
    let mut client = world.client(&world.issue(&controller())).await.unwrap();
    for (method, path) in [(Method::GET, TABLE), (Method::POST, REPORTS)] {
        let (status, told) = client.ask(method, path, vec![]).await.unwrap();
        let words = "the certificate is the controller's, not a Gateway's";
        assert_eq!((status, told.trim()), (StatusCode::FORBIDDEN, words));
    }
    // One of another authority: the handshake fails. A TLS 1.3 client learns of that with its first request.
    let strange = World::new().await;
    let mut stranger = strange.issue(&data_plane(TRUST_DOMAIN, "edge"));
    stranger.authorities = world.authority.bundle();
    let refused = match world.client(&stranger).await {
        Ok(mut client) => client.ask(Method::GET, TABLE, vec![]).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    assert!(world.connected().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_heard() {
    let mut world = World::new().await;
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = world.client(&identity).await.unwrap();
    let present = table(501, 1);
    world.publish(&present);
    client.watch(None).await.news().await;
    let mut report = Report {
        version: TableVersion("0".repeat(32).into()),
        rejected: vec![],
    };
    let mut send = async |report: &Report| {
        let body = serde_json::to_vec(report).unwrap();
        client.ask(Method::POST, REPORTS, body).await.unwrap().0
    };
    // Of a table that was never published: heard, but it says nothing of what is wanted.
    assert_eq!(send(&report).await, StatusCode::NO_CONTENT);
    assert!(
        world
            .fleet
            .borrow()
            .get(&gateway())
            .unwrap()
            .acknowledged
            .is_none()
    );

    report.version = present.version.clone();
    report.rejected.push(portcullis_routing::Rejection {
        kind: ResourceKind::Listener,
        key: "infra/edge/http".into(),
        message: "the port is in use".into(),
    });
    assert_eq!(send(&report).await, StatusCode::NO_CONTENT);
    world.until_acknowledged(&present).await;
    let observed = world.fleet.borrow().observed(&[].into());
    let portcullis_controller::status::Observed::Cluster(gateways) = observed else {
        panic!("a cluster");
    };
    let observation = &gateways[&gateway()];
    assert_eq!(observation.acknowledged, present.listeners);
    assert_eq!(
        observation.rejected.values().collect::<Vec<_>>(),
        ["the port is in use"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_answered_is_refused_in_words() {
    let world = World::new().await;
    world.publish(&table(501, 0));
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = world.client(&identity).await.unwrap();
    for (method, path, body, status, words) in [
        (
            Method::GET,
            "/",
            vec![],
            404,
            "/v1/gateways/{namespace}/{name}/table",
        ),
        (
            Method::GET,
            "/v1/gateways/infra/edge/table/more",
            vec![],
            404,
            "reports",
        ),
        (Method::GET, REPORTS, vec![], 405, "only POST"),
        (Method::DELETE, TABLE, vec![], 405, "only GET"),
        (
            Method::POST,
            REPORTS,
            b"{".to_vec(),
            400,
            "cannot be read: EOF",
        ),
        (
            Method::POST,
            REPORTS,
            b"{}".to_vec(),
            400,
            "missing field `version`",
        ),
        (
            Method::POST,
            REPORTS,
            vec![b' '; MAX_REPORT + 1],
            413,
            "1048576 bytes",
        ),
    ] {
        let (found, told) = client.ask(method.clone(), path, body).await.unwrap();
        assert_eq!(found.as_u16(), status, "{method} {path}: {told}");
        assert!(told.contains(words), "{method} {path}: {told}");
    }
    let long = format!("{TABLE}&x={}", "x".repeat(20_000));
    let refused = client.ask(Method::GET, &long, vec![]).await;
    assert!(refused.is_err() || refused.unwrap().0 == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_clients_than_allowed_are_turned_away() {
    let limits = Limits {
        clients: 3,
        clients_per_gateway: 2,
        ..Limits::default()
    };
    let mut world = World::with(limits).await;
    world.publish(&table(501, 0));
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = world.client(&identity).await.unwrap();
        let frames = client.watch(None).await;
        clients.push((client, frames));
    }
    assert!(!is_answered(&world, &identity).await);
    assert_eq!(world.turned_away("gateway"), 1);
    assert_eq!(world.connected().len(), 2);
    // Others have places of their own, until all are taken.
    let other = world.issue(&data_plane(TRUST_DOMAIN, "other"));
    let mut client = world.client(&other).await.unwrap();
    let path = "/v1/gateways/infra/other/table";
    let (status, _) = client.ask(Method::GET, path, vec![]).await.unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(!is_answered(&world, &other).await);
    assert_eq!(world.turned_away("total"), 1);
    // Replicas are no data planes.
    assert!(is_answered(&world, &world.issue(&controller())).await);
    drop((clients, client));
    world
        .until_fleet("both are gone", |fleet| {
            fleet.get(&gateway())?.connected.is_empty().then_some(())
        })
        .await;
    until("there is room again", || async {
        is_answered(&world, &identity).await.then_some(())
    })
    .await;
}

/// Whether a client gets any answer. A TLS 1.3 client learns only with its first request that it was turned away.
async fn is_answered(world: &World, identity: &Identity) -> bool {
    match world.client(identity).await {
        Ok(mut client) => client.ask(Method::GET, "/", vec![]).await.is_ok(),
        Err(_) => false,
    }
}

/// Who connects and says nothing keeps nobody out, from the same address or another one, for longer than a handshake may
/// take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_a_handshake_take_no_place() {
    let limits = Limits {
        clients: 1,
        clients_per_gateway: 1,
        handshakes: 3,
        handshakes_per_address: 2,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    world.publish(&table(501, 0));
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    until("two of them are turned away", || async {
        (world.turned_away("address") == 2).then_some(())
    })
    .await;
    // From another address there is still room.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream = socket.connect(world.address).await.unwrap();
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = Client::over(stream, &identity).await.unwrap();
    let path = "/v1/gateways/infra/edge/table";
    let (status, _) = client.ask(Method::GET, path, vec![]).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    drop(client);
    until("the silent ones are closed", || async {
        (world.turned_away("handshake") == 2).then_some(())
    })
    .await;
    assert!(is_answered(&world, &identity).await);
}

/// However many tables come while a client reads nothing: only where it stopped is kept for it, and what the publisher
/// keeps for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_where_it_stopped_and_no_more() {
    let world = World::new().await;
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    let mut client = world.client(&identity).await.unwrap();
    let mut published: Vec<Weak<Route>> = Vec::new();
    let mut frames = None;
    for status in 500..530 {
        let next = table(status, 600);
        let changing = next.routes.values().find(|route| route.source.name == "r");
        published.push(Arc::downgrade(changing.unwrap()));
        world.publish(&next);
        // Once another client has it, the publisher has taken it in.
        let mut reader = world.client(&identity).await.unwrap();
        let received = snapshot(reader.watch(None).await.news().await);
        assert_eq!(received.version, next.version);
        if frames.is_none() {
            frames = Some(client.watch(None).await);
            until("the stream is under way", || async {
                (world.connected().len() == 2).then_some(())
            })
            .await;
        }
    }
    let alive = || {
        let alive = published.iter().map(|table| table.strong_count() > 0);
        alive.collect::<Vec<_>>()
    };
    until("all others are let go of", || async {
        (!alive()[1..20].contains(&true)).then_some(())
    })
    .await;
    assert!(alive()[0], "it is sent what leads on from there");
    drop((client, frames));
    until("that one too", || async { (!alive()[0]).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_closed_in_the_end() {
    let world = World::with(often()).await;
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    world.publish(&table(500, 600));
    let mut client = world.client(&identity).await.unwrap();
    let frames = client.watch(None).await;
    until("it is closed", || async {
        client.is_closed().then_some(())
    })
    .await;
    drop(frames);
}
