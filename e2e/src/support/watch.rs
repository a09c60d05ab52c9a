//! How far a program's memory grows while something happens.

use std::{cell::Cell, future::Future, pin::pin, time::Duration};

use anyhow::Result;
use tokio::time::interval;

use super::process::Service;

/// Pause between two looks at the memory.
const SAMPLING: Duration = Duration::from_millis(25);

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    super::process::to_f64(bytes) / (1024.0 * 1024.0)
}

/// Runs `work` and returns its result with the most that `service`'s resident memory stood above its start, in bytes.
pub(crate) async fn rss_growth<T>(
    service: &Service,
    work: impl Future<Output = T>,
) -> Result<(T, u64)> {
    let start = service.rss()?;
    let peak = Cell::new(start);
    let mut work = pin!(work);
    let mut clock = interval(SAMPLING);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            _ = clock.tick() => peak.set(peak.get().max(service.rss()?)),
        }
    };
    peak.set(peak.get().max(service.rss()?));
    Ok((result, peak.get() - start))
}
