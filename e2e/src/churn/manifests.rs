//! The directory that `portcullis run` serves while it is edited: one file per kind of edit.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::support::certificate::Identity;

const NAMESPACE: &str = "e2e";
/// The host of the listeners that are never touched.
pub(crate) const HOST: &str = "a.example";
/// The header that tells which edit an answer was made under.
pub(crate) const EDIT: &str = "x-edit";
/// The listeners that are never touched.
pub(crate) const HTTP_PORT: u16 = 80;
pub(crate) const HTTPS_PORT: u16 = 443;
/// Listeners that come and go.
pub(crate) const EXTRA_PORTS: [u16; 3] = [9001, 9002, 9003];
/// Most routes that come and go.
pub(crate) const MAX_EXTRA_ROUTES: usize = 20;

/// A directory of manifests.
pub(crate) struct Manifests {
    folder: PathBuf,
}

impl Manifests {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir(folder)?;
        Ok(Self {
            folder: folder.to_path_buf(),
        })
    }

    /// The class, the settings, and the route that long-lived streams use, to a backend that never changes.
    pub(crate) fn write_fixed(&self, stable: SocketAddr) -> Result<()> {
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": { "name": "portcullis" },
            "spec": { "controllerName": "portcullis.dev/gateway-controller" },
        });
        let settings = object(
            "portcullis.dev/v1alpha1",
            "GatewayParameters",
            "settings",
            json!({
                "proxy": { "accessLog": { "mode": "Never" } },
            }),
        );
        let rule = json!({
            "matches": [exact("/ws"), exact("/echo")],
            "backendRefs": [{ "name": "stable", "port": 80 }],
        });
        let mut objects = vec![
            class,
            settings,
            route("streams", &[HOST], &[rule]),
            service("stable"),
        ];
        objects.push(slice("stable", 0, stable));
        self.write("fixed", &objects)
    }

    /// The Gateway with its two fixed listeners and those of `extra`.
    pub(crate) fn write_listeners(&self, extra: &[u16]) -> Result<()> {
        let mut listeners = vec![
            json!({ "name": "http", "port": HTTP_PORT, "protocol": "HTTP" }),
            json!({
                "name": "https", "port": HTTPS_PORT, "protocol": "HTTPS", "hostname": HOST,
                "tls": { "mode": "Terminate", "certificateRefs": [{ "name": "certificate" }] },
            }),
        ];
        for port in extra {
            listeners
                .push(json!({ "name": format!("extra-{port}"), "port": port, "protocol": "HTTP" }));
        }
        let gateway = object(
            "gateway.networking.k8s.io/v1",
            "Gateway",
            "gateway",
            json!({
                "gatewayClassName": "portcullis",
                "listeners": listeners,
                "infrastructure": {
                    "parametersRef": { "group": "portcullis.dev", "kind": "GatewayParameters", "name": "settings" },
                },
            }),
        );
        self.write("gateway", &[gateway])
    }

    /// The certificate of the listener with TLS.
    pub(crate) fn write_certificate(&self, identity: &Identity) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "certificate", "namespace": NAMESPACE },
            "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": identity.chain_pem, "tls.key": identity.key_pem },
        });
        self.write("certificate", &[secret])
    }

    /// The backend of the edited routes.
    pub(crate) fn write_endpoints(&self, endpoints: &[SocketAddr]) -> Result<()> {
        let mut objects = vec![service("app")];
        objects.extend(
            endpoints
                .iter()
                .enumerate()
                .map(|(number, endpoint)| slice("app", number, *endpoint)),
        );
        self.write("backends", &objects)
    }

    /// The route that is loaded; every edit changes the header that it adds.
    pub(crate) fn write_marker(&self, edit: usize) -> Result<()> {
        self.write("marker", &[route("app", &[HOST], &[rule("/", EDIT, edit)])])
    }

    /// `count` routes with a hostname each, which mark their answers with `edit`.
    pub(crate) fn write_extra_routes(&self, count: usize, edit: usize) -> Result<()> {
        let routes: Vec<_> = (0..count)
            .map(|number| {
                route(
                    &format!("extra-{number}"),
                    &[&extra_host(number)],
                    &[rule("/", "x-extra", edit)],
                )
            })
            .collect();
        self.write("extra-routes", &routes)
    }

    /// Replaces a file in one step, as a careful editor does.
    fn write(&self, name: &str, objects: &[Value]) -> Result<()> {
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        let temporary = self.folder.join(format!(".{name}.new"));
        fs::write(&temporary, documents.join("\n---\n"))?;
        Ok(fs::rename(
            temporary,
            self.folder.join(format!("{name}.yaml")),
        )?)
    }
}

/// The hostname of an extra route.
pub(crate) fn extra_host(number: usize) -> String {
    format!("extra-{number}.example")
}

fn object(version: &str, kind: &str, name: &str, spec: Value) -> Value {
    let metadata = json!({ "name": name, "namespace": NAMESPACE });
    let mut object = json!({ "apiVersion": version, "kind": kind, "metadata": metadata });
    object["spec"] = spec;
    object
}

fn exact(path: &str) -> Value {
    json!({ "path": { "type": "Exact", "value": path } })
}

fn rule(prefix: &str, header: &str, value: usize) -> Value {
    json!({
        "matches": [{ "path": { "type": "PathPrefix", "value": prefix } }],
        "filters": [{
            "type": "ResponseHeaderModifier",
            "responseHeaderModifier": { "set": [{ "name": header, "value": value.to_string() }] },
        }],
        "backendRefs": [{ "name": "app", "port": 80 }],
    })
}

fn route(name: &str, hostnames: &[&str], rules: &[Value]) -> Value {
    object(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        name,
        json!({
            "parentRefs": [{ "name": "gateway" }],
            "hostnames": hostnames,
            "rules": rules,
        }),
    )
}

fn service(name: &str) -> Value {
    object(
        "v1",
        "Service",
        name,
        json!({ "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] }),
    )
}

/// An EndpointSlice with one endpoint: on loopback every endpoint has a port of its own.
fn slice(service: &str, number: usize, endpoint: SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{number}"),
            "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": endpoint.port() }],
        "endpoints": [{ "addresses": [endpoint.ip()], "conditions": { "ready": true } }],
    })
}
