//! Programs under test: started in a process group of their own, measured and stopped as one.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// How long a program may take to listen, or to stop.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of a log stands in an error, in bytes.
const LOG_END: usize = 4096;
/// Pause between two looks at something that will change.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// A running program with all its children. Dropping it kills them.
pub(crate) struct Service {
    name: String,
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Service {
    /// Starts `command`; what it prints goes to `<name>.log` in `folder`.
    pub(crate) fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {name}: {}",
                    command.as_std().get_program().display()
                )
            })?;
        let id = child.id().context("the process has just been started")?;
        let group = Pid::from_raw(id.cast_signed()).context("a process id is not 0")?;
        Ok(Self {
            name: name.to_owned(),
            child,
            group,
            log,
        })
    }

    /// The end of what it has printed so far.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_END)..]).into_owned()
    }

    /// Waits until it accepts connections on every one of `addresses`.
    pub(crate) async fn until_listening(&mut self, addresses: &[SocketAddr]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for address in addresses {
            while TcpStream::connect(address).await.is_err() {
                self.expect_running()?;
                if Instant::now() > deadline {
                    bail!(
                        "{} does not listen on {address}:\n{}",
                        self.name,
                        self.log()
                    );
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// CPU time of the whole process tree since it was `before`.
    pub(crate) fn cpu_since(&self, before: Duration) -> Result<Duration> {
        Ok(self.cpu()?.saturating_sub(before))
    }

    /// CPU time (user and system) of the whole process tree so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(self.members()?.values().map(Stat::cpu).sum())
    }

    /// Resident memory of the whole process tree, in bytes.
    pub(crate) fn rss(&self) -> Result<u64> {
        Ok(self.members()?.values().map(Stat::rss).sum())
    }

    /// CPU time of the threads whose name begins with `prefix`, by the scheduler's nanosecond clock.
    pub(crate) fn thread_cpu(&self, prefix: &str) -> Result<Duration> {
        let mut nanoseconds = 0;
        for id in self.members()?.keys() {
            for task in fs::read_dir(format!("/proc/{id}/task"))? {
                let task = task?.path();
                if fs::read_to_string(task.join("comm"))?.starts_with(prefix) {
                    let times = fs::read_to_string(task.join("schedstat"))?;
                    let running = times
                        .split(' ')
                        .next()
                        .context("schedstat has three fields")?;
                    nanoseconds += running.parse::<u64>()?;
                }
            }
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// An error that tells its last words if it has ended.
    pub(crate) fn expect_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.log()),
        }
    }

    /// Sends `signal` to the first process only, as an operator does.
    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(rustix::process::kill_process(self.group, signal)?)
    }

    /// Asks it to end by SIGTERM and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!(
                "{} did not end {} s after SIGTERM:\n{}",
                self.name,
                PATIENCE.as_secs(),
                self.log()
            ),
        }
    }

    fn members(&self) -> Result<BTreeMap<i32, Stat>> {
        let mut members = BTreeMap::new();
        for id in all_processes()? {
            // A process may be gone between the listing and the look.
            let Some(stat) = Stat::of(id) else {
                continue;
            };
            if stat.group == self.group.as_raw_nonzero().get() {
                members.insert(id, stat);
            }
        }
        if members.is_empty() {
            bail!("{} has ended:\n{}", self.name, self.log());
        }
        Ok(members)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Nothing is left to kill when it was stopped before.
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

/// The ids of everything that runs on the machine.
pub(crate) fn all_processes() -> Result<Vec<i32>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(id) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The parts of `/proc/PID/stat` that count here; see proc(5).
pub(crate) struct Stat {
    group: i32,
    cpu_ticks: u64,
    rss_pages: u64,
}

impl Stat {
    /// `None` if there is no such process.
    pub(crate) fn of(id: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// CPU time, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_secs_f64(
            to_f64(self.cpu_ticks) / to_f64(rustix::param::clock_ticks_per_second()),
        )
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        self.rss_pages * rustix::param::page_size() as u64
    }

    fn parse(line: &str) -> Option<Self> {
        // The name stands in brackets and may hold anything, so the fields are counted from the last bracket: state is 3.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3);
        Some(Self {
            group: field(5)?.parse().ok()?,
            cpu_ticks: field(14)?.parse::<u64>().ok()? + field(15)?.parse::<u64>().ok()?,
            rss_pages: field(24)?.parse().ok()?,
        })
    }
}

/// Whether `status` is what an orderly end looks like: exit code 0.
pub(crate) fn ended_well(status: ExitStatus) -> bool {
    status.success() && status.signal().is_none()
}

/// Counts as floating-point numbers; they stay far below 2^52 here.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}

/// Runs a command to its end and returns what it printed on standard output.
pub(crate) async fn output_of(mut command: Command) -> Result<String> {
    let program = format!("{:?}", command.as_std());
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| program.clone())?;
    if !output.status.success() {
        bail!(
            "{program} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::Stat;

    #[test]
    fn a_stat_line_is_read_behind_a_name_with_brackets() {
        let line = "42 (a) b) c) S 1 40 40 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 1 0 99 1000 25 18446744073709551615";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.group, stat.cpu_ticks, stat.rss_pages), (40, 200, 25));
    }
}
