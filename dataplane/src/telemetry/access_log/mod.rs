//! The access log: JSON, one line per request (or connection of TLS that passes through), on standard output.
//!
//! A worker appends lines to a buffer of its own and hands whole buffers to one writer thread. If the reader of the log
//! does not keep up, lines are dropped and counted; a request never waits for its line.

pub mod connection;
pub mod line;
mod writer;

use std::{
    cell::{Cell, RefCell},
    mem,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
    time::Duration,
};

use portcullis_routing::settings::AccessLog as Mode;
use serde::Serialize;
use tokio::sync::Notify;

pub use self::writer::AccessLogWriter;
use self::{connection::ConnectionLine, line::Line, writer::Chunk};
use super::{
    record::{ConnectionRecord, RequestRecord},
    worker::WorkerMetrics,
};
use crate::reason::Reason;

/// A buffer this full is handed over at once.
const FULL_BUFFER: usize = 32 * 1024;

/// The longest that a line stays in a buffer.
const FLUSH_AFTER: Duration = Duration::from_millis(200);

/// One worker's side of the access log.
#[derive(Debug)]
pub struct AccessLog {
    chunk: RefCell<Chunk>,
    /// Successful requests since one was last logged, for sampling.
    skipped: Cell<u32>,
    /// Told when the first line enters an empty buffer.
    waiting: Notify,
    writer: SyncSender<Chunk>,
    pub(super) metrics: Arc<WorkerMetrics>,
}

impl AccessLog {
    fn new(writer: SyncSender<Chunk>, metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            chunk: RefCell::default(),
            skipped: Cell::new(0),
            waiting: Notify::new(),
            writer,
            metrics,
        }
    }

    /// Writes the line of a finished request, if `mode` wants it. `mode` is that of the table it was served by.
    pub fn log(&self, mode: Mode, record: &RequestRecord<'_>) {
        if self.wants(mode, record.status == 0 || record.status >= 500) {
            self.write(&Line::of(record));
        }
    }

    /// The same of a connection of TLS that passed through, or was to.
    pub fn log_connection(&self, mode: Mode, record: &ConnectionRecord<'_>) {
        let failed = |reason: Reason| reason.status().is_server_error();
        if self.wants(mode, record.reason.is_some_and(failed)) {
            self.write(&ConnectionLine::of(record));
        }
    }

    /// Writes a line as it is.
    pub fn write(&self, line: &impl Serialize) {
        let mut chunk = self.chunk.borrow_mut();
        if chunk.lines == 0 {
            self.waiting.notify_one();
        }
        line::append(line, &mut chunk.bytes);
        chunk.lines += 1;
        if chunk.bytes.len() >= FULL_BUFFER {
            self.hand_over(mem::take(&mut *chunk));
        }
    }

    /// Hands over what is buffered.
    pub fn flush(&self) {
        let chunk = mem::take(&mut *self.chunk.borrow_mut());
        if chunk.lines > 0 {
            self.hand_over(chunk);
        }
    }

    /// Flushes a short time after a line entered an empty buffer. Each worker runs this beside its connections, for as
    /// long as it lives; while nothing is logged it does nothing.
    pub async fn keep_flushing(&self) {
        loop {
            self.waiting.notified().await;
            tokio::time::sleep(FLUSH_AFTER).await;
            self.flush();
        }
    }

    fn wants(&self, mode: Mode, has_failed: bool) -> bool {
        match mode {
            Mode::Off => false,
            Mode::On => true,
            Mode::Sampled(_) if has_failed => true,
            Mode::Sampled(one_in) => {
                let seen = self.skipped.get() + 1;
                let due = seen >= one_in;
                self.skipped.set(if due { 0 } else { seen });
                due
            }
        }
    }

    fn hand_over(&self, chunk: Chunk) {
        let lines = chunk.lines;
        match self.writer.try_send(chunk) {
            Ok(()) => self.metrics.access_log_lines(lines),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.metrics.access_log_dropped(lines);
            }
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}
