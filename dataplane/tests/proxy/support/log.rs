//! What the proxy logs.

use std::{
    io,
    sync::{Arc, Mutex},
};

/// An access log that a test can read.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Its lines, by path.
    pub(crate) fn line(&self, path: &str) -> serde_json::Value {
        let text = self.0.lock().unwrap();
        let mut lines = text
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
        lines.find(|line| line["path"] == path).unwrap()
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
