//! The standard `process_*` metrics, read from `/proc` at each scrape.

use procfs::{ProcError, process::Process};

use super::families::{Families, float};

/// Adds the process metrics; where `/proc` cannot be read they are left out.
pub fn collect(families: &mut Families) {
    if let Err(error) = try_collect(families) {
        tracing::debug!(%error, "no process metrics");
    }
}

fn try_collect(families: &mut Families) -> Result<(), ProcError> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = float(procfs::ticks_per_second());
    families.counter(
        "process_cpu_seconds_total",
        "User and system CPU time.",
        float(stat.utime + stat.stime) / ticks,
    );
    families.gauge(
        "process_resident_memory_bytes",
        "Resident memory.",
        float(stat.rss * procfs::page_size()),
    );
    families.gauge(
        "process_virtual_memory_bytes",
        "Virtual memory.",
        float(stat.vsize),
    );
    let descriptors = u64::try_from(process.fd_count()?).unwrap_or(u64::MAX);
    families.gauge(
        "process_open_fds",
        "Open file descriptors.",
        float(descriptors),
    );
    let started = float(procfs::boot_time_secs()?) + float(stat.starttime) / ticks;
    families.gauge(
        "process_start_time_seconds",
        "Start of the process, seconds since the epoch.",
        started,
    );
    Ok(())
}
