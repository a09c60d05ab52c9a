//! What policies say of a question.
//!
//! Policies of the Gateway's namespace and those of the caller's narrow each by itself: a caller gets what both leave. A
//! caller that is not known may be anybody, so whatever might be meant for it holds against it, and nothing that might be
//! in its favour. That goes for the policies of every namespace: if those of other namespaces than the Gateway's were passed over,
//! whoever is shut in by one would only have to hide who it is to get out.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    decide::{Caller, DecisionReason, Destination, Opened, Question, Seen},
    entry::Entry,
    path::is_ambiguous,
    policy::{CallerMatch, DestinationMatch, Policy, PolicyAction, PolicyMode, PolicyScope},
    way::Way,
};
use crate::{
    endpoint::EndpointHost, hostname::HostPattern, key::PolicyKey, matcher::has_prefix,
    matches::PathMatch,
};

/// Policies by whom they may speak of.
#[derive(Debug, Default)]
pub(super) struct PolicyIndex {
    gateway: Scope,
    /// Ordered, so that of several the same one is told of every time.
    namespaces: BTreeMap<Box<str>, Scope>,
}

/// The policies of one scope.
#[derive(Debug, Default)]
struct Scope {
    /// By key.
    policies: Vec<(PolicyKey, Arc<Policy>)>,
    /// Some only report.
    reports: bool,
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

/// Why policies refuse.
struct Objection<'t> {
    reason: DecisionReason,
    policy: &'t PolicyKey,
    /// Another method or path might be allowed.
    by_request: bool,
}

/// Whether a policy is about a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Selects {
    No,
    /// Who calls is not known.
    Perhaps,
    /// Whom the policy means cannot be told, however well the caller is known.
    Unclear,
    Yes,
}

impl PolicyIndex {
    pub(super) fn new<'a>(
        policies: impl Iterator<Item = (&'a PolicyKey, &'a Arc<Policy>)>,
    ) -> Self {
        let mut index = Self::default();
        for (key, policy) in policies {
            let scope = match &policy.scope {
                PolicyScope::Gateway => &mut index.gateway,
                PolicyScope::Namespace(namespace) => index
                    .namespaces
                    .entry(namespace.as_str().into())
                    .or_default(),
            };
            scope.push((key.clone(), Arc::clone(policy)));
        }
        index
    }

    /// The gravest that is said of a question whose destination is reached this way.
    pub(super) fn opinion(&self, question: &Question<'_>, way: Way<'_>) -> Opinion<'_> {
        let asked = Asked { question, way };
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
        let asked = Asked { question, way };
        let opens = |policy: &Policy| {
            policy.action == PolicyAction::Allow
                && policy.mode == PolicyMode::Enforce
                && policy
                    .allow_private
                    .iter()
                    .any(|range| range.contains(&address))
                && selects(policy, question.caller) == Selects::Yes
                && names(policy, &asked)
        };
        self.gateway.iter().any(|(_, policy)| opens(policy))
    }

    /// The scopes that a caller may be in.
    fn scopes(&self, caller: Option<Caller<'_>>) -> impl Iterator<Item = &Scope> {
        let own = caller.and_then(|caller| self.namespaces.get(caller.namespace));
        let all = caller.is_none().then(|| self.namespaces.values());
        std::iter::once(&self.gateway)
            .chain(own)
            .chain(all.into_iter().flatten())
    }
}

impl Scope {
    fn push(&mut self, (key, policy): (PolicyKey, Arc<Policy>)) {
        self.reports |= policy.mode == PolicyMode::Report;
        self.policies.push((key, policy));
    }

    fn iter(&self) -> impl Iterator<Item = &(PolicyKey, Arc<Policy>)> {
        self.policies.iter()
    }
}

/// A question, and what else decides whether a policy is about it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    question: &'a Question<'a>,
    way: Way<'a>,
}

fn judge<'t>(scope: &'t Scope, asked: &Asked<'_>) -> Opinion<'t> {
    let mut told = Opinion::Fine;
    // What is enforced comes first: with what is only reported beside it, more may be allowed and more denied.
    let modes = [PolicyMode::Enforce, PolicyMode::Report];
    // Where none only reports, the second look would see what the first did.
    for mode in modes.into_iter().take(1 + usize::from(scope.reports)) {
        let counts = |policy: &Policy| mode == PolicyMode::Report || policy.mode == mode;
        if let Some(Objection {
            reason,
            policy,
            by_request,
        }) = objection(scope, asked, counts)
        {
            told = Opinion::Against {
                mode,
                reason,
                policy: Some(policy),
                by_request,
            };
            break;
        }
    }
    told
}

