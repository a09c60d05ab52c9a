//! `portcullis install`: what Helm is asked to do, and what is made of its answer. A program in Helm's place writes down
//! what it is called with; `cargo e2e chart` has the chart rendered by Helm itself.

mod common;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, process::Output};

use common::{config, portcullis, run, stderr, stdout};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a `helm` that keeps its arguments and the chart, and does `rest`.
fn fake(rest: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let script = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\nprintf '%s\\n' \"$@\" > {path}/arguments\ncp -r \"$3\" {path}/chart\n{rest}\n"
    );
    let program = folder.path().join("helm");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn install(path: &Path, arguments: &[&str]) -> Output {
    portcullis(&[&["install"], arguments].concat())
        .env("PATH", path)
        .output()
        .unwrap()
}

/// The arguments that Helm got, without the folder of the chart.
fn arguments(folder: &TempDir) -> Vec<String> {
    let text = fs::read_to_string(folder.path().join("arguments")).unwrap();
    let mut arguments: Vec<String> = text.lines().map(str::to_owned).collect();
    arguments.remove(2);
    arguments
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_dry_run_prints_what_helm_renders_from_the_chart_of_the_repository() {
    let helm = fake("printf '# rendered\\nkind: A\\n'");
    let output = install(
        helm.path(),
        &[
            "--dry-run",
            "-n",
            "edge",
            "--set",
            "a=b",
            "--set",
            "c=d",
            "-f",
            "x.yaml",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "# rendered\nkind: A\n");
    assert_eq!(
        arguments(&helm),
        [
            "template",
            "portcullis",
            "--namespace",
            "edge",
            "--values",
            "x.yaml",
            "--set",
            "a=b",
            "--set",
            "c=d",
            "--include-crds",
        ]
    );
    let written = files(&helm.path().join("chart"));
    let original = files(&config().join("../charts/portcullis"));
    assert!(written.contains_key("Chart.yaml"));
    assert!(
        written == original,
        "{:?} and {:?}",
        written.keys(),
        original.keys()
    );
}

#[test]
fn objects_are_listed_and_printed_as_json() {
    let helm = fake(
        "printf 'kind: A\\nmetadata:\\n  name: x\\n---\\nkind: B\\nmetadata:\\n  name: z\\n  namespace: space\\n'",
    );
    let table = install(helm.path(), &["--dry-run", "-o", "table"]);
    assert_eq!(
        stdout(&table),
        "KIND  NAMESPACE  NAME\nA     -          x\nB     space      z\n"
    );
    let json = install(helm.path(), &["--dry-run", "-o", "json"]);
    let objects: Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(objects[1]["metadata"]["name"], "z");
    // There are no manifests to print when it is installed.
    assert_eq!(run(&["install", "-o", "json"]).status.code(), Some(2));
}

#[test]
fn without_a_dry_run_it_is_installed_or_upgraded() {
    let helm = fake("");
    let output = install(helm.path(), &["--context", "kind-test"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        arguments(&helm),
        [
            "upgrade",
            "portcullis",
            "--namespace",
            "portcullis-system",
            "--install",
            "--create-namespace",
            "--wait",
            "--kube-context",
            "kind-test",
        ]
    );
}

#[test]
fn what_helm_refuses_is_told() {
    let helm = fake("echo 'Error: bad values' >&2; exit 1");
    let output = install(helm.path(), &["--dry-run"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    assert_eq!(stderr(&output), "error: helm: bad values\n");
    assert_eq!(install(helm.path(), &[]).status.code(), Some(2));
}

#[test]
fn without_helm_the_error_says_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let output = install(empty.path(), &["--dry-run"]);
    assert_eq!(output.status.code(), Some(2));
    let error = stderr(&output);
    assert!(error.contains("no `helm` on the PATH"), "{error}");
    assert!(
        error.contains("kubectl apply --server-side -k config/default"),
        "{error}"
    );
}
