//! The decision: may this caller reach that destination?
//!
//! Entries of the caller's own namespace and of the Gateway's go before others; of both exact hosts before wildcards, long suffixes
//! before short ones, and of the same host the caller's own. Of others it is the same, and then the oldest goes first. Those that do
//! not have the port, or are not exported to the caller, are passed over; those that have it and cannot be served are not. Then policies:
//! those of the Gateway's namespace, then those of the caller's. Nothing is allocated.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    entry::{Entry, EntryPort, EntryProtocol},
    index::{EntryIndex, Wanted},
    opened::Opened,
    path,
    policies::{Opinion, PolicyIndex},
    policy::PolicyMode,
    ranges::Ranges,
    settings::EgressSettings,
    way::Way,
    workload::Workload,
    workloads::WorkloadIndex,
};
use crate::key::{EntryKey, GatewayKey, PolicyKey};

/// The entries, policies and workloads of a table, ready to be asked.
#[derive(Debug)]
pub struct CompiledEgress {
    pub(super) gateway: GatewayKey,
    /// The Gateway's namespace.
    pub(super) namespace: Box<str>,
    pub(super) settings: EgressSettings,
    pub(super) protected: Arc<Ranges>,
    pub(super) external: Arc<Ranges>,
    pub(super) entries: Arc<EntryIndex>,
    pub(super) policies: Arc<PolicyIndex>,
    pub(super) workloads: Arc<WorkloadIndex>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Where to.
    pub destination: Destination<'a>,
    /// The port, as the caller names it.
    pub port: u16,
    /// By whom.
    pub caller: Option<Caller<'a>>,
    /// What is known of the traffic.
    pub seen: Seen<'a>,
}

/// The host that a caller names, in normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// A DNS name: lower case, A-labels, no final dot.
    Name(&'a str),
    /// An address.
    Address(IpAddr),
}

/// A caller whose identity is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Service account.
    pub service_account: &'a str,
    /// Labels of the pod; `None` if no pod is known, only whose account it uses.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// What is known of the traffic before it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// A request.
    Request {
        /// Its method.
        method: &'a str,
        /// Its normalised path.
        path: &'a str,
        /// Whether it came over TLS, so that an HTTPS port may be spoken to on its behalf.
        encrypted: bool,
    },
    /// A tunnel (CONNECT). On a port of clear HTTP/1.1 its requests are read and asked about one by one.
    Tunnel,
    /// TLS that passes through.
    Tls,
}

impl Seen<'_> {
    /// Whether servers may read the path of a request as another one. Paths of policies are then held against it: such a request
    /// is denied by every Deny with paths, and allowed by no Allow with paths.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Request { path, .. } => path::read(path).is_none(),
            Self::Tunnel | Self::Tls => false,
        }
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may pass.
    Allow,
    /// It may pass, but would be refused if what is in mode Report were enforced.
    Report,
    /// It may not pass.
    Refuse,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionReason {
    /// An entry opens it, and no policy is against it.
    Allowed,
    /// No entry lists the host.
    HostNotListed,
    /// Entries list the host, but not this port.
    PortNotListed,
    /// Entries list host and port, but are not exported to the caller's namespace.
    NotExported,
    /// Who calls is not known, and matters.
    UnknownCaller,
    /// The entry that lists host and port for the caller cannot be served, and no other takes its place.
    EntryShut,
    /// The port is listed for another protocol than the one that is seen.
    ProtocolNotListed,
    /// A policy denies it.
    DeniedByPolicy,
    /// Policies allow the caller other destinations only.
    NotAllowedByPolicy,
    /// Policies allow the caller this destination, but not where an entry leads it: see [`Opened::leads_elsewhere`].
    LedElsewhere,
}

impl DecisionReason {
    /// Machine-readable, stable.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::HostNotListed => "host_not_listed",
            Self::PortNotListed => "port_not_listed",
            Self::NotExported => "not_exported",
            Self::UnknownCaller => "unknown_caller",
            Self::EntryShut => "entry_shut",
            Self::ProtocolNotListed => "protocol_not_listed",
            Self::DeniedByPolicy => "denied_by_policy",
            Self::NotAllowedByPolicy => "not_allowed_by_policy",
            Self::LedElsewhere => "led_elsewhere",
        }
    }
}

