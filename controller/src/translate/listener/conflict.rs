//! Listeners of one port among each other: which cannot be told apart.

use std::collections::BTreeMap;

use portcullis_routing::ListenerProtocol;

use super::{ListenerState, names, overlap};
use crate::{finding::Finding, status::reason};

/// Marks listeners that conflict (same port with another protocol, or with the same hostname), and HTTPS listeners
/// whose hostnames overlap.
///
/// Of listeners of one object that conflict none is accepted; only HTTPS is, beside TLS that passes through: the API tells these
/// apart by hostnames, so that it is the latter alone that cannot be had here. Of those of several objects the ones that come first are:
/// `listeners` has those of the Gateway itself, then those of its ListenerSets, in the order of precedence.
pub(crate) fn find_conflicts(listeners: &mut [ListenerState<'_>]) {
    let mut ports = BTreeMap::<i32, Vec<usize>>::new();
    for (index, listener) in listeners.iter().enumerate() {
        ports.entry(listener.spec.port).or_default().push(index);
    }
    for indices in ports.values() {
        let mut taken = Taken::default();
        let by_object: Vec<_> = indices
            .chunk_by(|a, b| listeners[*a].object == listeners[*b].object)
            .collect();
        for of_object in by_object {
            find_conflicts_of_object(of_object, &mut taken, listeners);
        }
        overlap::find(listeners, indices);
    }
}

fn find_conflicts_of_object(
    indices: &[usize],
    taken: &mut Taken,
    listeners: &mut [ListenerState<'_>],
) {
    let mut rest = Vec::new();
    for &index in indices {
        let listener = &mut listeners[index];
        listener.conflict = taken.conflict(listener);
        // One of a protocol that is not supported gets in nobody's way.
        if listener.conflict.is_none() && listener.protocol.is_some() {
            rest.push(index);
        }
    }
    for &index in &rest {
        let others = rest.iter().filter(|other| **other != index);
        let others: Vec<_> = others.map(|other| &listeners[*other]).collect();
        listeners[index].conflict = conflict_within(&listeners[index], &others);
    }
    for index in rest {
        taken.add(&listeners[index]);
    }
}

fn conflict_within(listener: &ListenerState<'_>, others: &[&ListenerState<'_>]) -> Option<Finding> {
    let port = listener.spec.port;
    if let Some(names) = names(others, |other| is_https_beside_tls(other, listener)) {
        return Some(listener.object.error(
            reason::PROTOCOL_CONFLICT,
            format!("{}.protocol", listener.field),
            format!("port {port} is HTTPS for {names}, and TLS cannot pass through there"),
            "give this listener a port of its own",
        ));
    }
    let is_other = |other: &ListenerState<'_>| {
        other.protocol != listener.protocol && !is_https_beside_tls(listener, other)
    };
    if let Some(names) = names(others, is_other) {
        return Some(listener.object.error(
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
    Some(listener.object.error(
        reason::HOSTNAME_CONFLICT,
        format!("{}.hostname", listener.field),
        format!("port {port} is used with the same hostname by {names}; none of them is served"),
        "give the listeners different hostnames or ports",
    ))
}

fn is_https_beside_tls(https: &ListenerState<'_>, tls: &ListenerState<'_>) -> bool {
    let protocols = (https.protocol, tls.protocol);
    protocols == (Some(ListenerProtocol::Https), Some(ListenerProtocol::Tls))
}

/// What objects that come first have of a port.
#[derive(Default)]
struct Taken {
    protocols: BTreeMap<ListenerProtocol, Holder>,
    hostnames: BTreeMap<Option<String>, Holder>,
}

/// Who has it. Which ListenerSet it is says nobody: it may be somebody else's.
#[derive(Clone, Copy)]
struct Holder(&'static str);

impl Taken {
    fn add(&mut self, listener: &ListenerState<'_>) {
        let protocol = listener.protocol.filter(|_| listener.holds_its_place());
        let Some(protocol) = protocol else {
            return;
        };
        let holder = Holder(if listener.is_of_gateway() {
            "the Gateway itself"
        } else {
            "a ListenerSet that comes first (the older one, then by namespace and name)"
        });
        self.protocols.entry(protocol).or_insert(holder);
        self.hostnames
            .entry(listener.hostname.clone())
            .or_insert(holder);
    }

    fn conflict(&self, listener: &ListenerState<'_>) -> Option<Finding> {
        let port = listener.spec.port;
        let other = self
            .protocols
            .iter()
            .find(|(protocol, _)| !shares_port(listener, **protocol));
        if let Some((_, Holder(holder))) = other {
            return Some(listener.object.error(
                reason::PROTOCOL_CONFLICT,
                format!("{}.protocol", listener.field),
                format!(
                    "port {port} cannot be {} too: {holder} uses it with another protocol",
                    listener.spec.protocol
                ),
                "choose another port, or the protocol that it has there",
            ));
        }
        listener.protocol?;
        let Holder(holder) = self.hostnames.get(&listener.hostname)?;
        Some(listener.object.error(
            reason::HOSTNAME_CONFLICT,
            format!("{}.hostname", listener.field),
            format!("port {port} is used with the same hostname by {holder}"),
            "choose another hostname or port",
        ))
    }
}

/// Whether a listener can have a port together with listeners of `other` protocol. If its own is not supported, that is
/// what is wrong with it, unless it could not be had there in any case.
fn shares_port(listener: &ListenerState<'_>, other: ListenerProtocol) -> bool {
    match listener.protocol {
        Some(own) => own == other,
        None => listener.spec.protocol != "TCP",
    }
}
