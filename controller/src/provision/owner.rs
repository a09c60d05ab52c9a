//! Whose an object is: everything that is made for a Gateway has it as its controller.

use gateway_api::apis::experimental::gateways::Gateway;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// The reference by which a Gateway owns what is made for it; `None` if the Gateway is not in a cluster.
pub(crate) fn reference(gateway: &Gateway) -> Option<OwnerReference> {
    gateway.controller_owner_ref(&())
}

/// Whether an object was made for the Gateway with this reference.
pub(crate) fn owns(owner: &OwnerReference, object: &ObjectMeta) -> bool {
    let references = object.owner_references.iter().flatten();
    let mut controllers = references.filter(|it| it.controller == Some(true));
    controllers.any(|it| it.uid == owner.uid)
}
