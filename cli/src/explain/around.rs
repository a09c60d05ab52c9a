//! What stands around an answer about a cluster: what is wrong with the listeners of the port, and with routes that might have
//! been meant.

use std::collections::BTreeMap;

use portcullis_controller::{
    Finding, ObjectKey, ObjectRef, Resources, Severity,
    status::{ConditionStatus, ParentReference, RouteParentStatus, condition::kind, reason},
    translate::gateway_of,
};
use portcullis_routing::{GatewayKey, ListenerKey, RoutingTable};

use super::live::Live;
use crate::{analyze, cluster::Kind, report::Issue, request::Request};

/// The surroundings of one request.
pub(super) struct Around<'a> {
    pub(super) live: &'a Live,
    pub(super) request: &'a Request,
    /// `None` if the Gateway is not accepted as it is.
    pub(super) table: Option<&'a RoutingTable>,
}

/// A listener of the port that is asked for.
pub(super) struct Asked {
    /// The Gateway or ListenerSet that it stands in, and its place there.
    pub(super) object: ObjectRef,
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) key: ListenerKey,
}

impl Around<'_> {
    /// What is wrong with the Gateway, its class, its ListenerSets and its listeners of the port. If no listener of it is
    /// accepted, with all of them.
    pub(super) fn listeners(&self) -> Vec<Issue> {
        let errors = self.errors();
        errors.map(|finding| self.issue(finding)).collect()
    }

    /// Whether what may not be read may be the reason why the Gateway is not accepted here.
    pub(super) fn is_undecided(&self) -> bool {
        let unread = &self.live.unread;
        let mut causes = self.causes().peekable();
        self.table.is_none()
            && if causes.peek().is_some() {
                causes.all(|finding| unread.is_behind(finding))
            } else {
                // It has no listener that is accepted; ListenerSets may have one.
                unread.has_kind(&Kind::LISTENER_SET)
            }
    }

    /// Why the Gateway is not accepted, if its listeners are not the reason.
    fn causes(&self) -> impl Iterator<Item = &Finding> {
        const CAUSES: [&str; 2] = [reason::INVALID_PARAMETERS, reason::UNSUPPORTED_ADDRESS];
        let whole = self.whole();
        let findings = self.live.translation.findings.iter();
        findings.filter(move |it| CAUSES.contains(&it.code) && whole.contains(&it.object))
    }

    /// The Gateway and its class.
    fn whole(&self) -> Vec<ObjectRef> {
        let gateway = &self.live.gateway;
        let mut whole = vec![ObjectRef::new("Gateway", gateway.clone())];
        if let Some(gateway) = self.live.resources.gateways.get(gateway) {
            let class = ObjectKey::cluster(gateway.spec.gateway_class_name.as_str());
            whole.push(ObjectRef::new("GatewayClass", class));
        }
        whole
    }

    fn errors(&self) -> impl Iterator<Item = &Finding> {
        let asked = self.asked();
        let is_any_listener = self.table.is_none() && self.causes().next().is_none();
        let sets = sets_of(&self.live.gateway, &self.live.resources);
        let sets = sets.map(|set| ObjectRef::new("ListenerSet", set.clone()));
        let concerned: Vec<_> = self.whole().into_iter().chain(sets).collect();
        let is_of = move |finding: &Finding| match index("spec.listeners", &finding.field) {
            Some(index) if !is_any_listener => asked
                .iter()
                .any(|it| (&it.object, it.index) == (&finding.object, index)),
            _ => concerned.contains(&finding.object),
        };
        let findings = self.live.translation.findings.iter();
        findings.filter(move |it| it.severity == Severity::Error && is_of(it))
    }

    /// A finding, unless it is only that the caller may not read something.
    fn issue(&self, finding: &Finding) -> Issue {
        let issue = analyze::issue(finding, &self.live.resources);
        self.live.unread.judge(finding, issue)
    }

    /// The listeners of the port.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let (resources, gateway) = (&self.live.resources, &self.live.gateway);
        let table = GatewayKey::of(&gateway.namespace, &gateway.name);
        let mut asked = Vec::new();
        let mut add = |object: &ObjectRef, (index, name): (usize, &str), port: i32, key| {
            if port == i32::from(self.request.port) {
                asked.push(Asked {
                    object: object.clone(),
                    index,
                    name: name.to_owned(),
                    key,
                });
            }
        };
        if let Some(spec) = resources.gateways.get(gateway).map(|it| &it.spec) {
            let object = ObjectRef::new("Gateway", gateway.clone());
            for (index, it) in spec.listeners.iter().enumerate() {
                let key = ListenerKey::of(&table, &it.name);
                add(&object, (index, &it.name), it.port, key);
            }
        }
        for set in sets_of(gateway, resources) {
            let Some(it) = resources.listener_sets.get(set) else {
                continue;
            };
            let object = ObjectRef::new("ListenerSet", set.clone());
            for (index, it) in it.spec.listeners.iter().enumerate() {
                let key = ListenerKey::of_set(&table, &set.namespace, &set.name, &it.name);
                add(&object, (index, &it.name), it.port, key);
            }
        }
        asked
    }

    /// What is wrong with routes that name the Gateway: with the one that answers, or, without one, with all that are
    /// refused. Those come first whose hostnames are most like the host.
    pub(super) fn routes(&self, answers: Option<&ObjectKey>) -> Vec<Issue> {
        let findings = self.route_findings();
        let mut found: Vec<(usize, Issue)> = Vec::new();
        for (key, status) in &self.live.translation.statuses.http_routes {
            let parents = status.parents.iter();
            let parents = parents.filter(|it| self.is_parent(key, &it.parent_ref));
            let is_it = answers == Some(key);
            let told: Vec<_> = parents.flat_map(|parent| faults(parent, is_it)).collect();
            if told.is_empty() {
                continue;
            }
            let distance = self.distance(key);
            // Two parents may tell of the same.
            let own = findings.get(key).into_iter().flatten();
            let own = own.filter(|it| told.iter().any(|told| told.contains(&it.text())));
            found.extend(own.map(|it| (distance, self.issue(it))));
        }
        found.extend(self.elsewhere());
        found.retain(|(distance, _)| answers.is_none() || *distance == 0);
        found.sort_by_key(|(distance, _)| *distance);
        found.into_iter().map(|(_, issue)| issue).collect()
    }

    fn route_findings(&self) -> BTreeMap<&ObjectKey, Vec<&Finding>> {
        let mut findings: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for finding in &self.live.translation.findings {
            if finding.object.kind == "HTTPRoute" {
                let own = findings.entry(&finding.object.key).or_default();
                own.push(finding);
            }
        }
        findings
    }

    /// Routes that name a Gateway of the same name in a namespace that has none: without `namespace` it is their own.
    fn elsewhere(&self) -> impl Iterator<Item = (usize, Issue)> {
        let gateway = &self.live.gateway;
        let findings = self.live.translation.findings.iter();
        let lost = findings
            .filter(|it| it.object.kind == "HTTPRoute" && it.code == "GatewayNotFound")
            .filter(|it| self.parent(it).is_some_and(|name| name == gateway.name));
        lost.map(move |finding| {
            let remedy = format!(
                "write namespace: {} beside the name if Gateway {gateway} is meant",
                gateway.namespace
            );
            let issue = Issue {
                remedy,
                ..Issue::from(finding.clone())
            };
            (self.distance(&finding.object.key), issue)
        })
    }

    /// The name in the parentRef that a finding about a route is of.
    fn parent(&self, finding: &Finding) -> Option<&str> {
        let route = self.live.resources.http_routes.get(&finding.object.key)?;
        let index = index("spec.parentRefs", &finding.field)?;
        let parent = route.spec.parent_refs.as_ref()?.get(index)?;
        Some(&parent.name)
    }

    /// How much the hostnames of a route differ from the host: 0 if it is for it.
    fn distance(&self, route: &ObjectKey) -> usize {
        let host = &self.request.host;
        let route = self.live.resources.http_routes.get(route);
        let hostnames = route.and_then(|route| route.spec.hostnames.as_deref());
        let distances = hostnames.unwrap_or_default().iter().map(|hostname| {
            let is_wildcard_for_it = hostname
                .strip_prefix('*')
                .is_some_and(|suffix| host.ends_with(suffix));
            if is_wildcard_for_it {
                0
            } else {
                strsim::damerau_levenshtein(hostname, host)
            }
        });
        distances.min().unwrap_or_default()
    }

    /// Whether a parentRef of a route means the Gateway, or a ListenerSet of it.
    fn is_parent(&self, route: &ObjectKey, parent: &ParentReference) -> bool {
        let namespace = parent.namespace.as_ref().unwrap_or(&route.namespace);
        let key = ObjectKey::new(namespace, &parent.name);
        if parent.kind != "ListenerSet" {
            return key == self.live.gateway;
        }
        let set = self.live.resources.listener_sets.get(&key);
        set.and_then(|set| gateway_of(&key, set)).as_ref() == Some(&self.live.gateway)
    }
}