/// Why the policies that count refuse, and which of them.
fn objection<'t>(
    scope: &'t Scope,
    asked: &Asked<'_>,
    counts: impl Fn(&Policy) -> bool,
) -> Option<Objection<'t>> {
    let (mut shut_in, mut allowed, mut is_led) = (None, false, false);
    for (key, policy) in scope.iter().filter(|(_, policy)| counts(policy)) {
        let selected = selects(policy, asked.question.caller);
        if selected == Selects::No {
            continue;
        }
        let named = names(policy, asked);
        match policy.action {
            PolicyAction::Deny if named => {
                return Some(Objection {
                    reason: reason(DecisionReason::DeniedByPolicy, selected),
                    policy: key,
                    by_request: denies_requests(policy, asked),
                });
            }
            PolicyAction::Deny => {}
            PolicyAction::Allow => {
                allowed |= named && selected == Selects::Yes;
                is_led |= !named && selected == Selects::Yes && would_name(policy, asked);
                // The surest that selects the caller is the one to tell of.
                if shut_in.is_none_or(|(before, _)| before < selected) {
                    shut_in = Some((selected, key));
                }
            }
        }
    }
    let (selected, key) = shut_in.filter(|_| !allowed)?;
    let sure = if is_led {
        DecisionReason::LedElsewhere
    } else {
        DecisionReason::NotAllowedByPolicy
    };
    let allows = |(_, policy): &&(PolicyKey, Arc<Policy>)| {
        counts(policy) && policy.action == PolicyAction::Allow
    };
    let mut allowing = scope.iter().filter(allows).map(|(_, policy)| policy);
    Some(Objection {
        reason: reason(sure, selected),
        policy: key,
        by_request: !is_led && allowing.any(|policy| allows_requests(policy, asked)),
    })
}

/// Whether a Deny that names what is asked for does so for its method or path only.
fn denies_requests(policy: &Policy, asked: &Asked<'_>) -> bool {
    let items = policy.to.iter().flatten();
    let mut naming = items.filter(|to| is_to(to, policy, asked));
    policy.to.is_some() && naming.all(DestinationMatch::is_of_requests)
}

/// Whether an Allow that does not name what is asked for names other requests to the same place.
fn allows_requests(policy: &Policy, asked: &Asked<'_>) -> bool {
    let mut items = policy.to.iter().flatten();
    selects(policy, asked.question.caller) == Selects::Yes
        && items.any(|to| to.is_of_requests() && is_there(to, policy, asked))
}

/// Whether an Allow would be about a destination if the entry that opens it led where it is named.
fn would_name(policy: &Policy, asked: &Asked<'_>) -> bool {
    let way = asked.way.as_named();
    names(policy, &Asked { way, ..*asked })
}

fn reason(sure: DecisionReason, selected: Selects) -> DecisionReason {
    if selected >= Selects::Unclear {
        sure
    } else {
        DecisionReason::UnknownCaller
    }
}

fn selects(policy: &Policy, caller: Option<Caller<'_>>) -> Selects {
    let in_scope = match (&policy.scope, caller) {
        (PolicyScope::Gateway, _) => Selects::Yes,
        (PolicyScope::Namespace(_), None) => Selects::Perhaps,
        (PolicyScope::Namespace(namespace), Some(caller)) => sure(namespace == caller.namespace),
    };
    let from = match &policy.from {
        None => Selects::Yes,
        Some(from) => {
            let matches = from.iter().map(|from| is_from(from, caller));
            matches.max().unwrap_or(Selects::No)
        }
    };
    in_scope.min(from)
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
    let namespace = namespaces
        .as_ref()
        .is_none_or(|all| all.iter().any(|one| one == caller.namespace));
    let account = service_accounts.as_ref().is_none_or(|all| {
        all.iter().any(|(namespace, name)| {
            namespace == caller.namespace && name == caller.service_account
        })
    });
    let labelled = match (labels, caller.labels) {
        (None, _) => Selects::Yes,
        (Some(_), None) => Selects::Perhaps,
        (Some(selector), Some(labels)) => sure(selector.matches(labels)),
    };
    sure(namespace && account).min(labelled)
}

