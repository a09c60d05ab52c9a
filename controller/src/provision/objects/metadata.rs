//! Names, labels and annotations of what is made for a Gateway.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{APPLIED, Blueprint};
use crate::provision::{
    label_value,
    labels::{GATEWAY_CLASS_NAME, GATEWAY_NAME, MANAGED_BY, OURS},
};

/// What the pods are, whatever Gateway they are of.
const APPLICATION: &str = "portcullis-proxy";

type Strings = BTreeMap<String, String>;

impl Blueprint {
    /// Metadata of any object.
    pub(super) fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name()),
            namespace: Some(self.key.namespace.clone()),
            labels: Some(self.labels()),
            annotations: Some(self.annotations()),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        }
    }

    /// The labels that pods are found by. They must not change as long as the Gateway lives.
    pub(super) fn selector(&self) -> Strings {
        [
            (GATEWAY_NAME, label_value(&self.key.name)),
            (GATEWAY_CLASS_NAME, label_value(self.class())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    pub(super) fn label_selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: Some(self.selector()),
            ..LabelSelector::default()
        }
    }

    /// The labels of everything: those of the Gateway's infrastructure, and ours, which go before them.
    pub(super) fn labels(&self) -> Strings {
        let infrastructure = self.gateway.spec.infrastructure.as_ref();
        let mut labels = infrastructure
            .and_then(|it| it.labels.clone())
            .unwrap_or_default();
        labels.extend(self.own_labels());
        labels
    }

    /// The labels that nobody else may set.
    pub(super) fn own_labels(&self) -> Strings {
        let mut labels = self.selector();
        let common = [
            ("app.kubernetes.io/name", APPLICATION.to_owned()),
            ("app.kubernetes.io/instance", self.name()),
            (MANAGED_BY, OURS.to_owned()),
        ];
        labels.extend(common.map(|(name, value)| (name.to_owned(), value)));
        labels
    }

    /// The annotations of the Gateway's infrastructure.
    pub(super) fn annotations(&self) -> Strings {
        let infrastructure = self.gateway.spec.infrastructure.as_ref();
        let mut annotations = infrastructure
            .and_then(|it| it.annotations.clone())
            .unwrap_or_default();
        annotations.remove(APPLIED);
        annotations
    }
}
