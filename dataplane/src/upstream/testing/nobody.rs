//! An address where nobody listens. The integration tests use this file too.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// An address that refuses connections. Nobody else gets it for as long as the socket is held, which can listen there later.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(any).expect("bind");
    let address = socket.local_addr().expect("address");
    (socket, address)
}
