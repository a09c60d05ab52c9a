//! The exchange: one request through the proxy.

pub mod head;
pub mod path;
