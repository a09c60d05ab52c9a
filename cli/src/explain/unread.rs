//! What the caller may not read, and what that makes of findings: nothing is known to be missing that cannot be seen.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_controller::{Finding, ObjectKey, Resources, Severity, status::reason};

use super::around::sets_of;
use crate::{cluster::Kind, output::count, report::Issue};

/// Kinds and objects that the caller was refused.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Kinds that may not be listed everywhere.
    kinds: BTreeMap<&'static str, Refused>,
    /// Kinds of which single objects may not be read.
    objects: BTreeMap<&'static str, Objects>,
    /// Whether the labels of namespaces decide what may use the Gateway.
    selects: bool,
}

/// A kind.
#[derive(Debug)]
struct Refused {
    /// The words of the API server.
    message: String,
    /// The one namespace of which its objects are known all the same.
    seen: Option<String>,
}

/// Objects of a kind.
#[derive(Debug)]
struct Objects {
    /// The words of the API server for the first.
    message: String,
    keys: BTreeSet<ObjectKey>,
}

/// What a finding would be about.
struct Hidden {
    /// Such as `Secret shop/cert`.
    what: String,
    /// `it` or `them`.
    pronoun: &'static str,
    /// The verb of the right that is missing.
    right: &'static str,
}

impl Unread {
    /// This kind may not be listed, unless in the namespace where it was `seen`.
    pub(super) fn add_kind(&mut self, kind: &Kind, message: String, seen: Option<&str>) {
        let seen = seen.map(ToOwned::to_owned);
        self.kinds.insert(kind.name, Refused { message, seen });
    }

    /// This object may not be read.
    pub(super) fn add_object(&mut self, kind: &Kind, key: &ObjectKey, message: String) {
        let objects = self.objects.entry(kind.name).or_insert_with(|| Objects {
            message,
            keys: BTreeSet::new(),
        });
        objects.keys.insert(key.clone());
    }

    /// Looks at the Gateway that all this is about.
    pub(super) fn look_at(&mut self, gateway: &ObjectKey, resources: &Resources) {
        macro_rules! selects {
            ($object:expr, $allowed:ident) => {{
                let namespaces = $object
                    .$allowed
                    .as_ref()
                    .and_then(|it| it.namespaces.as_ref());
                namespaces.is_some_and(|namespaces| namespaces.selector.is_some())
            }};
        }
        let sets = sets_of(gateway, resources).filter_map(|it| resources.listener_sets.get(it));
        let mut sets = sets.flat_map(|set| &set.spec.listeners);
        let own = resources.gateways.get(gateway).is_some_and(|gateway| {
            let spec = &gateway.spec;
            let mut listeners = spec.listeners.iter();
            selects!(spec, allowed_listeners) || listeners.any(|it| selects!(it, allowed_routes))
        });
        self.selects = own || sets.any(|it| selects!(it, allowed_routes));
    }

    /// Whether the caller was refused nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.objects.is_empty()
    }

    /// Whether objects of this kind may be anywhere without being known.
    pub(super) fn has_kind(&self, kind: &Kind) -> bool {
        self.kinds.contains_key(kind.name)
    }

    /// Whether objects of this kind may be in a namespace without being known.
    pub(super) fn hides(&self, kind: &str, namespace: &str) -> bool {
        let refused = self.kinds.get(kind);
        refused.is_some_and(|refused| refused.seen.as_deref() != Some(namespace))
    }

    /// What was refused, once for each kind.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let note = |message: &str| format!("as if it were not there: {message}");
        let kinds = self.kinds.values().map(move |it| match &it.seen {
            Some(seen) => format!("only of namespace {seen}: {}", it.message),
            None => note(&it.message),
        });
        let objects = self.objects.iter().map(move |(kind, objects)| {
            let others = objects.keys.len() - 1;
            let others = (others > 0)
                .then(|| format!("; likewise {}", count(others, &format!("more {kind}"))));
            note(&objects.message) + &others.unwrap_or_default()
        });
        kinds.chain(objects)
    }

    /// Whether a finding may only be there because something may not be read.
    pub(super) fn is_behind(&self, finding: &Finding) -> bool {
        self.hidden(finding).is_some()
    }

    /// A finding, or that it is not known.
    pub(super) fn judge(&self, finding: &Finding, issue: Issue) -> Issue {
        let Some(Hidden {
            what,
            pronoun,
            right,
        }) = self.hidden(finding)
        else {
            return issue;
        };
        Issue {
            severity: Severity::Warning,
            message: format!(
                "you may not read {what}, so what comes of {pronoun} is not known here"
            ),
            remedy: format!("ask for the right to `{right}` {pronoun}, or somebody who has it"),
            apply: None,
            ..issue
        }
    }

    fn hidden(&self, finding: &Finding) -> Option<Hidden> {
        let every = |kind: &Kind| {
            let is_hidden = self.has_kind(kind);
            is_hidden.then(|| Hidden {
                what: format!("{}s", kind.name),
                pronoun: "them",
                right: "list",
            })
        };
        match finding.code {
            reason::REF_NOT_PERMITTED => return every(&Kind::REFERENCE_GRANT),
            reason::NOT_ALLOWED_BY_LISTENERS | reason::NOT_ALLOWED if self.selects => {
                return every(&Kind::NAMESPACE);
            }
            _ => {}
        }
        let (kind, key) = missing(&finding.message)?;
        let objects = self.objects.get(kind.as_str());
        let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
        let right = if self.hides(&kind, namespace) {
            "list"
        } else if objects.is_some_and(|objects| objects.keys.iter().any(|it| it.to_string() == key))
        {
            "get"
        } else {
            return None;
        };
        Some(Hidden {
            what: format!("{kind} {key}"),
            pronoun: "it",
            right,
        })
    }
}

/// Kind and key of the object that a message says is missing, in any of the ways in which messages say so.
fn missing(message: &str) -> Option<(String, String)> {
    let object = message.split_once(" does not exist");
    let parent = || {
        let parent = message.strip_prefix("there is no ")?.split_once(", so ");
        parent.filter(|(parent, _)| !parent.contains('"'))
    };
    if let Some((object, _)) = object.or_else(parent) {
        let (kind, key) = object.split_once(' ')?;
        return Some((kind.to_owned(), key.to_owned()));
    }
    let parts: Vec<_> = message.split('"').collect();
    match parts[..] {
        ["there is no Service ", name, " in namespace ", namespace, _] => {
            Some(("Service".to_owned(), format!("{namespace}/{name}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_in_three_ways_what_is_missing() {
        for (message, kind, key) in [
            ("Secret shop/cert does not exist", "Secret", "shop/cert"),
            (
                "there is no Gateway shop/edge, so the route is not served there",
                "Gateway",
                "shop/edge",
            ),
            (
                "there is no ListenerSet shop/more, so the route is not served there",
                "ListenerSet",
                "shop/more",
            ),
            (
                "there is no Service \"web\" in namespace \"shop\"",
                "Service",
                "shop/web",
            ),
        ] {
            let expected = Some((kind.to_owned(), key.to_owned()));
            assert_eq!(missing(message), expected, "{message}");
        }
        assert_eq!(missing("the port is taken, so it is not served"), None);
    }
}
