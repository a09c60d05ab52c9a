//! What becomes of what is asked: the decision, what was passed over, and what would allow it.

use std::{fmt::Write as _, sync::Arc};

use portcullis_dataplane::{
    egress::unclear,
    exchange::tunnel::{self, Inside},
    reason::Reason,
};
use portcullis_routing::{
    EntryKey, ListenerKey, PolicyKey, RoutingTable, compile,
    egress::{Decision, DecisionReason, Entry, Question, Seen, Verdict},
};
use serde::Serialize;

use super::{
    Case, Form,
    addresses::Addresses,
    course::{Course, Ended, Entrance, Leads, Via},
    remedy::{self, Remedy},
    steps,
};
use crate::{
    output::{BAD, DIM, GOOD, ODD, indented, styled},
    words::egress as words,
};

/// What becomes of one form by one way.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Judged {
    /// What the caller does, in words.
    asked: String,
    /// The same for programs: `request`, `tunnel` or `tls`.
    form: &'static str,
    /// By which of these it comes makes no difference. None, if none is for the host.
    listeners: Vec<ListenerKey>,
    pub(super) verdict: Verdict,
    reason: &'static str,
    why: String,
    /// What policies could not be held against, in the words of proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'static str>,
    /// The route that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Via>,
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
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PassedOver {
    entry: EntryKey,
    ports: String,
    exported_to: String,
    reason: &'static str,
    why: &'static str,
}

impl Judged {
    /// Goes the way of the proxies to the end.
    pub(super) fn of(
        course: Course<'_>,
        form: &Form,
        entrance: Entrance<'_>,
        case: &Case<'_>,
    ) -> anyhow::Result<Self> {
        let Course { via, leads, path } = course;
        let encrypted = entrance.encrypted;
        let seen = form.seen(case.method.as_str(), &path, encrypted);
        let judged = match leads {
            Leads::Nowhere(ended) => Self::refused(ended, None),
            Leads::Inside => {
                let host = case.asked.wanted();
                let question = host.asked(case.caller(), seen);
                let decision = case.egress.decide_inside(&question);
                Self::decided(&question, &decision, remedy::Way::Inside, case)?
            }
            Leads::Outside {
                host,
                through: None,
            } => {
                let question = host.asked(case.caller(), seen);
                let decision = case.egress.decide(&question);
                let judged = Self::decided(&question, &decision, remedy::Way::Straight, case)?;
                let judged = Self {
                    passed_over: passed_over(&question, &decision, case.table),
                    ..judged
                };
                judged.unless_unread(&decision, &question)
            }
            Leads::Outside {
                host,
                through: Some(entry),
            } => {
                let question = host.asked(case.caller(), seen);
                let way = remedy::Way::Through(entry);
                if let Some(decision) = case.egress.decide_through(entry, &question) {
                    Self::decided(&question, &decision, way, case)?
                } else {
                    let remedy = format!(
                        "have {entry} list {}:{} and export it to the caller, or lead the route elsewhere",
                        host.name, host.port
                    );
                    Self::refused(Reason::InvalidBackend.into(), Some(remedy))
                }
            }
        };
        let judged = Self {
            asked: asked(form, encrypted, case),
            form: form.name(),
            listeners: vec![entrance.key().clone()],
            route: via,
            ..judged
        };
        Ok(judged.by_address(case.table))
    }

    /// No listener is for the host.
    pub(super) fn without_listener(form: &Form, case: &Case<'_>) -> Self {
        let name = &case.asked.name;
        let ended = Ended {
            why: "no listener of the Gateway that could take it is for this host".to_owned(),
            ..Reason::NoRoute.into()
        };
        let remedy = format!(
            "give the Gateway a listener with a hostname that {name} matches, or with none"
        );
        Self {
            asked: asked(form, false, case),
            form: form.name(),
            ..Self::refused(ended, Some(remedy))
        }
    }

    fn refused(ended: Ended, remedy: Option<String>) -> Self {
        let Ended { reason, why } = ended;
        Self {
            asked: String::new(),
            form: "",
            listeners: Vec::new(),
            verdict: Verdict::Refuse,
            reason,
            why,
            because: None,
            route: None,
            entry: None,
            policy: None,
            addresses: None,
            passed_over: Vec::new(),
            remedy,
            apply: None,
        }
    }

    fn decided(
        question: &Question<'_>,
        decision: &Decision<'_>,
        way: remedy::Way<'_>,
        case: &Case<'_>,
    ) -> anyhow::Result<Self> {
        let is_inside = matches!(way, remedy::Way::Inside);
        let Remedy { words, apply } = steps::all(question, decision, way, case)?;
        let passes = decision.verdict != Verdict::Refuse && !is_inside;
        let why = match decision.reason {
            DecisionReason::Allowed if is_inside => {
                "its route leads to a backend of the cluster, and no policy is against it"
            }
            DecisionReason::UnknownCaller if question.caller.is_some() => {
                "whether a policy is for the caller depends on labels of its pod, which are not known"
            }
            reason => why(reason),
        };
        let addresses = passes.then(|| Addresses::of(question, decision, case.egress, &case.told));
        let ended = Ended {
            reason: decision.reason.code(),
            why: why.to_owned(),
        };
        Ok(Self {
            verdict: decision.verdict,
            because: unclear(question, decision),
            entry: decision.opened.map(|opened| opened.key.clone()),
            policy: decision.policy.cloned(),
            addresses,
            apply,
            ..Self::refused(ended, words)
        })
    }