/// Whether a policy is about a destination. Of what cannot be seen in a tunnel, or be read in one way only, the worse is assumed.
fn names(policy: &Policy, asked: &Asked<'_>) -> bool {
    let mut to = policy.to.iter().flatten();
    policy.to.is_none() || to.any(|to| is_to(to, policy, asked))
}

fn is_to(to: &DestinationMatch, policy: &Policy, asked: &Asked<'_>) -> bool {
    let worse = policy.action == PolicyAction::Deny;
    is_there(to, policy, asked)
        && match asked.question.seen {
            Seen::Request { method, path, .. } => {
                let is_method = to.methods.is_empty() || to.methods.iter().any(|it| it == method);
                is_method && is_among(&to.paths, path, policy.action)
            }
            // What is asked about later counts in the caller's favour now.
            seen => !to.is_of_requests() || worse != asked.way.is_inspected(&seen),
        }
}

/// Whether host and port of a destination are among those that a policy names. It goes by what the caller names; but where others
/// have led that elsewhere, an Allow does not cover what it has not named itself, and a Deny covers that too.
fn is_there(to: &DestinationMatch, policy: &Policy, asked: &Asked<'_>) -> bool {
    let Asked { question, way } = asked;
    let astray = way.astray(&policy.scope);
    let is_port = |port: u16| to.ports.contains(&port);
    let (host, port) = match policy.action {
        PolicyAction::Allow => {
            let is_host = |host: &String| is_host(host, question, &[]);
            let stays = astray.is_none_or(|astray| astray.entry.endpoints.is_empty());
            let mut targets = astray.into_iter().flat_map(Opened::targets);
            (
                stays && to.hosts.iter().any(is_host),
                is_port(question.port) && targets.all(is_port),
            )
        }
        PolicyAction::Deny => {
            // An address is as good as any host that its entry has: what is asked for once it is reached is not asked about again.
            let is_host = |host: &String| {
                is_host(host, question, way.hosts())
                    || astray.is_some_and(|astray| leads_to(astray.entry, host))
            };
            let mut targets = astray.into_iter().flat_map(Opened::targets);
            (
                to.hosts.iter().any(is_host),
                is_port(question.port) || targets.any(is_port),
            )
        }
    };
    (to.hosts.is_empty() || host) && (to.ports.is_empty() || port)
}

/// Whether the path of a request is one of those that a policy names; none are all. Servers that do not tell cases apart must not
/// be led past a Deny by another case.
fn is_among(paths: &[PathMatch], path: &str, action: PolicyAction) -> bool {
    if paths.is_empty() {
        return true;
    }
    if is_ambiguous(path) {
        return action == PolicyAction::Deny;
    }
    match action {
        PolicyAction::Allow => paths.iter().any(|it| is_path(it, path)),
        PolicyAction::Deny => paths.iter().any(|it| is_path_in_any_case(it, path)),
    }
}

fn is_host(host: &str, question: &Question<'_>, hosts: &[String]) -> bool {
    let pattern = HostPattern::new(Some(host));
    match question.destination {
        Destination::Name(name) => pattern.matches(name),
        Destination::Address(address) => {
            let mut hosts = HostPattern::of_each(hosts);
            host.parse() == Ok(address) || hosts.any(|one| pattern.overlaps(one))
        }
    }
}

/// Whether an entry has an endpoint of this name or address.
fn leads_to(entry: &Entry, host: &str) -> bool {
    let mut endpoints = entry.endpoints.iter();
    endpoints.any(|endpoint| match &endpoint.host {
        EndpointHost::Name(name) => HostPattern::new(Some(host)).matches(name),
        EndpointHost::Ip(address) => host.parse() == Ok(*address),
    })
}

fn is_path(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(exact) => path == exact,
        PathMatch::Prefix(prefix) => has_prefix(path, prefix),
        // Not accepted in a policy.
        PathMatch::Regex(_) => false,
    }
}

fn is_path_in_any_case(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(exact) => path.eq_ignore_ascii_case(exact),
        PathMatch::Prefix(prefix) => {
            let prefix = prefix.trim_end_matches('/');
            path.split_at_checked(prefix.len())
                .is_some_and(|(begin, rest)| {
                    let ends = rest.is_empty() || rest.starts_with('/');
                    ends && begin.eq_ignore_ascii_case(prefix)
                })
        }
        PathMatch::Regex(_) => false,
    }
}
