//! The routing table: the one contract between the controller that writes it and the data plane that serves it.
//!
//! The same serde form is the wire format, the file format, the golden-test format and the last-known-good file.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod certificate;
pub mod cluster;
pub mod endpoint;
pub mod filter;
pub mod key;
pub mod listener;
pub mod matches;
pub mod policy;
pub mod route;
pub mod secret;
pub mod settings;
pub mod table;
pub mod time;

pub use certificate::Certificate;
pub use cluster::{Cluster, ClusterProtocol, ClusterTls};
pub use endpoint::{ClusterEndpoints, Endpoint, EndpointHost, EndpointState};
pub use filter::Filter;
pub use key::{CertificateKey, ClusterKey, GatewayKey, ListenerKey, RouteKey};
pub use listener::{Listener, ListenerProtocol, ListenerTls};
pub use matches::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};
pub use policy::RoutePolicy;
pub use route::{Backend, Route, RouteAction, RouteOrder, RouteSource, WeightedCluster};
pub use secret::Secret;
pub use settings::ProxySettings;
pub use table::{RoutingTable, TableVersion};
pub use time::Millis;
