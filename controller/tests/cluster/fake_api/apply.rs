//! Server-side apply, as far as one manager needs it (who does not force it contradicts nobody): what it does not say any more goes, what others have said
//! stays.

use serde_json::{Value, json};

use super::state::{Id, Refusal, State};

/// Fields by which the entries of a list are told apart; other lists are values as a whole.
const KEYS: [&str; 2] = ["name", "uid"];

/// A patch of the type `application/apply-patch+yaml`.
pub(super) fn apply(
    state: &mut State,
    id: &Id,
    manager: &str,
    force: bool,
    mut body: Value,
) -> Result<Value, Refusal> {
    let uid = body["metadata"]["uid"].take();
    body["metadata"].as_object_mut().unwrap().remove("uid");
    let current = state.get(id).ok();
    let known = current
        .as_ref()
        .map_or(&Value::Null, |it| &it["metadata"]["uid"]);
    if !uid.is_null() && uid != *known {
        return Err((409, "Conflict"));
    }
    if let Some(current) = &current
        && !force
        && contradicts(current, &body)
    {
        return Err((409, "Conflict"));
    }
    let key = (id.clone(), manager.to_owned());
    let before = state.applied.insert(key.clone(), body.clone());
    let Some(mut object) = current else {
        note(&mut body, manager, "Apply");
        return state.create(id.clone(), body);
    };
    let mut kept = state.created.get(&key).cloned().unwrap_or(json!({}));
    merge(&mut kept, &body);
    remove(&mut object, &before.unwrap_or(json!({})), &kept);
    merge(&mut object, &body);
    note(&mut object, manager, "Apply");
    state.replace(id.clone(), false, object)
}

/// Creates an object. What is said so is not what is applied.
pub(super) fn create(
    state: &mut State,
    id: &Id,
    manager: &str,
    mut body: Value,
) -> Result<Value, Refusal> {
    let said = body.clone();
    note(&mut body, manager, "Update");
    let object = state.create(id.clone(), body)?;
    state.created.insert((id.clone(), manager.to_owned()), said);
    Ok(object)
}

/// Somebody has written `metadata.managedFields`: what their entries say was created is taken for applied if it has become so.
pub(super) fn take_over(state: &mut State, id: &Id, object: &Value) {
    let is_entry = |it: &Value, manager: &str, operation: &str| {
        it["manager"] == manager && it["operation"] == operation
    };
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let taken = state.created.extract_if(.., |(of, manager), _| {
        let has = |operation| entries.iter().any(|it| is_entry(it, manager, operation));
        of == id && has("Apply") && !has("Update")
    });
    for (key, mut said) in taken {
        let applied = state.applied.entry(key).or_insert(json!({}));
        merge(&mut said, applied);
        *applied = said;
    }
}

/// Notes in `metadata.managedFields` that a manager has said something in this way.
fn note(object: &mut Value, manager: &str, operation: &str) {
    let fields = &mut object["metadata"]["managedFields"];
    if fields.is_null() {
        *fields = json!([]);
    }
    let entry = json!({ "manager": manager, "operation": operation, "fieldsV1": {} });
    let entries = fields.as_array_mut().unwrap();
    if !entries.contains(&entry) {
        entries.push(entry);
    }
}

/// Whether a field of `body` has another value in `object`.
fn contradicts(object: &Value, body: &Value) -> bool {
    match (object, body) {
        (Value::Null, _) => false,
        (Value::Object(object), Value::Object(body)) => body.iter().any(|(name, body)| {
            object
                .get(name)
                .is_some_and(|object| contradicts(object, body))
        }),
        (object, body) => object != body,
    }
}

/// Takes out of `object` what was in `before` and is not in `now`.
fn remove(object: &mut Value, before: &Value, now: &Value) {
    match (object, before, now) {
        (Value::Object(object), Value::Object(before), Value::Object(now)) => {
            for (name, before) in before {
                match (object.get_mut(name), now.get(name)) {
                    (Some(_), None) => drop(object.remove(name)),
                    (Some(object), Some(now)) => remove(object, before, now),
                    (None, _) => {}
                }
            }
        }
        (Value::Array(object), Value::Array(before), Value::Array(now)) => {
            let gone: Vec<_> = before
                .iter()
                .filter(|it| find(now, it).is_none())
                .cloned()
                .collect();
            object.retain(|it| find(&gone, it).is_none());
        }
        _ => {}
    }
}

fn merge(object: &mut Value, body: &Value) {
    match (object, body) {
        (Value::Object(object), Value::Object(body)) => {
            for (name, body) in body {
                merge(object.entry(name).or_insert(Value::Null), body);
            }
        }
        (Value::Array(object), Value::Array(body)) if body.iter().all(|it| key(it).is_some()) => {
            for body in body {
                match find(object, body) {
                    Some(index) => merge(&mut object[index], body),
                    None => object.push(body.clone()),
                }
            }
        }
        (object, body) => *object = body.clone(),
    }
}

fn key(entry: &Value) -> Option<(&str, &Value)> {
    KEYS.iter()
        .find_map(|name| Some((*name, entry.get(*name)?)))
}

fn find(list: &[Value], entry: &Value) -> Option<usize> {
    let wanted = key(entry)?;
    list.iter().position(|it| key(it) == Some(wanted))
}
