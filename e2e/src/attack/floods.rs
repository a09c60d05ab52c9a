//! Floods: clients that send or hold more than any honest one, while an honest one watches whether it is still served.

use std::{cell::Cell, future::Future, net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, tcp::ReadHalf},
    task::JoinSet,
    time::{Instant, interval, sleep, timeout_at},
};

use super::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, NEWEST_ENTRY, PING, PREFACE, REQUEST,
    RST_STREAM, SETTINGS, frame, indexed_literal,
};
use crate::support::{
    client::{Client, Target},
    proxy::Proxy,
    report::{Table, Tally},
    watch::{mib, rss_growth},
};

/// The most that a flood may add to the proxy's memory, in MiB.
const MAX_GROWTH: f64 = 64.0;
/// The longest that the honest client may wait.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// The longest that a connection may stay open without a whole head; the proxy runs with a header timeout of 2 s.
const MAX_HOLD: Duration = Duration::from_secs(4);
/// Pause between two requests of the honest client.
const PACE: Duration = Duration::from_millis(20);
/// Pause between two bytes of a slow client.
const TRICKLE: Duration = Duration::from_millis(500);

/// Receive buffer of a slow reader, in bytes.
const SMALL_BUFFER: u32 = 4096;
/// The bytes that a status line fits in.
const ENOUGH_FOR_STATUS: usize = 64;

/// How hard and how long each flood goes.
#[derive(Clone, Copy)]
pub(crate) struct Strength {
    pub(crate) duration: Duration,
    /// Connections that only have to be open.
    pub(crate) idlers: usize,
    /// Connections that send as fast as they can.
    pub(crate) senders: usize,
}

/// How a flood went, from the attacker's side.
#[derive(Default)]
struct End {
    connections: usize,
    /// Connections that the proxy closed or turned away; the attacker connects anew.
    cut: usize,
    /// The longest that one connection was open.
    longest: Duration,
    /// Status of the first answer, if one came.
    refusal: Option<u16>,
}

/// What the honest client saw.
#[derive(Default)]
struct Service {
    requests: usize,
    failed: usize,
    worst: Duration,
}

/// Runs every flood against `proxy`.
pub(crate) async fn run(proxy: &Proxy, strength: Strength, tally: &mut Tally) -> Result<()> {
    let header = [
        "flood",
        "connections",
        "cut",
        "longest ms",
        "refusal",
        "RSS growth MiB",
        "others served",
        "worst ms",
        "verdict",
    ];
    let mut table = Table::new("Floods", &header);
    let mut report = Report {
        proxy,
        tally,
        table: &mut table,
    };
    let at = proxy.http;
    let Strength {
        duration,
        idlers,
        senders,
    } = strength;

    let slow_heads = besiege(idlers, duration, move || slow_head(at));
    report.flood("slowloris", slow_heads, cut_soon).await?;
    let slow_readers = besiege(idlers / 4, duration, move || slow_reader(at));
    report.flood("slow readers", slow_readers, any_end).await?;
    for (name, start, more, refusal) in HTTP1_BOMBS {
        let bomb = besiege(senders, duration, move || pour(at, start, more, true));
        let ended = |end: &End| end.refusal == Some(refusal) && cut_soon(end);
        report.flood(name, bomb, ended).await?;
    }
    for (name, frames, read, ended) in HTTP2_FLOODS {
        let flood = besiege(senders, duration, move || pour(at, PREFACE, frames, read));
        report.flood(name, flood, ended).await?;
    }
    println!("{table}");
    Ok(())
}

/// What comes next, given how much has been sent already.
type More = fn(u32) -> Vec<u8>;

/// Whether a flood ended as it must.
type Ended = fn(&End) -> bool;

/// How a head begins, how it goes on, and what must refuse it.
const HTTP1_BOMBS: [(&str, &[u8], More, u16); 3] = [
    (
        "one endless header",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nX: ",
        endless_text,
        431,
    ),
    (
        "endless headers",
        b"GET / HTTP/1.1\r\nHost: a.example\r\n",
        endless_lines,
        431,
    ),
    ("endless target", b"GET /", endless_text, 414),
];

