//! Reads one object: which kind it is, what it is called, whether its schema allows it.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::{
    Loaded,
    kind::{GATEWAY_API, Kind, OWN},
    problem::Place,
    schema,
};
use crate::{
    finding::Severity::{self, Error, Note, Warning},
    resources::ObjectKey,
};

/// A name that the API server takes (RFC 1123 subdomain).
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        .expect("a valid expression")
});

/// Reads one object, or the items of a List.
pub(super) fn read(loaded: &mut Loaded, place: &Place, value: Value) {
    let Value::Object(mut object) = value else {
        let remedy = "start it with apiVersion and kind";
        loaded.problems.push(place.problem(
            Error,
            "NotAnObject",
            "",
            "the document is no object",
            remedy,
        ));
        return;
    };
    let (api_version, kind) = (text(&object, "apiVersion"), text(&object, "kind"));
    if let Some(Value::Array(items)) = object.get_mut("items").filter(|_| kind.ends_with("List")) {
        for item in std::mem::take(items) {
            read(loaded, place, item);
        }
        return;
    }
    let key = key(&object);
    let mut reader = Reader {
        loaded,
        place,
        name: key.to_string(),
        kind,
    };
    if reader.kind.is_empty() || api_version.is_empty() {
        let missing = if reader.kind.is_empty() {
            "kind"
        } else {
            "apiVersion"
        };
        reader.problem(
            Error,
            "NotAnObject",
            missing,
            "is missing",
            "every object names its apiVersion and kind",
        );
        return;
    }
    if let Some(kind) = reader.known_kind(&api_version) {
        reader.read(kind, key, object);
    }
}

/// What problems of one object have in common.
struct Reader<'a> {
    loaded: &'a mut Loaded,
    place: &'a Place,
    kind: String,
    /// Namespace and name, as problems show them.
    name: String,
}

impl Reader<'_> {
    fn known_kind(&mut self, api_version: &str) -> Option<&'static Kind> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let Some(kind) = Kind::find(group, &self.kind) else {
            let remedy =
                "nothing to do if another program reads it; else check apiVersion and kind";
            if [GATEWAY_API, OWN].contains(&group) {
                let message = format!(
                    "{} of {group} is not supported yet, so this has no effect",
                    self.kind
                );
                self.problem(Warning, "UnknownKind", "", message, remedy);
            } else {
                let message = format!("{} of {api_version} plays no part here", self.kind);
                self.problem(Note, "UnknownKind", "", message, remedy);
            }
            return None;
        };
        if !kind.versions.contains(&version) {
            let message = format!("{version} of {} is not read", self.kind);
            let remedy = format!("write it as {}", kind.versions[0]);
            self.problem(Error, "UnknownKind", "apiVersion", message, remedy);
            return None;
        }
        Some(kind)
    }

    fn read(&mut self, kind: &'static Kind, key: ObjectKey, mut object: Map<String, Value>) {
        let Some(key) = self.place_in_namespace(kind, key, &mut object) else {
            return;
        };
        self.name = key.to_string();
        if (kind.contains)(&self.loaded.resources, &key) {
            let message =
                "an object of this kind, namespace and name was read before; this one is left out";
            self.problem(
                Error,
                "Duplicate",
                "metadata.name",
                message,
                "keep one of the two",
            );
            return;
        }
        // Whoever serves the object writes its status; one in a file is left over from a dump.
        object.remove("status");
        let mut value = Value::Object(object);
        let checked = !self.loaded.accepted && schema::has(kind.name);
        if checked && !self.check_schema(kind.name, &mut value) {
            return;
        }
        let read = (kind.read)(&value);
        let unsupported = |field: &str| checked && field.starts_with("spec.");
        let usable = !read.ignored.iter().any(|field| unsupported(field));
        for field in read.ignored {
            if unsupported(&field) {
                let message = "the API has this field, but it is not supported yet";
                self.problem(
                    Error,
                    "UnsupportedField",
                    field,
                    message,
                    "remove the field",
                );
            } else {
                let message = "this field is not known, and has no effect";
                let remedy = "correct the name of the field, or remove it";
                self.problem(Warning, "UnknownField", field, message, remedy);
            }
        }
        match read.object {
            Ok(insert) if usable => insert(&mut self.loaded.resources, key),
            Ok(_) => {}
            Err((field, message)) => {
                let message = if kind.name == "Secret" {
                    without_value(&message)
                } else {
                    message
                };
                self.problem(Error, "Invalid", field, message, "correct the value");
            }
        }
    }

    /// Whether the object can be used; at most unknown fields were found, which have been taken out.
    fn check_schema(&mut self, kind: &str, value: &mut Value) -> bool {
        let mut usable = true;
        for problem in schema::check(kind, value) {
            usable &= problem.unknown_field;
            let (severity, code) = if problem.unknown_field {
                (Warning, "UnknownField")
            } else {
                (Error, "Invalid")
            };
            self.problem(
                severity,
                code,
                problem.field,
                problem.message,
                problem.remedy,
            );
        }
        usable
    }

    /// Checks the names; gives a namespaced object without a namespace the namespace `default`.
    fn place_in_namespace(
        &mut self,
        kind: &Kind,
        key: ObjectKey,
        object: &mut Map<String, Value>,
    ) -> Option<ObjectKey> {
        if self.name_is_no_text(object) {
            return None;
        }
        if !NAME.is_match(&key.name) || key.name.len() > 253 {
            let message = if key.name.is_empty() {
                "is missing"
            } else {
                "is no valid name"
            };
            let remedy = "use lower-case letters, digits, '-' and '.', at most 253 characters";
            self.problem(Error, "Invalid", "metadata.name", message, remedy);
            return None;
        }
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut)?;
        match (kind.namespaced, key.namespace.as_str()) {
            (true, "") => {
                metadata.insert("namespace".into(), "default".into());
                Some(ObjectKey::new("default", key.name))
            }
            (true, namespace)
                if namespace.len() > 63 || namespace.contains('.') || !NAME.is_match(namespace) =>
            {
                let remedy = "use lower-case letters, digits and '-', at most 63 characters";
                self.problem(
                    Error,
                    "Invalid",
                    "metadata.namespace",
                    "is no valid name",
                    remedy,
                );
                None
            }
            (true, _) | (false, "") => Some(key),
            (false, _) => {
                metadata.remove("namespace");
                let message = "objects of this kind belong to no namespace";
                self.problem(
                    Warning,
                    "UnknownField",
                    "metadata.namespace",
                    message,
                    "remove the field",
                );
                Some(ObjectKey::cluster(key.name))
            }
        }
    }

    /// Whether name or namespace is a number, say; taken for absent, it would put the object somewhere else.
    fn name_is_no_text(&mut self, object: &Map<String, Value>) -> bool {
        let metadata = object.get("metadata");
        let wrong = ["name", "namespace"].into_iter().find_map(|field| {
            let value = metadata?.get(field)?;
            (!value.is_string() && !value.is_null()).then_some((field, value))
        });
        let Some((field, value)) = wrong else {
            return false;
        };
        let message = format!("must be a string, not {value}");
        let field = format!("metadata.{field}");
        self.problem(Error, "Invalid", field, message, "put it in quotes");
        true
    }

    fn problem(
        &mut self,
        severity: Severity,
        code: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let problem = self.place.problem(severity, code, field, message, remedy);
        self.loaded
            .problems
            .push(problem.of(&self.kind, &self.name));
    }
}

