//! What ends a request to a host outside before its time: a table that does not allow it any more, and the limits of tunnels. It may
//! be a WebSocket, or a stream without an end.

use std::{cell::Cell, future::poll_fn, net::SocketAddr, rc::Rc, task::Poll, time::Instant};

use http::Method;
use portcullis_routing::{
    EntryKey,
    egress::{Question, Seen, Verdict},
};

use super::egress::Wanted;
use crate::{
    deadline::Deadline,
    downstream::Connection,
    egress::{
        Identity,
        caller::are_same,
        entrance::{Door, Entrance},
        guard::{Checked, Guard},
    },
    reason::Reason,
    state::Snapshot,
    worker::Worker,
};

/// What a request was granted.
pub(super) struct Leave<'a> {
    pub(super) worker: &'a Rc<Worker>,
    /// The table that granted it.
    pub(super) granted_by: &'a Snapshot,
    pub(super) connection: &'a Connection,
    pub(super) entrance: Entrance<'a>,
    pub(super) caller: Option<Rc<Identity>>,
    pub(super) host: Wanted<'a>,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) encrypted: bool,
    /// The entry that a route leads through.
    pub(super) entry: Option<&'a EntryKey>,
    /// When the request began.
    pub(super) since: Instant,
    /// The addresses that were found good for it.
    pub(super) checked: Checked,
}

/// That leave, held against every table that comes.
pub(super) struct Watch<'a> {
    leave: Leave<'a>,
    /// The address that has the request; `None` is any of those that were checked.
    used: Cell<Option<SocketAddr>>,
    /// What was found good last.
    seen: Cell<Option<Look>>,
}

/// A look at a table: which one, by the count of its worker, and for which address.
#[derive(Clone, Copy, Debug)]
struct Look {
    table: u64,
    address: Option<SocketAddr>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(leave: Leave<'a>) -> Self {
        Self {
            leave,
            used: Cell::new(None),
            seen: Cell::new(None),
        }
    }

    /// The addresses that may be connected to.
    pub(super) fn checked(&self) -> &Checked {
        &self.leave.checked
    }

    /// No address has the request (any more).
    pub(super) fn is_unsent(&self) {
        self.used.set(None);
    }

    /// An address is about to get the request.
    pub(super) fn is_sent_to(&self, address: SocketAddr) {
        self.used.set(Some(address));
    }

    /// Resolves when the request has to end.
    pub(super) async fn ends(&self) -> Reason {
        tokio::select! {
            biased;
            reason = self.revoked() => reason,
            () = self.lasts_too_long() => Reason::TunnelTooLong,
        }
    }

    async fn lasts_too_long(&self) {
        let leave = &self.leave;
        let egress = leave.granted_by.settings().egress.as_ref();
        let most = egress.and_then(|egress| egress.tunnel_max_duration);
        let most = most.map(|most| most.duration().saturating_sub(leave.since.elapsed()));
        let known = leave.caller.as_deref().and_then(Identity::remaining);
        let Some(total) = most.into_iter().chain(known).min() else {
            return std::future::pending().await;
        };
        let end = leave.worker.deadlines.register(None);
        end.set(total);
        poll_fn(|cx| end.poll_passed(cx)).await;
    }

    /// Resolves once the table does not allow the request any more, and when its port is gone and the time to drain is over.
    async fn revoked(&self) -> Reason {
        let Leave {
            worker, granted_by, ..
        } = self.leave;
        let mut changes = worker.egress.changes.listen();
        let mut drained: Option<Deadline> = None;
        while self.stands() {
            if !self.is_left_over() {
                drained = None;
            } else if drained.is_none() {
                // As tunnels do.
                let time = granted_by.settings().drain_timeout.0.duration() / 2;
                let end = worker.deadlines.register(None);
                end.set(time);
                drained = Some(end);
            }
            let leaves = poll_fn(|cx| match &drained {
                Some(drained) => drained.poll_passed(cx),
                None => Poll::Pending,
            });
            tokio::select! {
                biased;
                () = changes.changed() => worker.egress.turn().await,
                () = leaves => return Reason::Shutdown,
            }
        }
        Reason::Revoked
    }

    /// Whether the port is gone that the request came by.
    fn is_left_over(&self) -> bool {
        let leave = &self.leave;
        leave.worker.snapshot().is_some_and(|snapshot| {
            let is_later = !std::ptr::eq(&raw const **snapshot, leave.granted_by);
            is_later && leave.entrance.door(&snapshot) == Door::Gone
        })
    }

    /// Whether the present table allows the request at the address that has it, or at every one that may still get it.
    pub(super) fn stands(&self) -> bool {
        let worker = self.leave.worker;
        let Some(snapshot) = worker.snapshot() else {
            return false;
        };
        let look = Look {
            table: worker.egress.changes.count(),
            address: self.used.get(),
        };
        let is_known = std::ptr::eq(&raw const **snapshot, self.leave.granted_by)
            || self.seen.get().is_some_and(|seen| seen.covers(look));
        let stands = is_known || self.is_granted(&snapshot, look.address);
        if stands {
            self.seen.set(Some(look));
        }
        stands
    }

    /// Whether this table would allow the request.
    fn is_granted(&self, snapshot: &Snapshot, used: Option<SocketAddr>) -> bool {
        let leave = &self.leave;
        let Some(egress) = snapshot.compiled.egress() else {
            return false;
        };
        let client = leave.connection.client.ip();
        let caller = leave.caller.as_ref();
        let caller = caller.and_then(|caller| caller.renewed(snapshot, client));
        let rules = |snapshot: &Snapshot| snapshot.compiled.generation().rules;
        let is_unchanged = rules(snapshot) == rules(leave.granted_by)
            && are_same(leave.caller.as_deref(), caller.as_deref())
            && leave.at_each(used, |address| {
                egress.workload_behind(address.ip()).is_none()
            });
        if is_unchanged {
            return true;
        }
        if leave.entrance.door(snapshot) == Door::Shut {
            return false;
        }
        let seen = Seen::Request {
            method: leave.method.as_str(),
            path: leave.path,
            encrypted: leave.encrypted,
        };
        let question: Question<'_> = leave.host.question(caller.as_deref(), seen);
        let decision = match leave.entry {
            Some(entry) => egress.decide_through(entry, &question),
            None => Some(egress.decide(&question)),
        };
        let guard = Guard {
            egress,
            resolver: &leave.worker.egress.resolver,
            own: &leave.worker.egress.own,
            local: leave.connection.local.ip(),
        };
        let Some(decision) = decision.filter(|it| it.verdict != Verdict::Refuse) else {
            return false;
        };
        leave.at_each(used, |address| {
            guard.may_stay(&question, decision.opened, &leave.checked.found(address))
        })
    }
}

impl Leave<'_> {
    /// Whether something holds for the address that has the request, or for every one that may get it.
    fn at_each(&self, used: Option<SocketAddr>, holds: impl Fn(SocketAddr) -> bool) -> bool {
        match used {
            Some(address) => holds(address),
            None => self.checked.addresses.iter().all(|it| holds(*it)),
        }
    }
}

impl Look {
    /// Whether what was found good then is so now.
    fn covers(self, now: Self) -> bool {
        self.table == now.table && (self.address.is_none() || self.address == now.address)
    }
}
