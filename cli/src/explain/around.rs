//! What stands around an answer about a cluster: what is wrong with the listeners of the port.

use portcullis_controller::{
    Finding, ObjectKey, ObjectRef, Resources, Severity, status::reason, translate::gateway_of,
};
use portcullis_routing::{GatewayKey, ListenerKey, RoutingTable};

use super::{live::Live, routes::Routes};
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
    pub(super) fn issue(&self, finding: &Finding) -> Issue {
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

    /// The routes that may be meant.
    pub(super) fn routes(&self) -> Routes<'_> {
        Routes {
            resources: &self.live.resources,
            translation: &self.live.translation,
            host: &self.request.host,
            gateway: Some(&self.live.gateway),
        }
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

/// The number behind the name of a list at the beginning of a field's path.
pub(super) fn index(list: &str, field: &str) -> Option<usize> {
    let rest = field.strip_prefix(list)?.strip_prefix('[')?;
    rest.split(']').next()?.parse().ok()
}
