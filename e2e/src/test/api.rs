//! The API server by HTTP, for what is too quick for a run of kubectl: measured writes, and watches.

use std::{net::SocketAddr, process::Stdio};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use crate::{
    cluster::kubectl::Kubectl,
    support::client::{Body, Client, Target},
};

/// The way to the API server: `kubectl proxy`, which has the user's rights.
pub(crate) struct Api {
    _proxy: Child,
    target: Target,
}

impl Api {
    pub(crate) async fn open(kubectl: &Kubectl) -> Result<Self> {
        let mut proxy = kubectl
            .command(&["proxy", "--port=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start kubectl proxy")?;
        let output = proxy.stdout.take().context("the output is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).await?;
        let address: SocketAddr = line
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|address| address.parse().ok())
            .with_context(|| format!("kubectl proxy says `{line}` instead of where it is"))?;
        Ok(Self {
            _proxy: proxy,
            target: Target::clear(address, "localhost"),
        })
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        Ok(Connection(Client::connect(&self.target).await?))
    }

    /// Watches a list, at `path` with its query.
    pub(crate) async fn watch(&self, path: &str) -> Result<Watch> {
        let mut connection = self.connect().await?;
        let answer = connection
            .send("GET", path, Empty::new().boxed())
            .await
            .with_context(|| format!("watch {path}"))?;
        ensure!(
            answer.status() == StatusCode::OK,
            "{path}: {}",
            answer.status()
        );
        Ok(Watch {
            _connection: connection,
            body: answer.into_body(),
            buffer: Vec::new(),
        })
    }
}

/// One connection to the API server.
pub(crate) struct Connection(Client);

impl Connection {
    async fn send(&mut self, method: &str, path: &str, body: Body) -> Result<Response<Incoming>> {
        let mut request = self.0.request(method, path, body)?;
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.0.send(request).await
    }

    /// Creates an object in the list at `path`; returns once the API server has it.
    pub(crate) async fn create(&mut self, path: &str, object: &Value) -> Result<()> {
        let body = Full::new(Bytes::from(object.to_string())).boxed();
        let (head, body) = self.send("POST", path, body).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        ensure!(
            head.status == StatusCode::CREATED,
            "{path}: {} {}",
            head.status,
            String::from_utf8_lossy(&body)
        );
        Ok(())
    }
}

/// Events of a watch, as they come.
pub(crate) struct Watch {
    _connection: Connection,
    body: Incoming,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event: `type` and `object`.
    pub(crate) async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line)?;
                ensure!(event["type"] != "ERROR", "{event}");
                return Ok(event);
            }
            let frame = self.body.frame().await.context("the watch has ended")??;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}
