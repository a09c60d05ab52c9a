//! Writes what is generated: the CRDs of the kinds that we bring along, what the Helm chart has copies of, and the schemas that manifests
//! are checked against.
//!
//! ```text
//! cargo run -p portcullis-crds --bin crdgen            config/crd/**.yaml, charts/portcullis/{crds,files}/*.yaml
//! cargo run -p portcullis-crds --bin crdgen -- DIR     controller/src/manifests/schema/*.json, from a release's CRDs:
//!                                                      DIR is config/crd/experimental of Gateway API v1.7.0
//! ```

use std::{error::Error, fs, path::Path};

use serde_json::Value;

/// The kinds of the Gateway API that are read from manifests: plural and singular, as files are called.
const KINDS: &[(&str, &str)] = &[
    ("backendtlspolicies", "backendtlspolicy"),
    ("gatewayclasses", "gatewayclass"),
    ("gateways", "gateway"),
    ("httproutes", "httproute"),
    ("listenersets", "listenerset"),
    ("referencegrants", "referencegrant"),
    ("tlsroutes", "tlsroute"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Some(directory) = std::env::args_os().nth(1) else {
        for (path, text) in portcullis_crds::manifests()? {
            fs::write(root.join(path), text)?;
        }
        for (original, copy) in portcullis_crds::COPIES {
            fs::copy(root.join(original), root.join(copy))?;
        }
        return Ok(());
    };
    for (plural, singular) in KINDS {
        let path = Path::new(&directory).join(format!("gateway.networking.k8s.io_{plural}.yaml"));
        let crd: Value = serde_saphyr::from_str(&fs::read_to_string(path)?)?;
        let versions = crd["spec"]["versions"].as_array().ok_or("no versions")?;
        let version = versions
            .iter()
            .find(|version| version["name"] == "v1")
            .ok_or("no version v1")?;
        let mut schema = version["schema"]["openAPIV3Schema"].clone();
        strip(&mut schema);
        let text = serde_json::to_string(&schema)? + "\n";
        let schemas = root.join("controller/src/manifests/schema");
        fs::write(schemas.join(format!("{singular}.json")), text)?;
    }
    Ok(())
}

/// Takes out what no check needs: descriptions, and the schema of the status.
fn strip(schema: &mut Value) {
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("status");
    }
    strip_descriptions(schema);
}

fn strip_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(strip_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_descriptions),
        _ => {}
    }
}
