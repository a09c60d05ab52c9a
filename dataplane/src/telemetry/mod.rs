//! What the proxy tells about itself: metrics, the access log, and its own log.
//!
//! Workers only write to memory of their own; the control thread reads it when somebody asks.

pub mod access_log;
pub mod cells;
pub mod exposition;
pub mod families;
pub mod labels;
pub mod log;
pub mod metrics;
pub mod process;
pub mod record;
pub mod worker;

pub use access_log::{AccessLog, AccessLogWriter};
pub use labels::Labels;
pub use metrics::{Metrics, MetricsOptions};
pub use record::{ConnectionRecord, RequestRecord};
pub use worker::{ConnectResult, DnsResult, HandshakeResult, MirrorResult, WorkerMetrics};

#[cfg(test)]
mod tests;
