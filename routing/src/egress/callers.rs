//! Whether a policy is about a caller.

use super::{
    decide::Caller,
    policy::{CallerMatch, Policy, PolicyScope},
};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Selects {
    No,
    /// Who calls is not known.
    Perhaps,
    /// Whom the policy means cannot be told, however well the caller is known.
    Unclear,
    Yes,
}

/// What a policy says of a caller.
pub(super) fn selects(policy: &Policy, caller: Option<Caller<'_>>) -> Selects {
    let from = match &policy.from {
        None => Selects::Yes,
        Some(from) => {
            let matches = from.iter().map(|from| is_from(from, caller));
            matches.max().unwrap_or(Selects::No)
        }
    };
    at_most(&policy.scope, caller).min(from)
}

/// The surest that a policy of this scope may say of a caller.
pub(super) fn at_most(scope: &PolicyScope, caller: Option<Caller<'_>>) -> Selects {
    match (scope, caller) {
        (PolicyScope::Gateway, _) => Selects::Yes,
        (PolicyScope::Namespace(_), None) => Selects::Perhaps,
        (PolicyScope::Namespace(namespace), Some(caller)) => sure(namespace == caller.namespace),
    }
}

const fn sure(holds: bool) -> Selects {
    if holds { Selects::Yes } else { Selects::No }
}

fn is_from(from: &CallerMatch, caller: Option<Caller<'_>>) -> Selects {
    let CallerMatch {
        namespaces,
        service_accounts,
        labels,
        unclear,
    } = from;
    if *unclear {
        return Selects::Unclear;
    }
    let Some(caller) = caller else {
        let anybody = namespaces.is_none() && service_accounts.is_none() && labels.is_none();
        return if anybody {
            Selects::Yes
        } else {
            Selects::Perhaps
        };
    };
    let namespace = namespaces.as_ref().is_none_or(|all| {
        let found = all.binary_search_by(|one| one.as_str().cmp(caller.namespace));
        found.is_ok()
    });
    let account = service_accounts.as_ref().is_none_or(|all| {
        all.iter().any(|(namespace, name)| {
            namespace == caller.namespace && name == caller.service_account
        })
    });
    if !(namespace && account) {
        return Selects::No;
    }
    match (labels, caller.labels) {
        (None, _) => Selects::Yes,
        (Some(_), None) => Selects::Perhaps,
        (Some(selector), Some(labels)) => sure(selector.matches(labels)),
    }
}
