//! Routes that might have been meant and do not answer, and what the one that answers lacks.

use std::collections::BTreeMap;

use portcullis_controller::{
    Finding, ObjectKey, ObjectRef, Resources, Translation,
    resources::RouteView,
    status::{ConditionStatus, RouteParentStatus, condition::kind},
    translate::gateway_of,
};

use super::{Answer, around::index};
use crate::{cluster::Kind, report::Issue};

/// The routes of a translation, beside a request.
pub(super) struct Routes<'a> {
    pub(super) resources: &'a Resources,
    pub(super) translation: &'a Translation,
    /// The host that is asked for.
    pub(super) host: &'a str,
    /// The Gateway that is asked; without one, whichever there are.
    pub(super) gateway: Option<&'a ObjectKey>,
}

/// How well a route fits the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It names it.
    Exact,
    /// It is for any host, or for this one by a wildcard.
    Included,
    /// By so many letters it names another.
    Differs(usize),
}

impl Answer {
    /// Says of the routes what is wrong with them, as far as it bears on the request.
    pub(super) fn tell_of(
        &mut self,
        routes: &Routes<'_>,
        issue: impl Fn(&Finding) -> Option<Issue>,
    ) {
        let winner = self.route.as_ref().map(|winner| winner.object.clone());
        let refused = routes.refused(winner.as_ref(), self.explanation.is_some());
        self.routes = refused.into_iter().filter_map(&issue).collect();
        if let Some(winner) = &mut self.route {
            let lacks = routes.lacks(&winner.object);
            winner.issues = lacks.into_iter().filter_map(&issue).collect();
        }
    }
}

