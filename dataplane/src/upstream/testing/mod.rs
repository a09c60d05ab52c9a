//! Backends on real sockets, and a way out to try on them.

pub(crate) mod backend;
pub(crate) mod dns;
pub(crate) mod http2;
pub(crate) mod nobody;
pub(crate) mod world;
