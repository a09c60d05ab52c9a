//! Manifests with hostile values: nothing panics, and a table never holds what a data plane would reject.
//!
//! Every field that occurs in the golden cases without errors is replaced, one at a time, by values that an API server
//! should refuse. The translation does not rely on that: it gets them past the schemas.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use portcullis_controller::{Options, Severity, manifests::Loaded, translate};
use portcullis_routing::{ResourceKind, validate};
use serde_json::{Value, json};

const MARKER: &str = "---\n# Output\n";

#[test]
fn tables_hold_only_what_a_data_plane_accepts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let defaults = documents(&fs::read_to_string(root.join("_defaults.yaml")).unwrap());
    let mut seen = BTreeSet::new();
    for path in entries(&root)
        .iter()
        .filter(|path| path.is_dir())
        .flat_map(|area| entries(area))
    {
        let text = fs::read_to_string(&path).unwrap();
        let input = text.split_once(MARKER).map_or(&*text, |(input, _)| input);
        try_case(
            &path.display().to_string(),
            &documents(input),
            &defaults,
            &mut seen,
        );
    }
    assert!(seen.len() > 80, "only {} fields were tried", seen.len());
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries
}

/// Tries hostile values in all fields of a case that are not in `seen` yet. In a case with errors the rule at hand may be
/// rejected anyhow, so such a case proves nothing.
fn try_case(case: &str, manifests: &[Value], defaults: &[Value], seen: &mut BTreeSet<String>) {
    for (index, manifest) in manifests.iter().enumerate() {
        let others = manifests[..index].iter().chain(&manifests[index + 1..]);
        let others = load(Loaded::accepted(), others.chain(defaults));
        if !check(&load(others.clone(), [manifest]), case) {
            continue;
        }
        for pointer in leaves(manifest) {
            if !seen.insert(format!("{} {}", manifest["kind"], shape(&pointer))) {
                continue;
            }
            for hostile in hostile_values() {
                let mut changed = manifest.clone();
                *changed.pointer_mut(&pointer).unwrap() = hostile;
                check(
                    &load(others.clone(), [&changed]),
                    &format!("{case} {pointer}"),
                );
            }
        }
    }
}

fn hostile_values() -> Vec<Value> {
    vec![
        json!(""),
        json!("/"),
        json!("//../%2e%2F%00"),
        json!("a\r\nb: c"),
        json!("*.*:0"),
        json!("é\\?#"),
        json!("(.*a){1,60}["),
        json!("x".repeat(5_000)),
        json!(-1),
        json!(0),
        json!(70_000),
        json!(i64::MAX),
        json!(null),
        json!([]),
        json!({}),
    ]
}

fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n").map(serde_saphyr::from_str::<Value>);
    documents
        .filter_map(Result::ok)
        .filter(Value::is_object)
        .collect()
}

/// JSON pointers to all values below the top level that are neither objects nor lists.
fn leaves(document: &Value) -> Vec<String> {
    fn walk(value: &Value, pointer: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    walk(value, &format!("{pointer}/{name}"), found);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    walk(value, &format!("{pointer}/{index}"), found);
                }
            }
            _ => found.push(pointer.to_owned()),
        }
    }
    let mut found = Vec::new();
    walk(document, "", &mut found);
    found
}

/// A pointer without the positions in lists: fields of the same shape are tried once.
fn shape(pointer: &str) -> String {
    let steps = pointer.split('/');
    steps
        .filter(|step| step.parse::<usize>().is_err())
        .collect::<Vec<_>>()
        .join("/")
}

fn load<'a>(mut loaded: Loaded, manifests: impl IntoIterator<Item = &'a Value>) -> Loaded {
    for manifest in manifests {
        loaded.read_text("case.json", &manifest.to_string());
    }
    loaded
}

/// Whether the manifests are good; in any case their tables must be.
fn check(loaded: &Loaded, what: &str) -> bool {
    let translation = translate(&loaded.resources, &Options::standalone());
    for table in translation.tables.into_values() {
        let table = Arc::new(table);
        let mut rejections = validate::table(Arc::clone(&table));
        // A Secret that is there but broken is named all the same, for a data plane that has an earlier pair of it.
        rejections.retain(|rejection| match rejection.kind {
            ResourceKind::Certificate => table.certificates.contains_key(rejection.key.as_str()),
            ResourceKind::Listener => {
                let listener = table.listeners.get(rejection.key.as_str());
                listener.is_some_and(|listener| table.has_certificate(listener))
            }
            _ => true,
        });
        assert!(rejections.is_empty(), "{what}: {rejections:?}");
    }
    let problems = loaded.problems.iter().map(|problem| problem.severity);
    let findings = translation.findings.iter().map(|finding| finding.severity);
    problems
        .chain(findings)
        .all(|severity| severity != Severity::Error)
}
