//! The thread that writes the lines of all workers.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{AccessLog, WorkerMetrics};

/// Buffers waiting for the writer, all workers together: a bound of about 4 MiB.
const CHUNKS: usize = 128;

/// How long the end of the process waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

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
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
}

impl AccessLogWriter {
    /// Starts the thread that writes to `out`. Fails if no thread can be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(CHUNKS);
        let (running, ended) = channel();
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                write_all(&receiver, out);
                drop(running);
            })?;
        Ok(Self { sender, ended })
    }

    /// The side of one worker.
    pub fn worker(&self, metrics: Arc<WorkerMetrics>) -> AccessLog {
        AccessLog::new(self.sender.clone(), metrics)
    }

    /// Waits until everything is written, but not for ever. To be called after all workers have dropped their sides.
    pub fn finish(self) {
        drop(self.sender);
        if self.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the last lines of the access log are lost: nobody reads it");
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
