//! What becomes of a question: the decision, what was passed over, and what would allow it.

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use portcullis_dataplane::reason::Reason;
use portcullis_routing::{
    EntryKey, PolicyKey, RoutingTable,
    egress::{
        CompiledEgress, Decision, DecisionReason, Destination, Entry, Question, Seen, Verdict,
    },
};
use serde::Serialize;

use super::{addresses::Addresses, compiled};
use crate::{
    egress::manifest::{Names, Spoken, destinations, egress_policy, name_of, service_entry, yaml},
    output::{BAD, DIM, GOOD, ODD, indented, styled},
    words::egress as words,
};

/// What becomes of one form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Judged {
    /// What the caller does, in words.
    asked: String,
    pub(super) verdict: Verdict,
    reason: &'static str,
    why: String,
    /// The entry that opens it.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<EntryKey>,
    /// The policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PolicyKey>,
    /// What it leads to; absent for what is refused whatever that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<Addresses>,
    /// Entries for the host that do not open it to this caller.
    passed_over: Vec<PassedOver>,
    /// What would allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// A manifest that does.
    #[serde(skip_serializing_if = "Option::is_none")]
    apply: Option<String>,
}

/// An entry for the host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PassedOver {
    entry: EntryKey,
    ports: String,
    exported_to: String,
    reason: &'static str,
    why: &'static str,
}

impl Judged {
    /// Asks the table. `told` are the addresses that the host is said to have.
    pub(super) fn of(
        question: &Question<'_>,
        egress: &CompiledEgress,
        table: &RoutingTable,
        told: Option<&[IpAddr]>,
    ) -> anyhow::Result<Self> {
        let decision = egress.decide(question);
        let (remedy, apply) = match decision.reason {
            DecisionReason::Allowed => (None, None),
            _ => remedy(question, &decision, table)?,
        };
        let passes = decision.verdict != Verdict::Refuse;
        let judged = Self {
            asked: asked(question),
            verdict: decision.verdict,
            reason: decision.reason.code(),
            why: why(decision.reason).to_owned(),
            entry: decision.opened.map(|opened| opened.key.clone()),
            policy: decision.policy.cloned(),
            addresses: passes.then(|| Addresses::of(question, &decision, egress, told)),
            passed_over: passed_over(question, table),
            remedy,
            apply,
        };
        Ok(judged.by_address(table))
    }

    /// One address that proxies do not connect to, and they refuse it after all, in mode Report too.
    fn by_address(self, table: &RoutingTable) -> Self {
        let Some(refused) = self.addresses.as_ref().and_then(Addresses::refused) else {
            return self;
        };
        let address = refused.address;
        let inside = refused.refused.as_deref().unwrap_or_default();
        let namespace = own_namespace(table);
        Self {
            verdict: Verdict::Refuse,
            reason: Reason::AddressRefused.code(),
            why: format!("it leads to {address}, {inside}"),
            policy: None,
            remedy: Some(format!(
                "if that is meant, name {address} in allowPrivate of an EgressPolicy in namespace {namespace}; whom an Allow \
                 there selects reaches nothing but what such policies name"
            )),
            apply: None,
            ..self
        }
    }

    /// In words.
    pub(super) fn write(&self, text: &mut String) {
        let (style, verdict) = match self.verdict {
            Verdict::Allow => (GOOD, "allowed"),
            Verdict::Report => (ODD, "passes, but only as long as mode Report is set"),
            Verdict::Refuse => (BAD, "refused"),
        };
        writeln!(text, "Asked    {}", self.asked).ok();
        writeln!(
            text,
            "Answer   {}: {} ({})",
            styled(style, verdict),
            self.why,
            self.reason
        )
        .ok();
        if let Some(entry) = &self.entry {
            writeln!(text, "Entry    {entry}").ok();
        }
        if let Some(policy) = &self.policy {
            writeln!(text, "Policy   {policy}").ok();
        }
        if let Some(addresses) = &self.addresses {
            addresses.write(text);
        }
        for PassedOver {
            entry,
            ports,
            exported_to,
            why,
            ..
        } in &self.passed_over
        {
            let about = styled(DIM, format!("ports {ports}; for {exported_to}"));
            writeln!(text, "Not by   {entry}: {why}; {about}").ok();
        }
        if let Some(remedy) = &self.remedy {
            writeln!(text, "Remedy   {remedy}").ok();
        }
        if let Some(apply) = &self.apply {
            *text += &indented(apply, 9);
        }
    }
}

