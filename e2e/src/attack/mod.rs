//! `cargo e2e attack`: ambiguous requests and floods against the data plane.

mod ambiguity;
mod floods;
mod frames;
mod recorder;
mod vectors;

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use portcullis_routing::{ClusterProtocol, Millis, RoutePolicy};

use self::{floods::Strength, recorder::Recorder};
use crate::support::{
    backend::Backend, binaries, certificate::Authority, proxy::Proxy, report::Tally,
    table::TableBuilder,
};

/// Shorter than the proxy's default, so that a run takes seconds.
const HEADER_TIMEOUT: Millis = Millis::from_secs(2);

/// Ambiguous requests (each must be refused and forwarded to nobody) and floods (memory stays bounded, others are served).
#[derive(Args)]
pub(crate) struct Attack {
    /// Fewer connections, a few seconds per flood.
    #[arg(long)]
    quick: bool,
    /// Cargo profile that portcullis-proxy is built with.
    #[arg(long, default_value = "release")]
    profile: String,
}

impl Attack {
    pub(crate) async fn run(self) -> Result<()> {
        let binary = binaries::build("portcullis-proxy", &self.profile).await?;
        let folder = tempfile::tempdir()?;
        let identity = Authority::new()?.issue(&["a.example"])?;
        let table = |backend| {
            let mut table = TableBuilder::new(&identity).settings(|settings| {
                settings.limits.header_timeout = HEADER_TIMEOUT;
            });
            let cluster = table.cluster("backend", ClusterProtocol::Http1, &[backend]);
            table.route("all", &[], "/", &cluster, RoutePolicy::default());
            table
        };
        let mut tally = Tally::default();

        let recorder = Recorder::start().await?;
        let proxy = Proxy::start(&binary, &table(recorder.address), folder.path(), &[]).await?;
        ambiguity::run(proxy.http, &recorder, &mut tally).await?;
        drop(proxy);

        let backend = Backend::start("backend")?;
        let mut proxy = Proxy::start(&binary, &table(backend.address), folder.path(), &[]).await?;
        let strength = if self.quick {
            Strength {
                duration: Duration::from_secs(6),
                idlers: 500,
                senders: 4,
            }
        } else {
            Strength {
                duration: Duration::from_secs(15),
                idlers: 4000,
                senders: 16,
            }
        };
        floods::run(&proxy, strength, &mut tally).await?;
        proxy.service.expect_running()?;
        tally.close()
    }
}
