//! Listeners of one port among each other: which cannot be told apart, and which overlap.

use std::collections::BTreeMap;

use portcullis_routing::ListenerProtocol;

use super::ListenerState;
use crate::{
    finding::{Finding, ObjectRef},
    status::reason,
    translate::hostname,
};

/// Names of listeners in a message.
const SHOWN_NAMES: usize = 5;

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
            let listener = &listeners[index];
            let others = indices.iter().filter(|other| **other != index);
            let others: Vec<_> = others.map(|other| &listeners[*other]).collect();
            let conflict = conflict(object, listener, &others);
            let overlap = if conflict.is_none() {
                overlap(object, listener, &others)
            } else {
                None
            };
            listeners[index].conflict = conflict;
            listeners[index].overlap = overlap;
        }
    }
}

fn conflict(
    object: &ObjectRef,
    listener: &ListenerState<'_>,
    others: &[&ListenerState<'_>],
) -> Option<Finding> {
    let port = listener.spec.port;
    if let Some(names) = names(others, |other| other.protocol != listener.protocol) {
        return Some(object.error(
            reason::PROTOCOL_CONFLICT,
            format!("{}.protocol", listener.field),
            format!(
                "port {port} cannot be {} for this listener and something else for {names}; none of them is served",
                listener.spec.protocol
            ),
            "give the listeners different ports, or one protocol",
        ));
    }
    let names = names(others, |other| other.hostname == listener.hostname)?;
    Some(object.error(
        reason::HOSTNAME_CONFLICT,
        format!("{}.hostname", listener.field),
        format!("port {port} is used with the same hostname by {names}; none of them is served"),
        "give the listeners different hostnames or ports",
    ))
}

fn overlap(
    object: &ObjectRef,
    listener: &ListenerState<'_>,
    others: &[&ListenerState<'_>],
) -> Option<Finding> {
    listener
        .protocol
        .filter(|protocol| *protocol == ListenerProtocol::Https)?;
    let names = names(others, |other| {
        match (&listener.hostname, &other.hostname) {
            (Some(own), Some(other)) => hostname::intersects(own, other),
            _ => true,
        }
    })?;
    Some(object.note(
        reason::OVERLAPPING_HOSTNAMES,
        format!("{}.hostname", listener.field),
        format!("the hostname overlaps with that of {names} on the same port"),
        "nothing to do: a browser that reuses a connection of the other listener gets 421 and connects anew",
    ))
}

/// The names of the listeners that `pick` chooses, for people: the first few, and how many more there are.
fn names(
    listeners: &[&ListenerState<'_>],
    pick: impl Fn(&ListenerState<'_>) -> bool,
) -> Option<String> {
    let picked: Vec<_> = listeners
        .iter()
        .filter(|listener| pick(listener))
        .map(|listener| &*listener.spec.name)
        .collect();
    let (shown, more) = picked.split_at(picked.len().min(SHOWN_NAMES));
    match more.len() {
        _ if shown.is_empty() => None,
        0 => Some(shown.join(", ")),
        more => Some(format!("{} and {more} more", shown.join(", "))),
    }
}
