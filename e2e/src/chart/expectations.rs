//! What the chart makes of some values.

use serde_json::{Value, json};

/// An object, a JSON pointer into it, and what stands there; Null if it must not be there.
pub(super) type Expectation = (&'static str, &'static str, Value);

const DEPLOYMENT: &str = "Deployment portcullis-system/portcullis-controller";
const ARGUMENTS: &str = "/spec/template/spec/containers/0/args";
const PROXY_IMAGE: &str = "/spec/template/spec/containers/0/env/3/value";
const IMAGE: &str = "/spec/template/spec/containers/0/image";

/// The CRD of Istio's kind.
pub(super) const SERVICE_ENTRY: &str =
    "CustomResourceDefinition /serviceentries.networking.istio.io";

/// Values (`--set`), and what they lead to.
pub(super) type Case = (&'static [&'static str], Expectation);

/// What single values lead to.
pub(super) fn expected() -> Vec<Case> {
    [names(), switches()].concat()
}

fn names() -> Vec<Case> {
    vec![
        (
            &[],
            (
                DEPLOYMENT,
                ARGUMENTS,
                json!([
                    "--controller-name=portcullis.dev/gateway-controller",
                    "--service=portcullis",
                    "--lease-name=portcullis-controller",
                    "--trust-domain=cluster.local",
                    "--publish=0.0.0.0:9443",
                    "--admin=0.0.0.0:9902",
                    "--log-format=json",
                ]),
            ),
        ),
        (
            &[],
            (
                DEPLOYMENT,
                IMAGE,
                json!(concat!("portcullis-controller:", env!("CARGO_PKG_VERSION"))),
            ),
        ),
        (
            &[],
            (
                DEPLOYMENT,
                PROXY_IMAGE,
                json!(concat!("portcullis-proxy:", env!("CARGO_PKG_VERSION"))),
            ),
        ),
        (
            &["image.registry=registry.example/a", "image.tag=v7"],
            (
                DEPLOYMENT,
                IMAGE,
                json!("registry.example/a/portcullis-controller:v7"),
            ),
        ),
        // The proxies come from the same registry, but have a tag of their own.
        (
            &[
                "image.registry=registry.example",
                "image.tag=v7",
                "proxy.image.tag=v8",
            ],
            (
                DEPLOYMENT,
                PROXY_IMAGE,
                json!("registry.example/portcullis-proxy:v8"),
            ),
        ),
        (
            &["fullnameOverride=gate"],
            (
                "Service portcullis-system/gate",
                "/spec/ports/0/port",
                json!(9443),
            ),
        ),
    ]
}

fn switches() -> Vec<Case> {
    vec![
        (
            &["rbac.create=false"],
            ("ClusterRole /portcullis-controller", "", Value::Null),
        ),
        (
            &["serviceAccount.create=false", "serviceAccount.name=own"],
            (
                "RoleBinding portcullis-system/portcullis-controller",
                "/subjects/0/name",
                json!("own"),
            ),
        ),
        (
            &["gatewayClass.create=false"],
            ("GatewayClass /portcullis", "", Value::Null),
        ),
        (
            &[
                "gatewayClass.parametersRef.name=x",
                "gatewayClass.parametersRef.namespace=y",
            ],
            (
                "GatewayClass /portcullis",
                "/spec/parametersRef",
                json!({ "group": "portcullis.dev", "kind": "GatewayParameters", "name": "x", "namespace": "y" }),
            ),
        ),
        (
            &["gatewayClass.create=false"],
            ("GatewayClass /portcullis-egress", "", Value::Null),
        ),
        (
            &["egress.enabled=false"],
            ("GatewayClass /portcullis-egress", "", Value::Null),
        ),
        (
            &["egress.enabled=false"],
            (
                DEPLOYMENT,
                "/spec/template/spec/containers/0/args/7",
                json!("--egress=false"),
            ),
        ),
        (
            &["egress.enabled=false"],
            ("ClusterRole /portcullis-controller-egress", "", Value::Null),
        ),
        (
            &["egress.enabled=false"],
            (
                "ClusterRole /portcullis-controller",
                "/rules/2/resources",
                json!(["gatewayparameters", "credentialinjections"]),
            ),
        ),
        (
            &["egress.enabled=false", "egress.serviceEntryCRD=true"],
            (SERVICE_ENTRY, "", Value::Null),
        ),
        (
            &["egress.serviceEntryCRD=false"],
            (SERVICE_ENTRY, "", Value::Null),
        ),
        (
            &[],
            (SERVICE_ENTRY, "/spec/versions/2/name", json!("v1alpha3")),
        ),
        (
            &["podDisruptionBudget.enabled=false"],
            (
                "PodDisruptionBudget portcullis-system/portcullis-controller",
                "",
                Value::Null,
            ),
        ),
        (
            &["networkPolicy.enabled=true"],
            (
                "NetworkPolicy portcullis-system/portcullis-controller",
                "/spec",
                json!({
                    "podSelector": { "matchLabels": {
                        "app.kubernetes.io/name": "portcullis",
                        "app.kubernetes.io/instance": "portcullis",
                        "app.kubernetes.io/component": "controller",
                    } },
                    "policyTypes": ["Ingress"],
                    "ingress": [
                        { "ports": [{ "port": "publish", "protocol": "TCP" }], "from": [{ "namespaceSelector": {} }] },
                        { "ports": [{ "port": "metrics", "protocol": "TCP" }], "from": [{ "namespaceSelector": {} }] },
                    ],
                }),
            ),
        ),
    ]
}

