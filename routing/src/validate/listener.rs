//! Listeners, each alone and beside the others of its port.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{Check, certificate::is_certificate, ensure, syntax};
use crate::{
    key::ListenerKey,
    listener::{ClientValidation, Direction, Listener, ListenerProtocol},
    resource::{Rejection, ResourceKind},
    table::RoutingTable,
};

/// The listeners that are served, and the rejections of the others. Of listeners that conflict, the first by key stays.
/// Certificates that a listener names and the table does not hold are rejected too: it is served with its others.
pub(crate) fn partition(
    table: &RoutingTable,
) -> (BTreeMap<&ListenerKey, &Arc<Listener>>, Vec<Rejection>) {
    let mut valid = BTreeMap::new();
    let mut rejections = Vec::new();
    let mut claims = Claims::default();
    for (key, listener) in &table.listeners {
        match check(table, listener).and_then(|()| claims.claim(listener)) {
            Ok(()) => {
                valid.insert(key, listener);
            }
            Err(message) => {
                rejections.push(Rejection {
                    kind: ResourceKind::Listener,
                    key: key.to_string(),
                    message,
                });
            }
        }
    }
    rejections.extend(missing_certificates(table));
    (valid, rejections)
}

/// Whether a listener of `old` speaks another protocol in `new`.
pub(crate) fn changed_protocol(
    old: &BTreeMap<ListenerKey, Arc<Listener>>,
    new: &BTreeMap<ListenerKey, Arc<Listener>>,
) -> bool {
    let mut both = old
        .iter()
        .filter_map(|(key, old)| Some((old, new.get(key)?)));
    both.any(|(old, new)| old.protocol != new.protocol)
}

fn missing_certificates(table: &RoutingTable) -> impl Iterator<Item = Rejection> {
    let tls = table
        .listeners
        .values()
        .filter_map(|listener| listener.tls.as_ref());
    let missing: BTreeSet<_> = tls
        .flat_map(|tls| &tls.certificates)
        .filter(|key| !table.certificates.contains_key(*key))
        .collect();
    missing.into_iter().map(|key| Rejection {
        kind: ResourceKind::Certificate,
        key: key.to_string(),
        message: "a listener names it, but the table does not hold it".to_owned(),
    })
}

fn check(table: &RoutingTable, listener: &Listener) -> Check {
    ensure(listener.port != 0, || "the port is 0".to_owned())?;
    if let Some(hostname) = &listener.hostname {
        syntax::hostname_or_wildcard(hostname)?;
    }
    let is_egress = listener.direction == Direction::Egress;
    ensure(!is_egress || table.settings.egress.is_some(), || {
        "it is one of egress, but the table has no settings of egress".to_owned()
    })?;
    match (listener.protocol, &listener.tls) {
        (ListenerProtocol::Tls, Some(_)) => {
            Err("a TLS listener has settings, but its TLS passes through".to_owned())
        }
        (ListenerProtocol::Http | ListenerProtocol::Tls, None) => Ok(()),
        (ListenerProtocol::Http, Some(_)) => Err("an HTTP listener has TLS settings".to_owned()),
        (ListenerProtocol::Https, None) => Err("an HTTPS listener has no TLS settings".to_owned()),
        (ListenerProtocol::Https, Some(tls)) => {
            ensure(!tls.certificates.is_empty(), || {
                "an HTTPS listener has no certificate".to_owned()
            })?;
            ensure(table.has_certificate(listener), || {
                "none of its certificates is in the table".to_owned()
            })?;
            tls.client_validation
                .as_ref()
                .map_or(Ok(()), client_validation)
        }
    }
}

/// Without a CA nobody could be told from anybody.
fn client_validation(validation: &ClientValidation) -> Check {
    ensure(!validation.ca_pem.is_empty(), || {
        "client certificates are asked for, but no CA is trusted".to_owned()
    })?;
    let mut entries = validation.ca_pem.iter();
    ensure(entries.all(|pem| is_certificate(pem)), || {
        "the CAs of client certificates hold an entry that is no PEM certificate".to_owned()
    })
}

/// What the listeners so far hold.
#[derive(Default)]
struct Claims<'a> {
    protocols: HashMap<u16, (ListenerProtocol, Direction)>,
    hostnames: HashSet<(u16, Option<&'a str>)>,
}

impl<'a> Claims<'a> {
    fn claim(&mut self, listener: &'a Listener) -> Check {
        let Listener {
            port,
            protocol,
            hostname,
            direction,
            ..
        } = listener;
        let (spoken, way) = *self
            .protocols
            .entry(*port)
            .or_insert((*protocol, *direction));
        ensure(spoken == *protocol, || {
            format!("another listener of port {port} has another protocol")
        })?;
        ensure(way == *direction, || {
            format!("another listener of port {port} goes the other way")
        })?;
        let hostname = hostname.as_deref();
        ensure(self.hostnames.insert((*port, hostname)), || {
            format!(
                "another listener of port {port} has the hostname {}",
                hostname.unwrap_or("(none)")
            )
        })
    }
}
