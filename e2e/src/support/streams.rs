//! Streams that stay open and echo: WebSockets, and bodies that go both ways over HTTP/1.1 and HTTP/2.

use std::{cell::Cell, convert::Infallible, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt, channel::mpsc};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    header::{HeaderValue, ORIGIN},
};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::client::{Client, Stream, Target};

/// Pause between two messages.
const PACE: Duration = Duration::from_millis(100);
/// How long an echo may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An open stream that echoes.
pub(crate) enum EchoStream {
    WebSocket(Box<WebSocketStream<Box<dyn Stream>>>),
    Body {
        sender: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
        receiver: Incoming,
        _client: Client,
    },
}

impl EchoStream {
    /// Opens a WebSocket at `/ws`.
    pub(crate) async fn websocket(target: &Target) -> Result<Self> {
        let (scheme, origin) = match target.tls {
            Some(_) => ("wss", "https"),
            None => ("ws", "http"),
        };
        let mut request = format!("{scheme}://{}/ws", target.host).into_client_request()?;
        // As browsers do; some servers take no other clients.
        let origin = HeaderValue::try_from(format!("{origin}://{}", target.host))?;
        request.headers_mut().insert(ORIGIN, origin);
        let opening = async { anyhow::Ok(client_async(request, target.open().await?).await?) };
        let (socket, _) = timeout(PATIENCE, opening)
            .await
            .context("no answer to a WebSocket's head")??;
        Ok(Self::WebSocket(Box::new(socket)))
    }

    /// Opens a request whose body and whose answer's body both stay open.
    pub(crate) async fn body(target: &Target) -> Result<Self> {
        let mut client = Client::connect(target).await?;
        let (mut sender, frames) = mpsc::channel(1);
        let request = client.request("POST", "/echo", BodyExt::boxed(StreamBody::new(frames)))?;
        let opening = Bytes::from_static(b"open");
        sender.send(Ok(Frame::data(opening.clone()))).await?;
        let answer = timeout(PATIENCE, client.send(request))
            .await
            .context("no answer to a stream's head")??;
        ensure!(answer.status() == 200, "status {}", answer.status());
        let mut stream = Self::Body {
            sender,
            receiver: answer.into_body(),
            _client: client,
        };
        stream.expect(&opening).await?;
        Ok(stream)
    }

    /// Sends a message now and then, and expects it back, until `over`. Returns how many came back.
    pub(crate) async fn run(mut self, over: &Cell<bool>) -> Result<u64> {
        let mut count = 0;
        while !over.get() {
            sleep(PACE).await;
            count += 1;
            let message = Bytes::from(format!("message {count}"));
            match &mut self {
                Self::WebSocket(socket) => socket.send(Message::Binary(message.clone())).await?,
                Self::Body { sender, .. } => sender.send(Ok(Frame::data(message.clone()))).await?,
            }
            self.expect(&message)
                .await
                .with_context(|| format!("after {} messages", count - 1))?;
        }
        Ok(count)
    }

    async fn expect(&mut self, message: &Bytes) -> Result<()> {
        let mut received = Vec::new();
        while received.len() < message.len() {
            let data = timeout(PATIENCE, self.receive())
                .await
                .context("the echo takes too long")??;
            received.extend_from_slice(&data);
        }
        ensure!(received == *message, "something else came back");
        Ok(())
    }

    async fn receive(&mut self) -> Result<Bytes> {
        Ok(match self {
            Self::WebSocket(socket) => socket
                .next()
                .await
                .context("the WebSocket was cut")??
                .into_data(),
            Self::Body { receiver, .. } => receiver
                .frame()
                .await
                .context("the stream was cut")??
                .into_data()
                .unwrap_or_default(),
        })
    }
}
