//! What runs a Gateway: a Deployment of proxies, a Service in front of them, and what belongs to both.

mod name;

pub use self::name::{infrastructure_name, label_value};
