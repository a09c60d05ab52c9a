//! Kubernetes objects in YAML: read, told apart, and compared.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Objects by what they are called: kind, namespace, name.
pub(super) type Objects = BTreeMap<String, Value>;

/// The objects of a text with any number of documents.
pub(super) fn parse(text: &str) -> Result<Objects> {
    let documents: Vec<Option<Value>> = serde_saphyr::from_multiple(text)?;
    let mut objects = Objects::new();
    for object in documents.into_iter().flatten() {
        let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let name = format!(
            "{} {}/{}",
            word("/kind").context("an object without a kind")?,
            word("/metadata/namespace").unwrap_or_default(),
            word("/metadata/name").context("an object without a name")?
        );
        ensure!(
            objects.insert(name.clone(), object).is_none(),
            "{name} is there twice"
        );
    }
    Ok(objects)
}

/// The objects of a kustomization that does nothing but name its resources, files and folders.
pub(super) fn of_kustomization(folder: &Path) -> Result<Objects> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
    let kustomization: BTreeMap<String, Value> =
        serde_saphyr::from_str(&read(&folder.join("kustomization.yaml"))?)?;
    let mut objects = Objects::new();
    for (field, value) in &kustomization {
        ensure!(
            ["apiVersion", "kind", "resources"].contains(&field.as_str()),
            "{}: `{field}` is not understood here",
            folder.display()
        );
        if field != "resources" {
            continue;
        }
        for resource in value.as_array().into_iter().flatten() {
            let path = folder.join(resource.as_str().context("a resource is a path")?);
            objects.extend(if path.is_dir() {
                of_kustomization(&path)?
            } else {
                parse(&read(&path)?).with_context(|| path.display().to_string())?
            });
        }
    }
    Ok(objects)
}

/// Takes out of an object what Helm and nobody else puts there.
pub(super) fn without_helm(object: &mut Value) {
    if let Some(labels) = object
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove("helm.sh/chart");
        labels.remove("app.kubernetes.io/managed-by");
    }
}

/// Where two objects differ first: a JSON pointer and both values. Labels of the objects are not compared.
pub(super) fn difference(one: &Value, other: &Value) -> Option<String> {
    let plain = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("labels");
        }
        object
    };
    first_difference("", &plain(one), &plain(other))
}

fn first_difference(path: &str, one: &Value, other: &Value) -> Option<String> {
    if one == other {
        return None;
    }
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|key| {
            let side = |fields: &serde_json::Map<String, Value>| {
                fields.get(key).cloned().unwrap_or_default()
            };
            first_difference(&format!("{path}/{key}"), &side(a), &side(b))
        }),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(number, (a, b))| first_difference(&format!("{path}/{number}"), a, b)),
        _ => Some(format!("{path}: {one} and {other}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{difference, parse};

    #[test]
    fn the_first_difference_is_named() {
        let one = json!({ "metadata": { "labels": { "a": "b" } }, "spec": [1, { "x": 2 }] });
        let other = json!({ "metadata": {}, "spec": [1, { "x": 3 }] });
        assert_eq!(
            difference(&one, &other).as_deref(),
            Some("/spec/1/x: 2 and 3")
        );
        assert_eq!(difference(&one, &one), None);
    }

    #[test]
    fn an_object_may_not_be_there_twice() {
        let text = "kind: A\nmetadata:\n  name: x\n---\n# nothing\n---\nkind: B\nmetadata:\n  name: x\n  namespace: space\n";
        let objects = parse(text).unwrap();
        let names: Vec<_> = objects.keys().collect();
        assert_eq!(names, ["A /x", "B space/x"]);
        assert!(parse(&format!("{text}---\n{text}")).is_err());
    }
}
