//! Listeners of one port among each other: which cannot be told apart, and which overlap.

use std::collections::BTreeMap;

use portcullis_routing::ListenerProtocol;

use super::ListenerState;
use crate::{finding::ObjectRef, status::reason, translate::hostname};

/// Marks listeners that conflict (same port with another protocol, or with the same hostname), and HTTPS listeners
/// whose hostnames overlap. Of listeners that conflict none is accepted. Listeners of protocols that are not supported
/// take no part.
pub(crate) fn find_conflicts(object: &ObjectRef, listeners: &mut [ListenerState<'_>]) {
    let mut ports = BTreeMap::<i32, Vec<usize>>::new();
    for (index, listener) in listeners.iter().enumerate() {
        if listener.protocol.is_some() {
            ports.entry(listener.spec.port).or_default().push(index);
        }
    }
    for indices in ports.values() {
        for &index in indices {
            let others = || {
                indices
                    .iter()
                    .filter(|other| **other != index)
                    .map(|other| &listeners[*other])
            };
            let listener = &listeners[index];
            let names = |pick: &dyn Fn(&ListenerState<'_>) -> bool| {
                others()
                    .filter(|other| pick(other))
                    .map(|other| other.spec.name.as_str())
                    .collect::<Vec<_>>()
            };
            let other_protocol = names(&|other| other.protocol != listener.protocol);
            let same_hostname = names(&|other| other.hostname == listener.hostname);
            let conflict = if !other_protocol.is_empty() {
                Some(object.error(
                    reason::PROTOCOL_CONFLICT,
                    format!("{}.protocol", listener.field),
                    format!(
                        "port {} is used with another protocol by {}",
                        listener.spec.port,
                        other_protocol.join(", ")
                    ),
                    "give the listeners different ports",
                ))
            } else if !same_hostname.is_empty() {
                Some(object.error(
                    reason::HOSTNAME_CONFLICT,
                    format!("{}.hostname", listener.field),
                    format!(
                        "port {} is used with the same hostname by {}",
                        listener.spec.port,
                        same_hostname.join(", ")
                    ),
                    "give the listeners different hostnames or ports",
                ))
            } else {
                None
            };
            let overlaps = match (&conflict, listener.protocol) {
                (None, Some(ListenerProtocol::Https)) => others()
                    .filter(|other| {
                        overlap(listener.hostname.as_deref(), other.hostname.as_deref())
                    })
                    .map(|other| other.spec.name.as_str())
                    .collect(),
                _ => Vec::new(),
            };
            listeners[index].conflict = conflict;
            listeners[index].overlaps = overlaps;
        }
    }
}

fn overlap(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => hostname::intersects(a, b),
        _ => true,
    }
}
