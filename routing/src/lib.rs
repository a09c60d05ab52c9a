//! The routing table: the one contract between the controller that writes it and the data plane that serves it.
//!
//! The same serde form is the wire format, the file format, the golden-test format and the last-known-good file.
//!
//! The controller builds a [`RoutingTable`], seals it and sends what [`diff`] finds; the data plane takes that in with
//! [`apply`], makes a [`CompiledTable`] of it with [`compile()`] and asks [`CompiledListener::lookup`] once per request.
//! [`explain()`] says the same in words.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

pub mod ca;
pub mod certificate;
pub mod cluster;
pub mod compile;
pub mod delta;
pub mod egress;
pub mod endpoint;
mod exact;
pub mod explain;
pub mod filter;
pub mod frame;
mod hostname;
pub mod key;
pub mod listener;
pub mod lookup;
mod matcher;
pub mod matches;
pub mod pattern;
pub mod policy;
mod query;
pub mod rank;
mod redact;
pub mod resource;
pub mod route;
pub mod secret;
pub mod settings;
pub mod table;
pub mod time;
pub mod validate;
mod version;

pub use certificate::Certificate;
pub use cluster::{Cluster, ClusterProtocol, ClusterTls, SubjectAltName};
pub use compile::{
    CompiledListener, CompiledPort, CompiledRoute, CompiledTable, Generation, compile,
};
pub use delta::{ApplyError, Delta, Removes, Report, Upserts, apply, diff};
pub use endpoint::{ClusterEndpoints, Endpoint, EndpointHost, EndpointState};
pub use explain::{Explanation, explain};
pub use filter::Filter;
pub use frame::{Frame, FrameError, FrameReader};
pub use key::{
    CertificateKey, ClusterKey, CredentialKey, EntryKey, GatewayKey, ListenerKey, PolicyKey,
    RouteKey, WorkloadKey,
};
pub use listener::{Direction, Listener, ListenerProtocol, ListenerTls};
pub use lookup::{Found, RequestHead};
pub use matches::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};
pub use pattern::{Pattern, PatternError};
pub use policy::RoutePolicy;
pub use rank::{Clause, MatchRank};
pub use resource::{Rejection, ResourceKind};
pub use route::{Backend, Route, RouteAction, RouteOrder, RouteSource, WeightedCluster};
pub use secret::Secret;
pub use settings::ProxySettings;
pub use table::{RoutingTable, TableVersion};
pub use time::Millis;
