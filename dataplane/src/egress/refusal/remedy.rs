//! What helps whoever was refused: what would list a destination, and how to reach what no list opens.

use std::net::IpAddr;

use portcullis_routing::egress::{
    Destination, Question, Seen, address::AddressClass, host::is_of_inside,
};

use crate::egress::{Identity, guard::Given};

/// Of a destination that nothing opens to the caller: what would.
pub(super) fn listed(question: &Question<'_>, caller: Option<&Identity>) -> String {
    let port = question.port;
    let protocol = protocol(question);
    let exported = caller.map_or_else(String::new, |caller| {
        format!(", exported to namespace {}", caller.namespace())
    });
    match question.destination {
        Destination::Name(name) => {
            let apply = format!(
                "To allow it, apply a ServiceEntry with hosts: [{name}] and port {port} (protocol {protocol}){exported}."
            );
            match inward(name) {
                Some(first) => format!("{} {apply}", if_inside(&first)),
                None => apply,
            }
        }
        Destination::Address(address) => {
            let apply = format!(
                "apply a ServiceEntry with addresses: [{address}], resolution NONE and port {port} (protocol {protocol}){exported}"
            );
            let class = AddressClass::of(address);
            if class.is_public() {
                format!("To allow it, {apply}; or ask for a host that is listed by its name.")
            } else if is_beside_proxy(class) {
                reached(question.destination, &Given::Caller, address)
            } else {
                format!(
                    "{} To allow it here, {apply}, and {}.",
                    if_inside(&without_proxy(&address.to_string())),
                    opened(address)
                )
            }
        }
    }
}

/// Of a port that is listed for something else than is spoken: `lister` is the entry. A second one for it would only conflict.
pub(super) fn spoken(question: &Question<'_>, lister: &str) -> String {
    let port = question.port;
    let instead = match question.seen {
        Seen::Request { .. } => "Ask for it by a tunnel (CONNECT, as clients do for https://)",
        Seen::Tunnel | Seen::Tls => {
            "Send requests to the proxy itself, in clear text (as clients do for http://)"
        }
    };
    format!(
        "{instead}; or have {lister} list port {port} with protocol {}. A second ServiceEntry for the port does not help.",
        protocol(question)
    )
}

/// Of an address that is refused for what it is.
pub(super) fn reached(destination: Destination<'_>, given: &Given, address: IpAddr) -> String {
    let class = AddressClass::of(address);
    let host = match destination {
        Destination::Name(name) => name.to_owned(),
        Destination::Address(address) => address.to_string(),
    };
    let elsewhere = match given {
        Given::Name(_) => " If the name is meant to lead elsewhere, mend its DNS.",
        Given::Endpoint => " If another address is meant, mend the endpoints of the ServiceEntry.",
        Given::Caller => "",
    };
    if class.inner() == AddressClass::Unspecified {
        let why = match given {
            Given::Name(_) => "; DNS servers that block a name answer with it",
            Given::Endpoint | Given::Caller => "",
        };
        return format!("Nobody has that address{why}.{elsewhere}");
    }
    if is_beside_proxy(class) {
        return format!(
            "Whatever answers there is beside the proxy and not beside the caller: {}.{elsewhere}",
            without_proxy(&host)
        );
    }
    format!(
        "{} To allow it here, {}.{elsewhere}",
        if_inside(&without_proxy(&host)),
        opened(address)
    )
}

/// Of a port that the proxy itself listens on.
pub(super) fn led_to_proxy(given: &Given) -> String {
    let dns = match given {
        Given::Name(_) => ", or by its DNS",
        Given::Endpoint | Given::Caller => "",
    };
    format!(
        "Nothing allows it. Lead the host to the port of the server that is meant: by targetPort or endpoints of its ServiceEntry{dns}."
    )
}

/// Whether what has an address is on the machine or link of whoever connects.
fn is_beside_proxy(class: AddressClass) -> bool {
    matches!(
        class.inner(),
        AddressClass::Metadata
            | AddressClass::LinkLocal
            | AddressClass::Loopback
            | AddressClass::Unspecified
    )
}

/// Of a name that is none of the public DNS: what goes before listing it, for callers mostly reach it by themselves.
pub fn inward(name: &str) -> Option<String> {
    is_of_inside(name).then(|| without_proxy(name))
}

/// Of what callers reach by themselves.
fn without_proxy(host: &str) -> String {
    format!("reach it without the proxy, by {host} in NO_PROXY of the caller")
}

/// A remedy for what is in the cluster.
fn if_inside(remedy: &str) -> String {
    format!("If it is in the cluster, {remedy}.")
}

/// What opens a range.
fn opened(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!(
        "have {address}/{length} in allowPrivate of an EgressPolicy of the Gateway's namespace that allows it"
    )
}

/// What is spoken, as a ServiceEntry calls it.
fn protocol(question: &Question<'_>) -> &'static str {
    match (&question.seen, question.port) {
        (
            Seen::Request {
                encrypted: true, ..
            },
            _,
        ) => "HTTPS",
        (Seen::Request { .. }, _) | (Seen::Tunnel, 80) => "HTTP",
        (Seen::Tunnel | Seen::Tls, _) => "TLS",
    }
}

/// What is spoken, in words.
pub(super) fn seen(seen: &Seen<'_>) -> &'static str {
    match seen {
        Seen::Request {
            encrypted: false, ..
        } => "HTTP requests in clear text",
        Seen::Request { .. } => "HTTP requests",
        Seen::Tunnel => "tunnels",
        Seen::Tls => "TLS",
    }
}
