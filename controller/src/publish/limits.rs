//! What a data plane may ask of the publisher.

use std::time::Duration;

/// Limits that depend on the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. Default 1,000. Beyond it new ones are closed.
    pub clients: usize,
    /// A heartbeat is sent when a stream has been silent for so long. Default 10 s. A connection that has taken nothing
    /// and asked for nothing for six times as long is closed.
    pub heartbeat: Duration,
    /// How long a data plane whose table is not known here waits for this replica to learn of it, a heartbeat at most.
    /// Default 1 s: a replica's watches are behind another's by milliseconds, and a table that is so old as to be forgotten
    /// is served for a moment longer.
    pub catch_up: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 1_000,
            heartbeat: Duration::from_secs(10),
            catch_up: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// After so long without a sign of life a connection is closed.
    pub(super) fn silence(&self) -> Duration {
        self.heartbeat * 6
    }
}

/// Longest report, in bytes: 1 MiB.
pub const MAX_REPORT: usize = 1 << 20;

/// Longest word of a replica on all its data planes, in bytes: 16 MiB.
pub(super) const MAX_RELAY: usize = 16 << 20;

/// Time for a TLS handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests at once on a connection. A data plane has one stream and one report under way.
pub(super) const MAX_STREAMS: u32 = 8;

/// Bytes of a request's header fields.
pub(super) const MAX_HEADERS: u32 = 8 << 10;

/// Bytes of one stream that the connection holds while its client does not read. The frame itself is shared by all.
pub(super) const MAX_SEND_BUFFER: usize = 64 << 10;

/// Bytes of a frame that are handed to the connection at once.
pub(super) const CHUNK: usize = 16 << 10;
