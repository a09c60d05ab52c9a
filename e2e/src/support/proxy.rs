//! The data plane under test, fed by a table file.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
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
        let (http, https) = (free_address()?, free_address()?);
        let file = folder.join("table.json");
        table.write(&file)?;
        let listeners = [(HTTP_PORT, http), (HTTPS_PORT, https)];
        let service = serve(binary, &file, &listeners, folder, prefix).await?;
        Ok(Self {
            service,
            http,
            https,
            table: file,
        })
    }
}

/// Starts `binary` with the table in `file` and waits until it serves. `listeners` are the ports that the table names, and where
/// they are bound, all on one address.
pub(crate) async fn serve(
    binary: &Path,
    file: &Path,
    listeners: &[(u16, SocketAddr)],
    folder: &Path,
    prefix: &[&str],
) -> Result<Service> {
    let bound: Vec<_> = listeners.iter().map(|(_, bound)| *bound).collect();
    let address = bound.first().context("a proxy without listeners")?.ip();
    let ports: Vec<_> = listeners
        .iter()
        .map(|(port, bound)| format!("{port}={}", bound.port()))
        .collect();
    let mut command = prefixed(prefix, binary);
    command
        .arg("--table")
        .arg(file)
        .args(["--address", &address.to_string()])
        .args(["--map-port", &ports.join(",")])
        .args(["--admin", &free_address()?.to_string()])
        .args(["--workers", "1", "--access-log", "off"]);
    let mut service = Service::start("portcullis", command, folder)?;
    service.until_listening(&bound).await?;
    Ok(service)
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
