//! Ports of an entry.

use std::collections::BTreeSet;

use portcullis_crds::service_entry::ServicePort;
use portcullis_routing::egress::{EntryPort, EntryProtocol};

use super::faults::{Fault, Faults};
use crate::translate::field::Field;

/// What is spoken at a port that does not say it.
const DEFAULT: &str = "TCP";

/// A port that is listed, and the name that endpoints and policies have for it.
#[derive(Debug)]
pub(super) struct NamedPort<'a> {
    pub(super) name: &'a str,
    pub(super) port: EntryPort,
}

/// The ports by their numbers, each once. One that cannot be served is shut: it is not left to entries of others.
pub(super) fn translate<'a>(
    specs: &'a [ServicePort],
    field: &Field<'_>,
    faults: &mut Faults,
) -> Vec<NamedPort<'a>> {
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut ports = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let field = field.at(index);
        let Some(mut port) = port(spec, &field, faults) else {
            continue;
        };
        let is_first = numbers.insert(port.number);
        let number = if is_first {
            Ok(())
        } else {
            Err(repeated(&format!("port {}", port.number)))
        };
        if faults.keep(&field.child("number"), number).is_none() {
            continue;
        }
        let is_first = spec.name.is_empty() || names.insert(&spec.name);
        let name = if is_first {
            Ok(())
        } else {
            Err(repeated(&format!("the name {:?}", spec.name)))
        };
        port.shut |= faults.keep(&field.child("name"), name).is_none();
        if !port.shut {
            warn_of_name(spec, &field, faults);
        }
        ports.push(NamedPort {
            name: &spec.name,
            port,
        });
    }
    ports
}

fn repeated(what: &str) -> Fault {
    Fault::invalid(
        format!("{what} stands twice; the first one is used"),
        "give every port a number and a name of its own",
    )
}

fn port(spec: &ServicePort, field: &Field<'_>, faults: &mut Faults) -> Option<EntryPort> {
    let number = faults.keep(&field.child("number"), number(spec.number));
    let target_port = spec.target_port.map(|target| {
        let target = self::number(target);
        faults.keep(&field.child("targetPort"), target)
    });
    let protocol_field = field.child("protocol");
    let named = spec.protocol.as_deref().filter(|name| !name.is_empty());
    let protocol = faults.keep(&protocol_field, protocol(named.unwrap_or(DEFAULT)));
    let number = number?;
    // A target that is wrong must not become the number itself.
    let is_misled = target_port.is_some_and(|target| target.is_none());
    if let Some(name) = named.filter(|name| is_not_looked_into(name)) {
        faults.note(
            "ProtocolNotInspected",
            &protocol_field,
            format!("{name} is not looked into: the port is served as TCP"),
            "nothing to do",
        );
    }
    Some(EntryPort {
        number,
        protocol: protocol.unwrap_or(EntryProtocol::Tcp),
        target_port: target_port.flatten().filter(|target| *target != number),
        tls: None,
        shut: protocol.is_none() || is_misled,
    })
}

/// A port number.
pub(super) fn number(number: u32) -> Result<u16, Fault> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| {
        Fault::invalid(
            format!("{number} is no port"),
            "use a number from 1 to 65535",
        )
    })
}

/// What a protocol is, in any case, as Istio has it.
fn protocol(name: &str) -> Result<EntryProtocol, Fault> {
    match name.to_ascii_uppercase().as_str() {
        // gRPC-Web is made for what speaks HTTP/1.1 only.
        "HTTP" | "GRPC-WEB" => Ok(EntryProtocol::Http),
        "HTTP2" => Ok(EntryProtocol::Http2),
        "GRPC" => Ok(EntryProtocol::Grpc),
        "HTTPS" => Ok(EntryProtocol::Https),
        "TLS" => Ok(EntryProtocol::Tls),
        "TCP" => Ok(EntryProtocol::Tcp),
        _ if is_not_looked_into(name) => Ok(EntryProtocol::Tcp),
        _ => Err(Fault::unsupported(
            format!("protocol {name:?} is not supported; the port is not opened"),
            "use HTTP, HTTP2, GRPC, HTTPS, TLS or TCP",
        )),
    }
}

/// Warns of a port that is called after a protocol, as ports of Services are (`http`, `https-api`), and says none: the name counts for
/// nothing here.
fn warn_of_name(spec: &ServicePort, field: &Field<'_>, faults: &mut Faults) {
    let name = spec.name.to_ascii_uppercase();
    let is_meant = |protocol: &&str| {
        let rest = name.strip_prefix(*protocol);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let says_none = spec.protocol.as_deref().is_none_or(str::is_empty);
    let mut known = ["GRPC-WEB", "GRPC", "HTTP", "HTTP2", "HTTPS", "TLS"].into_iter();
    if says_none && let Some(meant) = known.find(is_meant) {
        faults.warn(
            "ProtocolNotSaid",
            &field.child("protocol"),
            format!(
                "the port is called {:?} and says no protocol: it is served as {DEFAULT}",
                spec.name
            ),
            format!("say protocol: {meant}, or {DEFAULT} if that is meant"),
        );
    }
}

/// Whether Istio has a protocol by this name that is TCP for us.
fn is_not_looked_into(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["MONGO", "MYSQL", "REDIS"].contains(&name.as_str())
}
