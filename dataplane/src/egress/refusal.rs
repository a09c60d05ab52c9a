//! What a caller is told that may not: what was refused and why, and what would allow it. Never what others have.

mod remedy;

use std::fmt;

use bytes::Bytes;
use portcullis_routing::egress::{Decision, DecisionReason, Destination, Inside, Question, Seen};

pub use self::remedy::inward;
use super::{
    Identity,
    event::{MAX_METHOD, MAX_PATH},
    guard::Obstacle,
    token::Fault,
};
use crate::{downstream::Pin, reason::Reason, telemetry::access_log::line::cut};

/// Logged of a Service whose endpoints are not where those of Services are.
pub(crate) const FENCED_OUT: &str = "no endpoint of the Service is in the cluster";

/// An answer to a caller.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// What the caller is told. The log may know better.
    pub(crate) told: Reason,
    /// One line of what and why, one of what to do.
    pub(crate) body: Bytes,
}

impl Refusal {
    fn new(told: Reason, what: &str, remedy: &str) -> Self {
        Self {
            told,
            body: format!("{}: {what}\n{remedy}\n", told.code()).into(),
        }
    }

    /// Of what the table says no to.
    pub(crate) fn decided(
        question: &Question<'_>,
        decision: &Decision<'_>,
        caller: Option<&Identity>,
    ) -> Self {
        let place = place(question);
        let asked = asked(question, decision);
        let unclear = unclear(question, decision);
        let unclear = unclear.map_or_else(String::new, |words| format!(" {words}"));
        let who = who(caller);
        let rule = Rule::of(decision, caller);
        match decision.reason {
            // That others have an entry for it is none of the caller's business.
            DecisionReason::HostNotListed
            | DecisionReason::PortNotListed
            | DecisionReason::NotExported
            | DecisionReason::Allowed => Self::new(
                Reason::HostNotListed,
                &format!("{place} is not listed for {who}."),
                &remedy::listed(question, caller),
            ),
            DecisionReason::UnknownCaller => {
                let unknown = match caller {
                    None => "who calls is not known".to_owned(),
                    Some(_) => format!("of {who} the pod is not known, nor its labels"),
                };
                Self::new(
                    Reason::UnknownCaller,
                    &format!("{}, and {unknown}.{unclear}", narrowed(question, decision)),
                    "To allow it, call from a pod of the cluster without address translation on the way.",
                )
            }
            DecisionReason::EntryShut => Self::new(
                Reason::EntryShut,
                &format!(
                    "{place} is listed, but {} cannot be served.",
                    lister(decision, caller)
                ),
                "To allow it, mend the entry: its conditions say what is wrong with it.",
            ),
            DecisionReason::ProtocolNotListed => {
                let listed = decision.opened.map_or(String::new(), |opened| {
                    format!("{:?}", opened.port.protocol).to_ascii_uppercase()
                });
                Self::new(
                    Reason::ProtocolNotListed,
                    &format!(
                        "{place} is listed for {listed}, not for {}.",
                        remedy::seen(&question.seen)
                    ),
                    &remedy::spoken(question, &lister(decision, caller)),
                )
            }
            DecisionReason::DeniedByPolicy => Self::new(
                Reason::DeniedByPolicy,
                &format!("{asked} is denied to {who} by {rule}.{unclear}"),
                &format!("To allow it, change that EgressPolicy{}.", rule.command()),
            ),
            DecisionReason::NotAllowedByPolicy => Self::new(
                Reason::NotAllowedByPolicy,
                &format!("{asked} is not among what {rule} allows to {who}.{unclear}"),
                &format!(
                    "To allow it, add it to that EgressPolicy{}, or to another one there that selects the caller.",
                    rule.command()
                ),
            ),
            DecisionReason::LedElsewhere => Self::new(
                Reason::LedElsewhere,
                &format!(
                    "{place} is among what {rule} allows to {who}, but the ServiceEntry in force leads it elsewhere, by endpoints, a \
                     targetPort or another name for TLS, and stands neither in the Gateway's namespace nor in that of the policy."
                ),
                "To allow it, take them out of the ServiceEntry, or have it in the Gateway's namespace.",
            ),
        }
    }

    /// Of what leads nowhere, or inside.
    pub(crate) fn of_addresses(question: &Question<'_>, obstacle: &Obstacle) -> Self {
        let place = place(question);
        match obstacle {
            Obstacle::Unresolved { .. } => Self::new(
                Reason::DnsFailed,
                &format!("{place} cannot be reached: {obstacle}."),
                "Check the name, and the DNS servers of the egress Gateway.",
            ),
            Obstacle::Refused {
                what: Inside::Proxy,
                ..
            } => Self::new(
                Reason::AddressRefused,
                &format!("{place} may not be reached: {obstacle}."),
                "Nothing allows it. What is meant for the proxy is sent to its listeners.",
            ),
            Obstacle::Itself { given, .. } => Self::new(
                Reason::LeadsToProxy,
                &format!("{place} may not be reached: {obstacle}."),
                &remedy::led_to_proxy(given),
            ),
            Obstacle::Refused { given, address, .. } => Self::new(
                Reason::AddressRefused,
                &format!("{place} may not be reached: {obstacle}."),
                &remedy::reached(question.destination, given, *address),
            ),
            Obstacle::NoEndpoint => Self::new(
                Reason::NoEndpoint,
                &format!("{place} cannot be reached: {obstacle}."),
                "Give an endpoint of the ServiceEntry a weight above 0.",
            ),
        }
    }

