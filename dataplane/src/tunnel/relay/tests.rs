//! Tunnels between real sockets, by the pipe and by copying.

use std::{
    cell::Cell,
    io::ErrorKind,
    task::{Context, Waker},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local, yield_now},
};
use tokio_util::sync::CancellationToken;

use super::{pipe::LARGE, *};

const PORT: u16 = 3128;
const MIB: usize = 1024 * 1024;
const LIMITS: Limits = Limits {
    idle: Duration::from_mins(1),
    total: Some(Duration::from_mins(10)),
    drain: Duration::from_secs(10),
};

/// How bytes pass.
#[derive(Clone, Copy, Debug)]
enum How {
    /// As outside of tests.
    AsTheyCome,
    /// Through a pipe from the first byte on.
    Spliced,
    Copied,
    /// On a kernel that cannot splice.
    Unsupported,
}

const ALL: [How; 4] = [How::AsTheyCome, How::Spliced, How::Copied, How::Unsupported];

fn relay(deadlines: &Rc<Deadlines>, how: How) -> Relay {
    let relay = Relay::new(deadlines);
    let mut means = relay.means.borrow_mut();
    match how {
        How::AsTheyCome => {}
        How::Spliced => means.bulk = 0,
        How::Copied => means.pipes.give_up(),
        How::Unsupported => (means.bulk, means.pipes) = (0, Pipes::broken()),
    }
    drop(means);
    relay
}

impl End for DuplexStream {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn abort(&self) {}
}

/// Keeps what is written until it is flushed, as TLS does.
impl End for BufStream<DuplexStream> {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn abort(&self) {}
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap().0);
    ours.set_nodelay(true).unwrap();
    theirs.set_nodelay(true).unwrap();
    (ours, theirs)
}

/// So that a fault ends as a failed test and not as a hanging one.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future)
        .await
        .expect("in time")
}

/// A tunnel as its users see it.
struct Far {
    client: TcpStream,
    upstream: TcpStream,
    deadlines: Rc<Deadlines>,
    moved: Rc<Moved>,
    revoke: CancellationToken,
    pipes: Rc<Pipes>,
    /// How often the tunnel was looked after.
    polls: Rc<Cell<usize>>,
}

impl Far {
    /// A word each way: the tunnel lives, and has seen what was told to it.
    async fn ping(&mut self) {
        let mut word = [0; 4];
        self.client.write_all(b"ping").await.unwrap();
        self.upstream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"ping");
        self.upstream.write_all(b"pong").await.unwrap();
        self.client.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"pong");
    }

    fn sweep_at(&self, seconds: f64) {
        self.deadlines.sweep_at(Duration::from_secs_f64(seconds));
    }
}

/// Opens a tunnel, lets `script` use it, and tells how it ended. The tunnel is a task of its own: nothing but what it has
/// asked for wakes it.
async fn tunnel<T>(how: How, prefix: &[u8], script: impl AsyncFnOnce(Far) -> T) -> (Ended, T) {
    let ((client, near_client), (upstream, near_upstream)) = tokio::join!(pair(), pair());
    let deadlines = Deadlines::new();
    let relay = relay(&deadlines, how);
    let revoke = CancellationToken::new();
    let far = Far {
        client,
        upstream,
        deadlines,
        moved: Rc::default(),
        revoke: revoke.clone(),
        pipes: Rc::clone(&relay.means.borrow().pipes),
        polls: Rc::default(),
    };
    let tunnel = Tunnel {
        client: near_client,
        upstream: near_upstream,
        prefix: prefix.into(),
        clock: relay.clock(PORT, LIMITS),
        revoked: revoke.cancelled_owned(),
    };
    let (moved, polls) = (Rc::clone(&far.moved), Rc::clone(&far.polls));
    let run = async move {
        let mut run = pin!(relay.run(tunnel, &moved));
        poll_fn(|cx| {
            polls.set(polls.get() + 1);
            run.as_mut().poll(cx)
        })
        .await
    };
    let both = async {
        let run = spawn_local(run);
        let told = script(far).await;
        (run.await.unwrap(), told)
    };
    in_time(LocalSet::new().run_until(both)).await
}

/// Bytes that repeat after a length that is no multiple of anything in the way.
struct Pattern(Vec<u8>);

