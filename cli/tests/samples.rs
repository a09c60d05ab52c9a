//! Every sample has exactly the findings that its header says.

mod common;

use std::{fs, path::PathBuf};

use common::{config, run, stderr, stdout};
use serde_json::Value;

fn samples() -> Vec<PathBuf> {
    const PLACES: [&str; 4] = [
        "samples",
        "samples/cluster",
        "samples/egress",
        "samples/faults",
    ];
    let mut samples: Vec<PathBuf> = PLACES
        .iter()
        .flat_map(|directory| {
            fs::read_dir(config().join(directory)).expect("the samples are there")
        })
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_file())
        .collect();
    samples.sort();
    samples
}

/// The codes after `# Findings:` in the header, sorted.
fn expected(text: &str) -> Vec<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("# Findings: "))
        .expect("a sample says its findings");
    let mut codes: Vec<_> = line
        .split(", ")
        .filter(|code| *code != "none")
        .map(String::from)
        .collect();
    codes.sort();
    codes
}

fn found(path: &str) -> (Vec<Value>, Option<i32>) {
    let output = run(&["analyze", path, "-o", "json"]);
    let findings = serde_json::from_str(&stdout(&output))
        .unwrap_or_else(|_| panic!("{path}: {}", stderr(&output)));
    (findings, output.status.code())
}

fn codes(findings: &[Value]) -> Vec<String> {
    let mut codes: Vec<_> = findings
        .iter()
        .map(|finding| finding["code"].as_str().expect("a code").to_owned())
        .collect();
    codes.sort();
    codes
}

#[test]
fn every_sample_has_the_findings_that_its_header_says() {
    let samples = samples();
    assert!(samples.len() > 20, "only {} samples found", samples.len());
    for path in samples {
        let expected = expected(&fs::read_to_string(&path).expect("readable"));
        let (findings, exit_code) = found(path.to_str().expect("UTF-8"));
        assert_eq!(codes(&findings), expected, "{}", path.display());
        let is_more = |finding: &Value| finding["severity"] != "Note";
        let code = i32::from(findings.iter().any(is_more));
        assert_eq!(exit_code, Some(code), "{}", path.display());
    }
}

#[test]
fn every_finding_says_where_it_is_and_what_to_do() {
    let (findings, _) = found(config().join("samples/faults").to_str().expect("UTF-8"));
    assert!(findings.len() > 15, "only {} findings", findings.len());
    for finding in findings {
        for part in ["object", "field", "message", "remedy"] {
            let text = finding[part].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{part} of {finding}");
        }
    }
}

#[test]
fn samples_do_not_disturb_each_other() {
    let together = found(config().join("samples").to_str().expect("UTF-8")).0;
    let mut alone: Vec<String> = samples()
        .iter()
        .flat_map(|path| expected(&fs::read_to_string(path).expect("readable")))
        .collect();
    alone.sort();
    assert_eq!(codes(&together), alone);
}

/// With what a cluster makes of its Services and Deployments, it is whole.
#[test]
fn the_sample_for_a_cluster_lacks_only_what_the_cluster_makes() {
    let folder = tempfile::tempdir().expect("a directory");
    let sample = config().join("samples/cluster/dark-launch.yaml");
    fs::copy(sample, folder.path().join("sample.yaml")).expect("copied");
    for name in ["shop", "shop-next"] {
        let slice = SLICE.replace("NAME", name);
        fs::write(folder.path().join(format!("{name}.yaml")), slice).expect("written");
    }
    let folder = folder.path().to_str().expect("UTF-8");
    let (findings, exit_code) = found(folder);
    // That of the Deployments is a note.
    assert_eq!(codes(&findings), ["UnknownKind"; 2]);
    assert_eq!(exit_code, Some(0));
    let address = "http://shop.example/";
    for (header, service) in [("user: test", "shop-next"), ("user: other", "shop")] {
        let explained = run(&["explain", "--config", folder, "GET", address, "-H", header]);
        let told = stdout(&explained);
        let backend = format!("Service portcullis-sample/{service}:80");
        assert!(told.contains(&backend), "{told}{}", stderr(&explained));
    }
}

const SLICE: &str = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME, namespace: portcullis-sample, labels: {kubernetes.io/service-name: NAME}}
addressType: IPv4
ports: [{name: http, port: 3000}]
endpoints: [{addresses: [10.244.0.2]}]
";

/// The quickstart lacks nothing but the certificate that the demo makes.
#[test]
fn the_quickstart_is_whole_but_for_its_certificate() {
    let (findings, _) = found(config().join("quickstart").to_str().expect("UTF-8"));
    assert_eq!(codes(&findings), ["InvalidCertificateRef"]);
}

#[test]
fn the_missing_grant_is_printed_and_mends_the_fault() {
    let sample = config().join("samples/faults/missing-grant.yaml");
    let (findings, _) = found(sample.to_str().expect("UTF-8"));
    let grant = findings[0]["apply"].as_str().expect("a manifest");
    let mended = tempfile::tempdir().expect("a directory");
    fs::copy(&sample, mended.path().join("sample.yaml")).expect("copied");
    fs::write(mended.path().join("grant.yaml"), grant).expect("written");
    let (findings, exit_code) = found(mended.path().to_str().expect("UTF-8"));
    assert_eq!((codes(&findings), exit_code), (Vec::new(), Some(0)));
}
