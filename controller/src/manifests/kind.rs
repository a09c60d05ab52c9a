//! The kinds of objects that are read, and how each gets into the resources.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, LazyLock},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Loaded, field, problem::Place, schema};
use crate::{
    finding::Severity::{Error, Note, Warning},
    resources::{ObjectKey, Objects, Resources},
};

const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// A name that the API server takes (RFC 1123 subdomain).
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        .expect("a valid expression")
});

/// Reads one object, or the items of a List.
pub(super) fn read(loaded: &mut Loaded, place: &Place, value: Value) {
    let Value::Object(mut object) = value else {
        loaded.problems.push(place.problem(
            Error,
            "NotAnObject",
            "",
            "the document is no object",
            "start it with apiVersion and kind",
        ));
        return;
    };
    let kind = text(&object, "kind");
    let api_version = text(&object, "apiVersion");
    if kind.is_empty() || api_version.is_empty() {
        let missing = if kind.is_empty() {
            "kind"
        } else {
            "apiVersion"
        };
        let name = name_of(&object).1;
        loaded.problems.push(
            place
                .problem(
                    Error,
                    "NotAnObject",
                    missing,
                    "is missing",
                    "every object names both",
                )
                .of(&kind, &name),
        );
        return;
    }
    if let Some(Value::Array(items)) = object.get_mut("items").filter(|_| kind.ends_with("List")) {
        for item in std::mem::take(items) {
            read(loaded, place, item);
        }
        return;
    }
    Reader {
        loaded,
        place,
        kind,
        api_version,
    }
    .read(object);
}

struct Reader<'a> {
    loaded: &'a mut Loaded,
    place: &'a Place,
    kind: String,
    api_version: String,
}