impl Pattern {
    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        Self(
            std::iter::repeat_with(|| random.u8(..))
                .take(100_003)
                .collect(),
        )
    }

    async fn send(&self, to: &mut (impl tokio::io::AsyncWrite + Unpin), total: usize) {
        let mut sent = 0;
        while sent < total {
            let piece = &self.0[..self.0.len().min(total - sent)];
            to.write_all(piece).await.unwrap();
            sent += piece.len();
        }
        to.shutdown().await.unwrap();
    }

    /// Reads to the end; a slow reader lets everybody else run between two reads.
    async fn receive(&self, from: &mut (impl tokio::io::AsyncRead + Unpin), slow: bool) -> usize {
        let mut received = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = from.read(&mut buffer).await.unwrap();
            if n == 0 {
                return received;
            }
            let mut got = &buffer[..n];
            while !got.is_empty() {
                let expected = &self.0[received % self.0.len()..];
                let length = got.len().min(expected.len());
                assert!(
                    got[..length] == expected[..length],
                    "differs behind {received}"
                );
                got = &got[length..];
                received += length;
            }
            for _ in 0..if slow { 8 } else { 0 } {
                yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn words_go_both_ways_and_are_counted() {
    for how in ALL {
        let (ended, ()) = tunnel(how, b"", async |mut far| {
            for _ in 0..3 {
                far.ping().await;
            }
            assert_eq!((far.moved.to_upstream(), far.moved.to_client()), (12, 12));
            let (lent, _) = far.pipes.counts();
            assert_eq!(lent, 0, "whoever is idle holds no pipe");
        })
        .await;
        assert!(matches!(ended, Ended::Closed), "{ended:?}");
    }
}

#[tokio::test]
async fn one_direction_may_end_before_the_other() {
    for how in ALL {
        for upstream_first in [false, true] {
            let (ended, ()) = tunnel(how, b"", async |far| {
                let (mut first, mut second) = (far.client, far.upstream);
                if upstream_first {
                    std::mem::swap(&mut first, &mut second);
                }
                first.write_all(b"last words").await.unwrap();
                first.shutdown().await.unwrap();
                let mut got = Vec::new();
                second.read_to_end(&mut got).await.unwrap();
                assert_eq!(got, b"last words");
                for _ in 0..3 {
                    second.write_all(b"still here").await.unwrap();
                    let mut got = [0; 10];
                    first.read_exact(&mut got).await.unwrap();
                    assert_eq!(&got, b"still here");
                }
                second.shutdown().await.unwrap();
                assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
            })
            .await;
            assert!(matches!(ended, Ended::Closed), "{ended:?}");
        }
    }
}

#[tokio::test]
async fn bulk_arrives_whole_at_a_slow_reader() {
    const TOTAL: usize = 256 * MIB;
    for how in [How::AsTheyCome, How::Copied] {
        let pattern = Pattern::new();
        let (ended, ()) = tunnel(how, b"", async |far| {
            let (mut from_client, mut to_client) = far.client.into_split();
            let (mut from_upstream, mut to_upstream) = far.upstream.into_split();
            let ((), up, (), down) = tokio::join!(
                pattern.send(&mut to_client, TOTAL),
                pattern.receive(&mut from_upstream, true),
                pattern.send(&mut to_upstream, TOTAL),
                pattern.receive(&mut from_client, false),
            );
            assert_eq!((up, down), (TOTAL, TOTAL));
            let total = TOTAL as u64;
            assert_eq!(
                (far.moved.to_upstream(), far.moved.to_client()),
                (total, total)
            );
            let spliced = far.pipes.counts().1 > 0;
            assert_eq!(spliced, matches!(how, How::AsTheyCome));
        })
        .await;
        assert!(matches!(ended, Ended::Closed), "{ended:?}");
    }
}

#[tokio::test]
async fn little_is_held_of_what_nobody_takes() {
    for (how, most) in [(How::Spliced, LARGE), (How::Copied, BUFFER)] {
        let ((mut far_source, mut source), (_far_target, mut target)) =
            tokio::join!(pair(), pair());
        let mut means = relay(&Deadlines::new(), how).means.into_inner();
        let moved = Cell::new(0);
        let mut direction = Direction::new(BytesMut::new());
        let mut cx = Context::from_waker(Waker::noop());
        let piece = vec![0; MIB];
        let mut greatest = 0;
        // Until neither the direction nor the socket before it takes anything any more.
        let mut stuck = 0;
        while stuck < 1000 {
            let wrote = far_source.try_write(&piece).is_ok();
            let before = moved.get();
            let poll = direction.poll(&mut cx, &mut source, &mut target, &mut means, &moved);
            assert!(poll.is_pending());
            greatest = greatest.max(direction.held());
            assert!(direction.held() <= most, "{how:?}: {}", direction.held());
            stuck = if wrote || moved.get() != before {
                0
            } else {
                stuck + 1
            };
            yield_now().await;
        }
        assert!(greatest > 0, "{how:?}");
        far_source.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_stuck_tunnel_sleeps() {
    for how in ALL {
        let (_, ()) = tunnel(how, b"", async |far| {
            let piece = vec![0; MIB];
            let mut quiet = 0;
            let mut polls = 0;
            // Nothing is taken any more, and nobody looks after the tunnel in vain.
            while quiet < 1000 {
                let wrote = far.client.try_write(&piece).is_ok();
                let looked = far.polls.get() != polls;
                polls = far.polls.get();
                quiet = if wrote || looked { 0 } else { quiet + 1 };
                yield_now().await;
            }
            assert!(far.moved.to_upstream() > 0);
        })
        .await;
    }
}

#[tokio::test]
async fn a_pipe_full_of_crumbs_is_not_an_empty_socket() {
    let crumbs: Vec<u8> = (0..=255).cycle().take(3000).collect();
    let (ended, ()) = tunnel(How::Spliced, b"", async |mut far| {
        // Nobody reads before all have arrived: this does not wait.
        for crumb in &crumbs {
            assert_eq!(far.client.try_write(&[*crumb]).unwrap(), 1);
        }
        let mut got = vec![0; crumbs.len()];
        far.upstream.read_exact(&mut got).await.unwrap();
        assert_eq!(got, crumbs);
        far.ping().await;
    })
    .await;
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
}

#[tokio::test]
async fn what_was_read_before_goes_first() {
    for how in ALL {
        let prefix = vec![5; 8 * MIB];
        let (ended, ()) = tunnel(how, &prefix, async |mut far| {
            far.client.write_all(b"then").await.unwrap();
            let mut got = vec![0; prefix.len() + 4];
            far.upstream.read_exact(&mut got).await.unwrap();
            assert!(got.starts_with(&prefix) && got.ends_with(b"then"));
            assert_eq!(far.moved.to_upstream(), got.len() as u64);
        })
        .await;
        assert!(matches!(ended, Ended::Closed), "{ended:?}");
    }
}

#[tokio::test]
async fn where_splice_is_not_supported_bytes_are_copied() {
    let (ended, ()) = tunnel(How::Unsupported, b"", async |mut far| {
        assert_eq!(far.pipes.counts(), (0, 1));
        far.ping().await;
        assert_eq!(far.pipes.counts(), (0, 0));
        assert!(far.pipes.lend().is_none());
    })
    .await;
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
}

#[tokio::test]
async fn a_pipe_is_kept_for_the_next_burst_unless_something_is_in_it() {
    let pipes = Rc::new(Pipes::default());
    let mut lent = pipes.lend().unwrap();
    assert_eq!(pipes.counts(), (1, 0));
    drop(pipes.lend().unwrap());
    assert_eq!(pipes.counts(), (1, 1));
    let (mut far, near) = pair().await;
    far.write_all(b"left over").await.unwrap();
    let filled = in_time(poll_fn(|cx| lent.poll_fill(cx, &near))).await;
    assert_eq!(filled.unwrap(), 9);
    drop(lent);
    assert_eq!(pipes.counts(), (0, 1));
}

#[tokio::test]
async fn silence_ends_a_tunnel() {
    let (ended, mut far) = tunnel(How::AsTheyCome, b"", async |mut far| {
        far.sweep_at(59.0);
        far.ping().await;
        far.sweep_at(118.0);
        far.client.write_all(b"only one").await.unwrap();
        far.upstream.read_exact(&mut [0; 8]).await.unwrap();
        far.sweep_at(177.0);
        far.ping().await;
        far.sweep_at(237.5);
        far
    })
    .await;
    assert!(matches!(ended, Ended::Idle), "{ended:?}");
    assert_aborted(&mut far.client).await;
    assert_aborted(&mut far.upstream).await;
}

#[tokio::test]
async fn no_tunnel_lasts_for_ever() {
    let (ended, _far) = tunnel(How::AsTheyCome, b"", async |mut far| {
        for minute in 0..10 {
            far.sweep_at(60.0 * f64::from(minute));
            far.ping().await;
        }
        far.sweep_at(600.5);
        // Whether something comes now makes no difference.
        let _ = far.client.write_all(b"too late").await;
        far
    })
    .await;
    assert!(matches!(ended, Ended::TooLong), "{ended:?}");
}

#[tokio::test]
async fn what_went_before_the_tunnel_counts_as_well() {
    let deadlines = Deadlines::new();
    let relay = relay(&deadlines, How::AsTheyCome);
    let ((_client, client), (_upstream, upstream)) = tokio::join!(pair(), pair());
    let clock = relay.clock(PORT, LIMITS);
    deadlines.sweep_at(Duration::from_secs(599));
    let tunnel = Tunnel {
        client,
        upstream,
        prefix: b"late"[..].into(),
        clock,
        revoked: std::future::pending(),
    };
    let moved = Moved::default();
    let mut run = pin!(relay.run(tunnel, &moved));
    let ended = async {
        // It has begun, and then its time is over.
        let begun = poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await;
        assert!(begun.is_pending());
        deadlines.sweep_at(Duration::from_secs(601));
        run.await
    };
    let ended = in_time(ended).await;
    assert!(matches!(ended, Ended::TooLong), "{ended:?}");
}

#[tokio::test]
async fn a_draining_port_gives_its_tunnels_some_time() {
    let (ended, mut far) = tunnel(How::AsTheyCome, b"", async |mut far| {
        far.deadlines.drain(Some(PORT + 1));
        far.ping().await;
        far.sweep_at(20.0);
        far.ping().await;
        far.deadlines.drain(Some(PORT));
        far.ping().await;
        far.sweep_at(29.5);
        far.ping().await;
        far.sweep_at(30.5);
        far
    })
    .await;
    assert!(matches!(ended, Ended::Drained), "{ended:?}");
    assert_aborted(&mut far.client).await;
}

#[tokio::test]
async fn a_tunnel_that_is_not_allowed_any_more_ends_at_once() {
    let (ended, mut far) = tunnel(How::AsTheyCome, b"", async |mut far| {
        far.ping().await;
        far.revoke.cancel();
        far
    })
    .await;
    assert!(matches!(ended, Ended::Revoked), "{ended:?}");
    assert_aborted(&mut far.client).await;
    assert_aborted(&mut far.upstream).await;
}

async fn assert_aborted(end: &mut TcpStream) {
    let error = in_time(end.read(&mut [0; 64])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_abort_of_one_end_reaches_the_other_as_one() {
    for how in ALL {
        for of_client in [true, false] {
            let (ended, ()) = tunnel(how, b"", async |mut far| {
                far.ping().await;
                let (gone, mut left) = if of_client {
                    (far.client, far.upstream)
                } else {
                    (far.upstream, far.client)
                };
                gone.abort();
                drop(gone);
                assert_aborted(&mut left).await;
            })
            .await;
            let error = match (of_client, ended) {
                (true, Ended::ClientGone(error)) | (false, Ended::UpstreamGone(error)) => error,
                (_, ended) => panic!("{ended:?}"),
            };
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_while_it_is_sent_something_breaks_the_tunnel() {
    let (ended, ()) = tunnel(How::AsTheyCome, b"", async |mut far| {
        far.ping().await;
        drop(far.client);
        // It has said that it sends no more, and says that it takes no more when something comes.
        let piece = vec![0; MIB];
        while far.upstream.write_all(&piece).await.is_ok() {}
    })
    .await;
    assert!(matches!(ended, Ended::ClientGone(_)), "{ended:?}");
}

#[tokio::test]
async fn what_is_no_socket_is_copied_and_flushed() {
    const TOTAL: usize = 3 * MIB;
    let ((mut client, near_client), (mut upstream, near_upstream)) = (duplex(100), duplex(7000));
    let relay = relay(&Deadlines::new(), How::Spliced);
    let moved = Moved::default();
    let tunnel = Tunnel {
        client: BufStream::new(near_client),
        upstream: near_upstream,
        prefix: BytesMut::new(),
        clock: relay.clock(PORT, LIMITS),
        revoked: std::future::pending(),
    };
    let pattern = Pattern::new();
    let script = async {
        // Not without a flush.
        upstream.write_all(b"first").await.unwrap();
        client.read_exact(&mut [0; 5]).await.unwrap();
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
        let ((), up, (), down) = tokio::join!(
            pattern.send(&mut to_client, TOTAL),
            pattern.receive(&mut from_upstream, true),
            pattern.send(&mut to_upstream, TOTAL),
            pattern.receive(&mut from_client, false),
        );
        assert_eq!((up, down), (TOTAL, TOTAL));
    };
    let (ended, ()) = in_time(async { tokio::join!(relay.run(tunnel, &moved), script) }).await;
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    assert_eq!(moved.to_client(), TOTAL as u64 + 5);
}

#[tokio::test]
async fn an_idle_tunnel_is_small() {
    let ((_client, client), (_upstream, upstream)) = tokio::join!(pair(), pair());
    let relay = relay(&Deadlines::new(), How::AsTheyCome);
    let moved = Moved::default();
    let tunnel = Tunnel {
        client,
        upstream,
        prefix: BytesMut::new(),
        clock: relay.clock(PORT, LIMITS),
        revoked: std::future::pending(),
    };
    let size = size_of_val(&relay.run(tunnel, &moved));
    assert!(size <= 1024, "{size}");
}
