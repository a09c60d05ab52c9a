//! `portcullis egress` on files. `UPDATE_GOLDEN=1` writes what it says to `testdata/egress`.

mod check;
#[path = "../common/mod.rs"]
mod common;
mod decisions;
mod remedies;

use std::{fs, path::PathBuf};

use common::{config, run, stderr, stdout};

/// An egress Gateway, which what was learned is for.
const GATEWAY: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: egress, namespace: egress}
spec:
  gatewayClassName: portcullis-egress
  listeners: [{name: proxy, protocol: HTTP, port: 3128}]
";

fn testdata(name: &str) -> PathBuf {
    config().join("../cli/tests/testdata/egress").join(name)
}

/// What somebody is told of a destination, by manifests.
fn checked_by(manifests: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(file.path(), manifests).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let output = run(&[&["egress", "check", "-f", path], arguments].concat());
    (output.status.code(), stdout(&output) + &stderr(&output))
}

fn assert_golden(name: &str, said: &str) {
    let path = testdata(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, said).expect("written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        said,
        golden,
        "{}: UPDATE_GOLDEN=1 refreshes it",
        path.display()
    );
}