/// What is wrong with a field of a Secret: the message of the parser quotes the value that it has found.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("must be {expected}"),
        None => "is not what this field holds".into(),
    }
}

fn text(object: &Map<String, Value>, field: &str) -> String {
    object
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Namespace and name as they stand there.
fn key(object: &Map<String, Value>) -> ObjectKey {
    let metadata = object.get("metadata").and_then(Value::as_object);
    let part = |field| {
        metadata
            .map(|metadata| text(metadata, field))
            .unwrap_or_default()
    };
    ObjectKey::new(part("namespace"), part("name"))
}

#[cfg(test)]
mod tests {
    use super::Loaded;

    fn load(text: &str) -> Loaded {
        let mut loaded = Loaded::default();
        loaded.read_text("test.yaml", text);
        loaded
    }

    fn told(loaded: &Loaded) -> Vec<String> {
        let problems = loaded.problems.iter();
        problems
            .map(|problem| format!("{}: {}", problem.field, problem.message))
            .collect()
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_told_without_its_values() {
        for (fields, expected) in [
            (
                "stringData: {tls.key: 31337}",
                "stringData.tls.key: must be a string",
            ),
            ("data: 'a, expected 31337'", "data: must be a map"),
            (
                "data: {tls.key: '31337!'}",
                "data.tls.key: is not what this field holds",
            ),
        ] {
            let loaded = load(&format!(
                "{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, {fields}}}"
            ));
            assert_eq!(told(&loaded), [expected], "{fields}");
            assert!(loaded.resources.is_empty(), "{fields}");
        }
    }

    #[test]
    fn a_name_that_is_no_text_is_not_taken_for_none() {
        for field in ["name", "namespace"] {
            let metadata = format!("{{name: a, {field}: 1}}").replace("name: a, name", "name");
            let loaded = load(&format!(
                "{{apiVersion: v1, kind: Service, metadata: {metadata}}}"
            ));
            assert_eq!(
                told(&loaded),
                [format!("metadata.{field}: must be a string, not 1")]
            );
            assert!(loaded.resources.is_empty(), "{field}");
        }
    }
}
