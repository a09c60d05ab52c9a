//! The servers behind all names: they tell each client at which address and port it has arrived, and so which entry has led it
//! there.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Bytes of a greeting or a request that are read at most.
const LONGEST: usize = 16 << 10;
/// First byte of a TLS record that greets.
const HANDSHAKE: u8 = 22;

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Speech {
    /// The client sends a line.
    Line,
    /// The server begins.
    Banner,
    /// The client greets as TLS does.
    Tls,
    /// Requests.
    Http,
}

impl Speech {
    pub(super) const ALL: [Self; 4] = [Self::Line, Self::Banner, Self::Tls, Self::Http];

    /// The port by which callers name it.
    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Line => 5432,
            Self::Banner => 25,
            Self::Tls => 443,
            Self::Http => 80,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Line => "TCP, the client begins",
            Self::Banner => "TCP, the server begins",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
        }
    }
}

/// Servers at every loopback address: of each speech two, at ports of their own. They end when dropped.
pub(super) struct Backends {
    ports: Vec<(Speech, [u16; 2])>,
    tasks: Vec<JoinHandle<()>>,
}

impl Backends {
    pub(super) async fn start() -> Result<Self> {
        let (mut ports, mut tasks) = (Vec::new(), Vec::new());
        for speech in Speech::ALL {
            let mut both = [0; 2];
            for port in &mut both {
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
                *port = listener.local_addr()?.port();
                tasks.push(tokio::spawn(accept(listener, speech)));
            }
            ports.push((speech, both));
        }
        Ok(Self { ports, tasks })
    }

    /// The ports of the two servers that speak so.
    pub(super) fn targets(&self) -> Vec<(Speech, [u16; 2])> {
        self.ports.clone()
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, speech: Speech) {
    loop {
        // Whoever is gone before is not answered.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, speech));
        }
    }
}

async fn serve(mut stream: TcpStream, speech: Speech) -> Result<()> {
    let here = stream.local_addr()?;
    let mut read = Vec::new();
    let is_asked = match speech {
        Speech::Banner => true,
        Speech::Line => until(&mut stream, &mut read, |read| read.ends_with(b"\n")).await?,
        Speech::Http => until(&mut stream, &mut read, |read| read.ends_with(b"\r\n\r\n")).await?,
        Speech::Tls => until(&mut stream, &mut read, is_greeting).await?,
    };
    if is_asked {
        stream.write_all(answer(here, speech).as_bytes()).await?;
        // The client ends it: so the port that stays taken for a while is not one of the proxy's.
        until(&mut stream, &mut read, |_| false).await?;
    }
    Ok(())
}

fn answer(here: SocketAddr, speech: Speech) -> String {
    let line = format!("{here}\n");
    match speech {
        Speech::Http => format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{line}",
            line.len()
        ),
        Speech::Line | Speech::Banner | Speech::Tls => line,
    }
}

/// Whether a whole TLS record has come that greets.
fn is_greeting(read: &[u8]) -> bool {
    match read {
        [HANDSHAKE, _, _, high, low, rest @ ..] => {
            rest.len() >= usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

/// Reads until all that was asked for is there; `false` if the client ends before.
pub(super) async fn until(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
    is_there: impl Fn(&[u8]) -> bool,
) -> Result<bool> {
    while !is_there(read) {
        let ended = stream.read_buf(read).await? == 0;
        if ended || read.len() > LONGEST {
            return Ok(false);
        }
    }
    Ok(true)
}