/// The frames, whether what comes back is read, and how the flood must have ended.
const HTTP2_FLOODS: [(&str, More, bool, Ended); 5] = [
    ("rapid reset", rapid_reset, true, any_end),
    ("endless CONTINUATION", endless_continuation, true, cut_soon),
    ("HPACK bomb", hpack_bomb, true, any_end),
    ("SETTINGS without reading", settings, false, any_end),
    ("PING without reading", pings, false, any_end),
];

fn cut_soon(end: &End) -> bool {
    end.cut > 0 && end.longest < MAX_HOLD
}

fn any_end(_: &End) -> bool {
    true
}

struct Report<'a> {
    proxy: &'a Proxy,
    tally: &'a mut Tally,
    table: &'a mut Table,
}

impl Report<'_> {
    async fn flood(
        &mut self,
        name: &str,
        flood: impl Future<Output = End>,
        ended: impl Fn(&End) -> bool,
    ) -> Result<()> {
        let attacked = async { honest_client_during(self.proxy.http, flood).await };
        let (result, growth) = rss_growth(&self.proxy.service, attacked).await?;
        let (end, served) = result?;
        let growth = mib(growth);
        let good =
            growth < MAX_GROWTH && served.failed == 0 && served.worst < MAX_WAIT && ended(&end);
        let refusal = end
            .refusal
            .map_or_else(|| "none".to_owned(), |status| status.to_string());
        let others = format!("{} of {}", served.requests - served.failed, served.requests);
        let worst = served.worst.as_millis();
        let longest = end.longest.as_millis();
        self.tally.check(good, || {
            format!(
                "{name}: {} of {} connections cut, the longest after {longest} ms, refusal {refusal}, RSS +{growth:.1} MiB, served {others}, worst {worst} ms",
                end.cut, end.connections
            )
        });
        self.table.row([
            name.to_owned(),
            end.connections.to_string(),
            end.cut.to_string(),
            longest.to_string(),
            refusal,
            format!("{growth:.1}"),
            others,
            worst.to_string(),
            if good { "PASS" } else { "LOSS" }.to_owned(),
        ]);
        Ok(())
    }
}

/// Runs `flood` while an honest client makes requests.
async fn honest_client_during(
    address: SocketAddr,
    flood: impl Future<Output = End>,
) -> Result<(End, Service)> {
    let over = Cell::new(false);
    let flood = async {
        let end = flood.await;
        over.set(true);
        end
    };
    let (end, service) = tokio::join!(flood, honest_client(address, &over));
    let service = service?;
    ensure!(
        service.requests > 0,
        "the flood was over before the honest client's first request"
    );
    Ok((end, service))
}

/// A request every [`PACE`], every tenth on a new connection, until it is `over`.
async fn honest_client(address: SocketAddr, over: &Cell<bool>) -> Result<Service> {
    let target = Target::clear(address, "a.example");
    let mut service = Service::default();
    let mut client = Client::connect(&target).await?;
    let mut clock = interval(PACE);
    while !over.get() {
        clock.tick().await;
        let start = Instant::now();
        let renew = service.requests % 10 == 9 || client.is_closed();
        let exchange = async {
            if renew {
                client = Client::connect(&target).await?;
            }
            client.get("/").await
        };
        let good = exchange.await.is_ok_and(|answer| answer.status() == 200);
        service.requests += 1;
        service.failed += usize::from(!good);
        service.worst = service.worst.max(start.elapsed());
    }
    Ok(service)
}

/// Keeps `slots` connections going until `duration` is over. `attempt` makes one and returns when the proxy has closed
/// it, with the status of its answer if there was one.
async fn besiege<F>(
    slots: usize,
    duration: Duration,
    attempt: impl Fn() -> F + Clone + Send + 'static,
) -> End
where
    F: Future<Output = std::io::Result<Option<u16>>> + Send,
{
    let deadline = Instant::now() + duration;
    let mut tasks = JoinSet::new();
    for _ in 0..slots {
        let attempt = attempt.clone();
        tasks.spawn(async move {
            let mut end = End::default();
            while Instant::now() < deadline {
                let start = Instant::now();
                let result = timeout_at(deadline, attempt()).await;
                end.connections += 1;
                end.longest = end.longest.max(start.elapsed());
                end.cut += usize::from(result.is_ok());
                // A connection that is reset was cut without an answer.
                end.refusal = end.refusal.or(result.ok().and_then(Result::ok).flatten());
            }
            end
        });
    }
    let mut total = End::default();
    for end in tasks.join_all().await {
        total.connections += end.connections;
        total.cut += end.cut;
        total.longest = total.longest.max(end.longest);
        total.refusal = total.refusal.or(end.refusal);
    }
    total
}

