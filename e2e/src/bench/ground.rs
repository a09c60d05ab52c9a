//! What every bench stands on: the cores, a folder for the run, and the backend of every contender.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{
    backend::ANSWER_LENGTH, binaries::installed, process::Service, proxy::free_address, table::MARK,
};

/// Load and backend run on this core, with the harness itself.
const LOAD_CORE: usize = 0;
/// The contender runs on a core of its own.
pub(crate) const ON_CONTENDER_CORE: &[&str] = &["taskset", "-c", "1"];

/// The ground of a run.
pub(crate) struct Ground {
    pub(crate) folder: TempDir,
    /// nginx, which answers every request with [`ANSWER_LENGTH`] bytes.
    pub(crate) backend: SocketAddr,
    _service: Service,
}

/// Who adds [`MARK`] to the answers, as a sign that they are the right ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkedBy {
    /// The contender, by a filter.
    Contender,
    /// The backend: a contender that only forwards has nothing to add.
    Backend,
}

impl Ground {
    /// Pins the harness and starts the backend.
    pub(crate) async fn new(marked: MarkedBy) -> Result<Self> {
        ensure!(
            std::thread::available_parallelism()?.get() >= 2,
            "the bench needs two cores: one for the proxy, one for load and backend"
        );
        // Builds want all cores; from here on the harness and what it starts keep to one.
        let mut cores = CpuSet::new();
        cores.set(LOAD_CORE);
        sched_setaffinity(None, &cores)?;

        let folder = tempfile::Builder::new()
            .prefix("portcullis-bench-")
            .tempdir()?;
        let backend = free_address()?;
        let header = match marked {
            MarkedBy::Contender => String::new(),
            MarkedBy::Backend => format!("add_header {} {};", MARK.0, MARK.1),
        };
        let values = [
            ("HTTP", &*backend.port().to_string()),
            ("HEADER", &header),
            ("BODY", &"x".repeat(ANSWER_LENGTH)),
        ];
        let config = folder.path().join("backend.conf");
        let template = include_str!("../../bench/peers/backend.conf");
        fs::write(&config, fill(template, &values))?;
        let nginx = Command::new(installed("nginx")?);
        let command = nginx_command(nginx, folder.path(), &config);
        let mut service = Service::start("backend", command, folder.path())?;
        service.until_listening(&[backend]).await?;
        Ok(Self {
            folder,
            backend,
            _service: service,
        })
    }
}

/// nginx with `config`, whose paths are below `folder`.
pub(crate) fn nginx_command(mut nginx: Command, folder: &Path, config: &Path) -> Command {
    nginx
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(config)
        .args(["-e", "stderr"]);
    nginx
}

/// Envoy with `config`: one worker, and nothing shared with another Envoy.
pub(crate) fn envoy_command(mut envoy: Command, config: &Path) -> Command {
    envoy
        .args(["--concurrency", "1", "--disable-hot-restart"])
        .args(["--log-level", "warn", "-c"])
        .arg(config);
    envoy
}

/// Puts `values` where the template says `@NAME@`.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| {
            text.replace(&format!("@{name}@"), value)
        })
}
