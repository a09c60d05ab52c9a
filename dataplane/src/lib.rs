//! The edge proxy: connections in, one lookup per request, pooled sessions to the backends out.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

pub mod admin;
mod deadline;
pub mod downstream;
pub mod exchange;
pub mod filter;
pub mod options;
pub mod plan;
pub mod ports;
pub mod reason;
pub mod state;
pub mod stream;
pub mod telemetry;
pub mod upstream;
pub mod config;
mod listener;
mod proxy_protocol;
pub mod server;
pub mod tls;
pub mod worker;
