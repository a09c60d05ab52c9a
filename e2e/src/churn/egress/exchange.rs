//! One tunnel, as a pod makes it: CONNECT, and if that is granted one small exchange that shows who is behind it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::backends::{Speech, until};

/// How long a tunnel may take, from the connect to the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// First byte of a TLS record that tells of an end.
const ALERT: u8 = 21;

/// What a pod wants.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Where it calls from.
    pub(super) from: Ipv4Addr,
    pub(super) host: String,
    pub(super) port: u16,
    /// What it speaks, if it gets through.
    pub(super) speech: Speech,
    /// The host that it greets by TLS in place of the one that it has asked for.
    pub(super) greets: Option<String>,
}

/// What it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A server has answered that says so of itself.
    Served(SocketAddr),
    /// 403 to the CONNECT, and the reason that was told.
    Refused(String),
    /// The same to a request in a tunnel that was granted.
    RefusedInside(String),
    /// A tunnel that was granted has ended by an alert of TLS before anybody answered.
    Alerted,
    /// The same without a word.
    Cut,
    /// Neither one nor the other, in words.
    Failed(String),
}

/// Makes a tunnel by the proxy.
pub(super) async fn tunnel(proxy: SocketAddr, asked: &Asked, tls: &Arc<ClientConfig>) -> Outcome {
    let mut stage = "connecting";
    let exchange = exchange(proxy, asked, tls, &mut stage);
    match timeout(PATIENCE, exchange).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Outcome::Failed(format!("{stage}: {error:#}")),
        Err(_) => Outcome::Failed(format!("{stage}: no answer after {} s", PATIENCE.as_secs())),
    }
}

async fn exchange(
    proxy: SocketAddr,
    asked: &Asked,
    tls: &Arc<ClientConfig>,
    stage: &mut &'static str,
) -> Result<Outcome> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((asked.from, 0).into())?;
    let mut stream = socket.connect(proxy).await?;
    stream.set_nodelay(true)?;
    let (host, port) = (&asked.host, asked.port);
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    *stage = "asking for the tunnel";
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    let head = head(&mut stream, &mut read).await?;
    let head = head.context("the connection ended without an answer")?;
    match head.status {
        200 => {}
        403 => {
            return Ok(Outcome::Refused(
                reason(&mut stream, &mut read, &head).await?,
            ));
        }
        status => {
            let reason = reason(&mut stream, &mut read, &head).await?;
            bail!("status {status}, {reason}");
        }
    }
    *stage = match asked.speech {
        Speech::Line => "waiting for the answer to a line",
        Speech::Banner => "waiting for the server to begin",
        Speech::Tls => "waiting for the answer to a TLS greeting",
        Speech::Http => "waiting for the answer to a request",
    };
    // Whoever is cut may notice it at any step.
    Ok(match speak(&mut stream, &mut read, asked, tls).await {
        Ok(outcome) => outcome,
        Err(error) if error.is::<std::io::Error>() => Outcome::Cut,
        Err(error) => return Err(error),
    })
}

/// Begins as the speech of the port wants it, and hears who is there.
async fn speak(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
    asked: &Asked,
    tls: &Arc<ClientConfig>,
) -> Result<Outcome> {
    match asked.speech {
        Speech::Banner => {}
        Speech::Line => stream.write_all(b"who is there?\n").await?,
        Speech::Tls => {
            let name = asked.greets.as_ref().unwrap_or(&asked.host);
            stream.write_all(&greeting(name, tls)?).await?;
        }
        Speech::Http => {
            let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", asked.host);
            stream.write_all(request.as_bytes()).await?;
            let Some(head) = head(stream, read).await? else {
                return Ok(Outcome::Cut);
            };
            match head.status {
                200 => {}
                403 => return Ok(Outcome::RefusedInside(reason(stream, read, &head).await?)),
                status => {
                    let reason = reason(stream, read, &head).await?;
                    bail!("status {status}, {reason}");
                }
            }
        }
    }
    let is_told = |read: &[u8]| read.first() == Some(&ALERT) || read.ends_with(b"\n");
    if !until(stream, read, is_told).await? {
        return Ok(Outcome::Cut);
    }
    if read.first() == Some(&ALERT) {
        return Ok(Outcome::Alerted);
    }
    let line = String::from_utf8_lossy(read);
    let who = line.trim_end().parse();
    Ok(Outcome::Served(
        who.with_context(|| format!("heard {line:?}"))?,
    ))
}

/// How a client of TLS greets a host.
fn greeting(name: &str, tls: &Arc<ClientConfig>) -> Result<Vec<u8>> {
    let name = ServerName::try_from(name.to_owned())?;
    let mut client = ClientConnection::new(Arc::clone(tls), name)?;
    let mut greeting = Vec::new();
    client.write_tls(&mut greeting)?;
    Ok(greeting)
}

/// The head of an answer.
struct Head {
    status: u16,
    /// Length of the body.
    length: usize,
}

/// Takes the head of an answer off what was `read`. `None` if the connection ends before.
async fn head(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<Option<Head>> {
    let is_whole = |read: &[u8]| end_of_head(read).is_some();
    if !until(stream, read, is_whole).await? {
        return Ok(None);
    }
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(read)?;
    let status = response.code.context("an answer has a status")?;
    let length = response
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = match length {
        Some(field) => std::str::from_utf8(field.value)?.parse()?,
        None => 0,
    };
    let end = end_of_head(read).unwrap_or(read.len());
    read.drain(..end);
    Ok(Some(Head { status, length }))
}

fn end_of_head(read: &[u8]) -> Option<usize> {
    let end = read.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

/// The reason that a refusal tells: the first word of its body.
async fn reason(stream: &mut TcpStream, read: &mut Vec<u8>, head: &Head) -> Result<String> {
    until(stream, read, |read| read.len() >= head.length).await?;
    let body = String::from_utf8_lossy(read);
    let (reason, _) = body.split_once(':').unwrap_or((&body, ""));
    Ok(reason.trim().to_owned())
}
