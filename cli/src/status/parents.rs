//! Why nobody has answered for a parent of a route, and for a name that is asked for: what is known of the Gateways that
//! there are.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use portcullis_controller::status::condition::kind;
use serde_json::Value;

use super::{
    Question,
    classes::{Names, Owner},
    condition::{Finding, NO_ANSWER, SILENT, key},
    routes::ParentRef,
};
use crate::cluster::{Kind, Refusal, Scope};

/// The Gateways that routes may name.
pub(super) struct Gateways<'a> {
    classes: &'a Names,
    /// The class of each, by namespace and name.
    class_of: BTreeMap<String, String>,
    /// Where they were looked for.
    scope: Scope,
}

/// The reason of a route that may be of a kind that the caller may not list.
pub(super) const ROUTE_NOT_SEEN: &str = "RouteNotSeen";
/// The same of an object of egress.
pub(super) const OBJECT_NOT_SEEN: &str = "ObjectNotSeen";

/// Nothing more is known.
const NOBODY: &str = "no controller has answered for this parent: it does not exist, or its class is of no controller that \
    runs, or that controller does not serve this kind of route";

impl Question<'_> {
    /// Reads them: of all namespaces, or of one if the caller has no more rights.
    pub(super) async fn named_gateways<'a>(
        &self,
        classes: &'a Names,
    ) -> anyhow::Result<Gateways<'a>> {
        let mut scope = Scope::All;
        let mut listed = self.cluster.list(&Kind::GATEWAY, &scope).await;
        if let Err(Refusal::Forbidden(_)) = &listed {
            scope = self.scope.clone();
            listed = self.cluster.list(&Kind::GATEWAY, &scope).await;
        }
        let listed = match listed {
            Ok(listed) => listed,
            Err(Refusal::Failed(error)) => return Err(error),
            Err(_) => {
                // What is nowhere to be seen is not known not to be there.
                scope = Scope::Namespace(String::new());
                Vec::new()
            }
        };
        let class = |object: &DynamicObject| match &object.data["spec"]["gatewayClassName"] {
            Value::String(class) => class.clone(),
            _ => String::new(),
        };
        let class_of = listed.iter().map(|object| (key(object), class(object)));
        Ok(Gateways {
            classes,
            class_of: class_of.collect(),
            scope,
        })
    }

    /// That no object of these kinds has the name that is asked for, and where there is one.
    pub(super) async fn not_found(
        &self,
        kinds: &[Kind],
        name: &str,
        reason: &str,
    ) -> anyhow::Result<Finding> {
        let mut namespaces = BTreeSet::new();
        for it in kinds {
            match self.cluster.named(it, &Scope::All, name).await {
                Ok(objects) => namespaces.extend(
                    objects
                        .into_iter()
                        .filter_map(|object| object.metadata.namespace),
                ),
                Err(Refusal::Failed(error)) => return Err(error),
                Err(_) => {}
            }
        }
        let what = match kinds {
            [only] => only.name,
            [first, ..] if first.name == Kind::SERVICE_ENTRIES[0].name => "egress object",
            _ => "route",
        };
        let (object, place) = match &self.scope {
            Scope::All => (format!("{what} {name}"), "in any namespace".to_owned()),
            Scope::Namespace(own) => (
                format!("{what} {own}/{name}"),
                format!("in namespace {own}"),
            ),
        };
        let among = if [ROUTE_NOT_SEEN, OBJECT_NOT_SEEN].contains(&reason) {
            " among those that you may list"
        } else {
            ""
        };
        let namespaces = Vec::from_iter(namespaces);
        let elsewhere = match namespaces.first() {
            Some(first) => format!(
                "; there is one in {}: look there with -n {first}",
                namespaces.join(", ")
            ),
            None => "; -A without a name shows all that you may see".into(),
        };
        Ok(Finding {
            object,
            part: None,
            condition: kind::ACCEPTED.into(),
            status: "Unknown".into(),
            reason: reason.into(),
            message: format!("there is no {what} {name} {place}{among}{elsewhere}"),
            apply: None,
            since: None,
        })
    }
}

impl Gateways<'_> {
    /// Whose a Gateway is.
    pub(super) fn owner(&self, key: &str) -> Owner<'_> {
        match self.class_of.get(key) {
            Some(class) => self.classes.owner(class),
            None => Owner::Unknown,
        }
    }

    /// Reason and message for a parent of a route of this kind, in this namespace, that nobody has answered for.
    pub(super) fn silence(
        &self,
        route: &str,
        parent: &ParentRef,
        namespace: &str,
    ) -> (&'static str, String) {
        let key = parent.key(namespace);
        match parent.kind.as_deref().unwrap_or(Kind::GATEWAY.name) {
            "Gateway" => match self.class_of.get(&key) {
                Some(class) => self.silent_gateway(route, &key, class),
                None if self.sees(&key) => ("GatewayNotFound", self.no_gateway(&key, &parent.name)),
                None => (NO_ANSWER, NOBODY.into()),
            },
            "ListenerSet" => (
                NO_ANSWER,
                format!(
                    "nobody has answered for ListenerSet {key}: it does not exist, or its Gateway is not served, or not for {route}s; \
                     `portcullis status gateways -A` says more of both"
                ),
            ),
            kind => (
                NO_ANSWER,
                format!(
                    "{kind} {key} is no Gateway: nothing to do if another program serves the route there, such as a mesh; else \
                     name a Gateway"
                ),
            ),
        }
    }

    fn silent_gateway(&self, route: &str, key: &str, class: &str) -> (&'static str, String) {
        match self.classes.owner(class) {
            Owner::Ours if ["HTTPRoute", "TLSRoute"].contains(&route) => (NO_ANSWER, SILENT.into()),
            Owner::Ours => (
                "UnsupportedKind",
                format!(
                    "Portcullis does not serve {route}s, so nothing comes of it at Gateway {key}: write it as an HTTPRoute, or \
                     name a Gateway of a controller that does"
                ),
            ),
            Owner::Others(controller) => (
                "ForeignGateway",
                format!(
                    "Gateway {key}: {}. That controller has not answered",
                    self.classes.foreign(class, controller)
                ),
            ),
            Owner::Nobody => (
                "NoSuchClass",
                format!("it follows from Gateway {key}: there is no GatewayClass {class}"),
            ),
            Owner::Unknown => (NO_ANSWER, NOBODY.into()),
        }
    }

    /// That it is not there, and where there is one of the same name: without a namespace a parent is one of the route's own.
    fn no_gateway(&self, key: &str, name: &str) -> String {
        let namespaces = self.class_of.keys().filter_map(|known| {
            let (namespace, known) = known.split_once('/')?;
            (known == name).then_some(namespace)
        });
        let namespaces: Vec<_> = namespaces.collect();
        if namespaces.is_empty() {
            format!(
                "there is no Gateway {key}: create it, or correct name and namespace of the parentRef; `portcullis status \
                 gateways -A` shows those that there are"
            )
        } else {
            format!(
                "there is no Gateway {key}: write namespace: {} beside the name in the parentRef if that one is meant",
                namespaces.join(" or ")
            )
        }
    }

    /// Whether it would have been seen.
    fn sees(&self, key: &str) -> bool {
        match &self.scope {
            Scope::All => true,
            Scope::Namespace(own) => key.split('/').next() == Some(own),
        }
    }
}
