//! What tunnels of egress are made of: reading what a client greets with, reaching one of several addresses, and passing
//! bytes on until both sides have said all they had to say. Nothing here knows who may go where.

pub(crate) mod client_hello;
pub(crate) mod dial;
pub mod end;
pub mod relay;
