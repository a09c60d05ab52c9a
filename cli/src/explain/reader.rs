//! Reads the objects of a cluster that a Gateway may depend on, as far as the caller may.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use portcullis_controller::{
    ObjectKey, ObjectRef, manifests::Loaded, translate::EGRESS_CLASS, watch::References,
};
use serde_json::{Value, json};

use super::{progress, unread::Unread};
use crate::cluster::{Cluster, Kind, Refusal, Scope};

/// Reads objects as if they stood in a file. What may not be read is not there.
pub(super) struct Reader {
    pub(super) cluster: Cluster,
    pub(super) loaded: Loaded,
    pub(super) unread: Unread,
    pub(super) outdated_routes: BTreeSet<ObjectRef>,
    /// With their statuses, which say what proxies serve of them.
    pub(super) listener_sets: BTreeMap<ObjectKey, DynamicObject>,
    /// What is taken for what cannot be read.
    pub(super) taken: Vec<String>,
}

impl Reader {
    /// Reads all that may bear on the Gateway that was found.
    pub(super) async fn read_all(
        &mut self,
        found: &DynamicObject,
        controller_name: &str,
    ) -> anyhow::Result<()> {
        let key = ObjectKey::of(found);
        let own = Scope::Namespace(key.namespace.clone());
        let [http_route, _, tls_route] = Kind::ROUTES;
        for kind in [
            &Kind::GATEWAY,
            &http_route,
            &tls_route,
            &Kind::LISTENER_SET,
            &Kind::BACKEND_TLS_POLICY,
            &Kind::REFERENCE_GRANT,
            &Kind::GATEWAY_PARAMETERS,
            &Kind::CREDENTIAL_INJECTION,
            &Kind::NAMESPACE,
            &Kind::SERVICE,
            &Kind::ENDPOINT_SLICE,
        ] {
            let objects = self.listed(kind, &own).await?;
            if [http_route.name, tls_route.name].contains(&kind.name) {
                let outdated = progress::outdated(kind.name, &objects, controller_name);
                self.outdated_routes.extend(outdated);
            }
            if kind.name == Kind::LISTENER_SET.name {
                let sets = objects.iter().cloned();
                self.listener_sets = sets.map(|set| (ObjectKey::of(&set), set)).collect();
            }
            self.load(kind, objects);
        }
        if found.data["spec"]["gatewayClassName"] == EGRESS_CLASS {
            self.read_egress(&own).await?;
        }
        let is_known = self.loaded.resources.gateways.contains_key(&key);
        if self.unread.has_kind(&Kind::GATEWAY) && !is_known {
            self.load(&Kind::GATEWAY, vec![found.clone()]);
        }
        let classes = self.classes(found, controller_name).await?;
        self.load(&Kind::GATEWAY_CLASS, classes);
        let References {
            secrets,
            config_maps,
        } = self.references(&key, controller_name);
        self.referenced(&Kind::SECRET, &secrets).await?;
        self.referenced(&Kind::CONFIG_MAP, &config_maps).await
    }

    /// What only egress Gateways are made of.
    async fn read_egress(&mut self, own: &Scope) -> anyhow::Result<()> {
        for kind in [&Kind::EGRESS_POLICY, &Kind::POD, &Kind::NODE] {
            let objects = self.listed(kind, own).await?;
            self.load(kind, objects);
        }
        // Whichever version a cluster serves has all of them.
        for kind in &Kind::SERVICE_ENTRIES {
            let objects = self.listed(kind, own).await?;
            let is_served = !objects.is_empty() || self.unread.has_kind(kind);
            self.load(kind, objects);
            if is_served {
                break;
            }
        }
        self.read_service_cidrs().await
    }

    /// The ranges of Services. Without them these count one by one, as for the controller.
    async fn read_service_cidrs(&mut self) -> anyhow::Result<()> {
        let kind = &Kind::SERVICE_CIDR;
        let why = match self.cluster.list(kind, &Scope::All).await {
            Ok(objects) => {
                self.load(kind, objects);
                return Ok(());
            }
            Err(Refusal::NotInstalled) => {
                "the cluster has none (Kubernetes has them from 1.33 on)".to_owned()
            }
            Err(Refusal::Forbidden(message)) => {
                format!("you may not list them, and the controller may: {message}")
            }
            Err(Refusal::Failed(error)) => return Err(error),
        };
        self.taken.push(format!(
            "without ServiceCIDRs only addresses that Services have at present count as those of Services: {why}"
        ));
        Ok(())
    }

