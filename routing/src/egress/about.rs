//! Whether a policy that names the host of a destination is about what is asked, by its port and by what of it is seen.

use std::{borrow::Cow, cell::OnceCell};

use super::{
    decide::{Destination, Question, Seen},
    entry::EntryEndpoint,
    opened::Opened,
    path::{folded, read},
    policy::{DestinationMatch, Policy, PolicyAction, PolicyScope},
    targets::Targets,
    way::Way,
};
use crate::{hostname::HostPattern, matcher::has_prefix, matches::PathMatch};

/// A question, and what else decides whether a policy is about it.
pub(super) struct Asked<'a> {
    pub(super) question: &'a Question<'a>,
    pub(super) way: Way<'a>,
    /// The ports that it leads to, if it leads astray for anybody.
    targets: Option<Targets>,
    /// The path of a request as servers read it, once a policy with paths is looked at; `None` inside if they differ about it.
    path: OnceCell<Option<Cow<'a, str>>>,
    /// That, [folded], once a Deny with paths is looked at.
    folded: OnceCell<Cow<'a, str>>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(question: &'a Question<'a>, way: Way<'a>) -> Self {
        // What is astray for the policies of some namespace is so for the Gateway's.
        let astray = way.astray(&PolicyScope::Gateway, question);
        Self {
            question,
            way,
            targets: astray.map(Targets::of),
            path: OnceCell::new(),
            folded: OnceCell::new(),
        }
    }

    /// The same, if the entry that opens the destination led where it is named.
    pub(super) fn as_named(&self) -> Self {
        Self::new(self.question, self.way.as_named())
    }

    /// The hosts that the destination may stand for: of an address, all of its entry.
    pub(super) fn stands_for(&self) -> impl Iterator<Item = HostPattern<'a>> + use<'a> {
        let hosts = match self.question.destination {
            Destination::Name(_) => &[],
            Destination::Address(_) => self.way.hosts(),
        };
        HostPattern::of_each(hosts)
    }

    /// The entry, if it leads astray for the author of a policy.
    pub(super) fn astray(&self, policy: &Policy) -> Option<Opened<'a>> {
        self.way.astray(&policy.scope, self.question)
    }

    /// Where it leads, if that is astray for anybody.
    pub(super) fn led_to(&self) -> &'a [EntryEndpoint] {
        let astray = self.way.astray(&PolicyScope::Gateway, self.question);
        astray.map_or(&[], |astray| &astray.entry.endpoints)
    }

    /// The hosts that it asks for by TLS in place of the one that is named, if that is astray for anybody.
    pub(super) fn asked_for(&self) -> impl Iterator<Item = HostPattern<'a>> + use<'a> {
        let astray = self.way.astray(&PolicyScope::Gateway, self.question);
        let question = self.question;
        let names = astray.into_iter();
        let names = names.flat_map(move |astray| astray.asked_names(question));
        names.map(|name| HostPattern::new(Some(name)))
    }

    /// Whether it leads to other hosts, so that no Allow of this policy's author covers it by a host.
    pub(super) fn has_hosts_astray(&self, policy: &Policy) -> bool {
        self.astray(policy).is_some_and(|astray| {
            !astray.entry.endpoints.is_empty() || astray.asks_another(self.question)
        })
    }

    /// Whether a policy that names the host is about the rest. Of what cannot be seen in a tunnel, or be read in one way only, the worse
    /// is assumed.
    pub(super) fn is_about(&self, to: &DestinationMatch, policy: &Policy) -> bool {
        let worse = policy.action == PolicyAction::Deny;
        self.is_port(to, policy)
            && match self.question.seen {
                Seen::Request { method, path, .. } => {
                    is_method(&to.methods, method, policy.action)
                        && self.is_path(path, &to.paths, policy.action)
                }
                // What is asked about later counts in the caller's favour now.
                seen => !to.is_of_requests() || worse != self.way.is_inspected(&seen),
            }
    }

    /// Whether the path of the request is one of those that a policy names; none are all. As with methods, no case passes a Deny.
    fn is_path(&self, path: &'a str, paths: &[PathMatch], action: PolicyAction) -> bool {
        if paths.is_empty() {
            return true;
        }
        let Some(path) = self.path.get_or_init(|| read(path)) else {
            return action == PolicyAction::Deny;
        };
        match action {
            PolicyAction::Allow => paths.iter().any(|it| is_path(it, path)),
            PolicyAction::Deny => {
                let path = self.folded.get_or_init(|| folded(path.clone()));
                paths.iter().any(|it| is_path_in_any_case(it, path))
            }
        }
    }

    /// Whether the port of a destination is among those that a policy names. It goes by what the caller names; but where others have
    /// led that elsewhere, an Allow does not cover what it has not named itself, and a Deny covers that too.
    pub(super) fn is_port(&self, to: &DestinationMatch, policy: &Policy) -> bool {
        if to.ports.is_empty() {
            return true;
        }
        let is_port = |port: u16| to.ports.contains(&port);
        let named = is_port(self.question.port);
        let astray = self.astray(policy);
        match (policy.action, self.targets.filter(|_| astray.is_some())) {
            (_, None) => named,
            (PolicyAction::Allow, Some(targets)) => named && targets.all(is_port),
            (PolicyAction::Deny, Some(targets)) => named || targets.any(is_port),
        }
    }
}

/// Whether the method of a request is one of those that a policy names; none are all. Servers that do not tell cases apart must not
/// be led past a Deny by another case.
fn is_method(methods: &[String], method: &str, action: PolicyAction) -> bool {
    let is_it = |wanted: &String| match action {
        PolicyAction::Allow => wanted == method,
        PolicyAction::Deny => wanted.eq_ignore_ascii_case(method),
    };
    methods.is_empty() || methods.iter().any(is_it)
}

fn is_path(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(exact) => path == exact,
        PathMatch::Prefix(prefix) => has_prefix(path, prefix),
        // Not accepted in a policy.
        PathMatch::Regex(_) => false,
    }
}

/// The same of paths that are [folded].
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
