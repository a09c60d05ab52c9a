//! CONNECT: from the authority that a client names to a tunnel there, if the client may have one (RFC 9110 9.3.6, RFC 9113 8.5).

use std::pin::pin;

use http::StatusCode;
use portcullis_routing::{
    CompiledPort,
    egress::{EntryProtocol, Opened, Seen},
};

use super::{Exchange, egress::Wanted, head::Target, timeouts::Timeouts};
use crate::{
    downstream::{Downstream, Pin},
    egress::{
        OpenTunnel, Ruling,
        event::Form,
        reach::{Reached, reach},
        refusal::Refusal,
        tunnel::{Grant, Greets, Passage},
    },
    plan::PreparedRoute,
    reason::Reason,
};

/// What is spoken in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// TLS with the host.
    Tls,
    /// Requests, which are read one by one.
    Requests,
    /// Whatever it is.
    Anything,
    /// Requests that cannot be read here, although there may be rules for them.
    Unread,
}

impl<'s> Exchange<'s> {
    /// Makes a tunnel to `target`. It is connected to before the client is told that it may begin.
    pub(super) async fn tunnel(
        &mut self,
        port: &'s CompiledPort<PreparedRoute>,
        downstream: &mut Downstream,
        target: &Target,
    ) -> Result<(), Reason> {
        // A connection that was pinned carries requests.
        if self.connection.pinned.get().is_some() {
            return Err(Reason::MethodNotAllowed);
        }
        let listener = self.egress_listener(port, target)?;
        let host = self.wanted_host(target, None)?;
        let mut timeouts = Timeouts::new(&self.worker.egress.route);
        let granted = self
            .ask(downstream, Seen::Tunnel, &host, None, &mut timeouts)
            .await?;
        let spoken = inside(granted.decision.opened, host.port, downstream.is_http2());
        match spoken {
            Inside::Tls | Inside::Anything => {}
            Inside::Requests => return self.pin(downstream, &host),
            Inside::Unread => {
                let refusal = Refusal::unread(host.name, host.port);
                self.refuse(Ruling::of(&granted.decision), Reason::TunnelUnread, refusal);
                return Err(Reason::TunnelUnread);
            }
        }
        let most = self.snapshot.settings().limits.max_connections;
        let caller = self.outgoing.as_ref().and_then(|it| it.caller.as_deref());
        let open = OpenTunnel::new(self.worker, caller, most)?;
        let (place, addresses) = ((host.name, host.port), &granted.checked.addresses);
        let reaching = pin!(reach(self.worker, self.snapshot, place, addresses));
        let reached = timeouts.wait(downstream, reaching).await?;
        let tried = match &reached {
            Ok(dialled) => Some(dialled.address),
            Err(missed) => missed.address,
        };
        if let Some(address) = tried {
            self.record.tried(address, false);
        }
        let dialled = reached.map_err(|missed| missed.reason)?;
        let reached = Reached::outside(dialled, &granted.checked);
        let Some(outgoing) = self.outgoing.take() else {
            return Err(Reason::InvalidBackend);
        };
        let ruling = Ruling::of(&granted.decision);
        let grant = Grant {
            form: Form::Connect,
            caller: outgoing.caller,
            client: self.connection.client.ip(),
            entrance: self
                .connection
                .entrance(listener.key(), host.name)
                .keep(host.name, self.connection.identity.as_ref()),
            host: host.name.into(),
            address: host.address,
            port: host.port,
            local: self.connection.local.ip(),
            verdict: ruling.verdict,
            reason: ruling.reason,
            entry: ruling.entry.cloned(),
            policy: ruling.policy.cloned(),
            led: None,
            greeted: None,
            greets: if spoken == Inside::Tls {
                Greets::Must
            } else {
                Greets::May
            },
            rules: self.snapshot.compiled.generation().rules,
            ech: false,
            since: self.record.started(),
        };
        let passage = Passage::new(self.worker, open, grant, reached);
        self.record.status(StatusCode::OK);
        let handed = downstream.hand_over(Box::new(passage));
        handed.map_err(|error| error.reason())
    }

    /// Lets the connection go on with requests for this destination, and no other.
    fn pin(&mut self, downstream: &mut Downstream, host: &Wanted<'_>) -> Result<(), Reason> {
        let pin = Pin {
            host: host.name.into(),
            port: host.port,
            // Each request is told of by itself.
            caller: self.outgoing.take().and_then(|outgoing| outgoing.caller),
        };
        _ = self.connection.pinned.set(pin);
        self.record.status(StatusCode::OK);
        downstream.connected().map_err(|error| error.reason())
    }
}

/// What will be spoken in a tunnel that was asked for by HTTP/1.1 or `http2`, by what the port is listed for. Without an entry its
/// number tells.
pub fn inside(opened: Option<Opened<'_>>, port: u16, http2: bool) -> Inside {
    match opened.map(|opened| opened.port.protocol) {
        Some(EntryProtocol::Https | EntryProtocol::Tls) => Inside::Tls,
        Some(EntryProtocol::Http) if !http2 => Inside::Requests,
        Some(EntryProtocol::Http | EntryProtocol::Http2 | EntryProtocol::Grpc) => Inside::Unread,
        None if port == 443 => Inside::Tls,
        Some(EntryProtocol::Tcp) | None => Inside::Anything,
    }
}