    /// The objects of a kind, or those of the Gateway's namespace if the caller has no more rights.
    async fn listed(&mut self, kind: &Kind, own: &Scope) -> anyhow::Result<Vec<DynamicObject>> {
        let message = match self.cluster.list(kind, &Scope::All).await {
            Ok(objects) => return Ok(objects),
            Err(Refusal::NotInstalled) => return Ok(Vec::new()),
            Err(Refusal::Forbidden(message)) => message,
            Err(Refusal::Failed(error)) => return Err(error),
        };
        let listed = if kind.namespaced {
            match self.cluster.list(kind, own).await {
                Ok(objects) => Some(objects),
                Err(Refusal::Forbidden(_) | Refusal::NotInstalled) => None,
                Err(Refusal::Failed(error)) => return Err(error),
            }
        } else {
            None
        };
        let seen = match own {
            Scope::Namespace(namespace) if listed.is_some() => Some(namespace.as_str()),
            _ => None,
        };
        self.unread.add_kind(kind, message, seen);
        Ok(listed.unwrap_or_default())
    }

    /// The classes, or that of the Gateway for a caller who may not list them. If that may not be read either, it is taken for
    /// one of the controller that is asked for, whose name no status of a Gateway has.
    async fn classes(
        &mut self,
        gateway: &DynamicObject,
        controller_name: &str,
    ) -> anyhow::Result<Vec<DynamicObject>> {
        let kind = &Kind::GATEWAY_CLASS;
        match self.cluster.list(kind, &Scope::All).await {
            Ok(classes) => return Ok(classes),
            Err(Refusal::Forbidden(_)) => {}
            Err(refusal) => return Err(refusal.fatal(kind)),
        }
        let name = gateway.data["spec"]["gatewayClassName"].as_str();
        let name = name.unwrap_or_default();
        let message = match self.cluster.get(kind, name).await {
            Ok(class) => return Ok(class.into_iter().collect()),
            Err(Refusal::Forbidden(message)) => message,
            Err(refusal) => return Err(refusal.fatal(kind)),
        };
        self.taken.push(format!(
            "GatewayClass {name} is taken for one of {controller_name}, and without parameters: {message}"
        ));
        let class = json!({
            "metadata": { "name": name }, "spec": { "controllerName": controller_name },
        });
        Ok(vec![serde_json::from_value(class)?])
    }

    /// What one Gateway refers to: others may have thousands of Secrets.
    fn references(&self, gateway: &ObjectKey, controller_name: &str) -> References {
        let mut resources = self.loaded.resources.clone();
        resources.gateways.retain(|key, _| key == gateway);
        // Those of namespaces with a route that may be the Gateway's.
        let routes = resources.http_routes.iter();
        let of_gateway = routes.filter(|(_, route)| {
            let mut parents = route.spec.parent_refs.iter().flatten();
            parents.any(|it| it.name == gateway.name || it.kind.as_deref() == Some("ListenerSet"))
        });
        let namespaces: BTreeSet<_> = of_gateway.map(|(key, _)| key.namespace.clone()).collect();
        let credentials = &mut resources.credential_injections;
        credentials.retain(|key, _| namespaces.contains(&key.namespace));
        References::of(&resources, controller_name)
    }

    async fn referenced(&mut self, kind: &Kind, keys: &BTreeSet<ObjectKey>) -> anyhow::Result<()> {
        for key in keys {
            let ObjectKey { namespace, name } = key;
            match self.cluster.get_in(kind, namespace, name).await {
                Ok(object) => self.load(kind, object.into_iter().collect()),
                Err(Refusal::NotInstalled) => {}
                Err(Refusal::Forbidden(message)) => self.unread.add_object(kind, key, message),
                Err(Refusal::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// The API server does not repeat in a list what kind its objects are of.
    fn load(&mut self, kind: &Kind, objects: Vec<DynamicObject>) {
        for object in objects {
            let mut document = object.data;
            if let Value::Object(fields) = &mut document {
                fields.insert("apiVersion".into(), kind.api_version().into());
                fields.insert("kind".into(), kind.name.into());
                fields.insert("metadata".into(), json!(object.metadata));
            }
            self.loaded.read_text("the cluster", &document.to_string());
        }
    }
}
