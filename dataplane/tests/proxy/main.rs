//! The whole proxy in process: real sockets on both sides, a table in between.

mod accounts;
mod backend_tls;
mod client_certificates;
mod credentials;
mod departures;
mod egress;
mod filters;
mod forward;
mod grpc;
mod interim;
mod listeners;
mod passthrough;
mod retries;
mod support;
mod timeouts;
mod upgrades;
