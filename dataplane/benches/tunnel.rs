//! What a tunnel costs: CPU time of the worker per GB and per short tunnel, through pipes and by copying, and memory while
//! it is idle. Every measurement checks what has passed.
//!
//! `cargo bench -p portcullis-dataplane --bench tunnel` prints all of it. The peers are threads of their own, and do not count.

use std::{
    fs,
    future::{Pending, pending},
    io::{self, Read as _, Write as _},
    net,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::BytesMut;
use portcullis_dataplane::{
    deadline::Deadlines,
    tunnel::{
        end::End,
        relay::{Ended, Limits, Moved, Relay, Tunnel},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local, yield_now},
};

/// A socket that does not say so: its bytes are copied.
struct Opaque(TcpStream);

impl End for Opaque {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn abort(&self) {}
}

impl AsyncRead for Opaque {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Opaque {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

const GB: u64 = 1_000_000_000;

/// CPU time of this thread, the kernel's work for it included.
fn cpu() -> Duration {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = statistics.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(nanoseconds)
}

/// Memory of this process, in bytes.
fn resident() -> usize {
    let statistics = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statistics.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn tunnel<E: End>(
    relay: &Relay,
    client: E,
    upstream: TcpStream,
) -> Tunnel<E, TcpStream, Pending<()>> {
    let limits = Limits {
        idle: Duration::MAX,
        total: None,
        drain: Duration::ZERO,
    };
    Tunnel {
        client,
        upstream,
        prefix: BytesMut::new(),
        clock: relay.clock(1, limits),
        revoked: pending(),
    }
}

/// Serves `tunnels` one after the other on a thread of its own. Tells where, and in the end what all of it took, the accept
/// and the connect included.
fn serve(
    copied: bool,
    tunnels: usize,
    upstream: net::SocketAddr,
) -> (net::SocketAddr, thread::JoinHandle<Duration>) {
    let socket = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_nonblocking(true).unwrap();
    let serve = async move || {
        let listener = TcpListener::from_std(socket).unwrap();
        let relay = Relay::new(&Deadlines::new());
        let began = cpu();
        for _ in 0..tunnels {
            let client = listener.accept().await.unwrap().0;
            let upstream = TcpStream::connect(upstream).await.unwrap();
            let moved = Moved::default();
            let ended = if copied {
                relay
                    .run(tunnel(&relay, Opaque(client), upstream), &moved)
                    .await
            } else {
                relay.run(tunnel(&relay, client, upstream), &moved).await
            };
            assert!(matches!(ended, Ended::Closed), "{ended:?}");
        }
        cpu().saturating_sub(began)
    };
    let thread = thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(serve())
    });
    (address, thread)
}

/// One request of 100 bytes for each tunnel, answered with `length` bytes; the client then closes.
fn exchange(copied: bool, tunnels: usize, length: u64) -> Duration {
    let backend = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = backend.local_addr().unwrap();
    let answers = thread::spawn(move || {
        let answer = vec![7; usize::try_from(length.min(1 << 20)).unwrap()];
        for _ in 0..tunnels {
            let mut connection = backend.accept().unwrap().0;
            connection.read_exact(&mut [0; 100]).unwrap();
            let mut left = length;
            while left > 0 {
                let piece = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(answer.len());
                connection.write_all(&answer[..piece]).unwrap();
                left -= piece as u64;
            }
            assert_eq!(connection.read(&mut [0]).unwrap(), 0);
        }
    });
    let (address, served) = serve(copied, tunnels, upstream);
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..tunnels {
        let mut client = net::TcpStream::connect(address).unwrap();
        client.write_all(&[1; 100]).unwrap();
        let mut left = length;
        while left > 0 {
            left -= client.read(&mut buffer).unwrap() as u64;
        }
        client.shutdown(net::Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut buffer).unwrap(), 0);
    }
    answers.join().unwrap();
    served.join().unwrap()
}

/// Bytes of memory that each of many tunnels holds while it is idle, having served a request before.
async fn idle(tunnels: usize) -> usize {
    let [(listener, client_side), (backend, server_side)] = [(); 2].map(|()| {
        let socket = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    });
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let relay = Rc::new(Relay::new(&Deadlines::new()));
    let mut far = Vec::new();
    let mut before = 0;
    for n in 0..=tunnels {
        let client = net::TcpStream::connect(client_side).unwrap();
        let near = listener.accept().await.unwrap().0;
        let tunnel = tunnel(&relay, near, TcpStream::connect(server_side).await.unwrap());
        let server = backend.accept().unwrap().0;
        let relay = Rc::clone(&relay);
        let moved = Rc::new(Moved::default());
        let count = Rc::clone(&moved);
        spawn_local(async move { relay.run(tunnel, &moved).await });
        (&client).write_all(&[1; 10_000]).unwrap();
        while count.to_upstream() < 10_000 {
            yield_now().await;
        }
        far.push((client, server));
        if n == 0 {
            before = resident();
        }
    }
    resident().saturating_sub(before) / tunnels
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let idle = LocalSet::new().block_on(&runtime, idle(1000));
    println!("{idle} bytes per idle tunnel");
    let ways = [(false, "as they come"), (true, "copied")];
    for _ in 0..3 {
        for (copied, way) in ways {
            let bulk = exchange(copied, 1, 4 * GB) / 4;
            println!("{way}: {} ms per GB", bulk.as_millis());
        }
    }
    for kib in [1, 16, 64, 256, 1024] {
        for (copied, way) in ways {
            let short = exchange(copied, 2000, kib * 1024) / 2000;
            println!("{way}: {} us per tunnel of {kib} KiB", short.as_micros());
        }
    }
}
