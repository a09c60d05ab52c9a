//! Floods: clients that send or hold more than any honest one, while an honest one watches whether it is still served.

use std::{cell::Cell, future::Future, net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedWriteHalf},
    time::{Instant, interval, sleep, timeout},
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
/// Pause between two requests of the honest client.
const PACE: Duration = Duration::from_millis(20);
/// Pause between two bytes of a slow client.
const TRICKLE: Duration = Duration::from_millis(500);

/// How hard and how long each flood goes.
#[derive(Clone, Copy)]
pub(crate) struct Strength {
    pub(crate) duration: Duration,
    /// Connections that only have to be open.
    pub(crate) idlers: usize,
    /// Connections that send as fast as they can.
    pub(crate) senders: usize,
}

/// How a flood ended, from the attacker's side.
#[derive(Default)]
struct End {
    connections: usize,
    /// Connections that the proxy closed.
    cut: usize,
    /// Status of the first answer that was an error, if one came.
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

    report
        .flood("slowloris", slow_heads(at, idlers, duration), all_cut)
        .await?;
    report
        .flood(
            "slow readers",
            slow_readers(at, idlers / 4, duration),
            any_end,
        )
        .await?;
    for (name, start, more, refusal) in HTTP1_BOMBS {
        let bomb = http1_bomb(at, senders, start, more, duration);
        report
            .flood(name, bomb, |end| {
                end.refusal == Some(refusal) && all_cut(end)
            })
            .await?;
    }
    for (name, frames, read, ended) in HTTP2_FLOODS {
        report
            .flood(name, http2(at, senders, frames, read, duration), ended)
            .await?;
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
    ("endless CONTINUATION", endless_continuation, true, all_cut),
    ("HPACK bomb", hpack_bomb, true, any_end),
    ("SETTINGS without reading", settings, false, any_end),
    ("PING without reading", pings, false, any_end),
];

fn all_cut(end: &End) -> bool {
    end.cut == end.connections
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
        flood: impl Future<Output = Result<End>>,
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
        self.tally.check(good, || {
            format!(
                "{name}: {} of {} connections cut, refusal {refusal}, RSS +{growth:.1} MiB, served {others}, worst {worst} ms",
                end.cut, end.connections
            )
        });
        self.table.row([
            name.to_owned(),
            end.connections.to_string(),
            end.cut.to_string(),
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
    flood: impl Future<Output = Result<End>>,
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
    Ok((end?, service))
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

/// Heads that come byte by byte and never end.
async fn slow_heads(address: SocketAddr, connections: usize, duration: Duration) -> Result<End> {
    let attack = async || {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nX-")
            .await?;
        let deadline = Instant::now() + duration;
        let mut answer = [0; 256];
        while Instant::now() < deadline {
            match timeout(TRICKLE, stream.read(&mut answer)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return Ok(true),
                Err(_) if stream.write_all(b"a").await.is_err() => return Ok(true),
                Err(_) => {}
            }
        }
        anyhow::Ok(false)
    };
    let ends = join_all((0..connections).map(|_| attack())).await;
    count(ends)
}

/// Clients that ask for a long body and do not read it.
async fn slow_readers(address: SocketAddr, connections: usize, duration: Duration) -> Result<End> {
    let attack = async || {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /bytes/1073741824 HTTP/1.1\r\nHost: a.example\r\n\r\n")
            .await?;
        sleep(duration).await;
        anyhow::Ok(false)
    };
    count(join_all((0..connections).map(|_| attack())).await)
}

/// `start`, and then whatever `more` gives for 0, 1, 2, ..., as fast as the proxy takes it.
async fn http1_bomb(
    address: SocketAddr,
    connections: usize,
    start: &'static [u8],
    more: More,
    duration: Duration,
) -> Result<End> {
    let attack = async || {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(start).await?;
        let (mut reader, mut writer) = stream.into_split();
        let reading = async {
            let mut answer = [0; 1024];
            let count = reader.read(&mut answer).await.unwrap_or(0);
            String::from_utf8_lossy(&answer[..count])
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok())
        };
        let (refusal, cut) = tokio::join!(
            timeout(duration, reading),
            pour(&mut writer, more, duration)
        );
        anyhow::Ok((refusal.ok().flatten(), cut))
    };
    let mut end = End::default();
    for result in join_all((0..connections).map(|_| attack())).await {
        let (refusal, cut) = result?;
        end.connections += 1;
        end.cut += usize::from(cut);
        end.refusal = end.refusal.or(refusal);
    }
    Ok(end)
}

/// An HTTP/2 connection that sends whatever `more` gives for 0, 1, 2, ...; what comes back is read or left unread.
async fn http2(
    address: SocketAddr,
    connections: usize,
    more: More,
    read: bool,
    duration: Duration,
) -> Result<End> {
    let attack = async || {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(PREFACE).await?;
        let (mut reader, mut writer) = stream.into_split();
        let reading = async {
            let mut sink = tokio::io::sink();
            // A reset ends it as well as an orderly close.
            let _ = tokio::io::copy(&mut reader, &mut sink).await;
        };
        if read {
            tokio::select! {
                cut = pour(&mut writer, more, duration) => anyhow::Ok(cut),
                () = reading => Ok(true),
            }
        } else {
            Ok(pour(&mut writer, more, duration).await)
        }
    };
    count(join_all((0..connections).map(|_| attack())).await)
}

/// Writes until `duration` is over (false), or until the other side has closed (true).
async fn pour(writer: &mut OwnedWriteHalf, more: More, duration: Duration) -> bool {
    let deadline = Instant::now() + duration;
    for number in 0.. {
        let bytes = more(number);
        match tokio::time::timeout_at(deadline, writer.write_all(&bytes)).await {
            Ok(Ok(())) if Instant::now() < deadline => tokio::task::yield_now().await,
            Ok(Ok(())) | Err(_) => return false,
            Ok(Err(_)) => return true,
        }
    }
    tokio::time::sleep_until(deadline).await;
    false
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

fn count(ends: Vec<Result<bool>>) -> Result<End> {
    let mut end = End::default();
    for cut in ends {
        end.cut += usize::from(cut?);
        end.connections += 1;
    }
    Ok(end)
}
