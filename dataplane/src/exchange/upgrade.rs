//! WebSocket over HTTP/2 (RFC 8441) towards a backend that speaks HTTP/1.1 (RFC 6455).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, StatusCode, header, request, response};
use sha1::{Digest as _, Sha1};

use crate::reason::Reason;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// RFC 6455 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Key and expected answer of one handshake.
#[derive(Debug)]
pub(super) struct Handshake {
    accept: String,
}

impl Handshake {
    /// Turns a forwarded extended CONNECT, which is a GET by now, into an HTTP/1.1 upgrade.
    pub(super) fn begin(head: &mut request::Parts) -> Self {
        let key = BASE64_STANDARD.encode(fastrand::u128(..).to_be_bytes());
        let digest = Sha1::new().chain_update(&key).chain_update(GUID).finalize();
        head.headers
            .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.insert(header::UPGRADE, WEBSOCKET);
        if let Ok(key) = HeaderValue::try_from(key) {
            head.headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
        Self {
            accept: BASE64_STANDARD.encode(digest),
        }
    }

    /// Turns the backend's 101 into the 200 that opens an HTTP/2 tunnel. A refusal passes as it is; a success of another
    /// kind would make the client believe in a tunnel that is not there.
    pub(super) fn complete(&self, head: &mut response::Parts) -> Result<(), Reason> {
        if head.status.is_success() {
            return Err(Reason::UpstreamProtocol);
        }
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        let accepted = head
            .headers
            .get(header::SEC_WEBSOCKET_ACCEPT)
            .map(HeaderValue::as_bytes);
        if accepted != Some(self.accept.as_bytes()) {
            return Err(Reason::UpstreamProtocol);
        }
        for name in [
            header::SEC_WEBSOCKET_ACCEPT,
            header::UPGRADE,
            header::CONNECTION,
        ] {
            head.headers.remove(&name);
        }
        head.status = StatusCode::OK;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::message::{request_head, response_head, testing};

    fn switching(accept: &str) -> response::Parts {
        let mut head = response_head(StatusCode::SWITCHING_PROTOCOLS);
        let accept = HeaderValue::from_str(accept).unwrap();
        head.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        head.headers
            .insert("upgrade", HeaderValue::from_static("websocket"));
        head
    }

    #[test]
    fn translates_both_ways() {
        let mut request = testing::request("GET", "/chat", &[]);
        let handshake = Handshake::begin(&mut request);
        assert_eq!(request.headers["upgrade"], "websocket");
        assert_eq!(request.headers["sec-websocket-key"].len(), 24);
        let mut response = switching(&handshake.accept);
        handshake.complete(&mut response).unwrap();
        assert_eq!(response.status, 200);
        assert!(response.headers.is_empty());
    }

    #[test]
    fn refuses_a_wrong_accept_and_passes_a_refusal() {
        let mut request = request_head(Method::GET);
        let handshake = Handshake::begin(&mut request);
        assert_eq!(
            handshake.complete(&mut switching("wrong")),
            Err(Reason::UpstreamProtocol)
        );
        let mut refusal = response_head(StatusCode::FORBIDDEN);
        handshake.complete(&mut refusal).unwrap();
        assert_eq!(refusal.status, 403);
    }
}
