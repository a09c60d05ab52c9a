//! The edge proxy: connections in, one lookup per request, pooled sessions to the backends out.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

pub mod admin;
pub mod bind;
mod claims;
pub mod config;
pub mod deadline;
mod dns;
pub mod downstream;
pub mod egress;
pub mod exchange;
pub mod filter;
mod listener;
mod message;
pub mod options;
pub mod plan;
pub mod ports;
mod proxy_protocol;
pub mod reason;
pub mod server;
mod shares;
pub mod source;
pub mod state;
pub mod stream;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
pub mod upstream;
pub mod worker;

pub use self::{
    config::Config,
    server::{Dataplane, DataplaneHandle},
};
