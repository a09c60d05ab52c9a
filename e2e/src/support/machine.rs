//! What a result was measured on.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::process::Command;

use super::process::output_of;

/// The machine, its load, and the state of the checkout.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// TCP's, as sockets have it that do not ask for another.
    pub(crate) congestion_control: String,
    pub(crate) commit: String,
    /// Load of the last minute before the run began.
    pub(crate) load: f64,
    pub(crate) versions: BTreeMap<String, String>,
}

impl Machine {
    /// Looks at the machine; `versions` are those of the programs that take part.
    pub(crate) async fn look(versions: BTreeMap<String, String>) -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let memory_kib: u64 = field(&memory, "MemTotal")
            .and_then(|text| text.split(' ').next()?.parse().ok())
            .unwrap_or(0);
        Ok(Self {
            cpu: field(&cpus, "model name").unwrap_or("unknown").to_owned(),
            cores: cpus
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            memory_mib: memory_kib / 1024,
            kernel: sysctl("kernel/osrelease")?,
            congestion_control: sysctl("net/ipv4/tcp_congestion_control")?,
            commit: commit().await,
            load: load()?,
            versions,
        })
    }
}

fn sysctl(name: &str) -> Result<String> {
    let value = fs::read_to_string(format!("/proc/sys/{name}"))?;
    Ok(value.trim().to_owned())
}

/// The load average of the last minute.
pub(crate) fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text
        .split(' ')
        .next()
        .context("/proc/loadavg is empty")?
        .parse()?)
}

/// Today's date in UTC, `2026-01-31`.
pub(crate) fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

/// The first line that `command` prints about its version; some print it on standard error.
pub(crate) async fn version(mut command: Command) -> Result<String> {
    let output = command.output().await?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("unknown");
    // Envoy begins with the path it was started by.
    let version = line.rsplit("version: ").next().unwrap_or(line);
    Ok(version.trim().to_owned())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))
        .map(str::trim)
}

/// The commit that is measured, with a mark if the checkout differs from it; `unknown` outside of a repository.
async fn commit() -> String {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        command
    };
    let Ok(head) = output_of(git(&["rev-parse", "--short=12", "HEAD"])).await else {
        return "unknown".to_owned();
    };
    let changed = output_of(git(&["status", "--porcelain", "--untracked-files=no"])).await;
    let mark = if changed.is_ok_and(|changed| changed.is_empty()) {
        ""
    } else {
        " with local changes"
    };
    format!("{}{mark}", head.trim())
}
