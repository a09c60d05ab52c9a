//! The objects of the fake API server and their history: versions, conflicts, generations, expiry.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// A kind that is served.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    /// Whether it takes a CRD to be served.
    pub(super) custom: bool,
}

const fn kind(name: &'static str, group: &'static str, plural: &'static str, custom: bool) -> Kind {
    Kind {
        name,
        group,
        plural,
        custom,
    }
}

pub(super) const KINDS: &[Kind] = &[
    kind(
        "GatewayClass",
        "gateway.networking.k8s.io",
        "gatewayclasses",
        true,
    ),
    kind("Gateway", "gateway.networking.k8s.io", "gateways", true),
    kind(
        "ListenerSet",
        "gateway.networking.k8s.io",
        "listenersets",
        true,
    ),
    kind("HTTPRoute", "gateway.networking.k8s.io", "httproutes", true),
    kind("TLSRoute", "gateway.networking.k8s.io", "tlsroutes", true),
    kind(
        "BackendTLSPolicy",
        "gateway.networking.k8s.io",
        "backendtlspolicies",
        true,
    ),
    kind(
        "ReferenceGrant",
        "gateway.networking.k8s.io",
        "referencegrants",
        true,
    ),
    kind(
        "GatewayParameters",
        "portcullis.dev",
        "gatewayparameters",
        true,
    ),
    kind("EgressPolicy", "portcullis.dev", "egresspolicies", true),
    kind(
        "CredentialInjection",
        "portcullis.dev",
        "credentialinjections",
        true,
    ),
    kind(
        "ServiceEntry",
        "networking.istio.io",
        "serviceentries",
        true,
    ),
    kind("Namespace", "", "namespaces", false),
    kind("Pod", "", "pods", false),
    kind("Node", "", "nodes", false),
    kind("ServiceCIDR", "networking.k8s.io", "servicecidrs", false),
    kind("Service", "", "services", false),
    kind("Secret", "", "secrets", false),
    kind("ConfigMap", "", "configmaps", false),
    kind("EndpointSlice", "discovery.k8s.io", "endpointslices", false),
    kind("Lease", "coordination.k8s.io", "leases", false),
    kind("ServiceAccount", "", "serviceaccounts", false),
    kind("Deployment", "apps", "deployments", false),
    kind("DaemonSet", "apps", "daemonsets", false),
    kind(
        "PodDisruptionBudget",
        "policy",
        "poddisruptionbudgets",
        false,
    ),
    kind(
        "HorizontalPodAutoscaler",
        "autoscaling",
        "horizontalpodautoscalers",
        false,
    ),
    kind(
        CRD,
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        false,
    ),
];

const CRD: &str = "CustomResourceDefinition";

impl Kind {
    pub(super) fn named(name: &str) -> &'static Self {
        let kind = KINDS.iter().find(|kind| kind.name == name);
        kind.unwrap_or_else(|| panic!("the fake API server knows no {name}"))
    }

    pub(super) fn crd(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

/// Kind, namespace and name.
pub(super) type Id = (&'static str, String, String);

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) kind: &'static str,
    pub(super) what: &'static str,
    pub(super) object: Value,
}

