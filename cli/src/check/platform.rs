//! What an installation needs of the cluster: its version, CRDs, and the rights of whoever installs.

use kube::api::DynamicObject;
use portcullis_controller::translate::BUNDLE_VERSION;
use serde_json::Value;

use super::{Item, State};
use crate::cluster::{Cluster, INSTALL_GATEWAY_API, Kind, Refusal};

/// The oldest Kubernetes 1.x that is served.
const OLDEST_MINOR: u32 = 31;

/// Kinds of Gateway API that are read, and whether nothing goes without them.
const KINDS: [(&str, bool); 7] = [
    ("gatewayclasses", true),
    ("gateways", true),
    ("httproutes", true),
    ("tlsroutes", false),
    ("referencegrants", false),
    ("listenersets", false),
    ("backendtlspolicies", false),
];

const GATEWAY_API: &str = "Gateway API";

/// What `portcullis install` creates: group and plural, and whether it is in the controller's namespace.
const CREATED: [(&str, &str, bool); 12] = [
    ("", "namespaces", false),
    ("apiextensions.k8s.io", "customresourcedefinitions", false),
    ("gateway.networking.k8s.io", "gatewayclasses", false),
    ("rbac.authorization.k8s.io", "clusterroles", false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io", "roles", true),
    ("rbac.authorization.k8s.io", "rolebindings", true),
    ("", "serviceaccounts", true),
    ("", "services", true),
    ("", "secrets", true),
    ("apps", "deployments", true),
    ("policy", "poddisruptionbudgets", true),
];

/// The version of Kubernetes.
pub(super) async fn kubernetes(cluster: &Cluster) -> anyhow::Result<Item> {
    let what = "Kubernetes";
    let version = match cluster.version().await {
        Ok(version) => version,
        Err(Refusal::Failed(error)) => return Err(error),
        Err(Refusal::Forbidden(message)) => return Ok(Item::hidden(what, &message)),
        Err(Refusal::NotInstalled) => {
            anyhow::bail!("what the kubeconfig names is no Kubernetes: it does not say its version")
        }
    };
    let minor = version.minor.trim_end_matches('+').parse::<u32>();
    let is_old = minor.is_ok_and(|minor| minor < OLDEST_MINOR);
    Ok(if is_old {
        let remedy = format!("upgrade the cluster to 1.{OLDEST_MINOR} or later");
        Item::fault(what, version.git_version, &remedy)
    } else {
        Item::ok(what, version.git_version)
    })
}

/// The CRDs of Gateway API: their release, and each kind that is missing.
pub(super) async fn gateway_api(cluster: &Cluster) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    let remedy = format!("install {BUNDLE_VERSION}: {INSTALL_GATEWAY_API}");
    for (plural, is_needed) in KINDS {
        let name = format!("{plural}.gateway.networking.k8s.io");
        let definition = match definition(cluster, &name).await? {
            Ok(definition) => definition,
            Err(message) => return Ok(vec![Item::hidden(GATEWAY_API, &message)]),
        };
        let is_first = items.is_empty();
        match definition {
            None if is_needed => {
                let found = format!("the CRD {name} is not installed");
                items.push(Item::fault(GATEWAY_API, found, &remedy));
            }
            None => {
                let found = format!("the CRD {name} is not installed, so there are none of them");
                items.push(Item::concern(GATEWAY_API, found, &remedy));
            }
            Some(definition) if !serves_v1(&definition) => {
                let found = format!("the CRD {name} does not serve v1");
                let make = if is_needed {
                    Item::fault
                } else {
                    Item::concern
                };
                items.push(make(GATEWAY_API.to_owned(), found, &remedy));
            }
            Some(definition) if is_first => items.push(release(&definition, &remedy)),
            Some(_) => {}
        }
    }
    Ok(items)
}

/// Whether this says that nothing of Gateway API can be looked at.
pub(super) fn lacks_gateway_api(item: &Item) -> bool {
    item.what == GATEWAY_API && item.state == State::Fault
}

fn release(definition: &DynamicObject, remedy: &str) -> Item {
    let annotations = definition.metadata.annotations.as_ref();
    let value = |name: &str| {
        let value = annotations?.get(&format!("gateway.networking.k8s.io/{name}"));
        value.map(String::as_str)
    };
    let release = value("bundle-version").unwrap_or("of unknown release");
    let channel = value("channel").unwrap_or("unknown");
    let found = format!("{release}, channel {channel}");
    if release == BUNDLE_VERSION {
        Item::ok(GATEWAY_API, found)
    } else {
        let found =
            format!("{found}; made for {BUNDLE_VERSION}, what both have in common is served");
        Item::concern(GATEWAY_API, found, remedy)
    }
}

fn serves_v1(definition: &DynamicObject) -> bool {
    let versions = definition.data["spec"]["versions"].as_array();
    let is_v1 = |version: &Value| version["name"] == "v1" && version["served"] == true;
    versions.is_some_and(|versions| versions.iter().any(is_v1))
}

/// The CRDs of our own kinds, which come with the installation.
pub(super) async fn own_kinds(cluster: &Cluster) -> anyhow::Result<Item> {
    let what = "CRDs of Portcullis";
    let name = "gatewayparameters.portcullis.dev";
    Ok(match definition(cluster, name).await? {
        Err(message) => Item::hidden(what, &message),
        Ok(Some(_)) => Item::ok(what, name),
        Ok(None) => Item::fault(
            what,
            format!("{name} is not installed"),
            "`portcullis install` brings it along; Helm alone does so at the first installation only: helm show crds \
             charts/portcullis | kubectl apply --server-side -f -",
        ),
    })
}

/// The caller's rights to install.
pub(super) async fn rights(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<Item>> {
    let mut missing = Vec::new();
    for (group, plural, is_inside) in CREATED {
        let namespace = is_inside.then_some(namespace);
        match cluster.may("create", (group, plural), namespace).await {
            Ok(true) => {}
            Ok(false) => missing.push(Item::fault(
                "Rights",
                match namespace {
                    Some(namespace) => format!("you may not create {plural} in {namespace}"),
                    None => format!("you may not create {plural}"),
                },
                "ask somebody with cluster-admin to install, or for a role with this right",
            )),
            Err(Refusal::Failed(error)) => return Err(error),
            Err(Refusal::Forbidden(message)) => return Ok(vec![Item::hidden("Rights", &message)]),
            Err(Refusal::NotInstalled) => {
                return Ok(vec![Item::hidden(
                    "Rights",
                    "the cluster has no access reviews",
                )]);
            }
        }
    }
    if missing.is_empty() {
        let found = format!("you may create all that is installed, in {namespace}");
        missing.push(Item::ok("Rights", found));
    }
    Ok(missing)
}

/// A CRD if it is there, or why that may not be known.
async fn definition(
    cluster: &Cluster,
    name: &str,
) -> anyhow::Result<Result<Option<DynamicObject>, String>> {
    match cluster.get(&Kind::CUSTOM_RESOURCE_DEFINITION, name).await {
        Ok(definition) => Ok(Ok(definition)),
        Err(Refusal::NotInstalled) => Ok(Ok(None)),
        Err(Refusal::Forbidden(message)) => Ok(Err(message)),
        Err(Refusal::Failed(error)) => Err(error),
    }
}
