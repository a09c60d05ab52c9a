//! What runs a Gateway: a Deployment of proxies, a Service in front of them, and what belongs to both.

mod addresses;
mod apply;
mod labels;
mod name;
mod namesake;
mod object;
mod objects;
mod owner;
mod parameters;
mod served;
mod wanted;

pub use self::{
    addresses::{addresses, of_service as addresses_of, service, unaddressed},
    labels::GATEWAY_NAME,
    name::{identity_secret_name, infrastructure_name, label_value},
    object::{Kind, Object},
    objects::{CONTAINER, Made, admin_port},
    served::{Owner, Owners, owners},
    wanted::{Plan, Wanted, wanted},
};
pub(crate) use self::{
    apply::{Input, Obstacles, Provisioner, obstruct},
    parameters::{Infrastructure, Invalid},
};

/// What every Gateway's infrastructure is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionOptions {
    /// Image of the proxy, for Gateways whose parameters name none.
    pub image: String,
    /// Where proxies find the controller, such as `https://portcullis.portcullis-system.svc:9443`.
    pub controller_url: String,
}
