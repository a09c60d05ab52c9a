//! An object that is wanted, as it is sent to the API server.

use std::fmt;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::Resource;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::resources::ObjectKey;

/// The annotation with a hash of what was applied: it tells what is not wanted any more from what others have added.
pub(super) const APPLIED: &str = "portcullis.dev/applied";

/// The kinds that are made for a Gateway, in the order in which they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Who the pods are.
    ServiceAccount,
    /// What clients connect to.
    Service,
    /// A number of proxies.
    Deployment,
    /// A proxy on every node.
    DaemonSet,
    /// How many proxies may be away.
    PodDisruptionBudget,
    /// How many proxies there are.
    HorizontalPodAutoscaler,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::ServiceAccount,
        Self::Service,
        Self::Deployment,
        Self::DaemonSet,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        }
    }

    /// The path of its objects in a namespace.
    pub(super) fn path(self, namespace: &str) -> String {
        let namespace = Some(namespace);
        match self {
            Self::ServiceAccount => ServiceAccount::url_path(&(), namespace),
            Self::Service => Service::url_path(&(), namespace),
            Self::Deployment => Deployment::url_path(&(), namespace),
            Self::DaemonSet => DaemonSet::url_path(&(), namespace),
            Self::PodDisruptionBudget => PodDisruptionBudget::url_path(&(), namespace),
            Self::HorizontalPodAutoscaler => HorizontalPodAutoscaler::url_path(&(), namespace),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An object that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Namespace and name.
    pub key: ObjectKey,
    /// All that we say about it, as JSON. What is not here is for others to say.
    pub body: Value,
}

impl Object {
    /// An object of this kind, with the hash of itself in an annotation.
    pub(super) fn new(kind: Kind, key: ObjectKey, object: impl Serialize) -> Self {
        let mut body = serde_json::to_value(object).unwrap_or_default();
        let hash = Sha256::digest(body.to_string());
        let hash = hash
            .iter()
            .take(8)
            .fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
        body["metadata"]["annotations"][APPLIED] = format!("{hash:016x}").into();
        Self { kind, key, body }
    }

    /// The hash of what is wanted.
    pub(super) fn hash(&self) -> &Value {
        &self.body["metadata"]["annotations"][APPLIED]
    }
}
