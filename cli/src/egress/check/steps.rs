//! All that is to be done until nothing objects: each step is done in memory, and what objects then is about the next.

use std::sync::Arc;

use portcullis_dataplane::{egress::unclear, reason::Reason};
use portcullis_routing::{
    PolicyKey, compile,
    egress::{CompiledEgress, Decision, DecisionReason, Question, Verdict},
};

use super::{
    Case,
    addresses::Addresses,
    remedy::{Remedy, Step, Way, own_namespace},
};

/// Most steps of one answer.
const MOST: usize = 32;

/// What allows what was decided upon.
pub(super) fn all(
    question: &Question<'_>,
    decision: &Decision<'_>,
    way: Way<'_>,
    case: &Case<'_>,
) -> anyhow::Result<Remedy> {
    if decision.reason == DecisionReason::Allowed {
        return Ok(Remedy::default());
    }
    let mut objection = objection(decision);
    let mut table = case.table.clone();
    // The way of the request is found.
    table.routes.clear();
    let Step {
        mut remedy,
        table: mut next,
    } = Step::of(question, decision, way, &table, case)?;
    for _ in 1..MOST {
        let Some(table) = next.map(Arc::new) else {
            return Ok(remedy);
        };
        let (compiled, _) = compile(None, Arc::clone(&table), |_, _| Ok(()));
        let asked = compiled
            .egress()
            .and_then(|it| Some((it, asked(it, question, way)?)));
        let Some((egress, decision)) = asked else {
            return Ok(remedy);
        };
        if decision.verdict == Verdict::Allow {
            return Ok(match by_addresses(question, &decision, egress, way, case) {
                Some(last) => remedy.then(last),
                None => remedy,
            });
        }
        let before = std::mem::replace(&mut objection, self::objection(&decision));
        // What was done is no use.
        if before == objection {
            return Ok(remedy);
        }
        let step = Step::of(question, &decision, way, &table, case)?;
        remedy = remedy.then(step.remedy.about(question, &decision));
        next = step.table;
    }
    Ok(remedy.then("ask again: there may be more".to_owned().into()))
}

impl Remedy {
    /// After what it is about.
    fn about(self, question: &Question<'_>, decision: &Decision<'_>) -> Self {
        let why = Reason::from(decision.reason).text();
        let unclear = unclear(question, decision);
        let unclear = unclear.map_or_else(String::new, |words| format!(". {words}"));
        let words = self.words.unwrap_or_default();
        Self {
            words: Some(format!("{why}: {words}{unclear}")),
            ..self
        }
    }
}

fn asked<'t>(
    egress: &'t CompiledEgress,
    question: &Question<'_>,
    way: Way<'_>,
) -> Option<Decision<'t>> {
    match way {
        Way::Straight => Some(egress.decide(question)),
        Way::Through(key) => egress.decide_through(key, question),
        Way::Inside => Some(egress.decide_inside(question)),
    }
}

/// What objects.
fn objection(decision: &Decision<'_>) -> (DecisionReason, Option<PolicyKey>) {
    (decision.reason, decision.policy.cloned())
}

/// Of addresses that proxies would not connect to.
fn by_addresses(
    question: &Question<'_>,
    decision: &Decision<'_>,
    egress: &CompiledEgress,
    way: Way<'_>,
    case: &Case<'_>,
) -> Option<Remedy> {
    if matches!(way, Way::Inside) {
        return None;
    }
    let addresses = Addresses::of(question, decision, egress, &case.told);
    let refused = addresses.refused()?;
    let remedy = addresses.remedy(refused, own_namespace(case.table));
    Some(format!("{}: {remedy}", refused.why()).into())
}
