//! Egress: workloads reach what the table lets them reach, and nothing else.
//!
//! A request or a tunnel names a host. Its name is brought into normal form, the table decides whether this caller may reach it,
//! it is resolved once, every address is checked, and one of those that were checked is connected to. Each decision leaves
//! one line in the log.

pub mod caller;
pub(crate) mod certificate;
pub(crate) mod changes;
pub(crate) mod entrance;
pub(crate) mod event;
pub(crate) mod greeting;
pub(crate) mod guard;
pub(crate) mod led;
pub(crate) mod own;
pub(crate) mod reach;
pub(crate) mod refusal;
pub(crate) mod resolver;
pub mod token;
pub(crate) mod tunnel;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use portcullis_routing::{
    EntryKey, PathMatch, PolicyKey,
    egress::{Decision, DecisionReason, Verdict},
};

use tokio::time::sleep;

pub use self::{
    caller::Identity,
    own::meets,
    refusal::{inward, unclear},
};
use self::{changes::Changes, own::Own, resolver::Resolver, token::Tokens};
use crate::{
    deadline::Deadlines,
    plan::PreparedRoute,
    reason::Reason,
    shares::{Share, Shares},
    telemetry::WorkerMetrics,
    tunnel::relay::Relay,
    worker::Worker,
};

/// Tunnels that look at a new table in one millisecond.
const BATCH: u32 = 64;

/// What one worker needs for egress.
pub(crate) struct Egress {
    /// The names of the outside world.
    pub(crate) resolver: Resolver,
    /// The tokens of those who call.
    pub(crate) tokens: Tokens,
    /// What a request follows that no HTTPRoute takes: to the host that it names.
    pub(crate) route: PreparedRoute,
    /// The match by which it does: every path.
    pub(crate) path: PathMatch,
    /// What is the proxy's own.
    pub(crate) own: Own,
    /// What passes the bytes of tunnels on.
    pub(crate) relay: Relay,
    /// New tables that may decide otherwise.
    pub(crate) changes: Changes,
    /// Who has looked at the table since.
    turns: Cell<u32>,
    /// Tunnels that are open, by the namespace of whoever has them.
    tunnels: RefCell<Shares>,
}

impl Egress {
    /// Without anything known of the outside.
    pub(crate) fn new(metrics: Arc<WorkerMetrics>, deadlines: &Rc<Deadlines>, own: Own) -> Self {
        Self {
            resolver: Resolver::new(metrics),
            tokens: Tokens::default(),
            route: PreparedRoute::outward(),
            path: PathMatch::Prefix("/".to_owned()),
            own,
            relay: Relay::new(deadlines),
            changes: Changes::default(),
            turns: Cell::new(0),
            tunnels: RefCell::default(),
        }
    }

    /// There is a table that may decide otherwise: tells everybody who may have to end.
    pub(crate) fn has_changed(&self) {
        self.turns.set(0);
        self.changes.tell();
    }

    /// Comes before a look at a new table. Those many who do so at once go in batches, so that others get their turn between them.
    pub(crate) async fn turn(&self) {
        let before = self.turns.get();
        self.turns.set(before.saturating_add(1));
        let pause = before / BATCH;
        if pause > 0 {
            sleep(Duration::from_millis(pause.into())).await;
        }
    }
}

/// A tunnel that counts as open until this is dropped, however it ends.
pub(crate) struct OpenTunnel {
    worker: Rc<Worker>,
    share: Rc<Share>,
}

impl OpenTunnel {
    /// One more for `caller`, unless there are as many as there may be, `most`, or its namespace has its share of them.
    pub(crate) fn new(
        worker: &Rc<Worker>,
        caller: Option<&Identity>,
        most: u32,
    ) -> Result<Self, Reason> {
        let namespace = caller.map_or("", Identity::namespace);
        let mut tunnels = worker.egress.tunnels.borrow_mut();
        let free = most.saturating_sub(tunnels.all());
        if free == 0 {
            return Err(Reason::TooManyTunnels);
        }
        if !tunnels.may_take(namespace, free) {
            return Err(Reason::TooManyOfNamespace);
        }
        worker.metrics.egress_tunnel_opened();
        Ok(Self {
            worker: Rc::clone(worker),
            share: tunnels.take(namespace),
        })
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        let tunnels = &self.worker.egress.tunnels;
        tunnels.borrow_mut().give_back(&self.share);
        self.worker.metrics.egress_tunnel_closed();
    }
}

/// What was decided, as it is told.
#[derive(Clone, Copy, Debug)]
pub struct Ruling<'t> {
    /// Yes or no.
    pub verdict: Verdict,
    /// Why: a [`DecisionReason`] or a [`Reason`].
    pub reason: &'static str,
    /// The entry that opens host and port.
    pub entry: Option<&'t EntryKey>,
    /// The policy that decided.
    pub policy: Option<&'t PolicyKey>,
}

impl<'t> Ruling<'t> {
    /// What the table says.
    pub(crate) fn of(decision: &Decision<'t>) -> Self {
        Self {
            verdict: decision.verdict,
            reason: decision.reason.code(),
            entry: decision.opened.map(|opened| opened.key),
            policy: decision.policy,
        }
    }

    /// A refusal for something that the table knows nothing of.
    pub(crate) fn refused(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Refuse,
            reason: reason.code(),
            entry: None,
            policy: None,
        }
    }
}

impl From<DecisionReason> for Reason {
    fn from(reason: DecisionReason) -> Self {
        match reason {
            // What is allowed is not answered for; should it be, it is the rules that are at fault.
            DecisionReason::Allowed => Self::InvalidRule,
            DecisionReason::HostNotListed => Self::HostNotListed,
            DecisionReason::PortNotListed => Self::PortNotListed,
            DecisionReason::NotExported => Self::NotExported,
            DecisionReason::UnknownCaller => Self::UnknownCaller,
            DecisionReason::EntryShut => Self::EntryShut,
            DecisionReason::ProtocolNotListed => Self::ProtocolNotListed,
            DecisionReason::DeniedByPolicy => Self::DeniedByPolicy,
            DecisionReason::NotAllowedByPolicy => Self::NotAllowedByPolicy,
            DecisionReason::LedElsewhere => Self::LedElsewhere,
        }
    }
}