/// The answer.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'t> {
    /// Yes or no.
    pub verdict: Verdict,
    /// Why. With [`Verdict::Report`]: why not.
    pub reason: DecisionReason,
    /// The entry that opens host and port. `None` with [`Verdict::Report`] is a host that no entry lists, and with
    /// [`Verdict::Allow`] a backend of the cluster.
    pub opened: Option<Opened<'t>>,
    /// The policy that decided.
    pub policy: Option<&'t PolicyKey>,
    /// Policies are against its method or path, and other requests to the same place might pass. In a tunnel these cannot be seen.
    pub by_request: bool,
}

impl CompiledEgress {
    /// The settings.
    pub fn settings(&self) -> &EgressSettings {
        &self.settings
    }

    /// The pod that calls from an address. Proxies call for others, so it is none of them.
    pub fn workload(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        let found = self.workloads.get(address);
        found.filter(|workload| workload.proxy_of.is_none())
    }

    /// An entry that is served.
    pub fn entry(&self, key: &EntryKey) -> Option<&Arc<Entry>> {
        self.entries.entry(key).map(|compiled| &compiled.entry)
    }

    /// Whether an entry lists a destination, at whatever port.
    pub fn lists(&self, key: &EntryKey, destination: Destination<'_>) -> bool {
        let entry = self.entries.entry(key);
        entry.is_some_and(|entry| entry.lists(destination))
    }

    /// Whether somebody may reach something. Does not look at the addresses behind a name.
    pub fn decide(&self, question: &Question<'_>) -> Decision<'_> {
        match self.opened(question) {
            Ok(opened) if self.counts(question, opened) => self.judge(question, opened),
            Ok(_) => self.unlisted(question, DecisionReason::HostNotListed),
            Err(reason) => self.unlisted(question, reason),
        }
    }

    /// Whether the entry that is in force decides. Where what no entry opens passes, nobody takes that from others by an entry that
    /// they did not ask for.
    fn counts(&self, question: &Question<'_>, opened: Opened<'_>) -> bool {
        let home = opened.entry.order.namespace.as_str();
        let is_own = question.caller.is_some_and(|it| it.namespace == home);
        let is_near = is_own || self.is_of_gateway(home);
        let passes = self.settings.mode == PolicyMode::Report;
        !passes || is_near || opened.changes_nothing(question)
    }

    /// Whether somebody may reach something through the entry that a route names, whatever other entries open the same. `None` if
    /// the entry does not list it, or it would pass although the entry is not for this caller: that is not what the route is for.
    pub fn decide_through(&self, key: &EntryKey, question: &Question<'_>) -> Option<Decision<'_>> {
        let compiled = self.entries.entry(key)?;
        let opened = compiled.opened(question.port)?;
        if !compiled.lists(question.destination) {
            return None;
        }
        let to = &opened.entry.exported_to;
        let caller = question.caller.map(|caller| caller.namespace);
        if caller.map_or_else(|| to.is_all(), |caller| to.contains(caller)) {
            return Some(self.judge(question, opened));
        }
        let reason = match question.caller {
            Some(_) => DecisionReason::NotExported,
            None => DecisionReason::UnknownCaller,
        };
        let unlisted = self.unlisted(question, reason);
        (unlisted.verdict == Verdict::Refuse).then_some(unlisted)
    }

    fn judge<'t>(&'t self, question: &Question<'_>, opened: Opened<'t>) -> Decision<'t> {
        // Neither is for policies to open, nor for a mode in which they only report.
        let obstacle = if opened.port.shut {
            Some(DecisionReason::EntryShut)
        } else if !fits(opened.port, &question.seen) {
            Some(DecisionReason::ProtocolNotListed)
        } else {
            None
        };
        if let Some(reason) = obstacle {
            return Decision {
                verdict: Verdict::Refuse,
                reason,
                opened: Some(opened),
                policy: None,
                by_request: false,
            };
        }
        let way = self.way(Some(opened));
        let opinion = self.policies.opinion(question, way);
        Decision {
            opened: Some(opened),
            ..by_policies(opinion)
        }
    }

