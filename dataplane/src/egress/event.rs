//! One line for each request or tunnel that wanted to leave, written when it is over. `docs/access-log.md` describes the fields.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Not,
    time::Duration,
};

use portcullis_routing::{
    EntryKey, PolicyKey, RouteKey,
    egress::{Decision, DecisionLog, Seen, Verdict},
};
use serde::Serialize;

use super::{Identity, Ruling};
use crate::telemetry::access_log::line::{Millis, Time, cut};

/// Longest host in a line, bytes. The rest is cut.
const MAX_HOST: usize = 256;

/// Longest method in a line, bytes.
pub(crate) const MAX_METHOD: usize = 32;
/// Longest path in a line, bytes.
pub(crate) const MAX_PATH: usize = 1024;

/// How a destination was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// In the target of a request to a proxy.
    Absolute,
    /// In a CONNECT.
    Connect,
    /// In `Host` or `:authority`.
    Host,
    /// In the greeting of TLS that passes through.
    Sni,
}

/// What is known of it when it is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure<'a> {
    pub(crate) gateway: &'a str,
    pub(crate) caller: Option<&'a Identity>,
    pub(crate) client: IpAddr,
    pub(crate) form: Form,
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
    pub(crate) sni: Option<&'a str>,
    /// The greeting has an encrypted one behind it, or noise in its place.
    pub(crate) ech: bool,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) ruling: Ruling<'a>,
    /// The route that it followed.
    pub(crate) route: Option<&'a RouteKey>,
    /// What went wrong with what was allowed: a [`crate::reason::Reason`].
    pub(crate) error: Option<&'static str>,
    /// The particulars of a refusal, in words.
    pub(crate) detail: Option<&'a str>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) duration: Duration,
}

impl Departure<'_> {
    /// Whether `log` wants its line.
    pub(crate) fn is_wanted(&self, log: DecisionLog) -> bool {
        match log {
            DecisionLog::Off => false,
            DecisionLog::Refused => self.ruling.verdict != Verdict::Allow,
            DecisionLog::On => true,
        }
    }

    /// Its line.
    pub(crate) fn line(&self) -> Line<'_> {
        let Ruling {
            verdict,
            reason,
            entry,
            policy,
        } = self.ruling;
        Line {
            kind: "egress",
            time: Time::now(),
            gateway: self.gateway,
            caller: Caller {
                namespace: self.caller.map(Identity::namespace),
                service_account: self.caller.map(Identity::service_account),
                pod: self.caller.and_then(Identity::pod),
                ip: self.client,
                identity: self.caller.map_or("unknown", Identity::kind),
            },
            form: self.form,
            host: cut(self.host, MAX_HOST),
            port: self.port,
            sni: self.sni,
            ech: self.ech,
            address: self.address,
            verdict,
            reason,
            entry: entry.map(EntryKey::as_str),
            policy: policy.map(PolicyKey::as_str),
            route: self.route.map(RouteKey::as_str),
            error: self.error,
            detail: self.detail,
            method: None,
            path: None,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration_ms: Millis(self.duration),
        }
    }
}

/// One line. Absent fields are left out, so a line says only what is known.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    kind: &'static str,
    time: Time,
    gateway: &'a str,
    caller: Caller<'a>,
    form: Form,
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Not::not")]
    ech: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
    verdict: Verdict,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: Millis,
}

/// A request that policies are against for its method or path. Not its query, which may hold secrets.
#[derive(Debug)]
pub(crate) struct Blamed {
    /// Such as `POST`.
    method: Box<str>,
    /// As policies see it.
    path: Box<str>,
}

impl Blamed {
    /// The request that was seen, if it is.
    pub(crate) fn of(decision: &Decision<'_>, seen: &Seen<'_>) -> Option<Self> {
        match seen {
            Seen::Request { method, path, .. } if decision.by_request => Some(Self {
                method: cut(method, MAX_METHOD).into(),
                path: cut(path, MAX_PATH).into(),
            }),
            _ => None,
        }
    }
}

impl<'a> Line<'a> {
    /// The same, with the request that is to blame.
    pub(crate) fn blaming(self, request: Option<&'a Blamed>) -> Self {
        Self {
            method: request.map(|request| &*request.method),
            path: request.map(|request| &*request.path),
            ..self
        }
    }
}

/// Who called.
#[derive(Debug, Serialize)]
struct Caller<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    ip: IpAddr,
    identity: &'static str,
}
