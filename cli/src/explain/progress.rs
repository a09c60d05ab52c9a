//! Whether a controller has looked at the objects as they are now, and whether any proxy can answer: what statuses and the
//! Lease of the controllers tell.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use portcullis_controller::{
    ObjectKey, ObjectRef,
    status::{condition::kind, reason},
};
use serde_json::Value;

use super::around::Around;
use crate::{cluster::Controller, status::condition_of};

/// Routes that are named; their number says the rest.
const ROUTES_NAMED: usize = 3;

/// What the proxies lack.
pub(super) struct Behind {
    /// To append to the answer.
    pub(super) outcome: &'static str,
    /// The cause, in a sentence.
    pub(super) cause: String,
}

/// What the status of the Gateway says of its proxies.
pub(super) enum Proxies<'a> {
    /// They have acknowledged their table.
    Acknowledged,
    /// They have, but not every client reaches them, for this reason.
    Hindered(&'a str),
    /// None of them answers, for this reason.
    Absent(&'a str),
    /// Not that they have acknowledged it, or that none can serve it.
    Unconfirmed,
}

impl Around<'_> {
    /// Why the proxies may serve something else than the objects say; `None` if nothing speaks for that.
    pub(super) fn behind(&self) -> Option<Behind> {
        const CHANGED: &str = "; but the proxies do not have this yet (see below)";
        let changed = self.changed();
        let what = format!(
            "{}: no controller has looked at it as it is now",
            changed.join(", ")
        );
        let (outcome, cause) = match (&self.live.controller, changed.is_empty()) {
            (Controller::Gone(why), true) => (
                "; proxies may still have an earlier state, for no controller runs",
                format!("no controller runs, so that changes do not reach them: {why}"),
            ),
            (_, true) => return self.unconfirmed(),
            (Controller::Gone(why), false) => {
                let cause =
                    format!("{what}, and the proxies get nothing until a controller runs: {why}");
                (CHANGED, cause)
            }
            (Controller::Runs, false) => {
                let cause = format!(
                    "{what}. Ask again in a moment; if it stays so, the log of the controller says why"
                );
                (CHANGED, cause)
            }
            (Controller::Hidden(_), false) => {
                let cause = format!("{what}, and the proxies get nothing until one runs");
                (CHANGED, cause)
            }
        };
        Some(Behind { outcome, cause })
    }

    /// The Gateway and the routes for the host that have changed since a controller looked at them.
    fn changed(&self) -> Vec<String> {
        let gateway = &self.live.gateway;
        let mut changed = Vec::new();
        if is_outdated(&self.live.found) {
            changed.push(format!("Gateway {gateway}"));
        }
        let outdated = self.live.outdated_routes.iter();
        let known = self.routes();
        let routes: Vec<_> = outdated.filter(|it| known.concerns(it)).collect();
        let named = routes.iter().take(ROUTES_NAMED);
        changed.extend(named.map(ToString::to_string));
        if let Some(more) = routes.len().checked_sub(ROUTES_NAMED).filter(|it| *it > 0) {
            changed.push(format!("{more} more"));
        }
        changed
    }

    /// That no proxy is known to have a table that the Gateway should have.
    fn unconfirmed(&self) -> Option<Behind> {
        let is_unconfirmed = matches!(self.proxies(), Proxies::Unconfirmed);
        (is_unconfirmed && self.table.is_some()).then(|| {
            let said = self.programmed().and_then(|it| it["message"].as_str());
            let said = said.map(|it| format!(" ({})", it.trim_end_matches('.')));
            let said = said.unwrap_or_default();
            Behind {
                outcome: "; but no proxy is known to have this (see below)",
                cause: format!(
                    "Programmed is {}{said}, see `portcullis status`",
                    self.programmed_status()
                ),
            }
        })
    }

    /// What the Gateway's status says of its proxies.
    pub(super) fn proxies(&self) -> Proxies<'_> {
        let Some(programmed) = self.programmed() else {
            return Proxies::Unconfirmed;
        };
        let text = |name: &str| programmed[name].as_str().unwrap_or_default();
        let message = || text("message").trim_end_matches('.');
        match (text("status"), text("reason")) {
            ("True", _) => Proxies::Acknowledged,
            ("False", reason::PENDING | reason::NO_RESOURCES) => Proxies::Absent(message()),
            ("False", reason::ADDRESS_NOT_ASSIGNED | reason::ADDRESS_NOT_USABLE) => {
                Proxies::Hindered(message())
            }
            _ => Proxies::Unconfirmed,
        }
    }

    /// Whether proxies have acknowledged the table, as the Gateway's status has it.
    pub(super) fn programmed_status(&self) -> &str {
        let status = self.programmed().and_then(|it| it["status"].as_str());
        status.unwrap_or("Unknown")
    }

    fn programmed(&self) -> Option<&Value> {
        let conditions = &self.live.found.data["status"]["conditions"];
        condition_of(conditions, kind::PROGRAMMED)
    }
}

/// Whether a Gateway has changed since a controller looked at it.
fn is_outdated(gateway: &DynamicObject) -> bool {
    let conditions = &gateway.data["status"]["conditions"];
    let own = [kind::ACCEPTED, kind::PROGRAMMED];
    let own = own.map(|kind| condition_of(conditions, kind));
    is_before(gateway, own.into_iter().flatten())
}

/// Those of these routes that have changed since a controller of this name looked at them.
pub(super) fn outdated<'a>(
    kind: &str,
    routes: impl IntoIterator<Item = &'a DynamicObject>,
    controller: &str,
) -> BTreeSet<ObjectRef> {
    let is_outdated = |route: &&DynamicObject| {
        let parents = route.data["status"]["parents"].as_array().into_iter();
        let own = parents
            .flatten()
            .filter(|it| it["controllerName"] == *controller);
        let conditions = own.filter_map(|it| it["conditions"].as_array()).flatten();
        is_before(route, conditions)
    };
    let object = |route: &DynamicObject| ObjectRef::new(kind, ObjectKey::of(route));
    routes.into_iter().filter(is_outdated).map(object).collect()
}

/// Whether a condition is of an earlier generation of its object, or there is none at all.
pub(super) fn is_before<'a>(
    object: &DynamicObject,
    conditions: impl IntoIterator<Item = &'a Value>,
) -> bool {
    let Some(generation) = object.metadata.generation else {
        return false;
    };
    let observed = |condition: &Value| condition["observedGeneration"].as_i64().unwrap_or_default();
    let oldest = conditions.into_iter().map(observed).min();
    oldest.unwrap_or_default() < generation
}
