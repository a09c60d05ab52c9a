//! `from` of an EgressPolicy: the callers that it speaks of.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector as LabelSelectorSpec, LabelSelectorRequirement,
};
use kube::core::{ParseExpressionError, Selector, SelectorExt as _};
use portcullis_crds::egress_policy::CallerSelector;
use portcullis_routing::egress::{CallerMatch, LabelRequirement, LabelSelector};

use super::faults::{Fault, Faults};
use crate::{
    resources::ObjectKey,
    status::reason,
    translate::{Context, field::Field, namespaces},
};

/// The namespaces that callers may be in, with their labels. Looked through once for each selector, however many policies have it.
pub(super) struct Places {
    /// Whether these are all that there are: files may leave some out.
    are_all: bool,
    labels: BTreeMap<String, BTreeMap<String, String>>,
    /// What selectors have found so far, by their text.
    found: RefCell<BTreeMap<String, BTreeSet<String>>>,
}

impl Places {
    /// All that objects, or pods of a namespace that no file defines, tell of.
    pub(super) fn collect(ctx: &Context<'_>) -> Self {
        let objects = ctx.resources.namespaces.keys().map(|key| &key.name);
        let of_pods = ctx.resources.pods.keys().map(|key| &key.namespace);
        let mut labels = BTreeMap::new();
        for name in objects.chain(of_pods) {
            if !labels.contains_key(name) {
                labels.insert(name.clone(), namespaces::labels(ctx, name));
            }
        }
        Self {
            are_all: ctx
                .resources
                .namespaces
                .contains_key(&ObjectKey::cluster(EVERYWHERE)),
            labels,
            found: RefCell::default(),
        }
    }

    /// The first that is named, and is none.
    fn unknown<'a>(&self, mut named: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        named.find(|name| self.are_all && !self.labels.contains_key(*name))
    }

    /// The namespaces that a selector finds now; only `within` is looked at if that is given.
    fn selected(
        &self,
        spec: &LabelSelectorSpec,
        within: Option<&str>,
    ) -> Result<BTreeSet<String>, Fault> {
        if let Some(own) = within {
            let selector = parsed(spec)?;
            let labels = self.labels.get(own);
            let is_selected = labels.is_some_and(|labels| selector.matches(labels));
            return Ok(is_selected.then(|| own.to_owned()).into_iter().collect());
        }
        let text = serde_json::to_string(spec).unwrap_or_default();
        if let Some(found) = self.found.borrow().get(&text) {
            return Ok(found.clone());
        }
        let selector = parsed(spec)?;
        let selected = self
            .labels
            .iter()
            .filter(|(_, labels)| selector.matches(labels));
        let selected: BTreeSet<_> = selected.map(|(name, _)| name.clone()).collect();
        self.found.borrow_mut().insert(text, selected.clone());
        Ok(selected)
    }
}

fn parsed(spec: &LabelSelectorSpec) -> Result<Selector, Fault> {
    let selector = spec.clone().try_into();
    selector.map_err(|error: ParseExpressionError| {
        Fault::invalid(format!("namespaceSelector: {error}"), SELECTOR_REMEDY)
    })
}

const UNCLEAR: &str = "; it may mean anybody, so until it is corrected the policy holds against every caller that it can speak of: \
     what it denies is denied to all of them, and what it allows is allowed to nobody for this item's sake";
/// A namespace that every cluster has.
const EVERYWHERE: &str = "kube-system";
const NO_NAMESPACE: &str = "nothing to do if there will be one; else correct the names or labels";
const SELECTOR_REMEDY: &str =
    "use the operators In and NotIn with values, Exists and DoesNotExist without";

/// Whose policy it is, and of whom it speaks.
#[derive(Clone, Copy)]
pub(super) struct Speaker<'a> {
    /// Its namespace.
    pub(super) own: &'a str,
    /// Whether it speaks of callers of its own namespace only: no egress Gateway is there.
    pub(super) of_own_only: bool,
}

impl<'a> Speaker<'a> {
    fn within(self) -> Option<&'a str> {
        self.of_own_only.then_some(self.own)
    }

    /// Why an item is nobody, and what to do; `None` if [`tell_of_foreigners`] tells of it.
    fn nobody(self, spec: &CallerSelector) -> Option<(String, &'static str)> {
        if !self.of_own_only {
            let why = "there is no such namespace, so this selects nobody";
            return Some((why.to_owned(), NO_NAMESPACE));
        }
        foreigner(spec, self.own).is_none().then(|| {
            let why = format!(
                "this selects nobody of namespace {:?}, and the policy speaks of no other callers, as no egress Gateway is there",
                self.own
            );
            (why, "move the policy into the namespace of the Gateway, or leave out the selector")
        })
    }
}

