//! What stands around an answer about a cluster: what is wrong with the listeners of the port and with routes that might have
//! been meant, and what proxies have in force all the same.

use portcullis_controller::{
    Finding, ObjectKey, ObjectRef, Severity,
    provision::service,
    status::{ConditionStatus, ParentReference, RouteParentStatus, condition::kind},
    translate::gateway_of,
};
use portcullis_routing::{GatewayKey, ListenerKey, RoutingTable};
use serde_json::Value;

use super::live::Live;
use crate::{
    analyze::{self, certificates::secret},
    report::Issue,
    request::Request,
};

/// The surroundings of one request.
pub(super) struct Around<'a> {
    pub(super) live: &'a Live,
    pub(super) request: &'a Request,
    /// `None` if the Gateway is not accepted as it is.
    pub(super) table: Option<&'a RoutingTable>,
}

/// A listener of the port that is asked for.
struct Asked {
    /// The Gateway or ListenerSet that it stands in, and its place there.
    object: ObjectRef,
    index: usize,
    name: String,
    key: ListenerKey,
}

impl Around<'_> {
    /// What is wrong with the Gateway, its class, and its listeners of the port.
    pub(super) fn listeners(&self) -> Vec<Issue> {
        let asked = self.asked();
        let mut concerned: Vec<ObjectRef> = asked.iter().map(|it| it.object.clone()).collect();
        let gateway = &self.live.gateway;
        concerned.push(ObjectRef::new("Gateway", gateway.clone()));
        if let Some(gateway) = self.live.resources.gateways.get(gateway) {
            let class = ObjectKey::cluster(gateway.spec.gateway_class_name.as_str());
            concerned.push(ObjectRef::new("GatewayClass", class));
        }
        let is_of = |finding: &Finding| match index("spec.listeners", &finding.field) {
            None => concerned.contains(&finding.object),
            Some(index) => asked
                .iter()
                .any(|it| (&it.object, it.index) == (&finding.object, index)),
        };
        let findings = self.live.translation.findings.iter();
        let findings = findings.filter(|it| it.severity == Severity::Error && is_of(it));
        findings.map(|finding| self.issue(finding)).collect()
    }

    /// A finding, unless it is only that the caller may not read something.
    fn issue(&self, finding: &Finding) -> Issue {
        let issue = analyze::issue(finding, &self.live.resources);
        match self.unread(finding) {
            None => issue,
            Some(object) => Issue {
                severity: Severity::Warning,
                message: format!(
                    "you may not read {object}, so what comes of it is not known here"
                ),
                remedy: "ask for the right to `get` it, or somebody who has it".into(),
                ..issue
            },
        }
    }

    /// What a finding misses, if that may only not be read.
    fn unread(&self, finding: &Finding) -> Option<&String> {
        let mut unread = self.live.unread.iter();
        unread.find(|object| {
            finding
                .message
                .starts_with(&format!("{object} does not exist"))
        })
    }

    /// The listeners of the port.
    fn asked(&self) -> Vec<Asked> {
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
        for (set, it) in &resources.listener_sets {
            if gateway_of(set, it).as_ref() != Some(gateway) {
                continue;
            }
            let object = ObjectRef::new("ListenerSet", set.clone());
            for (index, it) in it.spec.listeners.iter().enumerate() {
                let key = ListenerKey::of_set(&table, &set.namespace, &set.name, &it.name);
                add(&object, (index, &it.name), it.port, key);
            }
        }
        asked
    }

    /// What proxies have of listeners that cannot be served as they are, as far as that can be known.
    pub(super) fn in_force(&self) -> Vec<String> {
        match self.table {
            None => vec![self.standing_still()],
            Some(table) => {
                let asked = self.asked();
                asked
                    .iter()
                    .filter_map(|it| self.listener_in_force(it, table))
                    .collect()
            }
        }
    }

    fn standing_still(&self) -> String {
        let gateway = &self.live.gateway;
        let resources = &self.live.resources;
        let object = resources.gateways.get(gateway);
        let made = object.and_then(|object| service(resources, gateway, object));
        let what = match made {
            Some(service) => format!(
                "Its proxies go on with what they had last: the controller has made them (Service {} is there), and takes \
                 nothing from them until the Gateway is mended. What that is, no object of the cluster says",
                ObjectKey::of(service)
            ),
            None => "Nothing has been made for it, so nobody serves it, unless proxies run that the controller has not \
                     made: these go on with what they had last"
                .into(),
        };
        let parameters = self.live.translation.findings.iter();
        let mut parameters = parameters.filter(|it| it.object.key == *gateway);
        let go_on = if parameters.any(|it| it.code == "InvalidParameters") {
            ". If the controller has seen good parameters of it, it goes on with those, and serves changes of listeners and \
             routes"
        } else {
            ""
        };
        format!("{what}{go_on}.")
    }

    /// `None` for one that is served as it is.
    fn listener_in_force(&self, asked: &Asked, table: &RoutingTable) -> Option<String> {
        let key = &asked.key;
        let said = self.programmed(asked).unwrap_or_default();
        let listener = table.listeners.get(key);
        let findings = self.live.translation.findings.iter();
        let mut own = findings.filter(|it| {
            it.object == asked.object && index("spec.listeners", &it.field) == Some(asked.index)
        });
        match listener {
            Some(listener) if table.has_certificate(listener) => None,
            Some(listener) => {
                let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
                let secrets: Vec<_> = certificates.map(|key| secret(key).to_string()).collect();
                Some(format!(
                    "Listener {key}: a proxy that had a good pair from {} shows that on; one that has started since has none, and \
                     refuses the handshake. No object says which of them a client meets: `openssl s_client -connect \
                     ADDRESS:{} -servername {}` shows what it is shown.{said}",
                    secrets.join(" or "),
                    self.request.port,
                    self.request.sni.as_deref().unwrap_or("HOST"),
                ))
            }
            None if own.any(|finding| self.unread(finding).is_some()) => Some(format!(
                "Listener {key}: what you may not read decides whether it is served.{said}"
            )),
            None => Some(format!(
                "Listener {key}: proxies close it as soon as they are told of these objects; a change of a moment ago may be \
                 on its way to them.{said}"
            )),
        }
    }

    /// Whether there is a listener of the port that only a proxy with an earlier certificate can serve.
    pub(super) fn shows_earlier(&self) -> bool {
        let Some(table) = self.table else {
            return false;
        };
        let listeners = table.listeners.values();
        let mut listeners = listeners.filter(|listener| listener.port == self.request.port);
        listeners.any(|listener| !table.has_certificate(listener))
    }

    /// What the status of a listener says. That of a Gateway is at hand.
    fn programmed(&self, asked: &Asked) -> Option<String> {
        let listeners = self.live.found.data["status"]["listeners"].as_array();
        let mut listeners = listeners.filter(|_| asked.object.kind == "Gateway")?.iter();
        let listener = listeners.find(|it| it["name"] == *asked.name)?;
        let condition = condition(&listener["conditions"], kind::PROGRAMMED)?;
        let text = |name: &str| condition[name].as_str().unwrap_or_default();
        Some(format!(
            " Its status says: Programmed is {}, {}.",
            text("status"),
            text("message").trim_end_matches('.')
        ))
    }

    /// What is wrong with routes that name the Gateway: with the one that answers, or, without one, with all that are
    /// refused. Those come first whose hostnames are most like the host.
    pub(super) fn routes(&self, answers: Option<&ObjectKey>) -> Vec<Issue> {
        let mut found: Vec<(usize, Issue)> = Vec::new();
        let statuses = &self.live.translation.statuses.http_routes;
        for (key, status) in statuses {
            let distance = self.distance(key);
            let parents = status.parents.iter();
            let parents = parents.filter(|it| self.is_parent(key, &it.parent_ref));
            let is_it = answers == Some(key);
            for told in parents.flat_map(|parent| faults(parent, is_it)) {
                let issues = self.findings_of(key).filter(|it| told.contains(&it.text()));
                found.extend(issues.map(|it| (distance, self.issue(it))));
            }
        }
        found.extend(self.elsewhere());
        found.retain(|(distance, _)| answers.is_none() || *distance == 0);
        found.sort_by_key(|(distance, _)| *distance);
        let mut issues: Vec<Issue> = found.into_iter().map(|(_, issue)| issue).collect();
        issues.dedup();
        issues
    }

    fn findings_of(&self, route: &ObjectKey) -> impl Iterator<Item = &Finding> {
        let findings = self.live.translation.findings.iter();
        let route = ObjectRef::new("HTTPRoute", route.clone());
        findings.filter(move |finding| finding.object == route)
    }

    /// Routes that name a Gateway of the same name in a namespace that has none: without `namespace` it is their own.
    fn elsewhere(&self) -> impl Iterator<Item = (usize, Issue)> {
        let gateway = &self.live.gateway;
        let routes = self.live.resources.http_routes.iter();
        routes.flat_map(move |(key, route)| {
            let parents = route.spec.parent_refs.as_deref().unwrap_or_default();
            let lost = self.findings_of(key).filter(move |finding| {
                let parent =
                    index("spec.parentRefs", &finding.field).and_then(|it| parents.get(it));
                finding.code == "GatewayNotFound"
                    && parent.is_some_and(|it| it.name == gateway.name)
            });
            let distance = self.distance(key);
            lost.map(move |finding| {
                let remedy = format!(
                    "write namespace: {} beside the name if Gateway {gateway} is meant",
                    gateway.namespace
                );
                let issue = Issue {
                    remedy,
                    ..Issue::from(finding.clone())
                };
                (distance, issue)
            })
        })
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
fn index(list: &str, field: &str) -> Option<usize> {
    let rest = field.strip_prefix(list)?.strip_prefix('[')?;
    rest.split(']').next()?.parse().ok()
}

/// A condition of this type, as it stands in an object.
pub(super) fn condition<'a>(conditions: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut conditions = conditions.as_array()?.iter();
    conditions.find(|condition| condition["type"] == *kind)
}
