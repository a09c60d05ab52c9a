//! `Programmed` of ServiceEntries and EgressPolicies: whether the data planes of every egress Gateway have them. A Gateway that
//! has no data plane yet takes nothing from those that serve them already.

use std::{borrow::Borrow, collections::BTreeMap};

use portcullis_routing::{EntryKey, GatewayKey, PolicyKey, RoutingTable};

use super::{Observation, Observed, Served, Verdict};
use crate::{
    resources::ObjectKey,
    status::{ConditionSet, ConditionStatus, Statuses, condition::kind, reason},
};

/// States it, wherever it is accepted or not.
pub(super) fn observe(
    statuses: &mut Statuses,
    tables: &BTreeMap<GatewayKey, impl Borrow<RoutingTable>>,
    observed: &Observed,
) {
    let tables = tables.values().map(Borrow::borrow);
    let gateways: Vec<_> = tables
        .filter(|table: &&RoutingTable| table.settings.egress.is_some())
        .map(|table| Gateway {
            table,
            observation: observation(table, observed),
        })
        .collect();
    for (key, conditions) in &mut statuses.service_entries {
        let key = EntryKey::of(&key.namespace, &key.name);
        let views = gateways.iter().filter_map(|gateway| {
            let wanted = gateway.table.entries.get(&key)?;
            let form = |served: &Served| Form {
                is_wanted: served.table.entries.get(&key) == Some(wanted),
                rejected: served.rejected_entries.get(&key).cloned(),
            };
            Some(gateway.view(form))
        });
        let types = (kind::SERVICE_ENTRY_ACCEPTED, kind::SERVICE_ENTRY_PROGRAMMED);
        state(conditions, types, views, observed);
    }
    for (key, conditions) in &mut statuses.egress_policies {
        let key = PolicyKey::of(&key.namespace, &key.name);
        let views = gateways.iter().filter_map(|gateway| {
            let wanted = gateway.table.policies.get(&key)?;
            let form = |served: &Served| Form {
                is_wanted: served.table.policies.get(&key) == Some(wanted),
                rejected: served.rejected_policies.get(&key).cloned(),
            };
            Some(gateway.view(form))
        });
        state(
            conditions,
            (kind::ACCEPTED, kind::PROGRAMMED),
            views,
            observed,
        );
    }
}

/// The table of an egress Gateway beside what is known of its data planes.
struct Gateway<'a> {
    table: &'a RoutingTable,
    observation: Option<&'a Observation>,
}

fn observation<'a>(table: &RoutingTable, observed: &'a Observed) -> Option<&'a Observation> {
    let Observed::Cluster(gateways) = observed else {
        return None;
    };
    let (namespace, name) = table.gateway.as_str().split_once('/')?;
    gateways.get(&ObjectKey::new(namespace, name))
}

impl<'a> Gateway<'a> {
    /// What is known here of one resource that its table has.
    fn view(&self, form: impl Fn(&Served) -> Form) -> View<'a> {
        let served = self.observation.map(|it| it.served.as_slice());
        View {
            gateway: &self.table.gateway,
            forms: served.unwrap_or_default().iter().map(form).collect(),
            serves_unknown: self.observation.is_some_and(|it| it.serves_unknown),
        }
    }
}

/// One resource at one Gateway.
struct View<'a> {
    gateway: &'a GatewayKey,
    /// In each table that one of its data planes serves.
    forms: Vec<Form>,
    /// Whether there is a data plane that serves a table nobody here knows.
    serves_unknown: bool,
}

/// What a table that is served has of a resource.
struct Form {
    /// Whether that is what the Gateway's table has.
    is_wanted: bool,
    /// Why a data plane does not serve it.
    rejected: Option<String>,
}

impl View<'_> {
    /// Why a data plane does not serve it as it is wanted. What is said of an earlier form says nothing of this one.
    fn rejection(&self) -> Option<&String> {
        let mut forms = self.forms.iter().filter(|form| form.is_wanted);
        forms.find_map(|form| form.rejected.as_ref())
    }

    /// Whether every data plane has it as it is wanted.
    fn is_acknowledged(&self) -> bool {
        !self.forms.is_empty() && !self.serves_unknown && !self.is_known_otherwise()
    }

    /// Whether a data plane is known to have another form of it.
    fn is_known_otherwise(&self) -> bool {
        self.forms.iter().any(|form| !form.is_wanted)
    }

    /// Whether no data plane has said anything.
    const fn is_silent(&self) -> bool {
        self.forms.is_empty() && !self.serves_unknown
    }
}

/// States the condition of a resource, as it is at the Gateways whose tables have it. An object that is not looked at has none.
fn state<'a>(
    conditions: &mut ConditionSet,
    (accepted, programmed): (&str, &'static str),
    views: impl Iterator<Item = View<'a>>,
    observed: &Observed,
) {
    if conditions.get(accepted).is_none() {
        return;
    }
    let views: Vec<_> = views.collect();
    let everything_is_served = matches!(observed, Observed::Standalone { .. });
    let somebody_speaks = views.iter().any(|view| !view.is_silent());
    let is_new = |view: &View<'_>| somebody_speaks && view.is_silent();
    let waiting =
        |view: &&View<'_>| !everything_is_served && !view.is_acknowledged() && !is_new(view);
    let (status, reason, message): Verdict = if !conditions.is_true(accepted) {
        (
            ConditionStatus::False,
            reason::INVALID,
            "Not accepted".into(),
        )
    } else if views.is_empty() {
        let message = "No egress Gateway serves it";
        (
            ConditionStatus::False,
            reason::PARENT_NOT_PROGRAMMED,
            message.into(),
        )
    } else if let Some((view, why)) = views
        .iter()
        .find_map(|view| Some((view, view.rejection()?)))
    {
        let message = format!(
            "The data plane of Gateway {} cannot serve it: {why}",
            view.gateway
        );
        (ConditionStatus::False, reason::INVALID, message)
    } else if let Some(view) = views.iter().find(waiting) {
        let who = if view.is_known_otherwise() && view.forms.len() > 1 {
            "those data planes that have another form of it, at"
        } else {
            "the data plane of"
        };
        let message = format!("Waiting for {who} Gateway {}", view.gateway);
        (ConditionStatus::Unknown, reason::PENDING, message)
    } else {
        let served = "Served by the data planes of every egress Gateway that it is for";
        let new = views.iter().find(|view| is_new(view));
        let message = match new.filter(|_| !everything_is_served) {
            None => served.to_owned(),
            Some(new) => format!("{served}; Gateway {} has none yet", new.gateway),
        };
        (ConditionStatus::True, reason::PROGRAMMED, message)
    };
    conditions.set(programmed, status, reason, message);
    let is_unheard = match status {
        ConditionStatus::Unknown => {
            let mut waiting = views.iter().filter(waiting);
            waiting.all(|view| !view.is_known_otherwise())
        }
        // A leader that has just begun hears of one Gateway after another.
        ConditionStatus::True => !everything_is_served && views.iter().any(is_new),
        ConditionStatus::False => false,
    };
    if is_unheard {
        conditions.make_provisional(programmed);
    }
}
