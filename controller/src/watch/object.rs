//! An object as the API server sends it, cut down to what is worth keeping.

use std::{fmt, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::{Map, Value};

use super::delegate_resource;

/// Where `kubectl apply` keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What of a status is part of the object, since a translation reads it: the addresses that a load balancer gave a
/// Service.
const TRANSLATED_STATUS: &str = "loadBalancer";

/// `metadata.resourceVersion`: numbers that grow with every change (KEP-5504).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u64);

impl Version {
    /// The version of an object; zero, older than all others, if it gives none.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        let version = metadata.resource_version.as_deref().unwrap_or_default();
        Self(version.parse().unwrap_or_default())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An object and its status apart. Managed fields and the copy that `kubectl apply` makes are gone. An object that
/// cannot be read does not hide the others of its list.
#[derive(Clone, Debug)]
pub(crate) struct Watched<K> {
    /// Only what names the object, and its version.
    metadata: ObjectMeta,
    /// The object without status and version, so that two of them are equal if they ask for the same; or why it cannot be
    /// read. Of the status only the addresses that a load balancer gave are here.
    pub(crate) object: Result<Arc<K>, String>,
    /// The status, JSON as it came: what others wrote there is not ours to read.
    pub(crate) status: Arc<str>,
}

impl<K> Watched<K> {
    /// Its version.
    pub(crate) fn version(&self) -> Version {
        Version::of(&self.metadata)
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Watched<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The parser would quote what it has found instead, and that may be part of a Secret.
        let mut object = Map::<String, Value>::deserialize(deserializer)
            .map_err(|_| D::Error::custom("not a whole object"))?;
        let status = object.remove("status").unwrap_or_default();
        let mut metadata = ObjectMeta::default();
        if let Some(Value::Object(fields)) = object.get_mut("metadata") {
            trim(fields);
            let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
            metadata.name = text("name");
            metadata.namespace = text("namespace");
            metadata.resource_version = text("resourceVersion");
            fields.remove("resourceVersion");
        }
        if metadata.name.is_none() {
            return Err(D::Error::missing_field("metadata.name"));
        }
        if let Some(addresses) = status.get(TRANSLATED_STATUS) {
            let status = Map::from_iter([(TRANSLATED_STATUS.to_owned(), addresses.clone())]);
            object.insert("status".into(), status.into());
        }
        let object = serde_path_to_error::deserialize(Value::Object(object))
            .map(Arc::new)
            .map_err(|error| error.to_string());
        Ok(Self {
            metadata,
            object,
            status: status.to_string().into(),
        })
    }
}

fn trim(metadata: &mut Map<String, Value>) {
    metadata.remove("managedFields");
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove(LAST_APPLIED);
    }
}

delegate_resource!(Watched, it => &it.metadata, &mut it.metadata);

#[cfg(test)]
mod tests {
    use gateway_api::apis::experimental::httproutes::HttpRoute;
    use k8s_openapi::api::core::v1::{Secret, Service};
    use kube::Resource;
    use serde_json::json;

    use super::*;
    use crate::resources::Redacted;

    fn route(changes: &Value) -> Watched<HttpRoute> {
        let mut route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {
                "name": "shop", "namespace": "apps", "resourceVersion": "7", "generation": 2,
                "managedFields": [{"manager": "kubectl"}],
                "annotations": {LAST_APPLIED: "{}", "team": "web"},
            },
            "spec": {"hostnames": ["shop.example"]},
        });
        json_patch::merge(&mut route, changes);
        serde_json::from_value(route).unwrap()
    }

    #[test]
    fn what_only_costs_memory_is_dropped() {
        let object = route(&json!({})).object.unwrap();
        assert_eq!(object.metadata.managed_fields, None);
        let annotations = object.metadata.annotations.clone().unwrap_or_default();
        assert_eq!(annotations.into_keys().collect::<Vec<_>>(), ["team"]);
        assert_eq!(object.metadata.generation, Some(2));
    }

    #[test]
    fn a_change_of_the_status_is_no_change_of_the_object() {
        let before = route(&json!({}));
        let status = json!({"parents": [], "foreign": {"b": 1, "a": [null, 1.50]}});
        let after = route(&json!({"metadata": {"resourceVersion": "8"}, "status": status}));
        assert_eq!(before.object, after.object);
        assert!(before.version() < after.version());
        assert_eq!(
            serde_json::from_str::<Value>(&after.status).unwrap(),
            status
        );
    }

    #[test]
    fn the_addresses_of_a_load_balancer_are_part_of_a_service() {
        let service = |address: &str, condition: &str| -> Watched<Service> {
            serde_json::from_value(json!({
                "metadata": {"name": "edge", "namespace": "apps"},
                "status": {
                    "loadBalancer": {"ingress": [{"ip": address}]},
                    "conditions": [{"type": condition, "status": "True"}],
                },
            }))
            .unwrap()
        };
        let before = service("192.0.2.1", "Ready").object.unwrap();
        assert_eq!(before, service("192.0.2.1", "Other").object.unwrap());
        assert_ne!(before, service("192.0.2.2", "Ready").object.unwrap());
        let status = before.status.clone().unwrap();
        assert!(status.load_balancer.is_some() && status.conditions.is_none());
    }

    #[test]
    fn an_object_that_cannot_be_read_says_where_and_keeps_its_name() {
        let broken = route(&json!({"spec": {"hostnames": 5}}));
        assert!(broken.object.unwrap_err().starts_with("spec.hostnames: "));
        assert_eq!(broken.metadata.name.as_deref(), Some("shop"));
    }

    #[test]
    fn why_a_secret_cannot_be_read_is_told_without_its_values() {
        for fields in [
            json!({"data": "hunter2"}),
            json!({"data": {"key": "hunter2"}}),
            json!({"stringData": {"key": ["hunter2"]}}),
            json!({"type": {"hunter2": 1}}),
        ] {
            let mut secret = json!({"metadata": {"name": "s", "namespace": "apps"}});
            json_patch::merge(&mut secret, &fields);
            let read: Watched<Redacted<Secret>> = serde_json::from_value(secret).unwrap();
            assert_eq!(read.meta().name.as_deref(), Some("s"));
            let why = read.object.unwrap_err();
            assert!(why.ends_with("could not be decoded"), "{fields}: {why}");
        }
        for answer in [json!("hunter2"), json!([["hunter2"]])] {
            let read = serde_json::from_value::<Watched<Redacted<Secret>>>(answer);
            let why = read.unwrap_err().to_string();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
