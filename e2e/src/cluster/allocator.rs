//! The load-balancer allocator: gives every Service of type `LoadBalancer` an address, as a cloud would. kube-proxy does
//! the rest; no address is bound anywhere.
//!
//! It keeps nothing: which addresses are taken stands in the Services' statuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use super::layout::{bin, kubeconfig, state};

/// The pool: 10.98.0.x. The lower part is handed out in order, the upper part only to who asks for an address by
/// `spec.loadBalancerIP`, so that it is never taken by chance.
const POOL: [u8; 3] = [10, 98, 0];
const HANDED_OUT: std::ops::RangeInclusive<u8> = 1..=199;
const ON_REQUEST: std::ops::RangeInclusive<u8> = 1..=254;

#[derive(Deserialize)]
struct WatchEvent {
    r#type: String,
    object: Service,
}

#[derive(Clone, Default, Deserialize)]
struct Service {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Default, Deserialize)]
struct Metadata {
    namespace: String,
    name: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    r#type: String,
    load_balancer_class: Option<String>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    load_balancer: LoadBalancer,
}

#[derive(Clone, Default, Deserialize)]
struct LoadBalancer {
    #[serde(default)]
    ingress: Vec<Ingress>,
}

#[derive(Clone, Deserialize)]
struct Ingress {
    ip: Option<Ipv4Addr>,
}

/// The Services of the cluster by namespace and name.
#[derive(Default)]
struct Services(BTreeMap<(String, String), Service>);

/// The address that a Service should have from now on; none takes it away.
#[derive(Debug, PartialEq)]
struct Change {
    namespace: String,
    name: String,
    address: Option<Ipv4Addr>,
}

/// Watches Services for as long as the API server lets it; the supervisor starts it anew then.
pub(super) fn run() -> Result<()> {
    let mut watch = kubectl()
        .args(["get", "services", "--all-namespaces", "--output=json"])
        .args(["--watch", "--output-watch-events"])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = watch.stdout.take().context("the output is piped")?;
    let mut services = Services::default();
    for event in serde_json::Deserializer::from_reader(output).into_iter::<WatchEvent>() {
        services.take(event?);
        for change in services.changes() {
            apply(&change)?;
            services.note(change);
        }
    }
    bail!("the watch ended with {}", watch.wait()?)
}

fn kubectl() -> Command {
    let mut command = Command::new(bin().join("kubectl"));
    command
        .arg("--kubeconfig")
        .arg(kubeconfig("admin"))
        .arg("--cache-dir")
        .arg(state().join("kubectl"))
        .stdin(Stdio::null());
    command
}

fn apply(change: &Change) -> Result<()> {
    let ingress: Vec<_> = change
        .address
        .iter()
        .map(|ip| json!({ "ip": ip }))
        .collect();
    let patch = json!({ "status": { "loadBalancer": { "ingress": ingress } } });
    let output = kubectl()
        .args(["patch", "service", &change.name])
        .args(["--namespace", &change.namespace])
        .args(["--subresource=status", "--type=merge", "--patch"])
        .arg(patch.to_string())
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    // A Service that is gone by now needs no address; its deletion is the next event.
    ensure!(
        output.status.success() || error.contains("NotFound"),
        "cannot set the address of {}/{}: {error}",
        change.namespace,
        change.name
    );
    println!(
        "{}/{}: {}",
        change.namespace,
        change.name,
        change
            .address
            .map_or_else(|| "no address".to_owned(), |ip| ip.to_string())
    );
    Ok(())
}

impl Service {
    /// Whether an address is ours to give.
    fn wants_address(&self) -> bool {
        self.spec.r#type == "LoadBalancer" && self.spec.load_balancer_class.is_none()
    }

    fn address(&self) -> Option<Ipv4Addr> {
        self.status.load_balancer.ingress.first()?.ip
    }

    fn requested(&self) -> Option<&str> {
        self.spec
            .load_balancer_ip
            .as_deref()
            .filter(|ip| !ip.is_empty())
    }
}

impl Services {
    fn take(&mut self, event: WatchEvent) {
        let Metadata { namespace, name } = event.object.metadata.clone();
        if event.r#type == "DELETED" {
            self.0.remove(&(namespace, name));
        } else {
            self.0.insert((namespace, name), event.object);
        }
    }

    /// Takes a change as done: its event is still under way when the next one is looked at.
    fn note(&mut self, change: Change) {
        if let Some(service) = self.0.get_mut(&(change.namespace, change.name)) {
            service.status.load_balancer.ingress = change
                .address
                .map(|ip| Ingress { ip: Some(ip) })
                .into_iter()
                .collect();
        }
    }

    /// What has to change now.
    fn changes(&self) -> Vec<Change> {
        let mut taken: BTreeSet<Ipv4Addr> = self
            .0
            .values()
            .filter(|service| service.wants_address() && service.keeps_address())
            .filter_map(Service::address)
            .collect();
        let mut changes = Vec::new();
        for ((namespace, name), service) in &self.0 {
            let address = match service.address() {
                Some(_) if service.wants_address() && service.keeps_address() => continue,
                _ if service.wants_address() => choose(service.requested(), &taken),
                _ => None,
            };
            if address == service.address() {
                continue;
            }
            taken.extend(address);
            changes.push(Change {
                namespace: namespace.clone(),
                name: name.clone(),
                address,
            });
        }
        changes
    }
}

