//! Signals: Ctrl-C and SIGTERM ask to stop, SIGHUP asks a server to read again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for a signal that asks the process to stop. While it lives, such a signal does nothing else.
#[derive(Debug)]
pub(crate) struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    /// Listens from now on.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns when one was given. Cancel-safe.
    pub(crate) async fn given(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits for SIGHUP. While it lives, that signal does nothing else.
#[derive(Debug)]
pub(crate) struct HangUp(Signal);

impl HangUp {
    /// Listens from now on.
    pub(crate) fn new() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Returns when one was given. Cancel-safe.
    pub(crate) async fn given(&mut self) {
        self.0.recv().await;
    }
}
