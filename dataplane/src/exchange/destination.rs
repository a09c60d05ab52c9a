//! What a client wants to reach outside, in normal form.

use std::{borrow::Cow, net::IpAddr};

use http::HeaderValue;
use portcullis_routing::egress::{
    Caller, Destination, Question, Seen,
    host::{Authority, Host},
};

use super::head::Target;
use crate::{egress::Identity, plan::PreparedExternal, reason::Reason};

/// The host that the client names. Its name, if it has one, is the request's target's.
#[derive(Clone, Copy)]
pub(super) struct Requested {
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
}

/// A host that is to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'t> {
    /// In normal form. An IPv6 address has its brackets.
    pub name: &'t str,
    /// The address that `name` is, if it is one.
    pub address: Option<IpAddr>,
    /// The port, as it is asked for.
    pub port: u16,
}

impl<'t> Wanted<'t> {
    /// Where a route leads a request for this host.
    #[must_use]
    pub fn through(self, external: &'t PreparedExternal) -> Self {
        let port = external.port;
        match external.host.as_deref() {
            None => Self { port, ..self },
            Some(name) => Self {
                name,
                address: None,
                port,
            },
        }
    }

    /// What is asked about it, for somebody.
    pub fn asked<'q>(&'q self, caller: Option<Caller<'q>>, seen: Seen<'q>) -> Question<'q> {
        let name = Destination::Name(self.name);
        Question {
            destination: self.address.map_or(name, Destination::Address),
            port: self.port,
            caller,
            seen,
        }
    }

    pub(super) fn question<'q>(
        &'q self,
        caller: Option<&'q Identity>,
        seen: Seen<'q>,
    ) -> Question<'q> {
        self.asked(caller.map(Identity::caller), seen)
    }
}

/// A destination in normal form.
pub(super) struct Normal {
    pub(super) requested: Requested,
    /// The host, if it was written in another way.
    pub(super) respelled: Option<Box<str>>,
    pub(super) authority: HeaderValue,
}

/// The destination of a target; an Err says in words why it is none. Without a usual port it has to name one.
pub(super) fn normal(raw: &Target, usual_port: Option<u16>) -> Result<Normal, String> {
    let text = raw.authority.to_str().map_err(|error| error.to_string())?;
    let named = Authority::normalize(text).map_err(|error| error.to_string())?;
    let port = named.port.or(usual_port);
    let port = port.ok_or_else(|| "CONNECT names no port".to_owned())?;
    let (address, host) = match named.host {
        Host::Name(name) => (None, name),
        Host::Address(address @ IpAddr::V6(_)) => {
            (Some(address), Cow::Owned(format!("[{address}]")))
        }
        Host::Address(address) => (Some(address), Cow::Owned(address.to_string())),
    };
    let authority = if *text == *host && Some(port) == usual_port {
        raw.authority.clone()
    } else {
        authority(&host, port, usual_port.unwrap_or_default())
            .map_err(|reason| reason.text().to_owned())?
    };
    Ok(Normal {
        requested: Requested {
            address,
            port: Some(port),
        },
        respelled: (*host != *raw.host).then(|| host.into()),
        authority,
    })
}

/// As it stands in `Host`: the port only if it is not the usual one.
pub(super) fn authority(host: &str, port: u16, usual_port: u16) -> Result<HeaderValue, Reason> {
    let value = if port == usual_port {
        HeaderValue::from_str(host)
    } else {
        HeaderValue::try_from(format!("{host}:{port}"))
    };
    value.map_err(|_| Reason::BadDestination)
}
