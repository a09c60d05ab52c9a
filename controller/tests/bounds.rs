//! What one tenant may make of the table of a Gateway that is for all: it still goes to the proxies, in one frame.

use portcullis_controller::{
    Finding, ObjectKey, Options, Translation, manifests::Loaded, status::Observed, translate,
};
use portcullis_routing::frame::{MAX_FRAME, length_of};
use serde_json::{Value, json};

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: egress, namespace: infra}
spec:
  gatewayClassName: portcullis-egress
  listeners: [{name: proxy, port: 3128, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
";

fn translated(objects: &[Value]) -> Translation {
    with_gateway(&loaded(objects))
}

fn loaded(objects: &[Value]) -> Loaded {
    let mut loaded = Loaded::default();
    loaded.read_text("gateway.yaml", GATEWAY);
    for object in objects {
        loaded.read_text("object.json", &object.to_string());
    }
    loaded
}

/// As for a cluster: tables are sent.
fn with_gateway(loaded: &Loaded) -> Translation {
    let options = Options {
        observed: Observed::default(),
        ..Options::standalone()
    };
    translate(&loaded.resources, &options)
}

fn length(translation: &Translation) -> usize {
    let table = translation.tables.values().next().expect("a table");
    length_of(table)
}

fn told(translation: &Translation, object: &str) -> String {
    let findings = translation.findings.iter();
    let findings = findings.filter(|finding| finding.object.to_string() == object);
    findings.map(Finding::text).collect()
}

fn entry(ports: u16, names: usize) -> Value {
    let ports = (0..ports).map(
        |port| json!({"number": 1000 + port, "name": format!("p{port}"), "protocol": "HTTPS"}),
    );
    let names = (0..names).map(|name| format!("spiffe://{name}/{}", "x".repeat(2000)));
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "api", "namespace": "shop"},
        "spec": {
            "hosts": ["api.example"], "ports": ports.collect::<Vec<_>>(), "subjectAltNames": names.collect::<Vec<_>>(),
        },
    })
}

#[test]
fn ports_share_what_certificates_must_be_valid_for() {
    let translation = translated(&[entry(256, 100)]);
    let table = translation.tables.values().next().unwrap();
    let entry = table.entries.values().next().expect("the entry");
    assert_eq!((entry.ports.len(), entry.tls.len()), (256, 1));
    for port in &entry.ports {
        assert_eq!(entry.tls_of(port).unwrap().subject_alt_names.len(), 100);
    }
    assert!(length(&translation) < 1 << 18, "{}", length(&translation));
}

#[test]
fn an_entry_beyond_what_one_may_have_is_refused_with_its_longest_field() {
    let translation = translated(&[entry(256, 256)]);
    assert!(length(&translation) < 1 << 18, "{}", length(&translation));
    let told = told(&translation, "ServiceEntry shop/api");
    for part in [
        "spec.subjectAltNames",
        "262144 are the most",
        "list fewer names",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

/// The route, the credential and its Secret, each as large as it may be.
fn with_credentials(rules: usize, per_place: usize, backends: usize) -> Vec<Value> {
    let filter = |name: usize| {
        json!({
            "type": "ExtensionRef",
            "extensionRef": {"group": "portcullis.dev", "kind": "CredentialInjection", "name": format!("c{name}")},
        })
    };
    let filters: Vec<_> = (0..per_place).map(filter).collect();
    let backend = json!({
        "group": "networking.istio.io", "kind": "Hostname", "name": "api.example", "port": 1000, "filters": filters,
    });
    let rule = json!({"filters": filters, "backendRefs": vec![backend; backends]});
    let metadata = |name: &str| json!({"name": name, "namespace": "shop"});
    let injections = (0..per_place).map(|name| {
        json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "CredentialInjection", "metadata": metadata(&format!("c{name}")),
            "spec": {"header": format!("x-{name}"), "secretRef": {"name": "long"}},
        })
    });
    let others = [
        entry(1, 0),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata("long"),
            "stringData": {"credential": "hidden".repeat(1365)},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata("web"),
            "spec": {"parentRefs": [{"name": "egress", "namespace": "infra"}], "rules": vec![rule; rules]},
        }),
    ];
    injections.chain(others).collect()
}

#[test]
fn a_credential_is_sent_once_however_many_rules_add_it() {
    let translation = translated(&with_credentials(4, 2, 15));
    let table = translation.tables.values().next().unwrap();
    assert_eq!((table.routes.len(), table.credentials.len()), (4, 2));
    assert!(length(&translation) < 1 << 16, "{}", length(&translation));
    let shown = serde_json::to_string(&table.redacted()).unwrap();
    assert!(!shown.contains("hidden") && !format!("{table:?}").contains("hidden"));
}

#[test]
fn a_rule_with_too_many_credentials_is_rejected() {
    let translation = translated(&with_credentials(1, 16, 16));
    assert!(length(&translation) < 1 << 18, "{}", length(&translation));
    let table = translation.tables.values().next().unwrap();
    assert!(table.credentials.is_empty());
    let told = told(&translation, "HTTPRoute shop/web");
    for part in [
        "name 272 CredentialInjections, and 32 are the most",
        "split the rule",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

/// Many objects, none of which is too large.
#[test]
fn a_table_that_no_frame_holds_is_told_in_the_condition_of_its_gateway() {
    let said = |count: usize| {
        let mut loaded = loaded(&[entry(100, 120)]);
        let entries = &mut loaded.resources.service_entries;
        let (_, one) = entries.pop_first().expect("the entry");
        for number in 0..count {
            let mut entry = (*one).clone();
            entry.spec.hosts = vec![format!("e{number}.example")];
            let key = ObjectKey::new("shop", format!("e{number}"));
            entries.insert(key, entry.into());
        }
        let translation = with_gateway(&loaded);
        let statuses = serde_json::to_value(
            &translation.statuses.gateways[&ObjectKey::new("infra", "egress")],
        );
        let conditions = statuses.unwrap()["conditions"].clone();
        let mut conditions = conditions.as_array().unwrap().iter();
        let programmed = conditions.find(|it| it["type"] == "Programmed").cloned();
        (
            programmed.unwrap(),
            told(&translation, "Gateway infra/egress"),
        )
    };
    let (programmed, told) = said(MAX_FRAME / (240 << 10) + 1);
    assert_eq!(
        (&programmed["status"], &programmed["reason"]),
        (&json!("False"), &json!("Invalid"))
    );
    let message = programmed["message"].as_str().unwrap();
    for part in ["67108864 are the most", "Most of it are ServiceEntries"] {
        assert!(
            message.contains(part) && told.contains(part),
            "{message} {told}"
        );
    }
    let (programmed, told) = said(10);
    assert_eq!((&programmed["status"], &*told), (&json!("Unknown"), ""));
}