/// What `everything.yaml` leads to.
pub(super) fn expected_of_everything() -> Vec<Expectation> {
    [deployment_of_everything(), others_of_everything()].concat()
}

fn deployment_of_everything() -> Vec<Expectation> {
    const DEPLOYMENT: &str = "Deployment portcullis-system/everything-controller";
    vec![
        (
            DEPLOYMENT,
            IMAGE,
            json!("registry.example/team/controller:1"),
        ),
        (
            DEPLOYMENT,
            ARGUMENTS,
            json!([
                "--controller-name=example.com/gateways",
                "--service=everything",
                "--lease-name=everything-controller",
                "--trust-domain=example.com",
                "--publish=[::]:9443",
                "--admin=[::]:9902",
                "--log-format=text",
                "--lease-duration=30",
            ]),
        ),
        (DEPLOYMENT, "/spec/replicas", json!(3)),
        (DEPLOYMENT, "/spec/strategy", json!({ "type": "Recreate" })),
        (
            DEPLOYMENT,
            "/spec/template/metadata/labels",
            json!({
                "app.kubernetes.io/name": "gate",
                "app.kubernetes.io/instance": "portcullis",
                "app.kubernetes.io/component": "controller",
                "team": "edge",
                "zone": "edge",
            }),
        ),
        (
            DEPLOYMENT,
            "/spec/template/spec/serviceAccountName",
            json!("gatekeeper"),
        ),
        (
            DEPLOYMENT,
            "/spec/template/spec/affinity",
            json!({ "nodeAffinity": {} }),
        ),
        (
            DEPLOYMENT,
            "/spec/template/spec/topologySpreadConstraints/0/maxSkew",
            json!(2),
        ),
        (
            DEPLOYMENT,
            "/spec/template/spec/volumes/0/name",
            json!("more"),
        ),
        (
            DEPLOYMENT,
            "/spec/template/spec/containers/0/volumeMounts/0/mountPath",
            json!("/more"),
        ),
        (
            DEPLOYMENT,
            "/spec/template/spec/containers/0/env/5/name",
            json!("HTTPS_PROXY"),
        ),
        (
            DEPLOYMENT,
            PROXY_IMAGE,
            json!(
                "registry.example/team/proxy@sha256:0000000000000000000000000000000000000000000000000000000000000000"
            ),
        ),
    ]
}

fn others_of_everything() -> Vec<Expectation> {
    vec![
        (
            "PodDisruptionBudget portcullis-system/everything-controller",
            "/spec/minAvailable",
            json!("50%"),
        ),
        (
            "ServiceAccount portcullis-system/gatekeeper",
            "/metadata/annotations",
            json!({ "cloud.example/role": "gate" }),
        ),
        (
            "ClusterRoleBinding /everything-controller",
            "/subjects/0",
            json!({ "kind": "ServiceAccount", "name": "gatekeeper", "namespace": "portcullis-system" }),
        ),
        (
            "Service portcullis-system/everything",
            "/spec/ipFamilies",
            json!(["IPv6", "IPv4"]),
        ),
        (
            "GatewayClass /edge",
            "/spec/parametersRef/namespace",
            json!("portcullis-system"),
        ),
        (
            "GatewayParameters portcullis-system/edge",
            "/spec/proxy/drainTimeout",
            json!("10s"),
        ),
        (
            "NetworkPolicy portcullis-system/everything-controller",
            "/spec/policyTypes",
            json!(["Ingress", "Egress"]),
        ),
        (
            "ServiceMonitor monitoring/everything-controller",
            "/spec/endpoints/0/interval",
            json!("15s"),
        ),
        (
            "ServiceMonitor monitoring/everything-controller",
            "/metadata/labels/release",
            json!("prometheus"),
        ),
        (
            "PodMonitor portcullis-system/everything-proxies",
            "/spec/podMetricsEndpoints",
            json!([{ "port": "admin", "path": "/metrics", "interval": "20s" }]),
        ),
        (
            "PodMonitor portcullis-system/everything-proxies",
            "/spec/selector/matchExpressions/0/values",
            json!(["edge", "portcullis-egress"]),
        ),
        (
            "GatewayClass /portcullis-egress",
            "/spec/controllerName",
            json!("example.com/gateways"),
        ),
        (
            "GatewayParameters portcullis-system/portcullis-egress",
            "/spec/proxy/egress/mode",
            json!("Report"),
        ),
        (
            SERVICE_ENTRY,
            "/metadata/annotations",
            json!({ "helm.sh/resource-policy": "keep" }),
        ),
        (SERVICE_ENTRY, "/metadata/labels/team", json!("edge")),
        ("ConfigMap /portcullis-more", "/kind", json!("ConfigMap")),
        ("ConfigMap /everything-text", "/kind", json!("ConfigMap")),
    ]
}
