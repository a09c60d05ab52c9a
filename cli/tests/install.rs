//! `portcullis install`: what Helm is asked to do, and what is made of its answer. A program in Helm's place writes down
//! what it is called with; `cargo e2e chart` has the chart rendered by Helm itself.

mod common;
#[path = "common/helm.rs"]
mod helm;

use std::{collections::BTreeMap, fs, path::Path, process::Output};

use common::{config, portcullis, run, stderr, stdout};
use helm::{Answers, FakeHelm};
use serde_json::Value;

/// One that does this, and knows no release.
fn fake(work: &str) -> FakeHelm {
    FakeHelm::new(&Answers {
        work,
        ..Answers::default()
    })
}

fn install(path: &Path, arguments: &[&str]) -> Output {
    portcullis(&[&["install"], arguments].concat())
        .env("PATH", path)
        .env("KUBECONFIG", path.join("none"))
        .output()
        .unwrap()
}

/// The arguments that Helm got, without the folder of the chart.
fn arguments(helm: &FakeHelm) -> Vec<String> {
    let text = fs::read_to_string(helm.file("arguments")).unwrap();
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
    let written = files(&helm.file("chart"));
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
    let output = install(
        helm.path(),
        &["--context", "kind-test", "--kubeconfig", "some.yaml"],
    );
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
            "--reset-then-reuse-values",
            "--kube-context",
            "kind-test",
            "--kubeconfig",
            "some.yaml",
        ]
    );
    assert_eq!(stderr(&output), "");
}

#[test]
fn the_values_of_an_earlier_installation_stay_unless_they_are_to_be_forgotten() {
    let again = |history: &str, arguments: &[&str]| {
        let helm = FakeHelm::new(&Answers {
            history: &format!("echo '{history}'"),
            values: r#"{"image":{"registry":"registry.example"},"replicaCount":3}"#,
            ..Answers::default()
        });
        let output = install(helm.path(), arguments);
        (helm, output)
    };
    // Helm goes on from what was deployed, not from what failed since.
    let failed = r#"[{"revision":1,"status":"superseded"},{"revision":2,"status":"deployed"},{"revision":3,"status":"failed"}]"#;
    let (helm, output) = again(failed, &["--set", "logFormat=text"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stderr(&output),
        "Values of the earlier installation that stay: image.registry, replicaCount. --reset-values forgets them.\n"
    );
    assert_eq!(
        fs::read_to_string(helm.file("get")).unwrap(),
        "get values --revision 2 portcullis --namespace portcullis-system --output json\n"
    );

    let anew = |arguments: &[&str]| stderr(&again(failed, arguments).1);
    let told = anew(&["--set", "image.registry=other.example,logFormat=text"]);
    let changed = "Values of the earlier installation that this command gives anew: image.registry.\n\
        Values of the earlier installation that stay: replicaCount. --reset-values forgets them.\n";
    assert_eq!(told, changed);
    let file = helm.file("values.yaml");
    fs::write(&file, "replicaCount: 2\nimage: {tag: v2}\n").unwrap();
    let told = anew(&["-f", file.to_str().unwrap()]);
    assert!(
        told.contains("gives anew: replicaCount.\n") && told.contains("that stay: image.registry."),
        "{told}"
    );

    let never = r#"[{"revision":1,"status":"failed"}]"#;
    let (helm, output) = again(never, &["--reset-values"]);
    assert!(arguments(&helm).contains(&"--reset-values".to_owned()));
    assert_eq!(
        stderr(&output),
        "Forgotten values of the earlier installation: image.registry, replicaCount\n"
    );

    let interrupted = r#"[{"revision":1,"status":"pending-install"}]"#;
    let (_, output) = again(interrupted, &[]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(
        told.contains("`helm uninstall portcullis --namespace portcullis-system` ends that"),
        "{told}"
    );
}

/// Helm installs anew what it only remembers, and takes nothing from it.
#[test]
fn a_release_that_was_uninstalled_has_no_values_that_stay() {
    let remembered =
        r#"[{"revision":1,"status":"superseded"},{"revision":2,"status":"uninstalled"}]"#;
    let helm = FakeHelm::new(&Answers {
        history: &format!("echo '{remembered}'"),
        values: r#"{"replicaCount":3}"#,
        ..Answers::default()
    });
    let output = install(helm.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn only_that_there_is_no_release_counts_as_none() {
    let complaint = "Error: Kubernetes cluster unreachable: exec: executable aws not found";
    let helm = FakeHelm::new(&Answers {
        history: &format!("echo '{complaint}' >&2; exit 1"),
        ..Answers::default()
    });
    let output = install(helm.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("executable aws not found"));
    assert!(!helm.file("arguments").exists());
}

#[test]
fn a_helm_that_cannot_keep_values_is_refused() {
    let helm = FakeHelm::new(&Answers {
        version: "v3.13.3",
        ..Answers::default()
    });
    let output = install(helm.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(
        told.starts_with("error: helm v3.13.3 on the PATH is too old")
            && told.contains("3.14 or later"),
        "{told}"
    );
    assert!(!helm.file("arguments").exists());
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
