//! What would mend what a decision objects to, in words and as a manifest.

use std::{collections::BTreeSet, sync::Arc};

use portcullis_controller::ObjectKey;
use portcullis_dataplane::egress::inward;
use portcullis_routing::{
    EntryKey, RoutingTable,
    egress::{
        Decision, DecisionReason, Destination, DestinationMatch, LabelRequirement, Policy,
        PolicyMode, Question, Seen, address::AddressClass,
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
    /// Of what would list a host, by the words of the proxies: one of the inside is mostly reached without them.
    fn unless_inside(self, host: &str) -> Self {
        let words = match (inward(host), self.words) {
            (Some(first), Some(words)) => {
                Some(format!("if it is in the cluster, {first}; else {words}"))
            }
            (_, words) => words,
        };
        Self { words, ..self }
    }

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
}

/// What is to be done about one objection.
pub(super) struct Step {
    pub(super) remedy: Remedy,
    /// The table once it is done. `None` if that cannot be known, or something else would then be asked.
    pub(super) table: Option<RoutingTable>,
}

/// Nobody knows what comes then.
impl From<String> for Step {
    fn from(words: String) -> Self {
        Self {
            remedy: words.into(),
            table: None,
        }
    }
}

impl Step {
    /// One after which the table is `table` with this change.
    fn new(remedy: Remedy, table: &RoutingTable, change: impl FnOnce(&mut RoutingTable)) -> Self {
        let mut table = table.clone();
        change(&mut table);
        Self {
            remedy,
            table: Some(table),
        }
    }

    /// That about a decision by `table`, which is that of the case or what earlier steps make of it.
    pub(super) fn of(
        question: &Question<'_>,
        decision: &Decision<'_>,
        way: Way<'_>,
        table: &RoutingTable,
        case: &Case<'_>,
    ) -> anyhow::Result<Self> {
        let policy = decision.policy.map_or("", |policy| policy.as_str());
        Ok(match decision.reason {
            DecisionReason::Allowed => Self {
                remedy: Remedy::default(),
                table: None,
            },
            DecisionReason::HostNotListed
            | DecisionReason::PortNotListed
            | DecisionReason::NotExported => match Opening::of(question, way, table, case)? {
                Some(Opening { key, entry, remedy }) => {
                    let remedy = match (way, question.destination) {
                        (Way::Straight, Destination::Name(host)) => remedy.unless_inside(host),
                        _ => remedy,
                    };
                    Self::new(remedy, table, |table| {
                        table.entries.insert(key, Arc::new(entry));
                    })
                }
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
                "mend the ServiceEntry that lists it: the notes below say what is wrong"
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
                let words = format!("change {policy}: a Deny goes before whatever allows");
                Self::new(words.into(), table, |table| {
                    table.policies.retain(|key, _| Some(key) != decision.policy);
                })
            }
            DecisionReason::NotAllowedByPolicy => widening(question, decision, table, case)?,
            DecisionReason::LedElsewhere => {
                let entry = decision.opened.map_or("", |opened| opened.key.as_str());
                let own = own_namespace(table);
                let words = format!(
                    "take endpoints, targetPort and other names for TLS out of {entry}, or have it in namespace {own}: {policy} goes by names and ports, and \
                     does not follow where others lead them"
                );
                Self::new(words.into(), table, |table| {
                    let key = decision.opened.map(|opened| opened.key);
                    if let Some(entry) = key.and_then(|key| table.entries.get_mut(key)) {
                        own.clone_into(&mut Arc::make_mut(entry).order.namespace);
                    }
                })
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

/// Of a policy that is too narrow: with the destination as well, or with an EgressPolicy of its level beside it, if there can be one.
fn widening(
    question: &Question<'_>,
    decision: &Decision<'_>,
    table: &RoutingTable,
    case: &Case<'_>,
) -> anyhow::Result<Step> {
    let is_tunnel = matches!(question.seen, Seen::Tunnel | Seen::Tls);
    let how = match question.destination {
        Destination::Name(host) if host.contains('_') => {
            ", by a *.suffix as it has an underscore, which no host of an EgressPolicy can have"
        }
        _ if is_tunnel && decision.by_request => ", without methods and paths",
        _ => "",
    };
    let narrow = decision.policy;
    let words = format!("add it to {}{how}", narrow.map_or("", |key| key.as_str()));
    let Some((key, policy)) = narrow.and_then(|key| table.policies.get_key_value(key)) else {
        return Ok(words.into());
    };
    let mut wide = Policy::clone(policy);
    wide.to = Some(vec![DestinationMatch {
        hosts: vec![match question.destination {
            Destination::Name(host) => host.to_owned(),
            Destination::Address(address) => address.to_string(),
        }],
        ports: vec![question.port],
        ..DestinationMatch::default()
    }]);
    let remedy = match beside(question, key.as_str(), policy.mode, case) {
        None => words.into(),
        Some(manifest) => {
            // Whoever applies it has no more of the inside open than before.
            wide.allow_private.clear();
            Remedy {
                words: Some(format!("{words}, or apply this EgressPolicy beside it")),
                apply: Some(yaml(&manifest)?),
            }
        }
    };
    Ok(Step::new(remedy, table, |table| {
        table.policies.insert(key.clone(), Arc::new(wide));
    }))
}

/// An EgressPolicy of the level and mode of one that is too narrow: one that is enforced, beside one that only reports, would take
/// everything else away.
fn beside(
    question: &Question<'_>,
    policy: &str,
    mode: PolicyMode,
    case: &Case<'_>,
) -> Option<serde_json::Value> {
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
    let mode = match mode {
        PolicyMode::Enforce => "Enforce",
        PolicyMode::Report => "Report",
    };
    let taken = names(case.resources.egress_policies.keys(), namespace);
    let name = Names::beside(taken).name(
        &format!("{}-{host}-{}", caller.service_account, question.port),
        &format!("{account} {host}:{} {mode}", question.port),
    );
    let to = destinations([(host, question.port)].into_iter());
    let callers = serde_json::json!({ "serviceAccounts": [account] });
    Some(egress_policy((namespace, &name), &callers, mode, &to))
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
