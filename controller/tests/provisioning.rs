//! Golden tests: manifests in; what is made for each Gateway out.
//!
//! `provisioning/<case>.yaml` holds manifests, then `---` and `# Output`, then the wanted objects and the addresses. Every
//! case has the GatewayClass `portcullis`, unless it defines it itself.
//! `UPDATE_GOLDEN=1 cargo test -p portcullis-controller --test provisioning` writes the output anew.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use portcullis_controller::{
    CONTROLLER_NAME, ObjectKey, Options,
    manifests::Loaded,
    provision::{ProvisionOptions, addresses, wanted},
    status::GatewayAddress,
    translate::translate,
};
use serde::Serialize;
use serde_json::Value;

const MARKER: &str = "---\n# Output\n";

const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
";

/// What stands below the marker.
#[derive(Serialize)]
struct Output {
    objects: BTreeMap<ObjectKey, Vec<Value>>,
    /// Why what is there has to stay as it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    kept: BTreeMap<ObjectKey, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    addresses: BTreeMap<ObjectKey, Vec<GatewayAddress>>,
}

#[test]
fn golden() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = Vec::new();
    for path in cases() {
        let text = fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once(MARKER).unwrap_or((&text, ""));
        let actual = serde_saphyr::to_string(&output(input)).unwrap();
        if update {
            fs::write(&path, format!("{}\n{MARKER}{actual}", input.trim_end())).unwrap();
        } else if actual != expected {
            let pairs = expected.lines().zip(actual.lines());
            let line = pairs.take_while(|(expected, actual)| expected == actual);
            different.push(format!(
                "{} from output line {}",
                path.display(),
                line.count() + 1
            ));
        }
    }
    assert!(
        different.is_empty(),
        "output differs (UPDATE_GOLDEN=1 writes it anew): {different:#?}"
    );
}

/// What the pods may do is what the Pod Security Standard "restricted" takes, whatever the parameters say.
#[test]
fn pods_pass_the_restricted_standard() {
    let mut pods = 0;
    for path in cases() {
        let text = fs::read_to_string(&path).unwrap();
        let (input, _) = text.split_once(MARKER).unwrap_or((&text, ""));
        for object in output(input).objects.into_values().flatten() {
            let pod = &object["spec"]["template"]["spec"];
            if pod.is_null() {
                continue;
            }
            pods += 1;
            let all = &pod["securityContext"];
            assert_eq!(all["runAsNonRoot"], true);
            assert_ne!(all["runAsUser"], 0);
            assert_eq!(all["seccompProfile"]["type"], "RuntimeDefault");
            let sysctls = all["sysctls"].as_array().unwrap();
            assert!(
                sysctls
                    .iter()
                    .all(|it| it["name"] == "net.ipv4.ip_unprivileged_port_start")
            );
            for host in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[host].is_null());
            }
            for container in pod["containers"].as_array().unwrap() {
                let own = &container["securityContext"];
                assert_eq!(own["allowPrivilegeEscalation"], false);
                assert_eq!(own["readOnlyRootFilesystem"], true);
                assert_eq!(own["capabilities"]["drop"], serde_json::json!(["ALL"]));
                assert!(own["capabilities"]["add"].is_null());
                for port in container["ports"].as_array().unwrap() {
                    assert!(port["hostPort"].is_null());
                }
            }
            for volume in pod["volumes"].as_array().unwrap() {
                let kinds: Vec<_> = volume.as_object().unwrap().keys().collect();
                assert!(
                    kinds
                        .iter()
                        .all(|it| ["name", "secret", "emptyDir"].contains(&it.as_str()))
                );
            }
        }
    }
    assert!(pods > 5, "{pods}");
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provisioning");
    let files = fs::read_dir(root).unwrap();
    let mut cases: Vec<_> = files.map(|it| it.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn output(input: &str) -> Output {
    let mut loaded = Loaded::accepted();
    loaded.read_text("case.yaml", input);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    loaded.read_text("class.yaml", CLASS);
    let translation = translate(&loaded.resources, &Options::default());
    let options = ProvisionOptions {
        image: "registry.example/portcullis-proxy:1.0".into(),
        controller_url: "https://portcullis.portcullis-system.svc:9443".into(),
    };
    let (mut objects, mut kept) = (BTreeMap::new(), BTreeMap::new());
    let plan = wanted(
        &loaded.resources,
        &translation.tables,
        &translation.ports,
        &translation.parameters,
        CONTROLLER_NAME,
        &options,
    );
    for (key, wanted) in plan.gateways {
        match wanted.objects {
            Ok(all) => drop(objects.insert(key, all.into_iter().map(|it| it.body).collect())),
            Err(why) => drop(kept.insert(key, why)),
        }
    }
    Output {
        objects,
        kept,
        addresses: addresses(&loaded.resources),
    }
}
