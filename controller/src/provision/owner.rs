//! Whose an object is: everything that is made for a Gateway has it as its controller.

use gateway_api::apis::experimental::gateways::Gateway;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// The reference by which a Gateway owns what is made for it; `None` if the Gateway is not in a cluster.
///
/// It does not hold the Gateway's deletion up (`blockOwnerDeletion`): nothing is lost if the proxies go a little later,
/// and it would take the right to update the finalizers of Gateways.
pub(crate) fn reference(gateway: &Gateway) -> Option<OwnerReference> {
    gateway.controller_owner_ref(&())
}

/// UID of the object that this one was made for.
pub(crate) fn controller(object: &ObjectMeta) -> Option<&str> {
    let mut references = object.owner_references.iter().flatten();
    let controller = references.find(|it| it.controller == Some(true))?;
    Some(&controller.uid)
}
