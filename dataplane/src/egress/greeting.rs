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
        client_hello::{Greeting, GreetingReader},
        end::End,
    },
};

/// Bytes that are asked for at once.
const READ: usize = 2048;

/// Why there is no greeting that can be judged.
#[derive(Debug)]
pub(crate) struct NoHello {
    pub(crate) reason: Reason,
    /// The particulars of what should have been one.
    pub(crate) detail: Option<Box<str>>,
}

impl From<Reason> for NoHello {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            detail: None,
        }
    }
}

/// The name that a client greets with, in lower case, if there is one. What is read is added to `read`.
pub(crate) async fn read(
    client: &mut impl End,
    read: &mut BytesMut,
    deadline: &Deadline,
) -> Result<Option<Box<str>>, NoHello> {
    let mut reader = GreetingReader::default();
    let mut fresh = 0;
    loop {
        match reader.read(read.get(fresh..).unwrap_or_default()) {
            Greeting::Incomplete => {}
            Greeting::Hello { server_name, .. } => return Ok(server_name),
            Greeting::NotTls => return Err(Reason::NotTls.into()),
            Greeting::Refused(refusal) => {
                return Err(NoHello {
                    reason: Reason::NotTls,
                    detail: Some(refusal.to_string().into()),
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

/// Tells a client that speaks TLS why it may not pass. `is_tls` is whether it does, where the reason leaves that open.
pub(crate) async fn refuse(client: &mut impl End, reason: Reason, is_tls: bool) {
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
        | Reason::TooManyTunnels => AlertDescription::InternalError,
        _ => AlertDescription::AccessDenied,
    };
    // If it cannot be sent there is nobody to read it.
    if client.write_all(&alert::fatal(description)).await.is_ok() {
        _ = client.shutdown().await;
    }
}
