//! Where a route may lead a request that wants to leave, and its copies: to endpoints in the cluster, whatever the EndpointSlices of
//! a Service list. Each address is asked about just before it is connected to.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use http::{Method, request};
use portcullis_routing::egress::Seen;

use super::{Exchange, egress::Wanted, head::Target};
use crate::{
    egress::{
        Identity, Ruling,
        guard::admits_backend,
        refusal::{FENCED_OUT, Refusal},
    },
    reason::Reason,
    state::Snapshot,
    worker::Worker,
};

/// Of one request. Copies of it may outlive it.
pub(crate) struct Fence {
    pub(super) worker: Rc<Worker>,
    /// The present table, as the endpoints are.
    #[expect(
        clippy::redundant_allocation,
        reason = "as the worker has it: cores share no counter for each request"
    )]
    pub(super) snapshot: Rc<Arc<Snapshot>>,
    pub(super) caller: Option<Rc<Identity>>,
    /// What the client names.
    pub(super) target: Rc<Target>,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) method: Method,
    pub(super) encrypted: bool,
    /// Whether the route stands in the Gateway's namespace.
    pub(super) is_of_gateway: bool,
    /// The proxy's own address, as the client has it.
    pub(super) local: IpAddr,
}

impl Fence {
    /// Whether an endpoint may have this address.
    pub(crate) fn admits(&self, address: SocketAddr) -> bool {
        let Some(egress) = self.snapshot.compiled.egress() else {
            return false;
        };
        let wanted = Wanted {
            name: &self.target.host,
            address: self.address,
            port: self.port,
        };
        let seen = Seen::Request {
            method: self.method.as_str(),
            path: &self.target.path,
            encrypted: self.encrypted,
        };
        let question = wanted.question(self.caller.as_deref(), seen);
        let own = (&self.worker.egress.own, self.local);
        admits_backend(egress, &question, self.is_of_gateway, address, own)
    }
}

impl Exchange<'_> {
    /// That of a request that wants to leave.
    pub(super) fn fence(
        &self,
        head: &request::Parts,
        target: &Rc<Target>,
    ) -> Result<Rc<Fence>, Reason> {
        let outgoing = self.outgoing.as_ref().ok_or(Reason::InvalidBackend)?;
        let led_by = self.record.route.map_or("", |route| route.namespace());
        Ok(Rc::new(Fence {
            snapshot: self.worker.snapshot().ok_or(Reason::NoRoute)?,
            worker: Rc::clone(self.worker),
            caller: outgoing.caller.clone(),
            address: outgoing.requested.address,
            port: outgoing.requested.port.ok_or(Reason::BadDestination)?,
            target: Rc::clone(target),
            method: head.method.clone(),
            encrypted: self.is_encrypted(),
            is_of_gateway: outgoing.egress.is_of_gateway(led_by),
            local: self.connection.local.ip(),
        }))
    }

    /// Notes that no endpoint of the Service that a route leads to may be connected to.
    pub(super) fn fenced_out(&mut self, target: &Target) {
        let told = self.outgoing.as_ref().and_then(|outgoing| outgoing.ruling);
        let ruling = told.unwrap_or_else(|| Ruling::refused(Reason::AddressRefused));
        let refusal = Refusal::of_endpoints(&target.host);
        self.refuse(ruling, Reason::AddressRefused, refusal);
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.detail = Some(FENCED_OUT.into());
        }
    }
}