/// The callers; `None` is everybody, and an empty list is nobody. An item that is not valid may mean anybody.
pub(super) fn translate(
    places: &Places,
    specs: &[CallerSelector],
    speaker: Speaker<'_>,
    field: &Field<'_>,
    faults: &mut Faults,
) -> Option<Vec<CallerMatch>> {
    if specs.is_empty() {
        return None;
    }
    let mut callers = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let caller = caller(places, spec, speaker).map_err(|fault| fault.followed_by(UNCLEAR));
        let caller = faults.keep(&field.at(index), caller);
        let caller = caller.unwrap_or_else(anybody);
        if is_nobody(&caller) {
            if let Some((why, remedy)) = speaker.nobody(spec) {
                faults.warn("SelectsNobody", &field.at(index), why, remedy);
            }
            continue;
        }
        if let Some(unknown) = places.unknown(named(spec)).filter(|_| !speaker.of_own_only) {
            let why = format!("there is no namespace {unknown:?}, so nobody is selected there");
            faults.warn("SelectsNobody", &field.at(index), why, NO_NAMESPACE);
        }
        if !callers.contains(&caller) {
            callers.push(caller);
        }
    }
    Some(callers)
}

/// Who is of no namespace does not exist; a caller that is not known must not be taken for it.
fn is_nobody(caller: &CallerMatch) -> bool {
    let namespaces = caller.namespaces.as_ref();
    let accounts = caller.service_accounts.as_ref();
    namespaces.is_some_and(Vec::is_empty) || accounts.is_some_and(Vec::is_empty)
}

/// Those of these callers that are of the namespace `own`: tables have no more of a policy that speaks of no others.
pub(super) fn inside(callers: &[CallerMatch], own: &str) -> Vec<CallerMatch> {
    let mut inside = Vec::with_capacity(callers.len());
    for caller in callers {
        let mut caller = caller.clone();
        if let Some(namespaces) = &mut caller.namespaces {
            namespaces.retain(|it| it == own);
        }
        if let Some(accounts) = &mut caller.service_accounts {
            accounts.retain(|(namespace, _)| namespace == own);
        }
        if !is_nobody(&caller) && !inside.contains(&caller) {
            inside.push(caller);
        }
    }
    inside
}

/// Whoever is meant, it must not be nobody: a Deny would let everything pass.
fn anybody() -> CallerMatch {
    CallerMatch {
        unclear: true,
        ..CallerMatch::default()
    }
}

fn caller(
    places: &Places,
    spec: &CallerSelector,
    speaker: Speaker<'_>,
) -> Result<CallerMatch, Fault> {
    let selected = spec.namespace_selector.as_ref();
    let selected = selected
        .map(|selector| places.selected(selector, speaker.within()))
        .transpose()?;
    let named = spec.namespaces.as_ref();
    let named = named.map(|names| names.iter().cloned().collect::<BTreeSet<_>>());
    let namespaces = match (named, selected) {
        (Some(named), Some(selected)) => Some(named.intersection(&selected).cloned().collect()),
        (named, selected) => named.or(selected),
    };
    let accounts = spec.service_accounts.as_ref();
    let accounts =
        accounts.map(|accounts| accounts.iter().map(|it| account(it, speaker.own)).collect());
    let labels = spec.pod_selector.as_ref().map(pod_selector).transpose()?;
    Ok(CallerMatch {
        namespaces: namespaces.map(|names| names.into_iter().collect()),
        service_accounts: accounts,
        labels,
        unclear: false,
    })
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

/// The namespaces that are named.
fn named(spec: &CallerSelector) -> impl Iterator<Item = &str> {
    let namespaces = spec.namespaces.iter().flatten();
    let accounts = spec.service_accounts.iter().flatten();
    let of_accounts = accounts.filter_map(|it| it.split_once('/').map(|(namespace, _)| namespace));
    namespaces.map(String::as_str).chain(of_accounts)
}

/// A namespace other than `own` that is named.
fn foreigner<'a>(spec: &'a CallerSelector, own: &str) -> Option<&'a str> {
    named(spec).find(|name| *name != own)
}

/// Tells of callers of other namespaces, where the policy speaks of those of its own only.
pub(super) fn tell_of_foreigners(
    specs: &[CallerSelector],
    own: &str,
    field: &Field<'_>,
    faults: &mut Faults,
) {
    for (index, spec) in specs.iter().enumerate() {
        let Some(foreign) = foreigner(spec, own) else {
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
