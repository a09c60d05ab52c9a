//! Clients that do not read: what is kept for them is bounded, and they are the ones that make room.

use std::{sync::Arc, time::Duration};

use portcullis_controller::publish::Limits;
use portcullis_routing::{Frame, RoutingTable};

use crate::{
    client::{Client, Frames},
    world::{TRUST_DOMAIN, World, data_plane, table, until},
};

/// Routes of a table: its snapshot is several times what a connection takes without being read.
const ROUTES: usize = 2_000;

/// A controller of a Gateway for whose slow clients two such snapshots may wait, and one client that follows every change.
struct Bounded {
    world: World,
    follower: (Client, Frames),
}

impl Bounded {
    async fn new(grace: Duration) -> Self {
        let first = table(500, ROUTES);
        let snapshot = Frame::Snapshot(Arc::clone(&first)).to_line().unwrap();
        let world = World::with(Limits {
            waiting_per_gateway: snapshot.len() * 5 / 2,
            grace,
            ..Limits::default()
        })
        .await;
        world.publish(&first);
        let mut client = client(&world).await;
        let mut frames = client.watch(None).await;
        assert!(matches!(frames.news().await, Frame::Snapshot(_)));
        Self {
            world,
            follower: (client, frames),
        }
    }

    /// A table that nobody else has a frame of.
    async fn publish(&mut self, status: u16) -> Arc<RoutingTable> {
        let next = table(status, ROUTES);
        self.world.publish(&next);
        assert!(matches!(self.follower.1.news().await, Frame::Delta(_)));
        next
    }

    /// A client that begins to take the present table and stops there.
    async fn stuck(&self) -> (Client, Frames) {
        let mut client = client(&self.world).await;
        let mut frames = client.watch(None).await;
        assert!(frames.begin().await);
        (client, frames)
    }

    /// Whether a client that reads gets this table.
    async fn serves(&self, table: &RoutingTable) -> bool {
        let mut client = client(&self.world).await;
        match client.watch(None).await.next().await {
            Some(Frame::Snapshot(received)) => received.version == table.version,
            _ => false,
        }
    }
}

async fn client(world: &World) -> Client {
    let identity = world.issue(&data_plane(TRUST_DOMAIN, "edge"));
    world.client(&identity).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_makes_room_for_who_does() {
    let mut bounded = Bounded::new(Duration::ZERO).await;
    let (one, _one_frames) = bounded.stuck().await;
    bounded.publish(501).await;
    let (other, _other_frames) = bounded.stuck().await;
    let table = bounded.publish(502).await;
    assert!(bounded.serves(&table).await);
    until("one of them is closed", || async {
        (one.is_closed() != other.is_closed()).then_some(())
    })
    .await;
    until("it is counted", || async {
        (bounded.world.turned_away("slow") == 1).then_some(())
    })
    .await;
    assert_eq!(bounded.world.turned_away("waiting"), 0);
    // Nor does it keep what it held.
    bounded.publish(503).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_makes_room_who_has_just_begun() {
    let mut bounded = Bounded::new(Duration::from_hours(1)).await;
    let (first, mut first_frames) = bounded.stuck().await;
    let begun = bounded.publish(501).await;
    let _second = bounded.stuck().await;
    let table = bounded.publish(502).await;
    assert!(!bounded.serves(&table).await);
    assert_eq!(bounded.world.turned_away("waiting"), 1);
    // Once one of them has gone on, there is room.
    assert!(
        matches!(first_frames.news().await, Frame::Snapshot(received) if received.version != begun.version)
    );
    assert!(matches!(first_frames.news().await, Frame::Delta(_)));
    assert!(!first.is_closed());
    assert!(bounded.serves(&table).await);
}

/// However many streams it opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_frame_waits_for_a_connection() {
    let mut bounded = Bounded::new(Duration::from_hours(1)).await;
    let mut client = client(&bounded.world).await;
    let mut streams = Vec::new();
    for status in 501..504 {
        bounded.publish(status).await;
        let mut frames = client.watch(None).await;
        assert!(frames.begin().await, "{status}");
        streams.push(frames);
    }
    let table = bounded.publish(504).await;
    assert!(bounded.serves(&table).await);
    let mut last = streams.pop().unwrap();
    for mut earlier in streams {
        assert!(earlier.next().await.is_none(), "a newer one took its place");
    }
    assert!(matches!(last.news().await, Frame::Snapshot(_)));
    assert_eq!(bounded.world.turned_away("waiting"), 0);
}

/// Without news or a heartbeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_stream_ends_the_one_before_at_once() {
    let world = World::with(Limits {
        heartbeat: Duration::from_hours(1),
        ..Limits::default()
    })
    .await;
    let table = table(500, 0);
    world.publish(&table);
    let mut client = client(&world).await;
    let mut earlier = client.watch(None).await;
    assert!(matches!(earlier.next().await, Some(Frame::Snapshot(_))));
    let _newer = client.watch(Some(&table)).await;
    assert!(earlier.next().await.is_none());
}
