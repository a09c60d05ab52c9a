//! TLS that passes through: the name in its greeting says where it is to go, and nothing of it is decrypted.

mod inward;
mod outward;

use std::{net::SocketAddr, rc::Rc};

use bytes::BytesMut;
use portcullis_routing::{CompiledPort, Direction, egress::host::Host};
use tokio::net::TcpStream;

use crate::{
    deadline::Deadline,
    egress::greeting::{self, NoHello},
    plan::PreparedRoute,
    reason::Reason,
    state::Snapshot,
    worker::Worker,
};

/// A connection that may pass, and is connected to where it goes.
pub(super) enum Admitted {
    /// To a backend that a route names.
    Inward(inward::Admitted),
    /// To a host outside, or where a route of egress leads.
    Outward(outward::Admitted),
}

impl Admitted {
    /// Passes bytes on until the tunnel ends.
    pub(super) async fn run(self) {
        match self {
            Self::Inward(admitted) => admitted.run().await,
            Self::Outward(admitted) => admitted.run().await,
        }
    }
}

/// A tunnel for a connection to a port of TLS that passes through; `None` if it may not pass, and has ended.
pub(super) async fn admit(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    port: &CompiledPort<PreparedRoute>,
    tcp: TcpStream,
    client: SocketAddr,
    deadline: &Deadline,
) -> Option<Admitted> {
    match port.direction() {
        Direction::Ingress => {
            let admitted = inward::admit(worker, snapshot, port, tcp, client, deadline).await;
            admitted.map(Admitted::Inward)
        }
        Direction::Egress => {
            let admitted = outward::admit(worker, snapshot, port, tcp, client, deadline).await;
            admitted.map(Admitted::Outward)
        }
    }
}

/// What a client has greeted with, as far as it is known.
#[derive(Debug, Default)]
struct Greeted {
    /// The name in the greeting.
    name: Option<Box<str>>,
    /// It has an encrypted one behind it.
    ech: bool,
    /// It has begun.
    has_begun: bool,
    /// What is wrong with it, in words.
    detail: Option<Box<str>>,
}

impl Greeted {
    /// Reads the host that the client greets, in normal form.
    async fn read(
        &mut self,
        tcp: &mut TcpStream,
        read: &mut BytesMut,
        deadline: &Deadline,
    ) -> Result<Box<str>, Reason> {
        let greeted = greeting::read(tcp, read, deadline).await;
        self.has_begun = !read.is_empty();
        self.name = match greeted {
            Ok(hello) => {
                self.ech = hello.encrypted;
                hello.name
            }
            Err(NoHello { reason, refusal }) => {
                self.detail = refusal.map(|refusal| refusal.to_string().into());
                return Err(reason);
            }
        };
        match Host::parse(self.name.as_deref().ok_or(Reason::SniMissing)?) {
            Ok(Host::Name(name)) => Ok(name),
            // Who wants an address has no name to greet (RFC 6066 3).
            Ok(Host::Address(_)) => Err(Reason::BadDestination),
            Err(error) => {
                self.detail = Some(error.to_string().into());
                Err(Reason::BadDestination)
            }
        }
    }
}
