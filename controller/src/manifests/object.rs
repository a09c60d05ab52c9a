//! Reads one object: which kind it is, what it is called, whether its schema allows it.

use serde_json::{Map, Value};

use super::{
    Loaded,
    kind::{Kind, Unread},
    problem::Place,
    schema,
};
use crate::{
    finding::Severity::{self, Error, Note, Warning},
    resources::ObjectKey,
};

/// Kinds whose status says what a translation needs: addresses. That of any other is written by whoever serves the object; one
/// in a file is left over from a dump.
const STATED: [&str; 3] = ["Pod", "Node", "Service"];

/// Reads one object, or the items of a List. `item` is its place in the List, such as `items[2].`, or empty.
pub(super) fn read(loaded: &mut Loaded, place: &Place, item: &str, value: Value) {
    let Value::Object(mut object) = value else {
        let remedy = "start it with apiVersion and kind";
        let (field, message) = match item {
            "" => ("", "the document is no object"),
            item => (item.trim_end_matches('.'), "is no object"),
        };
        loaded
            .problems
            .push(place.problem(Error, "NotAnObject", field, message, remedy));
        return;
    };
    let (api_version, kind) = (text(&object, "apiVersion"), text(&object, "kind"));
    if let Some(Value::Array(items)) = object.get_mut("items").filter(|_| kind.ends_with("List")) {
        let items = std::mem::take(items).into_iter().enumerate();
        for (index, mut value) in items {
            name_item(&mut value, &api_version, &kind);
            read(loaded, place, &format!("{item}items[{index}]."), value);
        }
        return;
    }
    let key = key(&object);
    let mut reader = Reader {
        loaded,
        place,
        item,
        name: key.to_string(),
        kind,
    };
    let missing = [("kind", &reader.kind), ("apiVersion", &api_version)]
        .into_iter()
        .find_map(|(field, value)| value.is_empty().then_some(field));
    if let Some(missing) = missing {
        reader.problem(
            Error,
            "NotAnObject",
            format!("{item}{missing}"),
            "is missing",
            "every object names its apiVersion and kind",
        );
    } else if let Some(kind) = reader.known_kind(&api_version) {
        reader.read(kind, key, object);
    }
}

/// Items of a typed list, such as a `SecretList`, need not say what they are.
fn name_item(item: &mut Value, api_version: &str, list: &str) {
    let kind = list.strip_suffix("List").unwrap_or_default();
    if let Value::Object(item) = item
        && !kind.is_empty()
        && !item.contains_key("kind")
        && !item.contains_key("apiVersion")
    {
        item.insert("kind".into(), kind.into());
        item.insert("apiVersion".into(), api_version.into());
    }
}

/// What problems of one object have in common.
struct Reader<'a> {
    loaded: &'a mut Loaded,
    place: &'a Place,
    /// Its place in a List, or empty.
    item: &'a str,
    kind: String,
    /// Namespace and name, as problems show them.
    name: String,
}

impl Reader<'_> {
    fn known_kind(&mut self, api_version: &str) -> Option<&'static Kind> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let Some(kind) = Kind::find(group, &self.kind) else {
            self.unread(group, api_version);
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

    fn unread(&mut self, group: &str, api_version: &str) {
        let kind = self.kind.clone();
        let mut tell = |severity, field: &str, message: String, remedy: &str| {
            self.problem(severity, "UnknownKind", field, message, remedy);
        };
        let unread = Unread::of(group, &kind);
        let meant = unread.meant();
        match unread {
            Unread::NotYet => self.problem(
                Error,
                "UnsupportedKind",
                "",
                format!("{kind} of {group} is not supported yet, so this has no effect"),
                "serve it with another program, or remove it",
            ),
            Unread::MisspeltKind(meant) => {
                tell(
                    Error,
                    "kind",
                    format!("there is no kind {kind} in {api_version}"),
                    &format!("did you mean {meant}?"),
                );
            }
            Unread::NoneOfOurs(kinds) => tell(
                Error,
                "kind",
                format!("there is no kind {kind} in {api_version}"),
                &format!("did you mean {}?", kinds.join(" or ")),
            ),
            Unread::WrongGroup(meant) => {
                let instead = format!("write apiVersion: {}", meant.api_version());
                let (field, remedy) = if meant.name == kind {
                    ("apiVersion", instead)
                } else {
                    ("kind", format!("{instead}, and kind: {}", meant.name))
                };
                let message = format!("there is no kind {kind} in {api_version}");
                tell(Error, field, message, &remedy);
            }
            Unread::Foreign(namesake) => {
                let instead = match namesake {
                    Some(kind) => format!("write apiVersion: {}", kind.api_version()),
                    None => "check apiVersion and kind".into(),
                };
                tell(
                    Note,
                    "",
                    format!("{kind} of {api_version} plays no part here"),
                    &format!("nothing to do if another program reads it; else {instead}"),
                );
            }
        }
        if let Some(problem) = self.loaded.problems.last_mut() {
            problem.meant = meant;
        }
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
        if !STATED.contains(&kind.name) {
            object.remove("status");
        }
        join_base64(kind.name, &mut object);
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
                let (message, remedy) = match kind.name {
                    "Secret" if field.starts_with("data.") => (
                        "must be base64".into(),
                        "encode the value, or write it as it is below stringData",
                    ),
                    "Secret" => (without_value(&message), "correct the value"),
                    _ => (message, "correct the value"),
                };
                self.problem(Error, "Invalid", field, message, remedy);
            }
        }
    }

    /// Whether the object can be used; at most unknown fields outside of what it asks for were found, which have been taken
    /// out. A misspelt condition would widen what it is meant to narrow, so such an object is refused, as kubectl does it.
    fn check_schema(&mut self, kind: &str, value: &mut Value) -> bool {
        let mut usable = true;
        for problem in schema::check(kind, value) {
            let harmless = problem.unknown_field && !problem.field.starts_with("spec.");
            usable &= harmless;
            let severity = if harmless { Warning } else { Error };
            let (code, message) = match (problem.unknown_field, harmless) {
                (false, _) => ("Invalid", problem.message),
                (true, true) => ("UnknownField", problem.message),
                (true, false) => {
                    let refused = format!("so the {kind} is refused, as a cluster would do it");
                    ("UnknownField", format!("{}, {refused}", problem.message))
                }
            };
            self.problem(severity, code, problem.field, message, problem.remedy);
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
        if !key.has_valid_name() {
            let message = if key.name.is_empty() {
                "is missing"
            } else {
                "is no valid name"
            };
            let remedy = "use lower-case letters, digits, '-' and '.', at most 253 characters";
            let item = if key.name.is_empty() { self.item } else { "" };
            let field = format!("{item}metadata.name");
            self.problem(Error, "Invalid", field, message, remedy);
            return None;
        }
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut)?;
        match (kind.namespaced, key.namespace.as_str()) {
            (true, "") => {
                metadata.insert("namespace".into(), "default".into());
                Some(ObjectKey::new("default", key.name))
            }
            (true, _) if !key.has_valid_namespace() => {
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

/// Line breaks in base64 mean nothing, as for the API server (Go's `encoding/base64`): `base64` wraps what it writes.
fn join_base64(kind: &str, object: &mut Map<String, Value>) {
    let field = match kind {
        "Secret" => "data",
        "ConfigMap" => "binaryData",
        _ => return,
    };
    let entries = object.get_mut(field).and_then(Value::as_object_mut);
    for value in entries.into_iter().flat_map(Map::values_mut) {
        if let Value::String(text) = value {
            text.retain(|character| !matches!(character, '\r' | '\n'));
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
mod tests;
