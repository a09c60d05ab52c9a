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

use super::bars::{self, Bar};
use crate::support::{
    machine::{Machine, load},
    report::Table,
    statistics::Summary,
};

/// Highest load average of the last minute before a run, in processes that want to run.
const MAX_LOAD: f64 = 0.7;
/// The congestion control of kernels that nobody told otherwise.
const CONGESTION_CONTROL: &str = "cubic";
/// Widest spread (distance of the quartiles) of a contender's rounds, as a share of the median.
const MAX_SPREAD: f64 = 0.15;
/// How far the fixed peer may be from its stored figure, as a share of that.
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

/// What a bench has measured.
pub(crate) trait Figures: Serialize {
    /// What the bench is called on the command line, in the names of folders and in `smoke.json`.
    const NAME: &'static str;
    /// The headline.
    const TITLE: &'static str;

    /// What may not differ much from round to round, and how much it does.
    fn spreads(&self) -> Vec<(String, Summary)>;

    /// The fixed peer, and the CPU it needs, in microseconds: the same on a machine as often as it is measured.
    fn smoke(&self) -> Option<(&'static str, f64)>;

    /// All figures.
    fn tables(&self) -> Vec<Table>;

    /// What the tables do not tell.
    fn remarks(&self) -> Vec<String>;
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report<F> {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) seconds_per_measurement: u64,
    /// Why the figures may not be quoted; empty for a valid run.
    pub(crate) invalid: Vec<String>,
    pub(crate) bars: Vec<Bar>,
    #[serde(flatten)]
    pub(crate) figures: F,
}

impl<F: Figures> Report<F> {
    /// Applies the gates: load, spread, and the fixed peer against its stored figure for this kind of CPU.
    pub(crate) fn gate(&mut self) -> Result<()> {
        if self.quick {
            self.invalid.push(
                "a quick run shows that the bench works, not how fast anything is".to_owned(),
            );
        }
        if self.machine.congestion_control != CONGESTION_CONTROL {
            let own = &self.machine.congestion_control;
            self.invalid.push(format!(
                "TCP is of {own}, and nodes are of {CONGESTION_CONTROL}; where it paces, on loopback its timers outweigh all else: \
                 sysctl -w net.ipv4.tcp_congestion_control={CONGESTION_CONTROL}"
            ));
        }
        if self.machine.load > MAX_LOAD {
            self.invalid.push(format!(
                "load {} before the start, at most {MAX_LOAD}",
                self.machine.load
            ));
        }
        for (what, summary) in self.figures.spreads() {
            if summary.spread > MAX_SPREAD {
                let spread = summary.spread * 100.0;
                self.invalid
                    .push(format!("{what}: the rounds spread by {spread:.0} %"));
            }
        }
        let stored: BTreeMap<String, BTreeMap<String, f64>> =
            serde_json::from_str(include_str!("../../bench/smoke.json"))?;
        let stored = stored
            .get(F::NAME)
            .and_then(|machines| machines.get(&self.machine.cpu));
        if let (Some(stored), Some((peer, now))) = (stored, self.figures.smoke())
            && (now / stored - 1.0).abs() > SMOKE_TOLERANCE
        {
            let tolerance = SMOKE_TOLERANCE * 100.0;
            self.invalid.push(format!(
                "{peer} took {now:.1} us, not {stored} us ± {tolerance:.0} % as before"
            ));
        }
        Ok(())
    }

    /// Writes `results.json` and `README.md` into `folder` and prints the latter.
    pub(crate) fn publish(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let previous = previous_bars(folder, F::NAME)?;
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
            congestion_control,
            commit,
            load,
            versions,
        } = &self.machine;
        let mut parts = vec![
            format!("# {}\n", F::TITLE),
            format!(
                "{cpu} of {cores} cores, {memory_mib} MiB, Linux {kernel}, TCP {congestion_control}, commit {commit}, load \
                 {load} before the start.\n{} rounds of {} s; proxy on one core, load and backend on another; one worker each.\n",
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
        let tables = [bars::table(&self.bars)]
            .into_iter()
            .chain(self.figures.tables());
        parts.extend(
            tables
                .filter(|table| !table.is_empty())
                .map(|table| table.to_string()),
        );
        parts.extend(self.figures.remarks());
        parts.extend(previous.map(|(name, figures)| self.comparison(name, figures).to_string()));
        parts.join("\n")
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
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    let lines: Vec<String> = items.map(|item| format!("- {item}")).collect();
    lines.join("\n") + "\n"
}

/// A summary as a cell: median (least, most; spread).
pub(crate) fn cell(summary: &Summary) -> String {
    let Summary {
        median,
        min,
        max,
        spread,
    } = summary;
    format!("{median:.1} ({min:.1}, {max:.1}; {:.0} %)", spread * 100.0)
}

/// The figures of the newest other run of `bench` beside `folder`, if there is one.
fn previous_bars(folder: &Path, bench: &str) -> Result<Option<(PathBuf, BTreeMap<String, f64>)>> {
    let parent = folder
        .parent()
        .context("results have a folder of their own")?;
    let mut others: Vec<PathBuf> = fs::read_dir(parent)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path != folder && path.to_string_lossy().ends_with(&format!("-{bench}")))
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