fn why(reason: DecisionReason) -> &'static str {
    match reason {
        DecisionReason::Allowed => "a ServiceEntry opens it, and no policy is against it",
        // The words that proxies answer with.
        reason => Reason::from(reason).text(),
    }
}

fn asked(question: &Question<'_>) -> String {
    let port = question.port;
    let place = match question.destination {
        Destination::Name(name) => format!("{name}:{port}"),
        Destination::Address(address) => std::net::SocketAddr::new(address, port).to_string(),
    };
    match question.seen {
        Seen::Request { method, path, .. } => {
            format!("{method} {path} in clear text, from {place}")
        }
        Seen::Tunnel => format!("a tunnel (CONNECT) to {place}"),
        Seen::Tls => format!("TLS that passes through (SNI) to {place}"),
    }
}

/// Entries that are for the host and do not open it: each is asked alone, as if there were no other and no policy.
fn passed_over(question: &Question<'_>, table: &RoutingTable) -> Vec<PassedOver> {
    let reasons = table.entries.iter().filter_map(|(key, entry)| {
        let reason = alone(question, table, key, entry)?;
        let is_passed_over = !matches!(
            reason,
            DecisionReason::Allowed | DecisionReason::HostNotListed
        );
        is_passed_over.then(|| PassedOver {
            entry: key.clone(),
            ports: words::ports(entry),
            exported_to: words::exported_to(entry),
            reason: reason.code(),
            why: why(reason),
        })
    });
    reasons.collect()
}

fn alone(
    question: &Question<'_>,
    table: &RoutingTable,
    key: &EntryKey,
    entry: &Arc<Entry>,
) -> Option<DecisionReason> {
    let mut one = RoutingTable::new(table.gateway.clone());
    one.settings = Arc::clone(&table.settings);
    one.certificates.clone_from(&table.certificates);
    one.entries.insert(key.clone(), Arc::clone(entry));
    let compiled = compiled(&one);
    Some(compiled.egress()?.decide(question).reason)
}

/// That of the Gateway.
fn own_namespace(table: &RoutingTable) -> &str {
    table.gateway.as_str().split('/').next().unwrap_or_default()
}

/// What would allow it, in words and as a manifest.
fn remedy(
    question: &Question<'_>,
    decision: &Decision<'_>,
    table: &RoutingTable,
) -> anyhow::Result<(Option<String>, Option<String>)> {
    let Destination::Name(host) = question.destination else {
        let words = "name the host instead, or list the address in `addresses` of a ServiceEntry";
        return Ok((Some(words.to_owned()), None));
    };
    let policy = decision.policy.map_or("", |policy| policy.as_str());
    let (words, manifest) = match decision.reason {
        DecisionReason::Allowed => return Ok((None, None)),
        DecisionReason::HostNotListed
        | DecisionReason::PortNotListed
        | DecisionReason::NotExported => {
            let (namespace, export) = match question.caller {
                Some(caller) => (caller.namespace, "."),
                None => (own_namespace(table), "*"),
            };
            let name = Names::default().name(&name_of(host));
            let port = (question.port, spoken(question));
            let entry = service_entry((namespace, &name), [host], [port], export);
            ("apply this ServiceEntry".to_owned(), Some(entry))
        }
        DecisionReason::UnknownCaller => (
            "say who calls, with --from or --pod: some callers may".to_owned(),
            None,
        ),
        DecisionReason::ProtocolNotListed => (
            "give the port of the ServiceEntry the protocol that is spoken".to_owned(),
            None,
        ),
        DecisionReason::DeniedByPolicy => (
            format!("change {policy}: a Deny goes before whatever allows"),
            None,
        ),
        DecisionReason::NotAllowedByPolicy => {
            let manifest = beside(question, host, policy);
            let words = match &manifest {
                Some(_) => format!("add it to {policy}, or apply this EgressPolicy beside it"),
                None => format!(
                    "add it to {policy}, by a *.suffix if it has an underscore, which no host of an EgressPolicy can have"
                ),
            };
            (words, manifest)
        }
    };
    Ok((Some(words), manifest.as_ref().map(yaml).transpose()?))
}

/// An EgressPolicy of the level of the one that is too narrow, if there can be one.
fn beside(question: &Question<'_>, host: &str, policy: &str) -> Option<serde_json::Value> {
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

fn spoken(question: &Question<'_>) -> Spoken {
    match (&question.seen, question.port) {
        (Seen::Request { .. }, _) | (Seen::Tunnel, 80) => Spoken::Http,
        (Seen::Tunnel | Seen::Tls, _) => Spoken::Tls,
    }
}