/// The ListenerSets of a Gateway.
pub(super) fn sets_of<'a>(
    gateway: &'a ObjectKey,
    resources: &'a Resources,
) -> impl Iterator<Item = &'a ObjectKey> {
    let sets = resources.listener_sets.iter();
    let sets = sets.filter(move |(key, set)| gateway_of(key, set).as_ref() == Some(gateway));
    sets.map(|(key, _)| key)
}

/// The messages of the conditions that explain why a route does not take a request. References that lead nowhere do so only
/// for the one that answers.
fn faults(parent: &RouteParentStatus, answers: bool) -> impl Iterator<Item = &str> {
    let conditions = parent.conditions.iter();
    let conditions = conditions.filter(move |it| match it.kind {
        kind::ACCEPTED => it.status != ConditionStatus::True,
        kind::PARTIALLY_INVALID => it.status == ConditionStatus::True,
        kind::RESOLVED_REFS => answers && it.status != ConditionStatus::True,
        _ => false,
    });
    conditions.map(|it| it.message.as_str())
}

/// The number behind the name of a list at the beginning of a field's path.
pub(super) fn index(list: &str, field: &str) -> Option<usize> {
    let rest = field.strip_prefix(list)?.strip_prefix('[')?;
    rest.split(']').next()?.parse().ok()
}