    /// Of a route to a Service without an endpoint that may be connected to.
    pub(crate) fn of_endpoints(host: &str) -> Self {
        Self::new(
            Reason::AddressRefused,
            &format!(
                "{host} may not be reached: no endpoint of the Service that a route leads it to is in the cluster."
            ),
            "To reach a host beyond the cluster, lead the route to a ServiceEntry.",
        )
    }

    /// Of a tunnel for requests that would not be read.
    pub(crate) fn unread(host: &str, port: u16) -> Self {
        Self::new(
            Reason::TunnelUnread,
            &format!(
                "{host}:{port} is listed for requests that are read, and in this tunnel they could not be."
            ),
            "Send them to the proxy without CONNECT, with the host in :authority or in the target; or list the port with protocol TCP.",
        )
    }

    /// Of a request on a connection that is for another destination.
    pub(crate) fn not_pinned(host: &str, pin: &Pin) -> Self {
        let Pin {
            host: pinned, port, ..
        } = pin;
        Self::new(
            Reason::AuthorityMismatch,
            &format!("{host} was asked for in a tunnel to {pinned}:{port}."),
            "Use a connection of its own for each destination.",
        )
    }

    /// Of a token that is not believed.
    pub(crate) fn bad_token(fault: &Fault, audience: &str) -> Self {
        Self::new(
            Reason::BadToken,
            &format!("the token in Proxy-Authorization is not believed: {fault}."),
            &mount(audience),
        )
    }

    /// Of a caller who could say by a token who it is.
    pub(crate) fn no_token(
        question: &Question<'_>,
        decision: &Decision<'_>,
        audience: &str,
    ) -> Self {
        Self::new(
            Reason::TokenNeeded,
            &format!(
                "{}, and who calls is not known: send a token in Proxy-Authorization.",
                narrowed(question, decision)
            ),
            &mount(audience),
        )
    }

    /// Of what is no host.
    pub(crate) fn no_destination(why: &str) -> Self {
        Self::new(
            Reason::BadDestination,
            &format!("{why}."),
            "Name the host as DNS has it, with its port if it is not the usual one.",
        )
    }
}

/// The entry that lists the host, as its callers may know it: those of others are theirs.
fn lister(decision: &Decision<'_>, caller: Option<&Identity>) -> String {
    let object = decision.opened.and_then(|opened| opened.key.object());
    let own = caller.map(Identity::namespace);
    match object.filter(|(namespace, _)| own == Some(*namespace)) {
        Some((namespace, name)) => format!("ServiceEntry {namespace}/{name}"),
        None => "the entry for it".to_owned(),
    }
}

/// The policy that decided, as its callers may know it: those of others are theirs.
#[derive(Clone, Copy)]
enum Rule<'a> {
    /// One of the caller's own namespace.
    Own { namespace: &'a str, name: &'a str },
    /// One of the Gateway's, of which the log has the name.
    Gateway,
}

impl<'a> Rule<'a> {
    fn of(decision: &Decision<'a>, caller: Option<&Identity>) -> Self {
        let object = decision.policy.and_then(|policy| policy.object());
        let own = caller.map(Identity::namespace);
        match object.filter(|(namespace, _)| own == Some(*namespace)) {
            Some((namespace, name)) => Self::Own { namespace, name },
            None => Self::Gateway,
        }
    }

    /// What shows it.
    fn command(self) -> String {
        match self {
            Self::Own { namespace, name } => {
                format!(" (kubectl -n {namespace} get egresspolicy {name})")
            }
            Self::Gateway => String::new(),
        }
    }
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own { namespace, name } => write!(f, "EgressPolicy {namespace}/{name}"),
            Self::Gateway => f.write_str("a policy of the Gateway's namespace"),
        }
    }
}

/// What policies were asked about: with the request, if that is what they are against.
fn asked(question: &Question<'_>, decision: &Decision<'_>) -> String {
    let place = place(question);
    match question.seen {
        Seen::Request { method, path, .. } if decision.by_request => format!(
            "{} {} of {place}",
            cut(method, MAX_METHOD),
            cut(path, MAX_PATH)
        ),
        _ => place,
    }
}

/// Why it matters who calls: a policy may be against this caller, or an entry is for some only.
fn narrowed(question: &Question<'_>, decision: &Decision<'_>) -> String {
    if decision.policy.is_some() {
        let asked = asked(question, decision);
        format!("a policy for some callers may be against {asked}")
    } else {
        format!("{} is open to some callers only", place(question))
    }
}

/// A sentence about traffic that the methods and paths of policies cannot be held against, where these decided.
pub fn unclear(question: &Question<'_>, decision: &Decision<'_>) -> Option<&'static str> {
    match question.seen {
        _ if !decision.by_request => None,
        Seen::Tunnel | Seen::Tls => Some(
            "The policy goes by methods or paths, which nobody sees in a tunnel: send the requests to the proxy itself.",
        ),
        Seen::Request { .. } => question.seen.is_ambiguous().then_some(
            "Its path can be read in several ways, so no path of a policy allows it, and each that denies one denies it.",
        ),
    }
}

/// How a pod comes by a token.
fn mount(audience: &str) -> String {
    format!(
        "Mount one for audience {audience} into the pod, and read it anew for each connection: \
         volumes: [{{name: egress, projected: {{sources: [{{serviceAccountToken: {{audience: {audience}, path: token}}}}]}}}}]."
    )
}

/// Host and port.
fn place(question: &Question<'_>) -> String {
    let port = question.port;
    match question.destination {
        Destination::Name(name) => format!("{name}:{port}"),
        Destination::Address(address) => std::net::SocketAddr::new(address, port).to_string(),
    }
}

fn who(caller: Option<&Identity>) -> String {
    caller.map_or_else(
        || "a caller who is not known".to_owned(),
        |caller| format!("{}/{}", caller.namespace(), caller.service_account()),
    )
}
