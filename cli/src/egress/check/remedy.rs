//! What would allow what is refused, in words and as a manifest.

use std::collections::BTreeSet;

use portcullis_controller::ObjectKey;
use portcullis_routing::{
    EntryKey, RoutingTable,
    egress::{
        Decision, DecisionReason, Destination, LabelRequirement, Policy, Question, Seen,
        address::AddressClass,
    },
};

use super::{Case, opening::Opening};
use crate::egress::manifest::{Names, destinations, egress_policy, yaml};

/// What was asked of the table.
#[derive(Clone, Copy)]
pub(super) enum Way<'t> {
    /// About whatever host the caller names.
    Straight,
    /// About what a route leads through this entry.
    Through(&'t EntryKey),
    /// About what a route leads to a backend of the cluster.
    Inside,
}

/// Neither, if nothing is to be done.
#[derive(Default)]
pub(super) struct Remedy {
    pub(super) words: Option<String>,
    pub(super) apply: Option<String>,
}

impl From<String> for Remedy {
    fn from(words: String) -> Self {
        Self {
            words: Some(words),
            apply: None,
        }
    }
}

impl Remedy {
    /// With what is to be done after it.
    pub(super) fn then(self, next: Self) -> Self {
        let joined =
            |first: Option<String>, next: Option<String>, between: &str| match (first, next) {
                (Some(first), Some(next)) => Some(first + between + &next),
                (first, next) => first.or(next),
            };
        Self {
            words: joined(self.words, next.words, "; then "),
            apply: joined(self.apply, next.apply, "---\n"),
        }
    }

    pub(super) fn of(
        question: &Question<'_>,
        decision: &Decision<'_>,
        way: Way<'_>,
        case: &Case<'_>,
    ) -> anyhow::Result<Self> {
        let table = case.table;
        let policy = decision.policy.map_or("", |policy| policy.as_str());
        Ok(match decision.reason {
            DecisionReason::Allowed => Self::default(),
            DecisionReason::HostNotListed
            | DecisionReason::PortNotListed
            | DecisionReason::NotExported => match Opening::of(question, way, case)? {
                Some(opening) => opening.remedy(question, way, case)?,
                None => unnamed(question.destination).to_owned().into(),
            },
            DecisionReason::UnknownCaller if question.caller.is_some() => {
                let asked = decision.policy.and_then(|key| table.policies.get(key));
                format!(
                    "say which labels its pod has, with --labels KEY=VALUE,... or --pod NAMESPACE/NAME: {policy} goes by {}",
                    asked.map_or_else(String::new, |policy| label_keys(policy))
                )
                .into()
            }
            DecisionReason::UnknownCaller => {
                "say who calls, with --from or --pod: some callers may"
                    .to_owned()
                    .into()
            }
            DecisionReason::EntryShut => {
                "mend the ServiceEntry that lists it: its conditions say what is wrong"
                    .to_owned()
                    .into()
            }
            DecisionReason::ProtocolNotListed => {
                let entry = decision.opened.map_or("", |opened| opened.key.as_str());
                let instead = match question.seen {
                    Seen::Request { .. } => "a tunnel (https://HOST or HOST:PORT)",
                    Seen::Tunnel | Seen::Tls => "requests in clear text (http://HOST)",
                };
                format!(
                    "ask for it by {instead}, or give port {} of {entry} the protocol that is spoken; a second ServiceEntry for that \
                     port would only conflict",
                    question.port
                )
                .into()
            }
            DecisionReason::DeniedByPolicy => {
                format!("change {policy}: a Deny goes before whatever allows").into()
            }
            DecisionReason::NotAllowedByPolicy => beside(question, decision, policy, case)?,
            DecisionReason::LedElsewhere => {
                let entry = decision.opened.map_or("", |opened| opened.key.as_str());
                format!(
                    "take endpoints, targetPort and other names for TLS out of {entry}, or have it in namespace {}: {policy} goes by names and ports, and \
                     does not follow where others lead them",
                    own_namespace(table)
                )
                .into()
            }
        })
    }
}

/// The keys of the labels that a policy asks for.
fn label_keys(policy: &Policy) -> String {
    let from = policy.from.iter().flatten();
    let selectors = from.filter_map(|from| from.labels.as_ref());
    let keys: BTreeSet<_> = selectors
        .flat_map(|it| &it.0)
        .map(LabelRequirement::key)
        .collect();
    keys.into_iter().collect::<Vec<_>>().join(", ")
}

/// How an address is reached that no entry opens.
fn unnamed(destination: Destination<'_>) -> &'static str {
    match destination {
        Destination::Address(address) if !AddressClass::of(address).is_public() => {
            "callers reach it without the proxy, by NO_PROXY, if it is in the cluster; else list it in `addresses` of a ServiceEntry, \
             and in allowPrivate of an EgressPolicy of the Gateway's namespace"
        }
        _ => "name the host instead, or list the address in `addresses` of a ServiceEntry",
    }
}

/// An EgressPolicy of the level of the one that is too narrow, if there can be one.
fn beside(
    question: &Question<'_>,
    decision: &Decision<'_>,
    policy: &str,
    case: &Case<'_>,
) -> anyhow::Result<Remedy> {
    let is_tunnel = matches!(question.seen, Seen::Tunnel | Seen::Tls);
    let how = match question.destination {
        Destination::Name(host) if host.contains('_') => {
            ", by a *.suffix as it has an underscore, which no host of an EgressPolicy can have"
        }
        _ if is_tunnel && decision.by_request => ", without methods and paths",
        _ => "",
    };
    let words = format!("add it to {policy}{how}");
    Ok(match beside_of(question, policy, case) {
        None => words.into(),
        Some(manifest) => Remedy {
            words: Some(format!("{words}, or apply this EgressPolicy beside it")),
            apply: Some(yaml(&manifest)?),
        },
    })
}

fn beside_of(question: &Question<'_>, policy: &str, case: &Case<'_>) -> Option<serde_json::Value> {
    let Destination::Name(host) = question.destination else {
        return None;
    };
    let caller = question.caller.filter(|_| !host.contains('_'))?;
    let namespace = policy.split('/').nth(1)?;
    let account = if namespace == caller.namespace {
        caller.service_account.to_owned()
    } else {
        format!("{}/{}", caller.namespace, caller.service_account)
    };
    let taken = names(case.resources.egress_policies.keys(), namespace);
    let name = Names::beside(taken).name(
        &format!("{}-{host}-{}", caller.service_account, question.port),
        &format!("{account} {host}:{}", question.port),
    );
    let to = destinations([(host, question.port)].into_iter());
    Some(egress_policy((namespace, &name), &account, "Enforce", &to))
}

/// The names of those that are in a namespace.
pub(super) fn names<'a>(
    keys: impl Iterator<Item = &'a ObjectKey>,
    namespace: &str,
) -> impl Iterator<Item = String> {
    let of_namespace = keys.filter(move |key| key.namespace == namespace);
    of_namespace.map(|key| key.name.clone())
}

/// That of the Gateway.
pub(super) fn own_namespace(table: &RoutingTable) -> &str {
    table.gateway.namespace()
}