    /// Requests that cannot be read in a tunnel are refused, since there may be rules for them.
    fn unless_unread(self, decision: &Decision<'_>, question: &Question<'_>) -> Self {
        let is_unread = question.seen == Seen::Tunnel
            && self.verdict != Verdict::Refuse
            && tunnel::inside(decision.opened, question.port, false) == Inside::Unread;
        if !is_unread {
            return self;
        }
        Self {
            verdict: Verdict::Refuse,
            reason: Reason::TunnelUnread.code(),
            why: Reason::TunnelUnread.text().to_owned(),
            remedy: Some("send the requests to the proxy itself, without a tunnel".to_owned()),
            ..self
        }
    }

    /// One address that proxies do not connect to, and they refuse it after all, in mode Report too.
    fn by_address(self, table: &RoutingTable) -> Self {
        let addresses = self.addresses.as_ref();
        let Some((addresses, refused)) = addresses.and_then(|it| Some((it, it.refused()?))) else {
            return self;
        };
        Self {
            verdict: Verdict::Refuse,
            reason: refused.reason.code(),
            why: refused.why(),
            because: None,
            policy: None,
            remedy: Some(addresses.remedy(refused, remedy::own_namespace(table))),
            apply: None,
            ..self
        }
    }

    /// Adds it to the answers. If one is the same but for the listener, to that.
    pub(super) fn join(mut self, answers: &mut Vec<Self>) {
        let listeners = std::mem::take(&mut self.listeners);
        for known in &mut *answers {
            let before = std::mem::take(&mut known.listeners);
            let is_same = *known == self;
            known.listeners = before;
            if is_same {
                known.listeners.extend(listeners);
                return;
            }
        }
        answers.push(Self { listeners, ..self });
    }

    /// In words.
    pub(super) fn write(&self, text: &mut String) {
        let (style, verdict) = match self.verdict {
            Verdict::Allow => (GOOD, "allowed"),
            Verdict::Report => (ODD, "passes, but only as long as mode Report is set"),
            Verdict::Refuse => (BAD, "refused"),
        };
        writeln!(text, "Asked    {}", self.asked).ok();
        let listeners: Vec<_> = self.listeners.iter().map(ListenerKey::as_str).collect();
        if !listeners.is_empty() {
            writeln!(text, "Listener {}", listeners.join(", ")).ok();
        }
        writeln!(
            text,
            "Answer   {}: {} ({})",
            styled(style, verdict),
            self.why,
            self.reason
        )
        .ok();
        if let Some(because) = self.because {
            writeln!(text, "Because  {because}").ok();
        }
        if let Some(route) = &self.route {
            writeln!(text, "Route    {}", route.text()).ok();
        }
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

fn asked(form: &Form, encrypted: bool, case: &Case<'_>) -> String {
    let (name, port, method) = (&case.asked.name, case.asked.port, case.method);
    match form {
        Form::Request { path, .. } if encrypted => {
            format!("{method} {path} over TLS with the proxy, from {name}:{port}")
        }
        Form::Request { path, .. } => format!("{method} {path} in clear text, from {name}:{port}"),
        Form::Tunnel => format!("a tunnel (CONNECT) to {name}:{port}"),
        Form::Tls => format!("TLS that passes through (SNI) to {name}:{port}"),
    }
}

/// Entries that are for the host and do not open it: each is asked alone, as if there were no other and no policy. Those that would
/// are not in force, for another one is.
fn passed_over(
    question: &Question<'_>,
    decision: &Decision<'_>,
    table: &RoutingTable,
) -> Vec<PassedOver> {
    let winner = decision.opened.map(|opened| opened.key);
    let others = table.entries.iter();
    let others = others.filter(|(key, _)| Some(*key) != winner);
    let reasons = others.filter_map(|(key, entry)| {
        let (reason, why) = match alone(question, table, key, entry)? {
            DecisionReason::HostNotListed => return None,
            DecisionReason::Allowed => ("not_first", "the entry above goes before it"),
            reason => (reason.code(), why(reason)),
        };
        Some(PassedOver {
            entry: key.clone(),
            ports: words::ports(entry),
            exported_to: words::exported_to(entry),
            reason,
            why,
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
    let (compiled, _) = compile(None, Arc::new(one), |_, _| Ok(()));
    Some(compiled.egress()?.decide(question).reason)
}
