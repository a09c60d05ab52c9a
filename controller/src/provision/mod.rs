//! What runs a Gateway: a Deployment of proxies, a Service in front of them, and what belongs to both.

mod addresses;
mod name;
mod owner;
mod served;

pub use self::{
    addresses::addresses,
    name::{identity_secret_name, infrastructure_name, label_value},
    served::{Owner, Owners, owners},
};
