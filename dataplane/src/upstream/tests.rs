//! The whole way out, on real sockets.
