//! The rules of the architecture that a compiler does not check: who may depend on whom, how long a file may get, and
//! what a source file may not say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// The arrows: a crate of the workspace, and the crates of the workspace it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("portcullis-routing", &[]),
    ("portcullis-crds", &[]),
    (
        "portcullis-controller",
        &["portcullis-routing", "portcullis-crds"],
    ),
    ("portcullis-dataplane", &["portcullis-routing"]),
    (
        "portcullis",
        &[
            "portcullis-routing",
            "portcullis-crds",
            "portcullis-controller",
            "portcullis-dataplane",
        ],
    ),
    (
        "portcullis-e2e",
        &[
            "portcullis-routing",
            "portcullis-crds",
            "portcullis-controller",
            "portcullis-dataplane",
            "portcullis",
        ],
    ),
];

/// What may not be linked into a crate, however deep. A name that ends in `*` stands for every name it begins.
const FORBIDDEN_CRATES: &[(&str, &[&str])] = &[
    (
        "portcullis-routing",
        &[
            "tokio*",
            "kube*",
            "k8s-openapi",
            "gateway-api",
            "pingora*",
            "hyper*",
            "h2",
            "rustls*",
        ],
    ),
    ("portcullis-crds", &["pingora*"]),
    ("portcullis-controller", &["pingora*"]),
    (
        "portcullis-dataplane",
        &["kube*", "k8s-openapi", "gateway-api"],
    ),
];

/// Longest source file, in lines.
const MAX_LINES: usize = 600;

/// What no line of a source file may hold, in halves so that this file does not hold it either.
const FORBIDDEN_TEXT: &[(&str, &str)] = &[
    ("todo", "!("),
    ("unimplemented", "!("),
    ("dbg", "!("),
    ("#[ign", "ore"),
    ("allow(dead", "_code)"),
    ("allow(unu", "sed"),
    ("allow(clippy::", "all)"),
    ("FIX", "ME"),
];

#[test]
fn crates_depend_only_along_the_arrows() {
    let metadata = metadata();
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let members: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(
        members,
        arrows.keys().copied().collect(),
        "every crate of the workspace has its arrows written down"
    );
    for package in metadata.workspace_packages() {
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| members.contains(dependency.name.as_str()))
        {
            assert!(
                arrows[package.name.as_str()].contains(&dependency.name.as_str()),
                "{} may not depend on {}",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn crates_stay_free_of_what_they_must_not_link() {
    let metadata = metadata();
    for (name, forbidden) in FORBIDDEN_CRATES {
        let linked = linked_crates(&metadata, name);
        assert!(!linked.is_empty(), "{name} links something");
        let offenders: Vec<_> = linked
            .iter()
            .filter(|linked| forbidden.iter().any(|pattern| matches(pattern, linked)))
            .collect();
        assert!(offenders.is_empty(), "{name} links {offenders:?}");
    }
}

#[test]
fn source_files_say_their_job_and_stay_short() {
    let mut faults = Vec::new();
    for path in source_files() {
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") {
            faults.push(format!(
                "{}: does not begin with its job (//!)",
                path.display()
            ));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!(
                "{}: {lines} lines, at most {MAX_LINES}",
                path.display()
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn source_files_hold_no_loose_ends() {
    let checkout = root().display().to_string();
    let forbidden: Vec<String> = FORBIDDEN_TEXT
        .iter()
        .map(|(head, tail)| format!("{head}{tail}"))
        .chain([checkout])
        .collect();
    let mut faults = Vec::new();
    for path in source_files() {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            faults.extend(
                forbidden
                    .iter()
                    .filter(|forbidden| line.contains(forbidden.as_str()))
                    .map(|forbidden| format!("{}:{}: {forbidden}", path.display(), number + 1)),
            );
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_crate_carries_the_licence() {
    let licence = fs::read_to_string(root().join("LICENSE")).unwrap();
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0"));
    for package in metadata().workspace_packages() {
        assert_eq!(
            package.license.as_deref(),
            Some("Apache-2.0"),
            "{}",
            package.name
        );
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .exec()
        .unwrap()
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// Everything that ends up in a build of the crate `name`: its normal dependencies, and theirs.
fn linked_crates(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let nodes: BTreeMap<&PackageId, _> = metadata
        .resolve
        .as_ref()
        .unwrap()
        .nodes
        .iter()
        .map(|node| (&node.id, node))
        .collect();
    let start = metadata
        .workspace_packages()
        .into_iter()
        .find(|package| package.name.as_str() == name)
        .unwrap();
    let mut seen = BTreeSet::new();
    let mut open = vec![&start.id];
    while let Some(id) = open.pop() {
        for dependency in &nodes[id].deps {
            let normal = dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal);
            if normal && seen.insert(&dependency.pkg) {
                open.push(&dependency.pkg);
            }
        }
    }
    seen.into_iter()
        .map(|id| metadata[id].name.to_string())
        .collect()
}

/// Every `.rs` file of the workspace's crates.
fn source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = metadata()
        .workspace_packages()
        .iter()
        .map(|package| {
            package
                .manifest_path
                .parent()
                .unwrap()
                .as_std_path()
                .to_path_buf()
        })
        .collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 10, "the workspace has sources");
    files.sort();
    files
}
