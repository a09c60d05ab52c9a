//! `allowedRoutes`: which routes a listener takes, by kind and by namespace.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::gateways::{
    GatewayListeners, GatewayListenersAllowedRoutesNamespacesFrom as From,
    GatewayListenersAllowedRoutesNamespacesSelector,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::{Selector, SelectorExt};
use portcullis_routing::ListenerProtocol;

use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::reason,
    translate::{Context, GATEWAY_GROUP},
};

/// The kinds of routes that HTTP and HTTPS listeners take.
const HTTP_KINDS: &[&str] = &["HTTPRoute"];

/// Which routes a listener takes. The default takes none.
#[derive(Debug, Default)]
pub(super) struct AllowedRoutes {
    /// Kinds, all of the Gateway API's group.
    pub(super) kinds: Vec<&'static str>,
    /// Kinds that were asked for and cannot be taken.
    pub(super) invalid_kinds: Vec<Finding>,
    namespaces: Namespaces,
}

#[derive(Debug, Default)]
enum Namespaces {
    #[default]
    Same,
    All,
    Selected(Selector),
}

impl AllowedRoutes {
    pub(super) fn new(
        object: &ObjectRef,
        field: &str,
        spec: &GatewayListeners,
        protocol: Option<ListenerProtocol>,
    ) -> Result<Self, Finding> {
        let allowed = spec.allowed_routes.as_ref();
        let possible = if protocol.is_some() { HTTP_KINDS } else { &[] };
        let mut result = Self::default();
        match allowed
            .and_then(|allowed| allowed.kinds.as_deref())
            .filter(|kinds| !kinds.is_empty())
        {
            None => result.kinds = possible.to_vec(),
            Some(wanted) => {
                for (index, wanted) in wanted.iter().enumerate() {
                    let group = wanted.group.as_deref().unwrap_or(GATEWAY_GROUP);
                    match possible
                        .iter()
                        .find(|kind| group == GATEWAY_GROUP && **kind == wanted.kind)
                    {
                        Some(kind) if result.kinds.contains(kind) => {}
                        Some(kind) => result.kinds.push(kind),
                        None => result.invalid_kinds.push(object.error(
                            reason::INVALID_ROUTE_KINDS,
                            format!("{field}.allowedRoutes.kinds[{index}]"),
                            format!(
                                "a listener of protocol {} cannot take {} of {group}",
                                spec.protocol, wanted.kind
                            ),
                            "name HTTPRoute, or leave kinds out",
                        )),
                    }
                }
            }
        }
        let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        result.namespaces = match namespaces.and_then(|namespaces| namespaces.from.as_ref()) {
            None | Some(From::Same) => Namespaces::Same,
            Some(From::All) => Namespaces::All,
            Some(From::Selector) => {
                let field = format!("{field}.allowedRoutes.namespaces.selector");
                let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
                Namespaces::Selected(parse(object, &field, selector)?)
            }
        };
        Ok(result)
    }

    pub(super) fn allows(
        &self,
        ctx: &Context<'_>,
        gateway_namespace: &str,
        kind: &str,
        namespace: &str,
    ) -> bool {
        self.kinds.contains(&kind)
            && match &self.namespaces {
                Namespaces::Same => namespace == gateway_namespace,
                Namespaces::All => true,
                Namespaces::Selected(selector) => selector.matches(&labels(ctx, namespace)),
            }
    }
}

fn parse(
    object: &ObjectRef,
    field: &str,
    selector: Option<&GatewayListenersAllowedRoutesNamespacesSelector>,
) -> Result<Selector, Finding> {
    let Some(selector) = selector else {
        return Err(object.error(
            reason::UNSUPPORTED_VALUE,
            field,
            "from is Selector, and there is no selector",
            "give a selector; an empty one selects every namespace",
        ));
    };
    let match_expressions = selector.match_expressions.as_ref().map(|expressions| {
        expressions
            .iter()
            .map(|e| LabelSelectorRequirement {
                key: e.key.clone(),
                operator: e.operator.clone(),
                values: e.values.clone(),
            })
            .collect()
    });
    let selector = LabelSelector {
        match_expressions,
        match_labels: selector.match_labels.clone(),
    };
    selector
        .try_into()
        .map_err(|error: kube::core::ParseExpressionError| {
            object.error(
                reason::UNSUPPORTED_VALUE,
                format!("{field}.matchExpressions"),
                error.to_string(),
                "use the operators In, NotIn (with values), Exists and DoesNotExist (without)",
            )
        })
}

/// The labels of a namespace. The API server puts the name on every one, so it counts for one that no file mentions.
fn labels(ctx: &Context<'_>, namespace: &str) -> BTreeMap<String, String> {
    let object = ctx.resources.namespaces.get(&ObjectKey::cluster(namespace));
    let mut labels = object
        .and_then(|object| object.metadata.labels.clone())
        .unwrap_or_default();
    labels
        .entry("kubernetes.io/metadata.name".into())
        .or_insert_with(|| namespace.into());
    labels
}
