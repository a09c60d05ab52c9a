//! An object as the API server sends it, cut down to what is worth keeping.

use std::{borrow::Cow, fmt, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::{Map, Value};

/// Where `kubectl apply` keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What is done with the status of a kind.
pub(crate) trait StatusUse {
    /// Its fields that are part of the object, since a translation reads them.
    const READ: &'static [&'static str];
    /// Whether conditions of ours are written into it.
    const WRITTEN: bool;
}

/// An object of any kind, which is read for nothing but its status.
impl StatusUse for Value {
    const READ: &'static [&'static str] = &[];
    const WRITTEN: bool = true;
}

/// The version that a kind is asked for at; `None` is that of its type.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AtVersion(pub(crate) Option<&'static str>);

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
    /// The object without version, so that two of them are equal if they ask for the same; or why it cannot be read. Of the
    /// status only what a translation reads is here.
    pub(crate) object: Result<Arc<K>, String>,
    /// The status, JSON as it came: what others wrote there is not ours to read. Empty if nothing is written into it.
    pub(crate) status: Arc<str>,
}

impl<K> Watched<K> {
    /// Its version.
    pub(crate) fn version(&self) -> Version {
        Version::of(&self.metadata)
    }
}

impl<'de, K: DeserializeOwned + StatusUse> Deserialize<'de> for Watched<K> {
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
        let part = |name: &&str| Some(((*name).to_owned(), status.get(name)?.clone()));
        let read: Map<_, _> = K::READ.iter().filter_map(part).collect();
        if !read.is_empty() {
            object.insert("status".into(), read.into());
        }
        let object = serde_path_to_error::deserialize(Value::Object(object))
            .map(Arc::new)
            .map_err(|error| error.to_string());
        Ok(Self {
            metadata,
            object,
            status: if K::WRITTEN {
                status.to_string().into()
            } else {
                Arc::default()
            },
        })
    }
}

fn trim(metadata: &mut Map<String, Value>) {
    metadata.remove("managedFields");
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove(LAST_APPLIED);
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Watched<K> {
    type DynamicType = AtVersion;
    type Scope = K::Scope;

    fn kind(_: &AtVersion) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group(_: &AtVersion) -> Cow<'_, str> {
        K::group(&())
    }

    fn version(asked: &AtVersion) -> Cow<'_, str> {
        asked.0.map_or_else(|| K::version(&()), Cow::Borrowed)
    }

    fn plural(_: &AtVersion) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::apis::experimental::httproutes::HttpRoute;
    use k8s_openapi::api::core::v1::{Secret, Service};
    use portcullis_crds::{ServiceEntry, service_entry::Resolution};
    use serde_json::json;

    use super::*;
    use crate::{callers::Pod, resources::Redacted};

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
    fn of_the_status_of_a_pod_only_its_addresses_and_its_end_are_part_of_it() {
        let pod = |address: &str, ready: &str| -> Watched<Pod> {
            serde_json::from_value(json!({
                "metadata": {"name": "web-1", "namespace": "apps"},
                "spec": {"containers": []},
                "status": {
                    "podIP": address, "conditions": [{"type": "Ready", "status": ready}],
                },
            }))
            .unwrap()
        };
        let before = pod("10.1.0.7", "False");
        assert_eq!(
            *before.status, *"",
            "nobody writes there, and there are many"
        );
        let before = before.object.unwrap();
        assert_eq!(before, pod("10.1.0.7", "True").object.unwrap());
        assert_ne!(before, pod("10.1.0.8", "False").object.unwrap());
    }

    /// Istio lets its own values through before anybody else knows them.
    #[test]
    fn a_service_entry_with_a_value_of_a_later_release_is_read() {
        let entry: Watched<ServiceEntry> = serde_json::from_value(json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "ServiceEntry",
            "metadata": {"name": "api", "namespace": "apps"},
            "spec": {"hosts": ["api.example"], "resolution": "LATER", "later": {"a": 1}},
            "status": {"conditions": [{"type": "Reconciled", "observedGeneration": "7"}], "later": 1},
        }))
        .unwrap();
        let spec = &entry.object.unwrap().spec;
        assert_eq!(spec.resolution, Some(Resolution::Unknown("LATER".into())));
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
