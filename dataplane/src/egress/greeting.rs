//! The greeting of a TLS client, read off its connection before any of it is passed on, and what a client is told that may not
//! pass.

use std::io::ErrorKind;

use bytes::BytesMut;
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    deadline::Deadline,
    reason::Reason,
    tls::alert,
    tunnel::{
        client_hello::{Greeting, GreetingReader, Refusal},
        end::End,
    },
};

/// Bytes that are asked for at once.
pub(crate) const READ: usize = 2048;

/// Why there is no greeting that can be judged.
#[derive(Debug)]
pub(crate) struct NoHello {
    pub(crate) reason: Reason,
    /// What is wrong with what should have been one.
    pub(crate) refusal: Option<Refusal>,
}

impl NoHello {
    /// Whether nobody behind can take what has come for a greeting that names a host.
    pub(crate) fn names_nobody(&self) -> bool {
        match self.reason {
            Reason::NotTls => matches!(self.refusal, None | Some(Refusal::Address)),
            reason => reason == Reason::ClientGone,
        }
    }
}

/// How a client greets.
#[derive(Debug)]
pub(crate) struct Hello {
    /// The host that it names, in lower case.
    pub(crate) name: Option<Box<str>>,
    /// There is an encrypted greeting behind this one, or noise in its place.
    pub(crate) encrypted: bool,
}

impl From<Reason> for NoHello {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            refusal: None,
        }
    }
}

/// How a client greets. What is read is added to `read`.
pub(crate) async fn read(
    client: &mut impl End,
    read: &mut BytesMut,
    deadline: &Deadline,
) -> Result<Hello, NoHello> {
    let mut reader = GreetingReader::default();
    let mut fresh = 0;
    loop {
        match reader.read(read.get(fresh..).unwrap_or_default()) {
            Greeting::Incomplete => {}
            Greeting::Hello {
                server_name: name,
                encrypted,
            } => return Ok(Hello { name, encrypted }),
            Greeting::NotTls => return Err(Reason::NotTls.into()),
            Greeting::Refused(refusal) => {
                return Err(NoHello {
                    reason: Reason::NotTls,
                    refusal: Some(refusal),
                });
            }
        }
        fresh = read.len();
        read.reserve(READ);
        match deadline.before_request(client.read_buf(read)).await {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(Reason::RequestTimeout.into());
            }
            Ok(0) | Err(_) => return Err(Reason::ClientGone.into()),
        }
    }
}

/// Tells a client that speaks TLS why it may not pass. `is_tls` is whether it does, where the reason leaves that open. Whoever has
/// not taken it when the deadline passes is not waited for.
pub(crate) async fn refuse(
    client: &mut impl End,
    reason: Reason,
    is_tls: bool,
    deadline: &Deadline,
) {
    let description = match reason {
        Reason::ClientGone | Reason::RequestTimeout => return,
        Reason::NotTls if !is_tls => return,
        Reason::SniMismatch | Reason::SniMissing | Reason::NoRoute => {
            AlertDescription::UnrecognisedName
        }
        Reason::DnsFailed
        | Reason::ConnectFailed
        | Reason::ConnectTimeout
        | Reason::NoEndpoint
        | Reason::Overloaded
        | Reason::InvalidBackend
        | Reason::TooManyTunnels
        | Reason::TooManyOfNamespace => AlertDescription::InternalError,
        _ => AlertDescription::AccessDenied,
    };
    let alert = alert::fatal(description);
    let telling = async {
        client.write_all(&alert).await?;
        client.shutdown().await
    };
    // If it cannot be sent there is nobody to read it.
    _ = deadline.before_request(telling).await;
}
