//! TLS to backends, as the commands show it.

mod common;

use common::{config, run, stderr, stdout};
use serde_json::Value;

fn sample() -> String {
    let path = config().join("samples/backend-tls.yaml");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn explain_says_how_a_backend_is_talked_to() {
    let url = "http://backend-tls.example/";
    let output = run(&["explain", "--config", &sample(), "GET", url]);
    let text = stdout(&output);
    let expected = "TLS: server name shop.internal, trusts the CAs of its policy, \
                    shows certificate secret/backend-tls/edge-certificate";
    assert!(text.contains(expected), "{text}{}", stderr(&output));
}

#[test]
fn translate_shows_the_policy_and_its_status() {
    let output = run(&["translate", &sample(), "-o", "json"]);
    let json: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let table = &json["tables"]["backend-tls/shop"];
    let tls = &table["clusters"]["service/backend-tls/shop/443"]["tls"];
    assert_eq!(tls["server_name"], "shop.internal");
    let certificates = table["certificates"].as_object().expect("a map");
    let keys: Vec<_> = certificates.keys().collect();
    assert_eq!(keys, ["secret/backend-tls/edge-certificate"]);
    let status = &json["statuses"]["backendTlsPolicies"]["backend-tls/shop"];
    let accepted = &status["ancestors"][0]["conditions"][0];
    assert_eq!(
        (&accepted["type"], &accepted["status"]),
        (&"Accepted".into(), &"True".into())
    );
}

#[test]
fn a_policy_that_cannot_be_carried_out_leaves_no_way_to_the_backend() {
    let directory = tempfile::tempdir().expect("a directory");
    let manifest = directory.path().join("broken.yaml");
    let text = std::fs::read_to_string(sample()).expect("readable");
    let broken = text.replace("        name: backend-ca\n", "        name: missing\n");
    assert_ne!(text, broken);
    std::fs::write(&manifest, broken).expect("written");
    let path = manifest.to_str().expect("UTF-8");
    let output = run(&[
        "explain",
        "--config",
        path,
        "GET",
        "http://backend-tls.example/",
    ]);
    let text = stdout(&output);
    assert!(
        text.contains("500") && text.contains("NoValidCACertificate"),
        "{text}"
    );
    let findings = stdout(&run(&["analyze", path, "-o", "json"]));
    for code in ["NoValidCACertificate", "InvalidCACertificateRef"] {
        assert!(findings.contains(code), "{code} in {findings}");
    }
}
