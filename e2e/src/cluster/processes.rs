//! Processes of our own node, as the machine sees them: those of pods, and the node's own programs.

use std::{ffi::OsStr, fs, path::Path};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::layout;
use crate::support::process::{Stat, all_processes};

/// A process that was found.
pub(crate) struct Process {
    id: Pid,
    what: String,
}

impl Process {
    /// The one that runs `program` in a container of a pod.
    pub(crate) fn of_pod(uid: &str, program: &str) -> Result<Self> {
        let pod = format!("/pod{uid}/");
        Self::only(&format!("{program} of the pod {uid}"), |folder| {
            fs::read_link(folder.join("exe"))
                .is_ok_and(|path| path.file_name() == Some(OsStr::new(program)))
                && fs::read_to_string(folder.join("cgroup")).is_ok_and(|text| text.contains(&pod))
        })
    }

    /// A program of the node itself, such as `kube-apiserver`.
    pub(crate) fn of_node(program: &str) -> Result<Self> {
        let path = layout::bin().join(program);
        Self::only(program, |folder| {
            fs::read(folder.join("cmdline")).is_ok_and(|line| {
                line.split(|byte| *byte == 0).next() == Some(path.as_os_str().as_encoded_bytes())
            })
        })
    }

    fn only(what: &str, fits: impl Fn(&Path) -> bool) -> Result<Self> {
        let mut found = all_processes()?
            .into_iter()
            .filter(|id| fits(Path::new(&format!("/proc/{id}"))));
        let id = found
            .next()
            .and_then(Pid::from_raw)
            .with_context(|| format!("{what} does not run"))?;
        if let Some(second) = found.next() {
            bail!("{what} runs twice: {} and {second}", id.as_raw_pid());
        }
        Ok(Self {
            id,
            what: what.to_owned(),
        })
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.id, signal).with_context(|| format!("cannot signal {}", self.what))
    }

    /// What it has used so far.
    pub(crate) fn stat(&self) -> Result<Stat> {
        Stat::of(self.id.as_raw_pid()).with_context(|| format!("{} has ended", self.what))
    }

    /// Makes it stand still.
    pub(crate) fn pause(self) -> Result<Paused> {
        self.signal(Signal::STOP)?;
        Ok(Paused(self))
    }
}

/// A process that stands still until this is dropped.
pub(crate) struct Paused(Process);

impl Drop for Paused {
    fn drop(&mut self) {
        // Only one that has ended cannot go on.
        let _ = self.0.signal(Signal::CONT);
    }
}
