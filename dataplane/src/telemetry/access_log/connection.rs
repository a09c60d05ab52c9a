//! The line of a connection of TLS that passes through to a backend of the cluster. `docs/access-log.md` describes the fields.

use std::net::SocketAddr;

use portcullis_routing::{ClusterKey, ListenerKey, RouteKey};
use serde::Serialize;

use super::line::{MAX_NAME, Millis, Time, cut};
use crate::{reason::Reason, telemetry::ConnectionRecord};

/// One line. Absent fields are left out, so a line says only what is known.
#[derive(Debug, Serialize)]
pub struct ConnectionLine<'a> {
    kind: &'static str,
    time: Time,
    client: SocketAddr,
    #[serde(skip_serializing_if = "str::is_empty")]
    sni: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    duration_ms: Millis,
    bytes_in: u64,
    bytes_out: u64,
}

impl<'a> ConnectionLine<'a> {
    /// The line of a connection that is over now.
    pub fn of(record: &ConnectionRecord<'a>) -> Self {
        Self {
            kind: "tls",
            time: Time::now(),
            client: record.client,
            sni: cut(record.name, MAX_NAME),
            reason: record.reason.map(Reason::code),
            detail: record.detail,
            listener: record.listener.map(ListenerKey::as_str),
            route: record.route.map(RouteKey::as_str),
            cluster: record.cluster.map(ClusterKey::as_str),
            endpoint: record.endpoint,
            duration_ms: Millis(record.duration),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
        }
    }
}