impl Service {
    /// Whether the address it has is the one it asks for, if it asks for one.
    fn keeps_address(&self) -> bool {
        match (self.address(), self.requested()) {
            (Some(address), Some(requested)) => address.to_string() == requested,
            (address, _) => address.is_some(),
        }
    }
}

/// The requested address if it is in the pool and free, else none; without a request the lowest free one.
fn choose(requested: Option<&str>, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let address = |last| Ipv4Addr::new(POOL[0], POOL[1], POOL[2], last);
    match requested {
        Some(requested) => ON_REQUEST
            .map(address)
            .find(|address| address.to_string() == requested && !taken.contains(address)),
        None => HANDED_OUT
            .map(address)
            .find(|address| !taken.contains(address)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::{Change, Services};
    use crate::cluster::layout;

    /// What `kubectl get --watch --output-watch-events` prints for a Service.
    fn event(kind: &str, name: &str, spec: &serde_json::Value, ip: Option<&str>) -> Services {
        let mut services = Services::default();
        add(&mut services, kind, name, spec, ip);
        services
    }

    fn add(
        services: &mut Services,
        kind: &str,
        name: &str,
        spec: &serde_json::Value,
        ip: Option<&str>,
    ) {
        let ingress: Vec<_> = ip
            .iter()
            .map(|ip| json!({ "ip": ip, "ipMode": "VIP" }))
            .collect();
        services.take(
            serde_json::from_value(json!({
                "type": kind,
                "object": {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": { "namespace": "n", "name": name },
                    "spec": spec,
                    "status": { "loadBalancer": { "ingress": ingress } },
                },
            }))
            .unwrap(),
        );
    }

    fn change(name: &str, address: Option<[u8; 4]>) -> Change {
        Change {
            namespace: "n".to_owned(),
            name: name.to_owned(),
            address: address.map(Ipv4Addr::from),
        }
    }

    fn balancer() -> serde_json::Value {
        json!({ "type": "LoadBalancer" })
    }

    #[test]
    fn each_service_gets_the_lowest_free_address_and_keeps_it() {
        let mut services = event("ADDED", "b", &balancer(), Some("10.98.0.1"));
        add(&mut services, "ADDED", "a", &balancer(), None);
        add(&mut services, "ADDED", "c", &balancer(), None);
        assert_eq!(
            services.changes(),
            [
                change("a", Some([10, 98, 0, 2])),
                change("c", Some([10, 98, 0, 3]))
            ]
        );
        for change in services.changes() {
            services.note(change);
        }
        assert_eq!(services.changes(), []);
    }

    #[test]
    fn a_deleted_service_frees_its_address() {
        let mut services = event("ADDED", "a", &balancer(), Some("10.98.0.1"));
        add(
            &mut services,
            "DELETED",
            "a",
            &balancer(),
            Some("10.98.0.1"),
        );
        add(&mut services, "ADDED", "b", &balancer(), None);
        assert_eq!(services.changes(), [change("b", Some([10, 98, 0, 1]))]);
    }

    #[test]
    fn a_requested_address_is_given_if_it_is_in_the_pool_and_free() {
        let asking = |address: &str| json!({ "type": "LoadBalancer", "loadBalancerIP": address });
        let mut services = event("ADDED", "a", &asking(layout::USABLE_ADDRESS), None);
        assert_eq!(services.changes(), [change("a", Some([10, 98, 0, 200]))]);

        add(
            &mut services,
            "ADDED",
            "b",
            &balancer(),
            Some("10.98.0.200"),
        );
        assert_eq!(services.changes(), [], "taken");

        let services = event("ADDED", "a", &asking(layout::UNUSABLE_ADDRESS), None);
        assert_eq!(services.changes(), [], "outside of the pool");

        let services = event("ADDED", "a", &asking("10.98.0.9"), Some("10.98.0.1"));
        assert_eq!(
            services.changes(),
            [change("a", Some([10, 98, 0, 9]))],
            "asked for later"
        );
    }

    #[test]
    fn other_services_get_none_and_lose_what_they_had() {
        let services = event("ADDED", "a", &json!({ "type": "ClusterIP" }), None);
        assert_eq!(services.changes(), []);
        let other_class = json!({ "type": "LoadBalancer", "loadBalancerClass": "x/y" });
        let services = event("ADDED", "a", &other_class, None);
        assert_eq!(services.changes(), []);
        let services = event(
            "MODIFIED",
            "a",
            &json!({ "type": "ClusterIP" }),
            Some("10.98.0.1"),
        );
        assert_eq!(services.changes(), [change("a", None)]);
    }
}
