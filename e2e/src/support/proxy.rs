//! The data plane under test, fed by a table file.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::Result;
use tokio::process::Command;

use super::{
    process::Service,
    table::{HTTP_PORT, HTTPS_PORT, TableBuilder},
};

/// A running `portcullis-proxy` with one worker.
pub(crate) struct Proxy {
    pub(crate) service: Service,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) table: PathBuf,
}

impl Proxy {
    /// Starts `binary` with `table` and waits until it serves. `prefix` is put before the command (`taskset -c 1`).
    pub(crate) async fn start(
        binary: &Path,
        table: &TableBuilder,
        folder: &Path,
        prefix: &[&str],
    ) -> Result<Self> {
        let (http, https, admin) = (free_address()?, free_address()?, free_address()?);
        let file = folder.join("table.json");
        table.write(&file)?;
        let mut command = prefixed(prefix, binary);
        command
            .arg("--table")
            .arg(&file)
            .args(["--address", &http.ip().to_string()])
            .args([
                "--map-port",
                &format!("{HTTP_PORT}={},{HTTPS_PORT}={}", http.port(), https.port()),
            ])
            .args(["--admin", &admin.to_string()])
            .args(["--workers", "1", "--access-log", "off"]);
        let mut service = Service::start("portcullis", command, folder)?;
        service.until_listening(&[http, https]).await?;
        Ok(Self {
            service,
            http,
            https,
            table: file,
        })
    }
}

/// `program`, started by the command `prefix` if there is one.
pub(crate) fn prefixed(prefix: &[&str], program: &Path) -> Command {
    let Some((first, rest)) = prefix.split_first() else {
        return Command::new(program);
    };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}

/// A loopback address that nobody listens on.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
