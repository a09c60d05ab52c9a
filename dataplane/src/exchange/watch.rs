//! What ends a request to a host outside before its time: a table that does not allow it any more, and the limits of tunnels. It may
//! be a WebSocket, or a stream without an end.

use std::{future::poll_fn, net::IpAddr, rc::Rc, time::Duration};

use http::{Method, Uri};
use portcullis_routing::{
    EntryKey, Millis,
    egress::{Question, Seen, Verdict},
};

use super::{
    egress::Wanted,
    forward::{Outside, Towards},
};
use crate::{
    egress::{Identity, guard::Guard},
    reason::Reason,
    state::Snapshot,
    worker::Worker,
};

/// What a request was granted for.
pub(super) struct Watch<'a> {
    pub(super) worker: &'a Rc<Worker>,
    /// The table that granted it.
    pub(super) granted_by: &'a Snapshot,
    pub(super) caller: Option<Identity>,
    pub(super) client: IpAddr,
    /// The proxy's own address, as the client has it.
    pub(super) local: IpAddr,
    pub(super) host: Wanted<'a>,
    pub(super) method: Method,
    pub(super) target: Uri,
    pub(super) encrypted: bool,
    /// The entry that a route leads through.
    pub(super) entry: Option<&'a EntryKey>,
    pub(super) towards: &'a Towards<'a>,
}

impl Watch<'_> {
    /// Resolves when the request has to end.
    pub(super) async fn ends(&self) -> Reason {
        let egress = self.granted_by.settings().egress.as_ref();
        let most = egress.and_then(|egress| egress.tunnel_max_duration);
        let known = self.caller.as_ref().and_then(Identity::remaining);
        let total = most.map(Millis::duration).into_iter().chain(known).min();
        tokio::select! {
            biased;
            () = self.revoked() => Reason::Revoked,
            () = self.lasts_too_long(total) => Reason::TunnelTooLong,
        }
    }

    async fn lasts_too_long(&self, total: Option<Duration>) {
        let Some(total) = total else {
            return std::future::pending().await;
        };
        let end = self.worker.deadlines.register(None);
        end.set(total);
        poll_fn(|cx| end.poll_passed(cx)).await;
    }

    /// Resolves once the table does not allow the request any more.
    async fn revoked(&self) {
        loop {
            let changed = self.worker.egress.changed.notified();
            let is_granted = self.worker.snapshot().is_some_and(|snapshot| {
                std::ptr::eq(&raw const **snapshot, self.granted_by) || self.is_granted(&snapshot)
            });
            if !is_granted {
                return;
            }
            changed.await;
            self.worker.egress.turn().await;
        }
    }

    /// Whether this table would allow the request, at the address that has it.
    fn is_granted(&self, snapshot: &Snapshot) -> bool {
        let Some(egress) = snapshot.compiled.egress() else {
            return false;
        };
        let caller = self.caller.as_ref();
        let caller = caller.and_then(|caller| caller.renewed(egress, self.client));
        let seen = Seen::Request {
            method: self.method.as_str(),
            path: self.target.path(),
            encrypted: self.encrypted,
        };
        let question: Question<'_> = self.host.question(caller.as_ref(), seen);
        let decision = match self.entry {
            Some(entry) => egress.decide_through(entry, &question),
            None => Some(egress.decide(&question)),
        };
        let guard = Guard {
            egress,
            resolver: &self.worker.egress.resolver,
            own: &self.worker.egress.own,
            local: self.local,
        };
        let used = match self.towards {
            Towards::Outside(Outside { used, .. }) => used.get(),
            Towards::Cluster(_) => None,
        };
        decision.is_some_and(|decision| {
            let opened = decision.opened;
            let stays = |address| guard.may_stay(&question, opened, address);
            decision.verdict != Verdict::Refuse && used.is_none_or(stays)
        })
    }
}
