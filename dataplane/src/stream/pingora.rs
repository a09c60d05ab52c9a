//! The traits that make a [`BufferedStream`] one of Pingora's streams. Addresses and times are kept by the connection
//! that owns the stream, so the digests stay empty.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::io::AsyncWriteExt;

use super::BufferedStream;

#[async_trait]
impl Shutdown for BufferedStream {
    async fn shutdown(&mut self) {
        // A peer that is gone needs no goodbye.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for BufferedStream {
    fn id(&self) -> UniqueIDType {
        self.fd
    }
}

impl Ssl for BufferedStream {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match self.shared.lock().transport.alpn()? {
            b"h2" => Some(ALPN::H2),
            b"http/1.1" => Some(ALPN::H1),
            _ => None,
        }
    }
}

impl Peek for BufferedStream {}

impl GetTimingDigest for BufferedStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for BufferedStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for BufferedStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
