//! `ServiceEntry` of Istio: hosts beyond the cluster, and who may use them.
//!
//! The kind is Istio's, and an installed CRD of Istio's is used as it is. The types here take whatever any of its releases
//! lets through: what they do not know is kept apart, so that it can be told.

mod endpoint;
mod port;
mod status;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    endpoint::WorkloadEntry,
    port::ServicePort,
    status::{
        AnalysisMessage, AnalysisMessageType, IstioCondition, MessageLevel, ServiceEntryAddress,
        ServiceEntryStatus,
    },
};

/// The versions of the kind, all with the same fields. The first that a cluster serves is used.
pub const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

/// Hosts beyond the cluster that may be reached: at which ports, with which protocols, and from which namespaces.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "ServiceEntry",
    plural = "serviceentries",
    singular = "serviceentry",
    shortname = "se",
    category = "istio-io",
    category = "networking-istio-io",
    doc = "Hosts beyond the cluster that may be reached.",
    namespaced,
    status = "ServiceEntryStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Hosts", "type": "string", "jsonPath": ".spec.hosts"}"#,
    printcolumn = r#"{"name": "Location", "type": "string", "jsonPath": ".spec.location"}"#,
    printcolumn = r#"{"name": "Resolution", "type": "string", "jsonPath": ".spec.resolution"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!(has(self.workloadSelector) && has(self.endpoints))",
        "message": "workloadSelector and endpoints exclude each other"
    },
    {
        "rule": "!has(self.endpoints) || (has(self.resolution) && self.resolution != 'NONE')",
        "message": "endpoints need a resolution other than NONE, such as STATIC or DNS"
    },
    {
        "rule": "!has(self.endpoints) || !has(self.resolution) || self.resolution != 'DNS_ROUND_ROBIN' || self.endpoints.size() <= 1",
        "message": "with resolution DNS_ROUND_ROBIN there can be one endpoint at most"
    },
    {
        "rule": "!has(self.addresses) || !has(self.resolution) || self.resolution in ['NONE', 'STATIC'] || !self.addresses.exists(address, address.contains('/'))",
        "message": "ranges in addresses need resolution NONE or STATIC"
    }
]))]
pub struct ServiceEntrySpec {
    /// The hosts: names, or `*.suffix` for every name that ends so, with one or more labels in place of the `*`.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 255)))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self.all(host, host != '*')",
        "message": "name the hosts, such as api.example or *.example: * alone would be all of them"
    }]))]
    pub hosts: Vec<String>,
    /// Addresses, or ranges of them such as `192.0.2.0/24`, that mean these hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub addresses: Vec<String>,
    /// The ports of these hosts, and what is spoken there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self.all(one, self.exists_one(other, one.number == other.number))",
        "message": "every port number can be there once only"
    }]))]
    pub ports: Vec<ServicePort>,
    /// Whether the hosts are part of the mesh. Default `MESH_EXTERNAL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// How the addresses of the hosts are found. Default NONE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Where the hosts are instead of at their own names. Not together with workloadSelector.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub endpoints: Vec<WorkloadEntry>,
    /// Pods of the entry's own namespace that serve the hosts. Not together with endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces from which the hosts may be used: names, `.` for the entry's own, `*` for all. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 63)))]
    pub export_to: Vec<String>,
    /// Names that the certificate of the hosts may have, where the gateway itself speaks TLS to them. Default: the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 2048)))]
    pub subject_alt_names: Vec<String>,
}

/// Whether hosts are part of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = values)]
pub enum Location {
    /// They are not.
    #[default]
    #[serde(rename = "MESH_EXTERNAL")]
    MeshExternal,
    /// They are.
    #[serde(rename = "MESH_INTERNAL")]
    MeshInternal,
    /// What a later release of Istio may have, and is not known here.
    #[serde(untagged)]
    #[schemars(skip)]
    Unknown(String),
}

/// How the addresses of hosts are found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = values)]
pub enum Resolution {
    /// By the name that the caller asks for.
    #[default]
    #[serde(rename = "NONE")]
    None,
    /// They are those of the endpoints.
    #[serde(rename = "STATIC")]
    Static,
    /// By DNS, of the hosts, or of the endpoints if there are any.
    #[serde(rename = "DNS")]
    Dns,
    /// By DNS; a connection goes to the first address that is found.
    #[serde(rename = "DNS_ROUND_ROBIN")]
    DnsRoundRobin,
    /// By DNS, of the name that the caller asks for, where the host is `*.suffix`.
    #[serde(rename = "DYNAMIC_DNS")]
    DynamicDns,
    /// What a later release of Istio may have, and is not known here.
    #[serde(untagged)]
    #[schemars(skip)]
    Unknown(String),
}

/// Makes one list of the values of an enum: its variant for whatever is not known keeps them apart.
fn values(schema: &mut Schema) {
    if let Some(Value::Array(choices)) = schema.remove("anyOf") {
        let values = choices.iter().filter_map(|choice| choice.get("const"));
        schema.insert("enum".into(), values.cloned().collect());
        schema.insert("type".into(), "string".into());
    }
}

/// Pods by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadSelector {
    /// Labels that they have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 256))]
    pub labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Istio adds values and fields; an entry with one of them is still an entry.
    #[test]
    fn what_is_not_known_is_kept_apart() {
        let spec: ServiceEntrySpec = serde_json::from_value(json!({
            "hosts": ["api.example"], "future": {"a": 1},
            "location": "MESH_SOMEWHERE", "resolution": "ORACLE",
            "ports": [{"number": 70_000, "name": "p", "protocol": "QUIC", "future": true}],
        }))
        .unwrap();
        assert_eq!(
            spec.location,
            Some(Location::Unknown("MESH_SOMEWHERE".into()))
        );
        assert_eq!(spec.resolution, Some(Resolution::Unknown("ORACLE".into())));
        assert_eq!(spec.ports[0].number, 70_000);
    }

    #[test]
    fn values_are_written_as_istio_does() {
        for text in ["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] {
            let resolution: Resolution = serde_json::from_value(json!(text)).unwrap();
            assert!(!matches!(resolution, Resolution::Unknown(_)), "{text}");
            assert_eq!(json!(resolution), text);
        }
        for text in ["MESH_EXTERNAL", "MESH_INTERNAL"] {
            let location: Location = serde_json::from_value(json!(text)).unwrap();
            assert!(!matches!(location, Location::Unknown(_)), "{text}");
            assert_eq!(json!(location), text);
        }
    }
}