impl<'a> Routes<'a> {
    /// What is wrong with the route that answers: with its references, and with rules of it.
    fn lacks(&self, route: &ObjectRef) -> Vec<&'a Finding> {
        let told: Vec<_> = self.faults(route, true).collect();
        let findings = self.findings().remove(route).into_iter().flatten();
        findings
            .filter(|it| told.iter().any(|told| told.contains(&it.text())))
            .collect()
    }

    /// What is wrong with routes that are refused, the most likely ones first. Where one answers, only those that are for the
    /// host; before a listener is reached, only those that name it.
    fn refused(&self, winner: Option<&ObjectRef>, is_reached: bool) -> Vec<&'a Finding> {
        let worst = match winner {
            _ if !is_reached => Fit::Exact,
            Some(_) => Fit::Included,
            None => Fit::Differs(usize::MAX),
        };
        let mut found: Vec<(Fit, &Finding)> = Vec::new();
        let findings = self.findings();
        for route in self.resources.routes() {
            let fit = self.fit(&route);
            if winner == Some(&route.object) || fit > worst {
                continue;
            }
            let told: Vec<_> = self.faults(&route.object, false).collect();
            let own = findings.get(&route.object).into_iter().flatten();
            // Two parents may tell of the same.
            let own = own.filter(|it| {
                self.is_lost(it, fit) || told.iter().any(|told| told.contains(&it.text()))
            });
            found.extend(own.map(|it| (fit, *it)));
        }
        found.sort_by_key(|(fit, _)| *fit);
        found.into_iter().map(|(_, finding)| finding).collect()
    }

    fn findings(&self) -> BTreeMap<&'a ObjectRef, Vec<&'a Finding>> {
        let mut findings: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for finding in &self.translation.findings {
            let own: &mut Vec<_> = findings.entry(&finding.object).or_default();
            own.push(finding);
        }
        findings
    }

    /// The messages of the conditions that explain why a route does not take a request. References that lead nowhere do so
    /// only for the one that answers.
    fn faults(&self, route: &ObjectRef, answers: bool) -> impl Iterator<Item = &'a str> {
        let fit = self.resources.route(route).map(|route| self.fit(&route));
        let is_exact = fit == Some(Fit::Exact) && !answers;
        let statuses = self.translation.statuses.routes();
        let own = statuses.filter(|(kind, key, _)| (*kind, *key) == (&*route.kind, &route.key));
        let parents = own.flat_map(|(_, _, status)| &status.parents);
        let parents = parents.filter(move |it| is_exact || self.is_parent(&route.key, it));
        let conditions = parents.flat_map(|parent| parent.conditions.iter());
        let conditions = conditions.filter(move |it| match it.kind {
            kind::ACCEPTED => it.status != ConditionStatus::True,
            kind::PARTIALLY_INVALID => it.status == ConditionStatus::True,
            kind::RESOLVED_REFS => answers && it.status != ConditionStatus::True,
            _ => false,
        });
        conditions
            .map(|it| it.message.as_str())
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Whether a route names a Gateway that is not there and may mean this one: it is for the very host, or the Gateway has the
    /// same name in another namespace (without `namespace` it is the route's own).
    fn is_lost(&self, finding: &Finding, fit: Fit) -> bool {
        finding.code == "GatewayNotFound"
            && (fit == Fit::Exact
                || self
                    .gateway
                    .is_none_or(|it| self.parent(finding).as_ref() == Some(&it.name)))
    }

    /// The name in the parentRef that a finding about a route is of.
    fn parent(&self, finding: &Finding) -> Option<String> {
        let route = self.resources.route(&finding.object)?;
        let index = index("spec.parentRefs", &finding.field)?;
        let parent = route.parents.into_iter().nth(index)?;
        Some(parent.name)
    }

    /// Where a route names a Gateway of the same name in a namespace that has none, what is to be written to mean this one.
    pub(super) fn remedy(&self, finding: &Finding) -> Option<String> {
        let gateway = self.gateway?;
        let is_namesake = finding.code == "GatewayNotFound"
            && self.parent(finding).as_ref() == Some(&gateway.name);
        is_namesake.then(|| {
            format!(
                "write namespace: {} beside the name if Gateway {gateway} is meant",
                gateway.namespace
            )
        })
    }

    /// Routes that name the host and a Gateway that is there, but is not the one that is asked, with the names of theirs.
    pub(super) fn of_others(&self) -> BTreeMap<ObjectRef, Vec<String>> {
        let routes = self.resources.routes();
        let routes = routes.filter(|route| self.fit(route) == Fit::Exact);
        let gateways = routes.map(|route| {
            let all: Vec<_> = self.gateways_of(&route).collect();
            (route.object, all)
        });
        let others = gateways.filter(|(_, all)| {
            let is_there = all
                .iter()
                .any(|it| self.resources.gateways.contains_key(it));
            is_there && !all.iter().any(|it| Some(it) == self.gateway)
        });
        let names = |all: Vec<ObjectKey>| all.iter().map(ToString::to_string).collect();
        others.map(|(route, all)| (route, names(all))).collect()
    }

    /// Whether one of these routes is for the Gateway, and for the host.
    pub(super) fn concerns(&self, route: &ObjectRef) -> bool {
        let Some(route) = self.resources.route(route) else {
            return false;
        };
        let mut gateways = self.gateways_of(&route);
        let is_of_gateway =
            self.gateway.is_none() || gateways.any(|gateway| Some(&gateway) == self.gateway);
        is_of_gateway && self.fit(&route) <= Fit::Included
    }

    /// The Gateways that a route names, by itself or by a ListenerSet.
    fn gateways_of(&self, route: &RouteView<'_>) -> impl Iterator<Item = ObjectKey> {
        let namespace = &route.object.key.namespace;
        let parents = route.parents.iter();
        parents.filter_map(move |it| {
            let namespace = it.namespace.as_ref().unwrap_or(namespace);
            self.gateway_of((&it.group, &it.kind), ObjectKey::new(namespace, &it.name))
        })
    }

    /// How well a route fits the host.
    fn fit(&self, route: &RouteView<'_>) -> Fit {
        let fits = route.hostnames.iter().map(|hostname| {
            let is_wildcard_for_it = hostname
                .strip_prefix('*')
                .is_some_and(|suffix| self.host.ends_with(suffix));
            if hostname == self.host {
                Fit::Exact
            } else if is_wildcard_for_it {
                Fit::Included
            } else {
                Fit::Differs(strsim::damerau_levenshtein(hostname, self.host))
            }
        });
        fits.min().unwrap_or(Fit::Included)
    }

    /// Whether a parentRef of a route means the Gateway, or a ListenerSet of it.
    fn is_parent(&self, route: &ObjectKey, parent: &RouteParentStatus) -> bool {
        let parent = &parent.parent_ref;
        let namespace = parent.namespace.as_ref().unwrap_or(&route.namespace);
        let gateway = self.gateway_of(
            (&parent.group, &parent.kind),
            ObjectKey::new(namespace, &parent.name),
        );
        self.gateway.is_none() || gateway.as_ref() == self.gateway
    }

    /// The Gateway that an object is, or adds to. A Service, say, may have the name of one.
    fn gateway_of(&self, (group, kind): (&str, &str), key: ObjectKey) -> Option<ObjectKey> {
        match (group == Kind::GATEWAY.group, kind) {
            (true, "Gateway") => Some(key),
            (true, "ListenerSet") => gateway_of(&key, self.resources.listener_sets.get(&key)?),
            _ => None,
        }
    }
}
