//! Namespaces that may use something: `namespaces` of `allowedRoutes` and of `allowedListeners`.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::gateways::{
    GatewayAllowedListenersNamespacesSelector, GatewayListenersAllowedRoutesNamespacesSelector,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::{ParseExpressionError, Selector, SelectorExt};

use super::Context;
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::reason,
};

/// Which namespaces are let in.
#[derive(Debug, Default)]
pub(crate) enum Namespaces {
    /// None at all.
    None,
    /// The one of the object that says so.
    #[default]
    Same,
    /// Every one.
    All,
    /// Those with labels like these.
    Selected(Selector),
}

impl Namespaces {
    /// The namespaces that the selector at `field` of `object` selects.
    pub(crate) fn selected(
        object: &ObjectRef,
        field: &str,
        selector: Option<&impl ToLabelSelector>,
    ) -> Result<Self, Finding> {
        let Some(selector) = selector else {
            return Err(object.error(
                reason::UNSUPPORTED_VALUE,
                field,
                "from is Selector, and there is no selector",
                "give a selector; an empty one selects every namespace",
            ));
        };
        let selector = selector.to_label_selector().try_into();
        selector
            .map(Self::Selected)
            .map_err(|error: ParseExpressionError| {
                object.error(
                    reason::UNSUPPORTED_VALUE,
                    format!("{field}.matchExpressions"),
                    error.to_string(),
                    "use the operators In, NotIn (with values), Exists and DoesNotExist (without)",
                )
            })
    }

    /// Whether `namespace` is let in by an object of the namespace `own`.
    pub(crate) fn contain(&self, ctx: &Context<'_>, own: &str, namespace: &str) -> bool {
        match self {
            Self::None => false,
            Self::Same => namespace == own,
            Self::All => true,
            Self::Selected(selector) => selector.matches(&labels(ctx, namespace)),
        }
    }
}

/// The labels of a namespace. The API server puts the name on every one, so it counts for one that no file mentions.
pub(crate) fn labels(ctx: &Context<'_>, namespace: &str) -> BTreeMap<String, String> {
    let object = ctx.resources.namespaces.get(&ObjectKey::cluster(namespace));
    let mut labels = object
        .and_then(|object| object.metadata.labels.clone())
        .unwrap_or_default();
    labels
        .entry("kubernetes.io/metadata.name".into())
        .or_insert_with(|| namespace.into());
    labels
}

/// A label selector. The generated types have one for each place where it stands.
pub(crate) trait ToLabelSelector {
    /// The same as Kubernetes has it.
    fn to_label_selector(&self) -> LabelSelector;
}

macro_rules! to_label_selector {
    ($($type:ty),*) => {
        $(impl ToLabelSelector for $type {
            fn to_label_selector(&self) -> LabelSelector {
                let expressions = self.match_expressions.as_ref().map(|expressions| {
                    expressions
                        .iter()
                        .map(|expression| LabelSelectorRequirement {
                            key: expression.key.clone(),
                            operator: expression.operator.clone(),
                            values: expression.values.clone(),
                        })
                        .collect()
                });
                LabelSelector {
                    match_expressions: expressions,
                    match_labels: self.match_labels.clone(),
                }
            }
        })*
    };
}

to_label_selector!(
    GatewayAllowedListenersNamespacesSelector,
    GatewayListenersAllowedRoutesNamespacesSelector
);
