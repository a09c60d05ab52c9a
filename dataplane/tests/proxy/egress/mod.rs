//! Workloads that want to reach the outside world.

mod addresses;
mod callers;
mod corpus;
mod entrances;
mod forgery;
mod greetings;
pub(crate) mod passthrough;
mod protocols;
mod requests;
mod revoked;
mod routes;
mod shares;
mod tls_routes;
pub(crate) mod tunnels;