/// A head that comes byte by byte and never ends.
async fn slow_head(address: SocketAddr) -> std::io::Result<Option<u16>> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nX-")
        .await?;
    let (mut reader, mut writer) = stream.split();
    let trickle = async {
        while writer.write_all(b"a").await.is_ok() {
            sleep(TRICKLE).await;
        }
        // What the proxy said before it closed can still be read.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        refusal = read_to_end(&mut reader) => Ok(refusal),
        () = trickle => Ok(None),
    }
}

/// Asks for a long body and does not read it.
async fn slow_reader(address: SocketAddr) -> std::io::Result<Option<u16>> {
    let socket = TcpSocket::new_v4()?;
    // As little as possible waits in the kernel, whose memory all connections share.
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    let mut stream = socket.connect(address).await?;
    stream
        .write_all(b"GET /bytes/1073741824 HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await?;
    std::future::pending().await
}

/// Sends `start`, and then whatever `more` gives for 0, 1, 2, ..., as fast as the proxy takes it. What comes back is
/// read, or left unread.
async fn pour(
    address: SocketAddr,
    start: &[u8],
    more: More,
    read: bool,
) -> std::io::Result<Option<u16>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(start).await?;
    let (mut reader, mut writer) = stream.split();
    let writing = async {
        for number in 0.. {
            if writer.write_all(&more(number)).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    if read {
        let mut writing = std::pin::pin!(writing);
        tokio::select! {
            refusal = read_to_end(&mut reader) => Ok(refusal),
            // The answer may have come before the close.
            () = &mut writing => Ok(read_to_end(&mut reader).await),
        }
    } else {
        writing.await;
        Ok(None)
    }
}

/// Reads until the other side has closed. The status code, if what came was an answer of HTTP/1.1.
async fn read_to_end(reader: &mut ReadHalf<'_>) -> Option<u16> {
    let mut start = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        if start.len() < ENOUGH_FOR_STATUS {
            start.extend_from_slice(&buffer[..count]);
        }
    }
    String::from_utf8_lossy(&start)
        .strip_prefix("HTTP/1.1 ")?
        .get(..3)?
        .parse()
        .ok()
}

fn endless_text(_: u32) -> Vec<u8> {
    vec![b'a'; 16 * 1024]
}

fn endless_lines(number: u32) -> Vec<u8> {
    format!("x-{number}: y\r\n").repeat(64).into_bytes()
}

/// Requests that are taken back at once (CVE-2023-44487), 64 per write.
fn rapid_reset(number: u32) -> Vec<u8> {
    const CANCEL: &[u8] = &[0, 0, 0, 8];
    let streams = (0..64).map(|index| 2 * (64 * number + index) + 1);
    let frames = streams.flat_map(|stream| {
        let request = frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST);
        [request, frame(RST_STREAM, 0, stream, CANCEL)]
    });
    frames.flatten().collect()
}

/// A header block without end (CVE-2024-27316 and its kin).
fn endless_continuation(number: u32) -> Vec<u8> {
    if number == 0 {
        return frame(HEADERS, END_STREAM, 1, REQUEST);
    }
    // A literal that does not enter the table: name x, value of 100 bytes.
    let field = [b"\0\x01x\x64".as_slice(), &[b'v'; 100]].concat();
    frame(CONTINUATION, 0, 1, &field.repeat(150))
}

/// A few bytes that stand for megabytes: one long table entry, then references to it, on every stream.
fn hpack_bomb(number: u32) -> Vec<u8> {
    let mut block = REQUEST.to_vec();
    if number == 0 {
        block.extend(indexed_literal(b"x", &[b'v'; 3900]));
    }
    block.extend([NEWEST_ENTRY; 8192]);
    frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &block)
}

/// SETTINGS, each of which asks for an answer.
fn settings(_: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[]).repeat(512)
}

/// PINGs, each of which asks for an answer (CVE-2019-9512).
fn pings(_: u32) -> Vec<u8> {
    frame(PING, 0, 0, b"12345678").repeat(512)
}