    /// Whether somebody may have a route lead a request to a backend of the cluster. No entry opens that, so only policies are
    /// asked, with what the request names.
    pub fn decide_inside(&self, question: &Question<'_>) -> Decision<'_> {
        by_policies(self.policies.opinion(question, self.way(None)))
    }

    /// Whether a policy lets the caller reach this address of the destination, although its range is refused by default. `opened` is
    /// what opens the destination, if anything does.
    pub fn opens_private(
        &self,
        question: &Question<'_>,
        opened: Option<Opened<'_>>,
        address: IpAddr,
    ) -> bool {
        let way = self.way(opened);
        self.policies.opens_private(question, way, address)
    }

    fn way<'a>(&'a self, opened: Option<Opened<'a>>) -> Way<'a> {
        Way::new(opened, &self.namespace)
    }

    /// Whether an object of this namespace stands in that of the Gateway.
    pub fn is_of_gateway(&self, namespace: &str) -> bool {
        *namespace == *self.namespace
    }

    /// Whether an address is the cluster's own.
    pub fn is_protected(&self, address: IpAddr) -> bool {
        self.is_inside(address) || self.external.contain(address)
    }

    /// Whether it is, and an endpoint of a Service may have it.
    pub(super) fn is_inside(&self, address: IpAddr) -> bool {
        self.protected.contain(address) || self.workloads.get(address).is_some()
    }

    /// Whether an address is that of a proxy of this Gateway, or of a Service in front of them.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        let found = self.workloads.get(address);
        let proxy_of = found.and_then(|workload| workload.proxy_of.as_ref());
        proxy_of == Some(&self.gateway) || self.settings.own.contains(&address.to_canonical())
    }

    fn opened(&self, question: &Question<'_>) -> Result<Opened<'_>, DecisionReason> {
        let found = self.entries.find(&Wanted {
            destination: question.destination,
            port: question.port,
            caller: question.caller.map(|caller| caller.namespace),
            gateway: &self.namespace,
        });
        let compiled = found?;
        compiled
            .opened(question.port)
            .ok_or(DecisionReason::PortNotListed)
    }

    /// Nothing opens it. Where that is only told, policies are asked all the same: what they refuse does not pass.
    fn unlisted(&self, question: &Question<'_>, reason: DecisionReason) -> Decision<'_> {
        let unlisted = Decision {
            verdict: refusal(self.settings.mode),
            reason,
            opened: None,
            policy: None,
            by_request: false,
        };
        match self.policies.opinion(question, self.way(None)) {
            Opinion::Against {
                mode: PolicyMode::Enforce,
                reason,
                policy,
                by_request,
            } if self.settings.mode == PolicyMode::Report => Decision {
                verdict: Verdict::Refuse,
                reason,
                policy,
                by_request,
                ..unlisted
            },
            Opinion::Against { .. } | Opinion::Fine => unlisted,
        }
    }
}

/// What policies say, and nobody else.
fn by_policies(opinion: Opinion<'_>) -> Decision<'_> {
    match opinion {
        Opinion::Fine => Decision {
            verdict: Verdict::Allow,
            reason: DecisionReason::Allowed,
            opened: None,
            policy: None,
            by_request: false,
        },
        Opinion::Against {
            mode,
            reason,
            policy,
            by_request,
        } => Decision {
            verdict: refusal(mode),
            reason,
            opened: None,
            policy,
            by_request,
        },
    }
}

const fn refusal(mode: PolicyMode) -> Verdict {
    match mode {
        PolicyMode::Enforce => Verdict::Refuse,
        PolicyMode::Report => Verdict::Report,
    }
}

/// Whether what is seen can be what the port is listed for.
fn fits(port: &EntryPort, seen: &Seen<'_>) -> bool {
    match seen {
        Seen::Request { encrypted, .. } => {
            port.protocol.is_clear_http()
                || port.tls.is_some()
                || (*encrypted && port.protocol == EntryProtocol::Https)
        }
        Seen::Tunnel => true,
        Seen::Tls => port.protocol.is_tls() || port.protocol == EntryProtocol::Tcp,
    }
}
