//! What a run found out: as JSON for machines, as Markdown for people, valid or not.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{
    bars::{self, Bar},
    contender::{Contender, Protocol},
    memory::Memory,
    rounds::{Sample, summaries},
    routes::RouteCosts,
};
use crate::support::{
    machine::{Machine, load},
    report::Table,
    statistics::Summary,
};

/// Highest load average of the last minute before a run, in processes that want to run.
const MAX_LOAD: f64 = 0.7;
/// Widest spread (distance of the quartiles) of a contender's rounds, as a share of the median.
const MAX_SPREAD: f64 = 0.15;
/// How far nginx may be from its stored figure, as a share of that.
const SMOKE_TOLERANCE: f64 = 0.2;

/// How long a run waits for the machine to calm down, after a build for example.
const CALM_PATIENCE: Duration = Duration::from_mins(5);

/// Waits until the load is low enough for a valid run, within reason.
pub(crate) async fn until_calm() -> Result<()> {
    let deadline = Instant::now() + CALM_PATIENCE;
    while load()? > MAX_LOAD && Instant::now() < deadline {
        println!("load is {}, waiting until it is {MAX_LOAD}", load()?);
        sleep(Duration::from_secs(10)).await;
    }
    Ok(())
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) seconds_per_measurement: u64,
    /// Why the figures may not be quoted; empty for a valid run.
    pub(crate) invalid: Vec<String>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) routes: Option<RouteCosts>,
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    /// Applies the gates: load, spread, and nginx against its stored figure for this kind of CPU.
    pub(crate) fn gate(&mut self) -> Result<()> {
        if self.quick {
            self.invalid.push(
                "a quick run shows that the bench works, not how fast anything is".to_owned(),
            );
        }
        if self.machine.load > MAX_LOAD {
            self.invalid.push(format!(
                "load {} before the start, at most {MAX_LOAD}",
                self.machine.load
            ));
        }
        for protocol in Protocol::ALL {
            for (contender, summary) in summaries(&self.samples, Some(protocol)) {
                if summary.spread > MAX_SPREAD {
                    let spread = summary.spread * 100.0;
                    self.invalid.push(format!(
                        "{contender}, {protocol}: the rounds spread by {spread:.0} %"
                    ));
                }
            }
        }
        let stored: BTreeMap<String, f64> =
            serde_json::from_str(include_str!("../../bench/smoke.json"))?;
        let nginx = summaries(&self.samples, Some(Protocol::Http1))
            .get(&Contender::Nginx)
            .map(|nginx| nginx.median);
        if let (Some(stored), Some(nginx)) = (stored.get(&self.machine.cpu), nginx)
            && (nginx / stored - 1.0).abs() > SMOKE_TOLERANCE
        {
            let tolerance = SMOKE_TOLERANCE * 100.0;
            self.invalid.push(format!(
                "nginx took {nginx:.1} us, not {stored} us ± {tolerance:.0} % as before"
            ));
        }
        Ok(())
    }

    /// Writes `results.json` and `README.md` into `folder` and prints the latter.
    pub(crate) fn publish(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let previous = previous_bars(folder)?;
        fs::write(
            folder.join("results.json"),
            serde_json::to_vec_pretty(self)?,
        )?;
        let text = self.markdown(previous.as_ref());
        fs::write(folder.join("README.md"), &text)?;
        println!("\n{text}\nwritten to {}", folder.display());
        Ok(())
    }

    fn markdown(&self, previous: Option<&(PathBuf, BTreeMap<String, f64>)>) -> String {
        let Machine {
            cpu,
            cores,
            memory_mib,
            kernel,
            commit,
            load,
            versions,
        } = &self.machine;
        let mut parts = vec![
            "# HTTP bench\n".to_owned(),
            format!(
                "{cpu} of {cores} cores, {memory_mib} MiB, Linux {kernel}, commit {commit}, load {load} before \
                 the start.\n{} rounds of {} s; proxy on one core, load and backend on another; one worker each.\n",
                self.rounds, self.seconds_per_measurement
            ),
        ];
        if self.invalid.is_empty() {
            parts.push("**Valid run.**\n".to_owned());
        } else {
            parts.push("**Invalid run**, not to be quoted:\n".to_owned());
            parts.push(list(self.invalid.iter()));
        }
        parts.push("Versions:\n".to_owned());
        parts.push(list(
            versions
                .iter()
                .map(|(name, version)| format!("{name}: {version}")),
        ));
        let tables = [
            bars::table(&self.bars),
            self.cpu_table(),
            self.memory_table(),
            self.rounds_table(),
        ];
        parts.extend(
            tables
                .iter()
                .filter(|table| !table.is_empty())
                .map(Table::to_string),
        );
        if let Some(costs) = &self.routes {
            let RouteCosts {
                routes, apply_ms, ..
            } = costs;
            parts.push(format!(
                "A new table of {routes} routes is served {apply_ms:.0} ms (median) after its file was renamed.\n"
            ));
        }
        parts.extend(previous.map(|(name, figures)| self.comparison(name, figures).to_string()));
        parts.join("\n")
    }

    fn cpu_table(&self) -> Table {
        let header = [
            "",
            "HTTP/1.1",
            "TLS, HTTP/1.1",
            "TLS, HTTP/2",
            "full handshake",
        ];
        let mut table = Table::new(
            "CPU us per request, median (least, most; spread of the quartiles)",
            &header,
        );
        let columns: Vec<_> = Protocol::ALL
            .into_iter()
            .map(Some)
            .chain([None])
            .map(|protocol| summaries(&self.samples, protocol))
            .collect();
        for contender in self.contenders() {
            let cells = columns
                .iter()
                .map(|column| column.get(&contender).map_or_else(String::new, cell));
            table.row(std::iter::once(contender.to_string()).chain(cells));
        }
        table
    }

    fn memory_table(&self) -> Table {
        let header = [
            "",
            "idle MiB",
            "KiB per HTTP/1.1 connection",
            "TLS, HTTP/1.1",
            "TLS, HTTP/2",
        ];
        let mut table = Table::new("Memory at rest", &header);
        for memory in &self.memory {
            let connections = memory
                .connections
                .iter()
                .map(|connection| format!("{:.1}", connection.kib));
            table.row(
                [
                    memory.contender.to_string(),
                    format!("{:.1}", memory.idle_mib),
                ]
                .into_iter()
                .chain(connections),
            );
        }
        table
    }

    fn rounds_table(&self) -> Table {
        let mut table = Table::new(
            "All rounds",
            &["round", "contender", "protocol", "count", "per s", "CPU us"],
        );
        for sample in &self.samples {
            table.row([
                sample.round.to_string(),
                sample.contender.to_string(),
                sample
                    .protocol
                    .map_or_else(|| "handshake".to_owned(), |protocol| protocol.to_string()),
                sample.count.to_string(),
                format!("{:.0}", sample.per_second),
                format!("{:.1}", sample.cpu_us),
            ]);
        }
        table
    }

    fn comparison(&self, previous: &Path, figures: &BTreeMap<String, f64>) -> Table {
        let title = format!("Against {}", previous.display());
        let mut table = Table::new(title, &["what", "then", "now"]);
        for bar in &self.bars {
            if let Some(then) = figures.get(&bar.what) {
                table.row([
                    bar.what.clone(),
                    format!("{then:.2}"),
                    format!("{:.2}", bar.figure),
                ]);
            }
        }
        table
    }

    fn contenders(&self) -> std::collections::BTreeSet<Contender> {
        self.samples.iter().map(|sample| sample.contender).collect()
    }
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    let lines: Vec<String> = items.map(|item| format!("- {item}")).collect();
    lines.join("\n") + "\n"
}

fn cell(summary: &Summary) -> String {
    let Summary {
        median,
        min,
        max,
        spread,
    } = summary;
    format!("{median:.1} ({min:.1}, {max:.1}; {:.0} %)", spread * 100.0)
}

/// The figures of the newest other run beside `folder`, if there is one.
fn previous_bars(folder: &Path) -> Result<Option<(PathBuf, BTreeMap<String, f64>)>> {
    let parent = folder
        .parent()
        .context("results have a folder of their own")?;
    let mut others: Vec<PathBuf> = fs::read_dir(parent)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path != folder && path.to_string_lossy().ends_with("-http"))
        .collect();
    others.sort();
    let Some(newest) = others.pop() else {
        return Ok(None);
    };
    let Ok(text) = fs::read(newest.join("results.json")) else {
        return Ok(None);
    };
    let value: serde_json::Value = serde_json::from_slice(&text)?;
    let bars = value
        .get("bars")
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten();
    let figures = bars
        .filter_map(|bar| {
            Some((
                bar.get("what")?.as_str()?.to_owned(),
                bar.get("figure")?.as_f64()?,
            ))
        })
        .collect();
    let name = newest.file_name().map(PathBuf::from).unwrap_or_default();
    Ok(Some((name, figures)))
}