/// An error of the API: HTTP status and reason.
pub(super) type Refusal = (u16, &'static str);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) version: u64,
    pub(super) objects: BTreeMap<Id, Value>,
    pub(super) events: Vec<Event>,
    /// Versions before this one are forgotten.
    pub(super) oldest: u64,
    /// Whether a watch that has expired is refused; else it begins, and ends with an error.
    pub(super) refuses_expired: bool,
    /// Kinds whose lists are not answered for now.
    pub(super) held: BTreeSet<&'static str>,
    /// Kinds of which no single object is given for now.
    pub(super) held_reads: BTreeSet<&'static str>,
    /// Kinds of which no single object is given, and how that is refused.
    pub(super) refused_reads: BTreeMap<&'static str, Refusal>,
    /// Kinds that may be listed, but not watched.
    pub(super) refused_watches: BTreeSet<&'static str>,
    /// Kinds whose watches say nothing for now.
    pub(super) muted: BTreeSet<&'static str>,
    /// Versions that kinds are not served at.
    pub(super) withdrawn: BTreeSet<(&'static str, String)>,
    /// How often requests for a kind are still refused, and how.
    pub(super) refused: BTreeMap<&'static str, (u32, Refusal)>,
    /// Objects that come into being right after somebody was told that they are not there.
    pub(super) sneaking: BTreeMap<Id, Value>,
    /// What is served at paths that are no object's, and how often it was asked for.
    pub(super) documents: BTreeMap<String, (Value, usize)>,
    /// Counts up whenever all watches are to be cut.
    pub(super) cuts: u64,
    /// What each field manager has applied last.
    pub(super) applied: BTreeMap<(Id, String), Value>,
    /// What each field manager has said by creating an object: to apply something else takes nothing of it away.
    pub(super) created: BTreeMap<(Id, String), Value>,
    /// Requests that were answered, in order.
    pub(super) log: Vec<super::Logged>,
}

impl State {
    /// Whether a kind is served at a version.
    pub(super) fn serves(&self, kind: &Kind, version: &str) -> bool {
        let installed =
            !kind.custom || self.objects.contains_key(&(CRD, String::new(), kind.crd()));
        installed && !self.withdrawn.contains(&(kind.name, version.to_owned()))
    }

    /// Lets an object come into being that waits for somebody to be told that it is not there.
    pub(super) fn sneak_in(&mut self, id: &Id) {
        if let Some(object) = self.sneaking.remove(id) {
            self.create(id.clone(), object).unwrap();
        }
    }

    pub(super) fn get(&self, id: &Id) -> Result<Value, Refusal> {
        self.objects.get(id).cloned().ok_or((404, "NotFound"))
    }

    pub(super) fn create(&mut self, id: Id, mut object: Value) -> Result<Value, Refusal> {
        if self.objects.contains_key(&id) {
            return Err((409, "AlreadyExists"));
        }
        let uid = format!("uid-{}", self.version + 1);
        let metadata = metadata(&mut object);
        let defaults = [
            ("uid", json!(uid)),
            ("generation", json!(1)),
            ("creationTimestamp", json!("2026-01-01T00:00:00Z")),
            ("managedFields", json!([{ "manager": "test" }])),
        ];
        for (name, value) in defaults {
            metadata.entry(name).or_insert(value);
        }
        Ok(self.store(id, object, "ADDED"))
    }

    /// PUT or the result of a PATCH, of the object or of its status.
    pub(super) fn replace(
        &mut self,
        id: Id,
        status_only: bool,
        mut object: Value,
    ) -> Result<Value, Refusal> {
        let current = self.get(&id)?;
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        let named = version(&object);
        if !named.is_null() && named != version(&current) {
            return Err((409, "Conflict"));
        }
        if status_only {
            let status = object["status"].take();
            object = current.clone();
            object["status"] = status;
        } else {
            let known = current["metadata"].as_object().cloned().unwrap_or_default();
            let mut generation = current["metadata"]["generation"].as_i64().unwrap_or(1);
            generation += i64::from(object["spec"] != current["spec"]);
            let metadata = metadata(&mut object);
            for (name, value) in known {
                metadata.entry(name).or_insert(value);
            }
            metadata.insert("generation".into(), generation.into());
        }
        metadata(&mut object).insert("resourceVersion".into(), version(&current));
        if object == current {
            return Ok(current);
        }
        Ok(self.store(id, object, "MODIFIED"))
    }

    pub(super) fn delete(&mut self, id: &Id) -> Result<(), Refusal> {
        let object = self.objects.remove(id).ok_or((404, "NotFound"))?;
        self.applied.retain(|(of, _), _| of != id);
        self.created.retain(|(of, _), _| of != id);
        self.record(id.0, "DELETED", object);
        Ok(())
    }

    /// DELETE of the object with this UID, if one is given.
    pub(super) fn delete_exactly(&mut self, id: &Id, uid: &Value) -> Result<(), Refusal> {
        if !uid.is_null() && self.get(id)?["metadata"]["uid"] != *uid {
            return Err((409, "Conflict"));
        }
        self.delete(id)
    }

    fn store(&mut self, id: Id, object: Value, what: &'static str) -> Value {
        let object = self.record(id.0, what, object);
        self.objects.insert(id, object.clone());
        object
    }

    fn record(&mut self, kind: &'static str, what: &'static str, mut object: Value) -> Value {
        self.version += 1;
        metadata(&mut object).insert("resourceVersion".into(), self.version.to_string().into());
        self.events.push(Event {
            version: self.version,
            kind,
            what,
            object: object.clone(),
        });
        object
    }
}

fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    let object = object.as_object_mut().expect("an object");
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    metadata.as_object_mut().expect("metadata is an object")
}
