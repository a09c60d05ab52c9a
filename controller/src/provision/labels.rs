//! Labels by which what is made for Gateways is known.

/// Name of the Gateway (GEP-1762).
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Name of the Gateway's class.
pub(super) const GATEWAY_CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";
/// Who looks after an object.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub(super) const OURS: &str = "portcullis";
