//! What the proxy logs.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

/// An access log that a test can read.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Its first line of this path.
    pub(crate) fn line(&self, path: &str) -> serde_json::Value {
        self.lines(path).next().unwrap()
    }

    /// Its lines of this path.
    pub(crate) fn lines(&self, path: &str) -> impl Iterator<Item = serde_json::Value> {
        self.all().filter(move |line| line["path"] == path)
    }

    /// Its lines of this kind.
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = serde_json::Value> {
        self.all().filter(move |line| line["kind"] == kind)
    }

    /// Its lines of this kind, once there are as many as `count`.
    pub(crate) async fn wait(&self, kind: &str, count: usize) -> Vec<serde_json::Value> {
        let told = async {
            loop {
                let told: Vec<_> = self.of_kind(kind).collect();
                if told.len() >= count {
                    return told;
                }
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(30), told).await;
        told.unwrap_or_else(|_| {
            let lines: Vec<_> = self.of_kind(kind).collect();
            panic!("never {count} lines of {kind}: {lines:?}")
        })
    }

    fn all(&self) -> impl Iterator<Item = serde_json::Value> + use<> {
        let text = self.0.lock().unwrap().clone();
        let lines: Vec<serde_json::Value> = text
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        lines.into_iter()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
