//! `portcullis status egress`: what says where egress may go.

use serde_json::Value;

use crate::{
    common::stdout,
    fake::{Contents, FakeCluster},
};

/// Beside what is well: an entry of which a part is left out, one that is a mesh's alone, a policy that is refused, and a
/// credential without its Secret.
const EGRESS: &str = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: weather, namespace: shop, generation: 1}
spec: {hosts: [api.weather.example, weather.example]}
status:
  conditions:
  - {type: Reconciled, status: "False", reason: Mesh, message: "not ours"}
  - {type: portcullis.dev/Accepted, status: "True", reason: Accepted, message: "", observedGeneration: 1}
  - {type: portcullis.dev/Programmed, status: "True", reason: Programmed, message: "", observedGeneration: 1}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partly, namespace: shop, generation: 1}
spec: {hosts: [partly.example]}
status:
  conditions:
  - {type: portcullis.dev/Accepted, status: "True", reason: PartiallyInvalid, message: "Accepted. Port 9 is left out", observedGeneration: 1}
  - {type: portcullis.dev/Programmed, status: "True", reason: Programmed, message: "", observedGeneration: 1}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mesh, namespace: shop}
spec: {hosts: [mesh.example]}
---
apiVersion: portcullis.dev/v1alpha1
kind: EgressPolicy
metadata: {name: deny, namespace: shop, generation: 1}
spec: {action: Deny}
status:
  conditions:
  - {type: Accepted, status: "False", reason: Invalid, message: "spec.from is empty", observedGeneration: 1}
  - {type: Programmed, status: "False", reason: Invalid, message: "Not accepted", observedGeneration: 1}
---
apiVersion: portcullis.dev/v1alpha1
kind: CredentialInjection
metadata: {name: key, namespace: shop, generation: 1}
spec: {header: Authorization}
status:
  ancestors:
  - ancestorRef: {kind: Gateway, name: theirs}
    controllerName: example.com/other
    conditions:
    - {type: ResolvedRefs, status: "False", reason: InvalidCredential, message: "not for us to judge", observedGeneration: 1}
  - ancestorRef: {kind: Gateway, name: edge}
    controllerName: portcullis.dev/gateway-controller
    conditions:
    - {type: Accepted, status: "True", reason: Accepted, message: "", observedGeneration: 1}
    - {type: ResolvedRefs, status: "False", reason: InvalidCredential, message: "Secret key does not exist", observedGeneration: 1}
"#;

#[test]
fn what_says_where_egress_may_go_is_told_and_judged() {
    let cluster = FakeCluster::start(Contents::of(EGRESS));
    let output = cluster.run(&["status", "egress", "-n", "shop"]);
    assert_eq!(output.status.code(), Some(1));
    let told = stdout(&output);
    for line in [
        "ServiceEntry shop/weather",
        "api.weather.example,weather.example",
        "ServiceEntry shop/mesh",
        "EgressPolicy shop/deny",
        "CredentialInjection shop/key",
        "ServiceEntry shop/partly  portcullis.dev/Accepted=True (PartiallyInvalid)",
        "Port 9 is left out",
        "spec.from is empty",
        "EgressPolicy shop/deny  hence Programmed=False (Invalid)",
        "Secret key does not exist",
        "4 findings",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    for absent in [
        "GATEWAYCLASS",
        "not ours",
        "not for us to judge",
        "shop/mesh  portcullis",
    ] {
        assert!(!told.contains(absent), "{absent}\n{told}");
    }
    let all = cluster.run(&["status", "-n", "shop", "-o", "json"]);
    let all: Value = serde_json::from_slice(&all.stdout).expect("JSON");
    assert_eq!(all["egress"].as_array().map(Vec::len), Some(5));
    let one = cluster.run(&["status", "egress", "shop/weather"]);
    assert_eq!(one.status.code(), Some(0), "{}", stdout(&one));
    let none = cluster.run(&["status", "egress", "shop/wether"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        stdout(&none).contains("egress object shop/wether"),
        "{}",
        stdout(&none)
    );
}
