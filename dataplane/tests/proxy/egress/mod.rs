//! Workloads that want to reach the outside world.

mod addresses;
mod requests;
mod routes;
mod tunnels;
