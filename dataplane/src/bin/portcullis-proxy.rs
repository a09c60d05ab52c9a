//! `portcullis-proxy`: the edge proxy by itself, with routing tables from a controller or from a file.

use anyhow::{Context, anyhow};
use clap::Parser;
use portcullis_dataplane::{
    config::Config,
    options::{ProxyOptions, TableOptions},
    server::Dataplane,
    telemetry::log::{self, LogFormat},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Portcullis edge proxy, serving routing tables from a controller or from a file.
///
/// A routing table is what the controller makes of a Gateway and its routes; `portcullis translate` prints the one that
/// your manifests make. The proxy takes traffic once it has a table and has bound its ports (`/readyz` on the admin port
/// says so).
///
/// With `--controller` it follows the controller, and serves on for as long as there is none; after a restart without a
/// controller it serves the last known good table of `--table-cache`. With `--table` it follows a file: replace it, best
/// by renaming, and the new table is served without losing a request. A table that cannot be read changes nothing, and a
/// resource that cannot be served leaves the one before in place; `/table` on the admin port names both.
#[derive(Debug, Parser)]
#[command(name = "portcullis-proxy", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    tables: TableOptions,
    #[command(flatten)]
    proxy: ProxyOptions,
    /// Form of the proxy's own log on standard error. `PORTCULLIS_LOG` filters it, such as `PORTCULLIS_LOG=debug`.
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    log_format: LogFormat,
}

const EXAMPLES: &str = "\
Examples:
  portcullis-proxy --controller https://portcullis.portcullis-system.svc:9443 --gateway infra/edge \
      --identity /etc/portcullis/identity --table-cache /var/lib/portcullis/table
      Serve the Gateway edge of the namespace infra, as the controller has it.
  portcullis-proxy --table table.json --map-port 80=8080,443=8443
      Serve a Gateway's ports 80 and 443 without the right to bind them.
  portcullis-proxy --table table.json --address 127.0.0.1 --workers 1 --access-log off
      One thread, this machine only, no access log.
  curl http://127.0.0.1:9901/readyz
      Does it take traffic, and if not, why?

SIGTERM (or Ctrl-C) drains: the proxy is not ready any more, requests in flight finish, and it exits with 0.";

fn main() -> anyhow::Result<()> {
    // The first provider that is installed wins, and libraries install theirs.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("there is a crypto provider already"))?;
    let arguments = Arguments::parse();
    log::init(arguments.log_format)?;
    let config = Config {
        source: arguments.tables.file()?,
        controller: arguments.tables.controller(),
        ..Config::new(&arguments.proxy)
    };
    let dataplane = Dataplane::start(config).with_context(|| {
        format!(
            "cannot start; is {} free for the admin port?",
            arguments.proxy.admin
        )
    })?;
    dataplane.wait_for_signal()?;
    dataplane.shutdown();
    Ok(())
}
