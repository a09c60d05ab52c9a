//! Golden tests: manifests in; what is made for each Gateway out.
//!
//! `provisioning/<case>.yaml` holds manifests, then `---` and `# Output`, then the wanted objects and the addresses. Every
//! case has the GatewayClass `portcullis`, unless it defines it itself.
//! `UPDATE_GOLDEN=1 cargo test -p portcullis-controller --test provisioning` writes the output anew.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Service;
use portcullis_controller::{
    CONTROLLER_NAME, ObjectKey, Options, Resources,
    manifests::Loaded,
    provision::{Plan, ProvisionOptions, addresses, wanted},
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

/// The cases after each other, as if somebody changed what there is.
#[test]
fn what_is_wanted_does_not_depend_on_what_was_wanted_before() {
    let all = cases().into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let (input, _) = text.split_once(MARKER).unwrap_or((&text, ""));
        let resources = resources(input);
        let plan = plan(&Plan::default(), &resources);
        (path, resources, plan)
    });
    let all: Vec<_> = all.collect();
    for (from, _, before) in &all {
        for (to, resources, expected) in &all {
            let actual = plan(before, resources);
            assert_eq!(
                &actual,
                expected,
                "{} then {}",
                from.display(),
                to.display()
            );
            for (key, wanted) in actual.gateways.iter().filter(|_| from == to) {
                let before = &before.gateways[key].objects;
                let same = wanted.objects.as_ref().ok().zip(before.as_ref().ok());
                let is_same = same.is_none_or(|(made, before)| Arc::ptr_eq(made, before));
                let is_empty = same.is_some_and(|(made, _)| made.objects().is_empty());
                assert!(is_same || is_empty, "{}: {key} is made anew", to.display());
            }
        }
    }
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provisioning");
    let files = fs::read_dir(root).unwrap();
    let mut cases: Vec<_> = files.map(|it| it.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// Everything that there is in a case.
fn resources(input: &str) -> Resources {
    let mut loaded = Loaded::accepted();
    loaded.read_text("case.yaml", input);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    loaded.read_text("class.yaml", CLASS);
    let mut resources = loaded.resources;
    // Statuses in files are not read, and there it is the load balancer that writes this one.
    for document in input.split("---\n") {
        let document: Value = serde_saphyr::from_str(document).unwrap();
        let Ok(service) = serde_json::from_value::<Service>(document) else {
            continue;
        };
        if let Some(known) = resources.services.get_mut(&ObjectKey::of(&service)) {
            Arc::make_mut(known).status = service.status;
        }
    }
    resources
}

fn plan(before: &Plan, resources: &Resources) -> Plan {
    let translation = translate(resources, &Options::default());
    let options = ProvisionOptions {
        image: "registry.example/portcullis-proxy:1.0".into(),
        controller_url: "https://portcullis.portcullis-system.svc:9443".into(),
    };
    wanted(
        before,
        resources,
        &translation.tables,
        &translation.ports,
        &translation.parameters,
        CONTROLLER_NAME,
        &options,
    )
}

fn output(input: &str) -> Output {
    let resources = resources(input);
    let (mut objects, mut kept) = (BTreeMap::new(), BTreeMap::new());
    for (key, wanted) in plan(&Plan::default(), &resources).gateways {
        match wanted.objects {
            Ok(made) => {
                let bodies = made.objects().iter().map(|it| it.body.clone());
                objects.insert(key, bodies.collect());
            }
            Err(why) => drop(kept.insert(key, why)),
        }
    }
    Output {
        objects,
        kept,
        addresses: addresses(&resources),
    }
}
