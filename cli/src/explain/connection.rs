//! What comes before a route is asked: port, handshake, and whether the connection is for the host of the request.

use std::collections::BTreeSet;

use portcullis_dataplane::{reason::Reason, tls::TlsListeners};
use portcullis_routing::{ListenerProtocol, RoutingTable, compile::CompiledPort};

use crate::{request::Request, words};

/// What the proxy answers by itself for this reason.
pub(super) fn refused(reason: Reason) -> String {
    format!("{}: {}", reason.status().as_u16(), reason.text())
}

/// Why the client does not get to make its request: the wrong scheme, or no certificate for its name.
pub(super) fn no_session<P>(
    request: &Request,
    bound: &CompiledPort<P>,
    certificates: &TlsListeners,
) -> Option<String> {
    let (port, asked) = (request.port, request.url.scheme_str().unwrap_or_default());
    let spoken = words::scheme(bound.protocol());
    if asked != spoken {
        return Some(match bound.protocol() {
            ListenerProtocol::Https => refused(Reason::PlainHttp),
            ListenerProtocol::Tls => {
                format!("no answer: TLS passes through port {port}, and the URL asks for {asked}")
            }
            ListenerProtocol::Http => format!(
                "no answer: the TLS handshake fails, for port {port} speaks {spoken}, and the URL asks for {asked}"
            ),
        });
    }
    let named = request.sni.as_deref();
    if bound.protocol() != ListenerProtocol::Https {
        return None;
    }
    if let Some(listener) = bound.listener_for(named.unwrap_or_default()) {
        let is_refused = certificates.config(listener.key()).is_none();
        return is_refused.then(|| {
            format!(
                "no answer: the TLS handshake fails, for listener {} has no certificate that can be used, or cannot verify \
                 those of its clients",
                listener.key()
            )
        });
    }
    Some(match named {
        Some(name) => format!(
            "no answer: the TLS handshake fails, for no listener of port {port} serves {name}"
        ),
        None => format!(
            "no answer: the TLS handshake fails, for it names no host (clients name none for an IP address), and every \
             listener of port {port} has a hostname; `--sni` says what a client names"
        ),
    })
}

/// A connection that was made for one listener does not serve requests for another (GEP-3567).
pub(super) fn misdirected<P>(request: &Request, bound: &CompiledPort<P>) -> Option<String> {
    let name = request.sni.as_deref()?;
    let key = |host| bound.listener_for(host).map(|listener| listener.key());
    (key(name) != key(&request.host)).then(|| {
        format!(
            "421: the connection was made for {name}, which belongs to another listener than {}",
            request.host
        )
    })
}

/// A handshake that names nobody may have asked for no client certificate, and the request's listener needs one: Gateways that
/// share a port differ in that.
pub(super) fn unauthenticated<P>(request: &Request, bound: &CompiledPort<P>) -> Option<String> {
    let named = bound.listener_for(request.sni.as_deref().unwrap_or_default())?;
    let asked = bound.listener_for(&request.host)?;
    let needs = asked.listener().needs_client_certificate();
    (needs && !named.listener().needs_client_certificate()).then(|| {
        format!(
            "421: listener {} needs a client certificate, and the connection was made without one, for listener {}",
            asked.key(),
            named.key()
        )
    })
}

/// Why nothing listens at a port.
pub(super) fn no_port(table: &RoutingTable, port: u16) -> String {
    let ports: BTreeSet<u16> = table.listeners.values().map(|it| it.port).collect();
    if ports.contains(&port) {
        return format!("no connection: no listener of port {port} can be served");
    }
    if ports.is_empty() {
        return "no connection: no listener can be served".into();
    }
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    format!(
        "no connection: no listener that can be served has port {port}, only {}",
        ports.join(", ")
    )
}

/// Fails for a port of an egress Gateway, or if there is nothing else: what leaves the cluster is not for routes alone to say.
pub(super) fn ensure_ingress(port: u16, table: &RoutingTable) -> anyhow::Result<()> {
    let listeners = || table.listeners.values();
    let is_of_port = listeners().any(|it| it.port == port && !it.direction.is_ingress());
    let is_nothing_else = !listeners().any(|it| it.direction.is_ingress());
    if is_of_port {
        return Err(of_egress(&format!("port {port} is an egress Gateway's")));
    }
    if is_nothing_else && !table.listeners.is_empty() {
        return Err(of_egress("there are Gateways of egress only"));
    }
    Ok(())
}

/// What to say beside that nothing listens, where somebody may mean what leaves.
pub(super) fn meant_outward(table: &RoutingTable) -> &'static str {
    let mut listeners = table.listeners.values();
    if listeners.any(|it| !it.direction.is_ingress()) {
        "; what leaves by the Gateways of egress is for `portcullis egress check`"
    } else {
        ""
    }
}

/// Who answers instead.
pub(super) fn of_egress(what: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{what}: which ServiceEntry and EgressPolicy decide, `portcullis egress check` says, as well as which HTTPRoute takes a request"
    )
}
