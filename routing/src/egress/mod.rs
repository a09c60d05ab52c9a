//! Egress: what a destination is called, and what its addresses lead to. Pure, as all of this crate.

pub mod address;
pub mod host;
