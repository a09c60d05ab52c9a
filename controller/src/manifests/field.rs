//! Typed reading of one object: the path of what does not fit, and of every field that is not known.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What came of reading an object.
pub(super) struct Read<K> {
    /// The object, or the field that does not fit and why.
    pub(super) object: Result<K, (String, String)>,
    /// Fields that were passed over, because the type has none of that name.
    pub(super) ignored: Vec<String>,
}

impl<K> Read<K> {
    /// The same, with something else made of the object.
    pub(super) fn map<T>(self, change: impl FnOnce(K) -> T) -> Read<T> {
        Read {
            object: self.object.map(change),
            ignored: self.ignored,
        }
    }
}

/// Reads an object.
pub(super) fn read<K: DeserializeOwned>(value: &Value) -> Read<K> {
    let mut ignored = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let object = serde_ignored::deserialize(deserializer, |path| ignored.push(text(&path)));
    let object = object.map_err(|error: serde_json::Error| {
        let path = track.path().to_string();
        (
            if path == "." { String::new() } else { path },
            error.to_string(),
        )
    });
    // Whoever chose the type has looked at these two; not every type has them as fields.
    ignored.retain(|field| !["apiVersion", "kind"].contains(&field.as_str()));
    Read { object, ignored }
}

fn text(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path::{Map, NewtypeStruct, NewtypeVariant, Root, Seq, Some};
    match path {
        Root => String::new(),
        Seq { parent, index } => format!("{}[{index}]", text(parent)),
        Map { parent, key } => {
            let parent = text(parent);
            if parent.is_empty() {
                key.clone()
            } else {
                format!("{parent}.{key}")
            }
        }
        Some { parent } | NewtypeStruct { parent } | NewtypeVariant { parent } => text(parent),
    }
}
