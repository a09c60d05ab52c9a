//! What a data plane may ask of the publisher.

use std::time::Duration;

/// Limits that depend on the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections of data planes at once. Default 2,000. Beyond it new ones are closed.
    pub clients: usize,
    /// Connections of the data planes of one Gateway at once. Default 500. Beyond it new ones are closed.
    pub clients_per_gateway: usize,
    /// TLS handshakes at once. Default 128. Beyond it new connections wait to be accepted.
    pub handshakes: usize,
    /// TLS handshakes at once from one address. Default 8. Beyond it new connections are closed, so that it takes many
    /// addresses to keep others waiting.
    pub handshakes_per_address: usize,
    /// A heartbeat is sent when a stream has been silent for so long. Default 10 s. A connection that has taken nothing
    /// and asked for nothing for six times as long is closed.
    pub heartbeat: Duration,
    /// How long a data plane whose table is not known here waits for this replica to learn of it, a heartbeat at most.
    /// Default 1 s: a replica's watches are behind another's by milliseconds, and a table that is so old as to be forgotten
    /// is served for a moment longer.
    pub catch_up: Duration,
    /// Bytes of frames that wait for slow clients of one Gateway. Default 128 MiB. A frame that several take counts once.
    pub waiting_per_gateway: usize,
    /// Bytes of frames that wait for slow clients of all Gateways, besides one frame for each Gateway. Default 512 MiB.
    pub waiting: usize,
    /// Who has taken nothing of a frame for so long makes room for others when too much waits: who stopped first goes first.
    /// Default 5 s.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 2_000,
            clients_per_gateway: 500,
            handshakes: 128,
            handshakes_per_address: 8,
            heartbeat: Duration::from_secs(10),
            catch_up: Duration::from_secs(1),
            waiting_per_gateway: 128 << 20,
            waiting: 512 << 20,
            grace: Duration::from_secs(5),
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
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of other replicas, and as many of clients whose certificates are good for nothing.
pub(super) const MAX_OTHERS: usize = 64;

/// Time in which a client has to take a frame: 64 MiB at 220 KiB/s.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_mins(5);

/// Requests at once on a connection. A data plane has one stream and one report under way.
pub(super) const MAX_STREAMS: u32 = 4;

/// Bytes of a request's header fields.
pub(super) const MAX_HEADERS: u32 = 8 << 10;

/// Bytes of one stream that the connection holds while its client does not read. The frame itself is shared by all.
pub(super) const MAX_SEND_BUFFER: usize = 32 << 10;

/// Bytes of a connection's requests that wait to be read.
pub(super) const MAX_RECEIVE_BUFFER: u32 = 64 << 10;

/// Bytes of a frame that are handed to the connection at once.
pub(super) const CHUNK: usize = 16 << 10;
