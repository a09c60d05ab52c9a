//! HTTP/2 as no client would write it: the h2 crate speaks, and on the way to the proxy the heads of its requests are replaced by
//! those of the case.
//!
//! The text of a case is a conversation on one connection. A request is the line `METHOD SCHEME AUTHORITY PATH` (`-` leaves one out), then
//! its fields, `name: value`, then perhaps `> WORDS`, a greeting that is sent once a tunnel is open. `then` stands between requests.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};

use super::{
    Form,
    greeting::greeting,
    speech::{Answer, Speech, behind_a_tunnel, word},
};

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Type of a frame (RFC 9113 6.2).
const HEADERS: u8 = 1;
/// Flags of a frame with a head: that it ends the stream, and the head.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What waits to be sent in place of the client's own heads.
type Heads = Arc<Mutex<VecDeque<Vec<u8>>>>;

/// Asks the proxy what `text` says, one after the other, and tells what came back.
pub(super) async fn converse(stream: TcpStream, text: &str, port: u16, host: &str) -> Answer {
    let bytes = Speech::of(Form::Http2, text, port, host).bytes;
    let text = String::from_utf8(bytes).unwrap();
    let requests: Vec<_> = text.split("\nthen\n").map(Written::of).collect();
    let heads: VecDeque<_> = requests
        .iter()
        .map(|request| request.head.clone())
        .collect();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let pipe = tokio::spawn(replace(far, stream, Arc::new(Mutex::new(heads))));
    let talk = async {
        let (mut client, connection) = h2::client::handshake(near).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut answer = Answer {
            reason: "none".to_owned(),
            ..Answer::default()
        };
        for request in &requests {
            // A stream that ends without an answer was refused as well.
            if ask(&mut client, request, &mut answer).await.is_err() {
                answer.words.push("reset".to_owned());
            }
        }
        drop(client);
        connection.abort();
        answer
    };
    let answer = tokio::time::timeout(PATIENCE, talk).await;
    pipe.abort();
    answer.unwrap_or_else(|_| Answer {
        words: vec!["timeout".to_owned()],
        ..Answer::default()
    })
}

/// One request, and all of its answer.
async fn ask(
    client: &mut SendRequest<Bytes>,
    request: &Written,
    answer: &mut Answer,
) -> Result<(), h2::Error> {
    *client = client.clone().ready().await?;
    let placeholder = Request::get("http://placeholder.example/")
        .body(())
        .unwrap();
    let (response, mut sending) = client.send_request(placeholder, !request.is_connect)?;
    let (head, mut body) = response.await?.into_parts();
    let is_tunnel = request.is_connect && head.status == 200;
    let reason = head
        .headers
        .get("x-portcullis-reason")
        .map(|reason| reason.to_str().unwrap());
    reason.unwrap_or("none").clone_into(&mut answer.reason);
    if is_tunnel {
        answer.words.push(word(200, None));
        sending.send_data(request.greeting.clone().into(), false)?;
    }
    let mut said = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        said.extend_from_slice(&data);
        if is_tunnel && !data.is_empty() && said == request.greeting {
            sending.send_data(Bytes::new(), true)?;
        }
    }
    answer.words.push(if is_tunnel {
        behind_a_tunnel(&said, &request.greeting).unwrap_or_else(|| "closed".to_owned())
    } else {
        word(head.status.as_u16(), Some(&said))
    });
    Ok(())
}

/// A request as it is to stand on the wire.
struct Written {
    head: Vec<u8>,
    is_connect: bool,
    greeting: Vec<u8>,
}

impl Written {
    fn of(text: &str) -> Self {
        let mut lines = text.lines();
        let names = [":method", ":scheme", ":authority", ":path"];
        let pseudo = names.into_iter().zip(lines.next().unwrap().split(' '));
        let mut head: Vec<_> = pseudo
            .filter(|(_, value)| *value != "-")
            .flat_map(|(name, value)| field(name, value))
            .collect();
        let mut first = Vec::new();
        for line in lines {
            if let Some(words) = line.strip_prefix("> ") {
                first = greeting(words);
            } else {
                let (name, value) = line.split_once(": ").unwrap();
                head.extend(field(name, value));
            }
        }
        Self {
            head,
            is_connect: text.starts_with("CONNECT "),
            greeting: first,
        }
    }
}

/// A field, spelt out and not indexed (RFC 7541 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        // Seven bits of the length, and no need for more.
        let length = u8::try_from(text.len())
            .ok()
            .filter(|length| *length < 127)
            .unwrap();
        [&[length], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

/// Passes on what either side says, with these heads in place of the client's.
async fn replace(client: DuplexStream, proxy: TcpStream, heads: Heads) {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (mut from_proxy, to_proxy) = proxy.into_split();
    let answers = async {
        _ = tokio::io::copy(&mut from_proxy, &mut to_client).await;
        _ = to_client.shutdown().await;
    };
    // Either side may go first, which ends the other's reading.
    _ = tokio::join!(answers, requests(from_client, to_proxy, heads));
}

async fn requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    heads: Heads,
) -> std::io::Result<()> {
    let mut preface = [0; PREFACE];
    from.read_exact(&mut preface).await?;
    to.write_all(&preface).await?;
    loop {
        let mut frame = [0; 9];
        from.read_exact(&mut frame).await?;
        let length =
            usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2]);
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        if frame[3] == HEADERS {
            payload = heads.lock().unwrap().pop_front().unwrap();
            frame[..3].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
            frame[4] = frame[4] & END_STREAM | END_HEADERS;
        }
        to.write_all(&[&frame[..], &payload].concat()).await?;
    }
}
