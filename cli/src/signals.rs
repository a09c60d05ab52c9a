//! Signals: Ctrl-C and SIGTERM ask to stop, SIGHUP asks to read again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for signals. While it lives, they do nothing else.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when the process was asked to read its configuration again. Cancel-safe.
    pub(crate) async fn reload(&mut self) {
        self.hangup.recv().await;
    }

    /// Returns when the process was asked to stop. Cancel-safe.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
