//! By which listener something came in that is under way, and whether it still could.

use std::rc::Rc;

use portcullis_routing::{Direction, ListenerKey, ListenerProtocol};

use crate::{state::Snapshot, tls::client::ClientIdentity};

/// The way that something came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entrance<'a> {
    pub(crate) port: u16,
    pub(crate) protocol: ListenerProtocol,
    pub(crate) listener: &'a ListenerKey,
    /// The name by which the listener was found.
    pub(crate) name: &'a str,
    /// What the client has shown.
    pub(crate) identity: Option<&'a ClientIdentity>,
}

/// The same, for as long as somebody keeps it.
#[derive(Debug)]
pub(crate) struct KeptEntrance {
    pub(crate) port: u16,
    pub(crate) protocol: ListenerProtocol,
    pub(crate) listener: ListenerKey,
    /// `None` is the host that was asked for.
    pub(crate) name: Option<Box<str>>,
    pub(crate) identity: Option<Rc<ClientIdentity>>,
}

/// What a table says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Whoever came in by it still could.
    Open,
    /// The port is gone. What came in by it gets the time to drain.
    Gone,
    /// The port does not let in any more what came by it.
    Shut,
}

impl Entrance<'_> {
    /// Whether the same client would be let in by the same listener.
    pub(crate) fn door(&self, snapshot: &Snapshot) -> Door {
        let Some(port) = snapshot.compiled.port(self.port) else {
            return Door::Gone;
        };
        let is_alike = port.protocol() == self.protocol && port.direction() == Direction::Egress;
        let found = port.listener_for(self.name).filter(|_| is_alike);
        let Some(listener) = found.filter(|listener| listener.key() == self.listener) else {
            return Door::Shut;
        };
        let is_known = || {
            let wanted = snapshot.tls.identity(self.listener);
            let shown = self.identity.zip(wanted);
            shown.is_some_and(|(shown, wanted)| shown.satisfies(wanted))
        };
        if listener.listener().needs_client_certificate() && !is_known() {
            return Door::Shut;
        }
        Door::Open
    }

    /// To be kept. `host` is the one that was asked for.
    pub(crate) fn keep(&self, host: &str, identity: Option<&Rc<ClientIdentity>>) -> KeptEntrance {
        KeptEntrance {
            port: self.port,
            protocol: self.protocol,
            listener: self.listener.clone(),
            name: (self.name != host).then(|| self.name.into()),
            identity: identity.cloned(),
        }
    }
}

impl KeptEntrance {
    /// For `host`.
    pub(crate) fn of<'a>(&'a self, host: &'a str) -> Entrance<'a> {
        Entrance {
            port: self.port,
            protocol: self.protocol,
            listener: &self.listener,
            name: self.name.as_deref().unwrap_or(host),
            identity: self.identity.as_deref(),
        }
    }
}
