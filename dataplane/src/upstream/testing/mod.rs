//! Backends on real sockets for the tests of this module.

pub(crate) mod dns;
