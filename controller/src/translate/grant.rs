//! ReferenceGrants: who may refer to what in another namespace.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::referencegrants::ReferenceGrantSpec;

use crate::resources::Objects;

/// The object that refers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrantSubject<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
}

/// The object that is referred to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrantTarget<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// All ReferenceGrants, by the namespace that they open.
pub(crate) struct Grants<'a> {
    by_namespace: BTreeMap<&'a str, Vec<&'a ReferenceGrantSpec>>,
}

impl<'a> Grants<'a> {
    pub(crate) fn new(
        grants: &'a Objects<gateway_api::apis::experimental::referencegrants::ReferenceGrant>,
    ) -> Self {
        let mut by_namespace = BTreeMap::<_, Vec<_>>::new();
        for (key, grant) in grants {
            by_namespace
                .entry(key.namespace.as_str())
                .or_default()
                .push(&grant.spec);
        }
        Self { by_namespace }
    }

    /// Whether `from` may refer to `to`: always within one namespace, else by a grant in the target's namespace.
    pub(crate) fn permits(&self, from: GrantSubject<'_>, to: GrantTarget<'_>) -> bool {
        if from.namespace == to.namespace {
            return true;
        }
        let grants = self
            .by_namespace
            .get(to.namespace)
            .map(Vec::as_slice)
            .unwrap_or_default();
        grants
            .iter()
            .any(|grant| names_subject(grant, from) && names_target(grant, to))
    }
}

fn names_subject(grant: &ReferenceGrantSpec, from: GrantSubject<'_>) -> bool {
    grant
        .from
        .iter()
        .any(|f| f.group == from.group && f.kind == from.kind && f.namespace == from.namespace)
}

fn names_target(grant: &ReferenceGrantSpec, to: GrantTarget<'_>) -> bool {
    grant.to.iter().any(|t| {
        t.group == to.group
            && t.kind == to.kind
            && t.name
                .as_deref()
                .is_none_or(|name| name.is_empty() || name == to.name)
    })
}
