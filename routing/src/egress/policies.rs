//! What policies say of a question.
//!
//! Policies of the Gateway's namespace and those of the caller's narrow each by itself: a caller gets what both leave. A
//! caller that is not known may be anybody, so whatever might be meant for it holds against it, and nothing that might be
//! in its favour. That goes for the policies of every namespace: if those of other namespaces than the Gateway's were passed over,
//! whoever is shut in by one would only have to hide who it is to get out.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{
    about::Asked,
    decide::{Caller, DecisionReason, Question},
    path::with_paths_as_read,
    policy::{Policy, PolicyMode, PolicyScope},
    scope::{Objection, Scope},
    way::Way,
};
use crate::key::PolicyKey;

/// Policies by whom they may speak of.
#[derive(Debug, Default)]
pub(super) struct PolicyIndex {
    gateway: Scope,
    namespaces: HashMap<Box<str>, Scope, RandomState>,
    /// Those of all namespaces, which hold against whoever is not known.
    unknown: Scope,
}

/// What policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opinion<'t> {
    /// None is against it.
    Fine,
    /// It is refused, or with [`PolicyMode::Report`] would be.
    Against {
        mode: PolicyMode,
        reason: DecisionReason,
        policy: Option<&'t PolicyKey>,
        by_request: bool,
    },
}

impl PolicyIndex {
    pub(super) fn new<'a>(
        policies: impl Iterator<Item = (&'a PolicyKey, &'a Arc<Policy>)>,
    ) -> Self {
        let mut gateway = Vec::new();
        // Ordered, so that of several the same one is told of every time.
        let mut namespaces: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        // What selects nobody says nothing.
        let selecting = policies.filter(|(_, it)| it.from.as_ref().is_none_or(|it| !it.is_empty()));
        for (key, policy) in selecting {
            let scope = match &policy.scope {
                PolicyScope::Gateway => &mut gateway,
                PolicyScope::Namespace(namespace) => namespaces.entry(namespace).or_default(),
            };
            scope.push((key.clone(), with_paths_as_read(policy)));
        }
        let all = namespaces.values().flatten().cloned().collect();
        let namespaces = namespaces.into_iter();
        Self {
            gateway: Scope::new(gateway),
            unknown: Scope::of_unknown(all),
            namespaces: namespaces
                .map(|(name, policies)| (name.into(), Scope::new(policies)))
                .collect(),
        }
    }

    /// The gravest that is said of a question whose destination is reached this way.
    pub(super) fn opinion(&self, question: &Question<'_>, way: Way<'_>) -> Opinion<'_> {
        let asked = Asked::new(question, way);
        let mut told = Opinion::Fine;
        for scope in self.scopes(question.caller) {
            match judge(scope, &asked) {
                Opinion::Fine => {}
                against @ Opinion::Against {
                    mode: PolicyMode::Enforce,
                    ..
                } => return against,
                reported @ Opinion::Against { .. } => told = reported,
            }
        }
        told
    }

    /// See [`super::CompiledEgress::opens_private`].
    pub(super) fn opens_private(
        &self,
        question: &Question<'_>,
        way: Way<'_>,
        address: IpAddr,
    ) -> bool {
        self.gateway.allows(&Asked::new(question, way), |policy| {
            let mut ranges = policy.allow_private.iter();
            policy.mode == PolicyMode::Enforce && ranges.any(|range| range.contains(&address))
        })
    }

    /// The scopes that a caller may be in.
    fn scopes(&self, caller: Option<Caller<'_>>) -> impl Iterator<Item = &Scope> {
        let narrow = match caller {
            Some(caller) => self.namespaces.get(caller.namespace),
            None => Some(&self.unknown),
        };
        std::iter::once(&self.gateway).chain(narrow)
    }
}

fn judge<'t>(scope: &'t Scope, asked: &Asked<'_>) -> Opinion<'t> {
    let mut told = Opinion::Fine;
    // What is enforced comes first: with what is only reported beside it, more may be allowed and more denied.
    let modes = [PolicyMode::Enforce, PolicyMode::Report];
    // Where none only reports, the second look would see what the first did.
    for mode in modes.into_iter().take(1 + usize::from(scope.reports)) {
        let counts = |policy: &Policy| mode == PolicyMode::Report || policy.mode == mode;
        if let Some(objection) = scope.objection(asked, counts) {
            let Objection {
                reason,
                policy,
                by_request,
            } = objection;
            told = Opinion::Against {
                mode,
                reason,
                policy,
                by_request,
            };
            break;
        }
    }
    told
}
