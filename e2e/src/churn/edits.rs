//! The edits: what each changes, and how it shows that it has been applied.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_rustls::TlsConnector;

use super::{
    Ports,
    manifests::{EDIT, EXTRA_PORTS, HOST, MAX_EXTRA_ROUTES, Manifests, extra_host},
};
use crate::support::{
    backend::Backend,
    certificate::Authority,
    client::{Client, Target},
    process::POLL,
};

/// How long an edit may take until it is served.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes the edits, one after the other, and checks each.
pub(crate) struct Editor<'a> {
    pub(crate) manifests: &'a Manifests,
    pub(crate) authority: &'a Authority,
    pub(crate) backends: &'a [Backend],
    pub(crate) ports: &'a Ports,
    /// Milliseconds from the last file's rename to the first answer that shows it.
    pub(crate) apply: Vec<f64>,
}

impl Editor<'_> {
    /// Edit number `edit`, from 1: routes, certificate, endpoints and listeners take turns. Returns when it is served.
    pub(crate) async fn edit(&mut self, edit: usize) -> Result<()> {
        let turn = edit / 4;
        match edit % 4 {
            0 => {
                let count = 1 + turn % MAX_EXTRA_ROUTES;
                self.manifests.write_extra_routes(count, edit)?;
                self.until_marked(edit).await?;
                self.check_routes(count, edit).await
            }
            1 => {
                let identity = self.authority.issue(&[HOST])?;
                self.manifests.write_certificate(&identity)?;
                self.until_marked(edit).await?;
                self.check_certificate(&identity.der).await
            }
            2 => {
                let active: Vec<&Backend> = self
                    .backends
                    .iter()
                    .cycle()
                    .skip(turn)
                    .take(1 + turn % 3)
                    .collect();
                let endpoints: Vec<SocketAddr> =
                    active.iter().map(|backend| backend.address).collect();
                self.manifests.write_endpoints(&endpoints)?;
                self.until_marked(edit).await?;
                self.check_endpoints(&active).await
            }
            _ => {
                let active = &EXTRA_PORTS[..turn % (EXTRA_PORTS.len() + 1)];
                self.manifests.write_listeners(active)?;
                self.until_marked(edit).await?;
                self.check_listeners(active).await
            }
        }
        .with_context(|| format!("edit {edit}"))
    }

    /// Marks the edit and waits until an answer carries the mark.
    async fn until_marked(&mut self, edit: usize) -> Result<()> {
        self.manifests.write_marker(edit)?;
        let start = Instant::now();
        let mut client = Client::connect(&Target::clear(self.ports.http, HOST)).await?;
        loop {
            let answer = client.get("/").await?;
            if answer
                .headers()
                .get(EDIT)
                .is_some_and(|value| *value == *edit.to_string())
            {
                self.apply.push(start.elapsed().as_secs_f64() * 1e3);
                return Ok(());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "not served after {} s",
                PATIENCE.as_secs()
            );
            sleep(POLL).await;
        }
    }

    async fn check_routes(&self, count: usize, edit: usize) -> Result<()> {
        let mut client =
            Client::connect(&Target::clear(self.ports.http, &extra_host(count - 1))).await?;
        let answer = client.get("/").await?;
        let mark = answer.headers().get("x-extra").cloned();
        ensure!(
            mark.is_some_and(|value| value == *edit.to_string()),
            "the newest route does not answer"
        );
        let mut client =
            Client::connect(&Target::clear(self.ports.http, &extra_host(count))).await?;
        let status = client.get("/").await?.status();
        ensure!(status == 404, "a route that is gone answers {status}");
        Ok(())
    }

    async fn check_certificate(&self, der: &[u8]) -> Result<()> {
        let config: Arc<ClientConfig> = self.authority.client(&["http/1.1"])?;
        let stream = TcpStream::connect(self.ports.https).await?;
        let stream = TlsConnector::from(config)
            .connect(ServerName::try_from(HOST)?, stream)
            .await?;
        let presented = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        ensure!(
            presented.is_some_and(|presented| &**presented == der),
            "an old certificate is presented"
        );
        Ok(())
    }

    async fn check_endpoints(&self, active: &[&Backend]) -> Result<()> {
        let mut client = Client::connect(&Target::clear(self.ports.http, HOST)).await?;
        for _ in 0..8 {
            let answer = client.get("/").await?;
            let name = answer
                .headers()
                .get("x-backend")
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            ensure!(
                active.iter().any(|backend| backend.name == name),
                "an endpoint that is gone answers: {name}"
            );
        }
        Ok(())
    }

    /// The mark comes by another port, so that these may need a moment more.
    async fn check_listeners(&self, active: &[u16]) -> Result<()> {
        for (port, address) in EXTRA_PORTS.iter().zip(&self.ports.extra) {
            let is_open = active.contains(port);
            until_open_is(is_open, *address).await?;
            if is_open {
                let mut client = Client::connect(&Target::clear(*address, HOST)).await?;
                let status = client.get("/").await?.status();
                ensure!(status == 200, "a new listener answers {status}");
            }
        }
        Ok(())
    }
}

/// Waits until `address` accepts connections, or until it does not.
async fn until_open_is(open: bool, address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    while TcpStream::connect(address).await.is_ok() != open {
        let wrong = if open {
            "a new listener does not accept connections"
        } else {
            "a listener that is gone still accepts connections"
        };
        ensure!(start.elapsed() < PATIENCE, "{wrong}");
        sleep(POLL).await;
    }
    Ok(())
}
