//! Workloads that want to reach the outside world.

mod addresses;
mod callers;
mod passthrough;
mod protocols;
mod requests;
mod routes;
mod tunnels;
