//! What is not served though it is meant to be: objects whose documents are broken, and Gateways that nothing can be served of.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use portcullis_controller::{ObjectRef, Resources, Severity, Translation, manifests::LoadProblem};
use portcullis_routing::GatewayKey;

use super::{File, file_of, spoils};

/// Object and place of everything that is not in force, in the order of files, and of Gateways.
pub(super) fn left_out(
    files: &BTreeMap<PathBuf, Arc<File>>,
    resources: &Resources,
    translation: &Translation,
) -> Vec<String> {
    let in_force = in_force(resources);
    let mut left_out: Vec<String> = Vec::new();
    for file in files.values() {
        for problem in file.problems.iter().filter(|it| is_missed(it)) {
            let name = described(problem);
            if !stands_in(problem, file, &in_force) && !left_out.contains(&name) {
                left_out.push(name);
            }
        }
    }
    left_out.extend(without_table(files, translation));
    left_out
}

/// The objects, as problems name them.
pub(super) fn in_force(resources: &Resources) -> BTreeSet<String> {
    let objects = resources.objects();
    objects.iter().map(ToString::to_string).collect()
}

/// Whether an object is missing because of this problem, and would be there without it.
fn is_missed(problem: &LoadProblem) -> bool {
    problem.severity == Severity::Error && problem.code != "UnsupportedKind"
}

/// What the broken document describes, and where it stands.
fn described(problem: &LoadProblem) -> String {
    let object = format!("{} {}", problem.kind, problem.name);
    let object = match object.trim() {
        "" => "a document",
        object => object,
    };
    format!("{object} ({})", problem.place())
}

/// Whether the object is in force all the same: in an earlier form, which may be any that the file held if the document does
/// not say what it is, or as another document describes it.
pub(super) fn stands_in(problem: &LoadProblem, file: &File, in_force: &BTreeSet<String>) -> bool {
    let (kind, name) = (&problem.kind, &problem.name);
    file.kept.iter().any(|object| spoils(problem, object))
        || in_force.contains(&format!("{kind} {name}"))
        || in_force.contains(&format!("{kind} default/{name}"))
}

/// Gateways of ours that are not served, whatever is wrong with them.
fn without_table<'a>(
    files: &'a BTreeMap<PathBuf, Arc<File>>,
    translation: &'a Translation,
) -> impl Iterator<Item = String> + 'a {
    let gateways = translation.statuses.gateways.keys().filter(|key| {
        let table = GatewayKey::of(&key.namespace, &key.name);
        !translation.tables.contains_key(&table)
    });
    gateways.map(|key| {
        let object = ObjectRef::new("Gateway", key.clone());
        match file_of(files, &object) {
            Some(place) => format!("{object} ({place})"),
            None => object.to_string(),
        }
    })
}
