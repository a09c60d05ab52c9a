//! `from` of an EgressPolicy: the callers that it speaks of.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector as LabelSelectorSpec, LabelSelectorRequirement,
};
use kube::core::Selector;
use portcullis_crds::egress_policy::CallerSelector;
use portcullis_routing::egress::{CallerMatch, LabelRequirement, LabelSelector};

use super::faults::{Fault, Faults};
use crate::{
    status::reason,
    translate::{Context, field::Field, namespaces::Namespaces},
};

const SELECTOR_REMEDY: &str =
    "use the operators In and NotIn with values, Exists and DoesNotExist without";

/// The callers; `None` is everybody, and an empty list is nobody. If no item is valid, the policy is refused.
pub(super) fn translate(
    ctx: &Context<'_>,
    specs: &[CallerSelector],
    own: &str,
    field: &Field<'_>,
    faults: &mut Faults,
) -> Option<Vec<CallerMatch>> {
    if specs.is_empty() {
        return None;
    }
    let mut callers = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let field = field.at(index);
        callers.extend(
            faults
                .keep(&field, caller(ctx, spec, own))
                .map(|caller| (index, caller)),
        );
    }
    if callers.is_empty() {
        let fault = Fault::invalid(
            "none of the callers is named in a way that is known, so the policy selects nobody",
            "correct one of them; without `from` it speaks of everybody",
        );
        faults.refuse(field, fault);
    }
    // Who is of no namespace does not exist; a caller that is not known must not be taken for it.
    callers.retain(|(index, caller)| {
        let is_somebody = caller
            .namespaces
            .as_ref()
            .is_none_or(|names| !names.is_empty());
        if !is_somebody {
            faults.warn(
                "SelectsNobody",
                &field.at(*index),
                "there is no such namespace, so this selects nobody",
                "nothing to do if there will be one; else correct the names or labels",
            );
        }
        is_somebody
    });
    Some(callers.into_iter().map(|(_, caller)| caller).collect())
}

fn caller(ctx: &Context<'_>, spec: &CallerSelector, own: &str) -> Result<CallerMatch, Fault> {
    let selected = spec.namespace_selector.as_ref();
    let selected = selected
        .map(|selector| namespaces(ctx, selector))
        .transpose()?;
    let named = spec.namespaces.as_ref();
    let named = named.map(|names| names.iter().cloned().collect::<BTreeSet<_>>());
    let namespaces = match (named, selected) {
        (Some(named), Some(selected)) => Some(named.intersection(&selected).cloned().collect()),
        (named, selected) => named.or(selected),
    };
    let accounts = spec.service_accounts.as_ref();
    let accounts = accounts.map(|accounts| accounts.iter().map(|it| account(it, own)).collect());
    let labels = spec.pod_selector.as_ref().map(pod_selector).transpose()?;
    Ok(CallerMatch {
        namespaces: namespaces.map(|names| names.into_iter().collect()),
        service_accounts: accounts,
        labels,
    })
}

/// The namespaces that a selector finds now.
fn namespaces(ctx: &Context<'_>, selector: &LabelSelectorSpec) -> Result<BTreeSet<String>, Fault> {
    let selector: Selector = selector
        .clone()
        .try_into()
        .map_err(|error| Fault::invalid(format!("namespaceSelector: {error}"), SELECTOR_REMEDY))?;
    let selected = Namespaces::Selected(selector);
    // A file may have pods of a namespace that it does not define.
    let of_pods = ctx.resources.pods.keys().map(|key| &key.namespace);
    let known: BTreeSet<_> = ctx
        .resources
        .namespaces
        .keys()
        .map(|key| &key.name)
        .chain(of_pods)
        .collect();
    let selected = known
        .into_iter()
        .filter(|name| selected.contain(ctx, "", name));
    Ok(selected.cloned().collect())
}

/// `name` is of the policy's own namespace.
fn account(spec: &str, own: &str) -> (String, String) {
    match spec.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (own.to_owned(), spec.to_owned()),
    }
}

fn pod_selector(spec: &LabelSelectorSpec) -> Result<LabelSelector, Fault> {
    let labels = spec.match_labels.iter().flatten();
    let labels =
        labels.map(|(key, value)| Ok(LabelRequirement::In(key.clone(), vec![value.clone()])));
    let expressions = spec.match_expressions.iter().flatten().map(requirement);
    labels
        .chain(expressions)
        .collect::<Result<_, _>>()
        .map(LabelSelector)
}

fn requirement(spec: &LabelSelectorRequirement) -> Result<LabelRequirement, Fault> {
    let values = spec.values.clone().unwrap_or_default();
    let key = spec.key.clone();
    match (spec.operator.as_str(), values.is_empty()) {
        ("In", false) => Ok(LabelRequirement::In(key, values)),
        ("NotIn", false) => Ok(LabelRequirement::NotIn(key, values)),
        ("Exists", true) => Ok(LabelRequirement::Exists(key)),
        ("DoesNotExist", true) => Ok(LabelRequirement::DoesNotExist(key)),
        (operator, _) => Err(Fault::invalid(
            format!(
                "podSelector: {operator:?} with {} values is no requirement for label {key:?}",
                values.len()
            ),
            SELECTOR_REMEDY,
        )),
    }
}

/// Tells of callers of other namespaces, where the policy speaks of those of its own only.
pub(super) fn tell_of_foreigners(
    specs: &[CallerSelector],
    own: &str,
    field: &Field<'_>,
    faults: &mut Faults,
) {
    for (index, spec) in specs.iter().enumerate() {
        let namespaces = spec.namespaces.iter().flatten();
        let accounts = spec.service_accounts.iter().flatten();
        let of_accounts =
            accounts.filter_map(|it| it.split_once('/').map(|(namespace, _)| namespace));
        let mut named = namespaces.map(String::as_str).chain(of_accounts);
        let Some(foreign) = named.find(|name| *name != own) else {
            continue;
        };
        faults.warn(
            reason::UNSUPPORTED_VALUE,
            &field.at(index),
            format!("callers of namespace {foreign:?} are not selected: no egress Gateway is in the policy's namespace, so it \
                 speaks of callers of its own namespace only"),
            "move the policy into the namespace of the Gateway, or name callers of its own namespace",
        );
    }
}