impl Reader<'_> {
    fn read(mut self, object: Map<String, Value>) {
        let (group, version) = self
            .api_version
            .rsplit_once('/')
            .unwrap_or(("", &self.api_version));
        let known_version = |versions: &[&str]| versions.contains(&version);
        match (group, self.kind.as_str()) {
            (GATEWAY_API, "GatewayClass") if known_version(&["v1", "v1beta1"]) => {
                self.cluster(object, |resources| &mut resources.gateway_classes);
            }
            (GATEWAY_API, "Gateway") if known_version(&["v1", "v1beta1"]) => {
                self.namespaced(object, |resources| &mut resources.gateways);
            }
            (GATEWAY_API, "HTTPRoute") if known_version(&["v1", "v1beta1"]) => {
                self.namespaced(object, |resources| &mut resources.http_routes);
            }
            (GATEWAY_API, "ReferenceGrant") if known_version(&["v1", "v1beta1"]) => {
                self.namespaced(object, |resources| &mut resources.reference_grants);
            }
            ("portcullis.dev", "GatewayParameters") if known_version(&["v1alpha1"]) => {
                self.namespaced(object, |resources| &mut resources.gateway_parameters);
            }
            ("", "Namespace") if known_version(&["v1"]) => {
                self.cluster(object, |resources| &mut resources.namespaces)
            }
            ("", "Service") if known_version(&["v1"]) => {
                self.namespaced(object, |resources| &mut resources.services)
            }
            ("", "ConfigMap") if known_version(&["v1"]) => {
                self.namespaced(object, |resources| &mut resources.config_maps);
            }
            ("", "Secret") if known_version(&["v1"]) => {
                self.read_as(
                    object,
                    true,
                    |resources| &mut resources.secrets,
                    fold_string_data,
                );
            }
            ("discovery.k8s.io", "EndpointSlice") if known_version(&["v1"]) => {
                self.namespaced(object, |resources| &mut resources.endpoint_slices);
            }
            _ => self.unknown(&object),
        }
    }

    fn unknown(&mut self, object: &Map<String, Value>) {
        let group = self
            .api_version
            .rsplit_once('/')
            .map_or("", |(group, _)| group);
        let (message, severity) = if [GATEWAY_API, "portcullis.dev"].contains(&group) {
            (
                format!(
                    "{} of {} is not supported yet, so this has no effect",
                    self.kind, self.api_version
                ),
                Warning,
            )
        } else {
            (
                format!("{} of {} plays no part here", self.kind, self.api_version),
                Note,
            )
        };
        let remedy = "nothing to do if another program reads it; else check apiVersion and kind";
        let name = name_of(object).1;
        self.problem(severity, "UnknownKind", &name, "", message, remedy);
    }

    fn problem(
        &mut self,
        severity: crate::Severity,
        code: &'static str,
        name: &str,
        field: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.loaded.problems.push(
            self.place
                .problem(severity, code, field, message, remedy)
                .of(&self.kind, name),
        );
    }

    fn cluster<K>(self, object: Map<String, Value>, objects: fn(&mut Resources) -> &mut Objects<K>)
    where
        K: DeserializeOwned + ResourceExt,
    {
        self.read_as(object, false, objects, |_| Ok(()));
    }

    fn namespaced<K>(
        self,
        object: Map<String, Value>,
        objects: fn(&mut Resources) -> &mut Objects<K>,
    ) where
        K: DeserializeOwned + ResourceExt,
    {
        self.read_as(object, true, objects, |_| Ok(()));
    }

    fn read_as<K>(
        mut self,
        mut object: Map<String, Value>,
        namespaced: bool,
        objects: fn(&mut Resources) -> &mut Objects<K>,
        adjust: fn(&mut K) -> Result<(), (String, String)>,
    ) where
        K: DeserializeOwned + ResourceExt,
    {
        let Some(key) = self.key(&mut object, namespaced) else {
            return;
        };
        let name = key.to_string();
        // Whoever serves the object writes its status; one in a file is left over from a dump.
        object.remove("status");
        let mut value = Value::Object(object);
        if !self.loaded.accepted && !self.check_schema(&name, &mut value) {
            return;
        }
        let read = field::read::<K>(&value);
        for ignored in read.ignored {
            let message = "this field is not known or not supported yet, and has no effect";
            let remedy = "correct the name of the field, or remove it";
            self.problem(Warning, "UnknownField", &name, ignored, message, remedy);
        }
        let read = read
            .object
            .and_then(|mut object| adjust(&mut object).map(|()| object));
        match read {
            Ok(object) => match objects(&mut self.loaded.resources).entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(Arc::new(object))),
                Entry::Occupied(_) => {
                    let message = "an object of this kind, namespace and name was read before; this one is left out";
                    self.problem(
                        Error,
                        "Duplicate",
                        &name,
                        "metadata.name",
                        message,
                        "keep one of the two",
                    );
                }
            },
            Err((field, message)) => {
                self.problem(Error, "Invalid", &name, field, message, "correct the value")
            }
        }
    }

    /// Checks the object against its kind's schema. Whether it can be used.
    fn check_schema(&mut self, name: &str, value: &mut Value) -> bool {
        let mut usable = true;
        for problem in schema::check(&self.kind, value) {
            usable &= problem.unknown_field;
            let (severity, code) = if problem.unknown_field {
                (Warning, "UnknownField")
            } else {
                (Error, "Invalid")
            };
            self.problem(
                severity,
                code,
                name,
                problem.field,
                problem.message,
                problem.remedy,
            );
        }
        usable
    }

    /// Namespace and name; gives a namespaced object without one the namespace `default`.
    fn key(&mut self, object: &mut Map<String, Value>, namespaced: bool) -> Option<ObjectKey> {
        let (key, shown) = name_of(object);
        if !NAME.is_match(&key.name) || key.name.len() > 253 {
            let message = if key.name.is_empty() {
                "is missing"
            } else {
                "is no valid name"
            };
            let remedy = "use lower-case letters, digits, '-' and '.', at most 253 characters";
            self.problem(Error, "Invalid", &shown, "metadata.name", message, remedy);
            return None;
        }
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut)?;
        match (namespaced, key.namespace.is_empty()) {
            (true, true) => {
                metadata.insert("namespace".into(), "default".into());
                Some(ObjectKey::new("default", key.name))
            }
            (true, false)
                if key.namespace.len() > 63
                    || key.namespace.contains('.')
                    || !NAME.is_match(&key.namespace) =>
            {
                let remedy = "use lower-case letters, digits and '-', at most 63 characters";
                self.problem(
                    Error,
                    "Invalid",
                    &shown,
                    "metadata.namespace",
                    "is no valid name",
                    remedy,
                );
                None
            }
            (false, false) => {
                metadata.remove("namespace");
                let message = "objects of this kind belong to no namespace";
                self.problem(
                    Warning,
                    "UnknownField",
                    &shown,
                    "metadata.namespace",
                    message,
                    "remove the field",
                );
                Some(ObjectKey::cluster(key.name))
            }
            _ => Some(key),
        }
    }
}

fn text(object: &Map<String, Value>, field: &str) -> String {
    object
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// The key as it stands there, and how problems show it.
fn name_of(object: &Map<String, Value>) -> (ObjectKey, String) {
    let empty = Map::new();
    let metadata = object
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let key = ObjectKey::new(text(metadata, "namespace"), text(metadata, "name"));
    let shown = key.to_string();
    (key, shown)
}

/// `stringData` is only a convenience of writing: the API server moves it into `data`.
fn fold_string_data(secret: &mut Secret) -> Result<(), (String, String)> {
    if let Some(text) = secret.string_data.take() {
        let data = secret.data.get_or_insert_with(BTreeMap::new);
        data.extend(
            text.into_iter()
                .map(|(key, value)| (key, ByteString(value.into_bytes()))),
        );
    }
    Ok(())
}
