//! The whole way out, on real sockets.

mod endpoints;
mod failover;
mod http1;
mod http2;
mod pooling;
mod tls;
mod tunnels;
