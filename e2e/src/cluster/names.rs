//! The DNS of our own cluster, as a scenario changes it: names of its own, and lines as operators write them into a Corefile.

use std::{fmt::Write, fs};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{
    config::{corefile, write_hosts},
    layout::config,
    processes::Process,
};

/// The program, as the node calls it.
const PROGRAM: &str = "dns";

/// The cluster's DNS with names of a scenario. It is as before when this is dropped.
pub(crate) struct ClusterNames {
    /// The Corefile, as it always is.
    corefile: String,
}

impl ClusterNames {
    /// Gives it these names beside those of Services, and takes away what an interrupted run has left. It looks once a second.
    pub(crate) fn open(names: &[(&str, &[&str])]) -> Result<Self> {
        let mut lines = String::new();
        for (name, addresses) in names {
            for address in *addresses {
                writeln!(lines, "{address} {name}")?;
            }
        }
        let opened = Self {
            corefile: corefile(),
        };
        put(&opened.corefile)?;
        write_hosts(&lines)?;
        Ok(opened)
    }

    /// Puts a line before the line `kubernetes` of its Corefile, and has that read again.
    pub(crate) fn add_line(&self, line: &str) -> Result<()> {
        let (head, tail) = self
            .corefile
            .split_once("    kubernetes ")
            .context("the Corefile has a line `kubernetes`")?;
        put(&format!("{head}    {line}\n    kubernetes {tail}"))
    }
}

impl Drop for ClusterNames {
    fn drop(&mut self) {
        // The cluster may be gone, and then there is nothing to restore.
        let _ = write_hosts("");
        let _ = put(&self.corefile);
    }
}

/// Writes the Corefile and has it read again, unless it is as this one.
fn put(text: &str) -> Result<()> {
    let path = config().join("Corefile");
    if fs::read_to_string(&path)? == text {
        return Ok(());
    }
    fs::write(path, text)?;
    // What CoreDNS takes for the order to read it again.
    Process::of_node(PROGRAM)?.signal(Signal::USR1)
}
