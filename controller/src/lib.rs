//! Objects in, routing tables and statuses out.
//!
//! [`manifests`] reads files into [`Resources`], [`watch`] keeps those of a cluster; [`translate()`] makes routing tables,
//! statuses and findings of them. It is pure: no client, no clock, no I/O, and the same input always gives the same
//! answer. [`run`] is the controller of a cluster: it keeps translating, publishes the tables and writes the statuses.
#![expect(
    clippy::result_large_err,
    reason = "a finding is large, and made once per mistake"
)]

pub mod admin;
pub mod ca;
pub mod callers;
pub mod certificates;
pub mod finding;
pub mod leader;
pub mod manifests;
pub mod metrics;
mod near;
pub mod provision;
pub mod publish;
pub mod resources;
pub mod run;
pub mod status;
pub mod translate;
pub mod watch;
mod writer;

pub use finding::{Finding, ObjectRef, Severity};
pub use resources::{ObjectKey, Resources};
pub use status::Statuses;
pub use translate::{Options, Translation, translate};

/// The controller name that a GatewayClass gives to be served by Portcullis.
pub const CONTROLLER_NAME: &str = "portcullis.dev/gateway-controller";
