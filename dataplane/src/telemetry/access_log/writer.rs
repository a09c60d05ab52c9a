//! The thread that writes the lines of all workers.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use super::{AccessLog, WorkerMetrics};

/// Buffers waiting for the writer, all workers together: a bound of about 4 MiB.
const CHUNKS: usize = 128;

/// Some whole lines.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}

/// The writing side of the access log.
#[derive(Debug)]
pub struct AccessLogWriter {
    sender: SyncSender<Chunk>,
    thread: JoinHandle<()>,
}

impl AccessLogWriter {
    /// Starts the thread that writes to `out`. Fails if no thread can be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(CHUNKS);
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&receiver, out))?;
        Ok(Self { sender, thread })
    }

    /// The side of one worker.
    pub fn worker(&self, metrics: Arc<WorkerMetrics>) -> AccessLog {
        AccessLog::new(self.sender.clone(), metrics)
    }

    /// Waits until everything is written. To be called after all workers have dropped their sides, else it waits for
    /// them.
    pub fn finish(self) {
        drop(self.sender);
        if self.thread.join().is_err() {
            tracing::error!("the access log's writer had panicked");
        }
    }
}

fn write_all(receiver: &Receiver<Chunk>, mut out: impl Write) {
    let mut failing = false;
    while let Ok(chunk) = receiver.recv() {
        let result = out.write_all(&chunk.bytes).and_then(|()| out.flush());
        // Say it once, not once per chunk: a closed pipe stays closed.
        if let Err(error) = &result
            && !failing
        {
            tracing::error!(%error, "the access log cannot be written");
        }
        failing = result.is_err();
    }
}
