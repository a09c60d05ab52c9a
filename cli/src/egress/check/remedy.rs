//! What would allow what is refused, in words and as a manifest.

use std::collections::BTreeSet;

use portcullis_routing::{
    EntryKey, RoutingTable,
    egress::{
        Decision, DecisionReason, Destination, LabelRequirement, Policy, Question, Seen,
        address::AddressClass,
    },
};

use crate::egress::manifest::{
    Names, Spoken, destinations, egress_policy, name_of, service_entry, yaml,
};

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
    pub(super) fn of(
        question: &Question<'_>,
        decision: &Decision<'_>,
        way: Way<'_>,
        table: &RoutingTable,
    ) -> anyhow::Result<Self> {
        let policy = decision.policy.map_or("", |policy| policy.as_str());
        Ok(match decision.reason {
            DecisionReason::Allowed => Self::default(),
            DecisionReason::HostNotListed
            | DecisionReason::PortNotListed
            | DecisionReason::NotExported => entry(question, way, table)?,
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
            DecisionReason::NotAllowedByPolicy => beside(question, policy)?,
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

/// A ServiceEntry that opens it.
fn entry(question: &Question<'_>, way: Way<'_>, table: &RoutingTable) -> anyhow::Result<Remedy> {
    let caller = question.caller;
    if let (Way::Through(entry), Some(caller)) = (way, caller) {
        let words = format!("export {entry} to namespace {}", caller.namespace);
        return Ok(words.into());
    }
    let Destination::Name(host) = question.destination else {
        let words = match question.destination {
            Destination::Address(address) if !AddressClass::of(address).is_public() => {
                "callers reach it without the proxy, by NO_PROXY, if it is in the cluster; else list it in `addresses` of a ServiceEntry, \
                 and in allowPrivate of an EgressPolicy of the Gateway's namespace"
            }
            _ => "name the host instead, or list the address in `addresses` of a ServiceEntry",
        };
        return Ok(words.to_owned().into());
    };
    let (namespace, export) = match caller {
        Some(caller) => (caller.namespace, "."),
        None => (own_namespace(table), "*"),
    };
    let name = Names::default().name(&name_of(host));
    let port = (question.port, spoken(question));
    let entry = service_entry((namespace, &name), [host], [port], export);
    Ok(Remedy {
        words: Some("apply this ServiceEntry".to_owned()),
        apply: Some(yaml(&entry)?),
    })
}

/// An EgressPolicy of the level of the one that is too narrow, if there can be one.
fn beside(question: &Question<'_>, policy: &str) -> anyhow::Result<Remedy> {
    let Destination::Name(host) = question.destination else {
        return Ok(format!("add it to {policy}").into());
    };
    let Some(manifest) = beside_of(question, host, policy) else {
        let words = format!(
            "add it to {policy}, by a *.suffix if it has an underscore, which no host of an EgressPolicy can have"
        );
        return Ok(words.into());
    };
    Ok(Remedy {
        words: Some(format!(
            "add it to {policy}, or apply this EgressPolicy beside it"
        )),
        apply: Some(yaml(&manifest)?),
    })
}

fn beside_of(question: &Question<'_>, host: &str, policy: &str) -> Option<serde_json::Value> {
    let caller = question.caller.filter(|_| !host.contains('_'))?;
    let namespace = policy.split('/').nth(1)?;
    let account = if namespace == caller.namespace {
        caller.service_account.to_owned()
    } else {
        format!("{}/{}", caller.namespace, caller.service_account)
    };
    let name = format!("{}-{host}", caller.service_account);
    let name = Names::default().name(&name);
    let to = destinations([(host, question.port)].into_iter());
    Some(egress_policy((namespace, &name), &account, "Enforce", &to))
}

/// That of the Gateway.
pub(super) fn own_namespace(table: &RoutingTable) -> &str {
    table.gateway.namespace()
}

fn spoken(question: &Question<'_>) -> Spoken {
    match (&question.seen, question.port) {
        (Seen::Request { .. }, _) | (Seen::Tunnel, 80) => Spoken::Http,
        (Seen::Tunnel | Seen::Tls, _) => Spoken::Tls,
    }
}
