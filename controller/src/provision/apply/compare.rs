//! What of an object is as it should be.

use serde_json::Value;

/// Fields by which the entries of a list are told apart, in the lists that others may add to.
const KEYS: [&str; 2] = ["name", "topologyKey"];

/// What the object has where we say something about it: equal to `wanted` if all of that is in force. What we say nothing
/// about is left out, so what others or defaults set there makes no difference.
pub(super) fn overlap(wanted: &Value, live: &Value) -> Value {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted
            .iter()
            .map(|(name, wanted)| {
                let live = live.get(name).unwrap_or(&Value::Null);
                (name.clone(), overlap(wanted, live))
            })
            .collect(),
        (Value::Array(wanted), Value::Array(live)) => {
            let entries = wanted.iter().enumerate();
            entries
                .map(|(index, wanted)| {
                    let live = counterpart(wanted, index, live).unwrap_or(&Value::Null);
                    overlap(wanted, live)
                })
                .collect()
        }
        _ => live.clone(),
    }
}

fn counterpart<'a>(wanted: &Value, index: usize, live: &'a [Value]) -> Option<&'a Value> {
    let key = KEYS.iter().find(|key| wanted.get(**key).is_some());
    match key {
        Some(key) => live.iter().find(|it| it.get(*key) == wanted.get(*key)),
        None => live.get(index),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_makes_no_difference() {
        let wanted = json!({
            "spec": { "ports": [{ "name": "b", "port": 2 }], "args": ["x"] },
        });
        let live = json!({
            "spec": {
                "ports": [{ "name": "a", "port": 1 }, { "name": "b", "port": 2, "nodePort": 30000 }],
                "args": ["x"], "replicas": 3,
            },
            "status": {},
        });
        assert_eq!(overlap(&wanted, &live), wanted);
    }

    #[test]
    fn what_is_changed_or_taken_away_does() {
        let wanted = json!({ "a": { "b": 1, "c": [{ "name": "x", "v": 1 }, { "name": "y" }] } });
        let live = json!({ "a": { "b": 2, "c": [{ "name": "y" }] } });
        assert_eq!(
            overlap(&wanted, &live),
            json!({ "a": { "b": 2, "c": [null, { "name": "y" }] } })
        );
        assert_eq!(
            overlap(&json!({ "a": [1, 2] }), &json!({})),
            json!({ "a": null })
        );
    }
}
