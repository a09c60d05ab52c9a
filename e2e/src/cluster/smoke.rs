//! `cargo e2e cluster smoke`: does the cluster run workloads and route to them? Everything is asked from outside, as a
//! client of the cluster does.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hickory_resolver::{
    Resolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    Cluster,
    kubectl::{Kubectl, ready_pods},
    layout,
};
use crate::{
    images::ECHO_IMAGES,
    support::{
        client::{Client, Target},
        process::POLL,
        report::Tally,
    },
};

/// How long the cluster may take for each step. Machines that build something beside are slow.
const PATIENCE: Duration = Duration::from_mins(3);
const NAMESPACE: &str = "portcullis-smoke";
const REPLICAS: usize = 2;
/// Where echo-basic listens.
const PORT: u16 = 3000;

/// The checks so far.
struct Smoke {
    kubectl: Kubectl,
    tally: Tally,
    start: Instant,
}

/// Runs all checks; the namespace they use is new, and gone afterwards.
pub(super) async fn run(cluster: &Cluster) -> Result<()> {
    let mut smoke = Smoke {
        kubectl: cluster.kubectl().await?,
        tally: Tally::default(),
        start: Instant::now(),
    };
    smoke.kubectl.apply(&namespace()).await?;
    smoke.kubectl.apply(&deployment()).await?;
    for kind in ["ClusterIP", "NodePort", "LoadBalancer"] {
        smoke.kubectl.apply(&service(kind)).await?;
    }
    let outcome = smoke.checks(cluster).await;
    let cleaned = smoke.delete_namespace().await;
    outcome?;
    cleaned?;
    smoke.tally.close()
}

impl Smoke {
    async fn checks(&mut self, cluster: &Cluster) -> Result<()> {
        let ready = self.ready_pods(&BTreeSet::new()).await;
        let pods = ready.as_ref().ok().cloned().unwrap_or_default();
        self.check("Deployment with two pods Ready", &ready);

        if *cluster == Cluster::Own {
            let answer = async {
                let address = self.field("ClusterIP", "/spec/clusterIP").await?;
                self.until_answered_by(socket(&address, 80)?, &pods).await
            };
            let answer = answer.await;
            self.check("ClusterIP answers from outside", &answer);
            let resolved = self.resolve_service().await;
            self.check("the cluster's DNS knows its Service", &resolved);
        } else {
            println!("SKIPPED: the cluster's DNS, because the node is not ours to ask");
            println!(
                "SKIPPED: ClusterIP from outside, because the node is not ours to route through"
            );
        }

        let answer = async {
            let port = self.field("NodePort", "/spec/ports/0/nodePort").await?;
            let node = self.node_address().await?;
            self.until_answered_by(socket(&node, port.parse()?)?, &pods)
                .await
        };
        let answer = answer.await;
        self.check("NodePort answers from outside", &answer);

        let balancer = async {
            let service = object_name("LoadBalancer");
            let service = ["--namespace", NAMESPACE, "service", &service];
            let assigned = "jsonpath={.status.loadBalancer.ingress[0].ip}";
            self.kubectl.wait(&service, assigned, PATIENCE).await?;
            let address = self
                .field("LoadBalancer", "/status/loadBalancer/ingress/0/ip")
                .await?;
            let address = socket(&address, 80)?;
            self.until_answered_by(address, &pods).await?;
            Ok(address)
        };
        let balancer = balancer.await;
        let address = balancer.as_ref().ok().copied();
        self.check("LoadBalancer answers from outside", &balancer);

        let replaced = self.replace_pods(&pods).await;
        let fresh = replaced.as_ref().ok().cloned().unwrap_or_default();
        self.check("deleted pods are replaced", &replaced);
        if let Some(address) = address {
            let answer = self.until_answered_by(address, &fresh).await;
            self.check("LoadBalancer answers by the new pods only", &answer);
        }
        Ok(())
    }

    fn check<T>(&mut self, what: &str, outcome: &Result<T>) {
        let seconds = self.start.elapsed().as_secs_f64();
        let error = outcome.as_ref().err();
        let verdict = if error.is_none() { "ok" } else { "FAILED" };
        println!("{seconds:>6.1} s  {what}: {verdict}");
        self.tally
            .check(error.is_none(), || format!("{what}: {error:?}"));
    }

    /// Names of the pods once exactly [`REPLICAS`] are Ready, none of them in `gone`.
    async fn ready_pods(&self, gone: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pods = self
                .kubectl
                .get(&["pods", "--namespace", NAMESPACE])
                .await?;
            let ready = ready_names(&pods);
            if ready.len() == REPLICAS && ready.is_disjoint(gone) {
                return Ok(ready);
            }
            ensure!(
                Instant::now() < deadline,
                "{} of {REPLICAS} pods are Ready after {} s",
                ready.len(),
                PATIENCE.as_secs()
            );
            sleep(POLL).await;
        }
    }

    async fn replace_pods(&self, pods: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        ensure!(!pods.is_empty(), "there were none");
        let mut delete = vec!["delete", "pod", "--namespace", NAMESPACE];
        delete.extend(pods.iter().map(String::as_str));
        self.kubectl.run(&delete).await?;
        self.ready_pods(pods).await
    }

    /// A string or number of a Service.
    async fn field(&self, kind: &str, pointer: &str) -> Result<String> {
        let name = object_name(kind);
        let service = self
            .kubectl
            .get(&["service", "--namespace", NAMESPACE, &name])
            .await?;
        let value = service
            .pointer(pointer)
            .with_context(|| format!("Service {name} has no {pointer}"))?;
        Ok(value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned))
    }

    async fn node_address(&self) -> Result<String> {
        let nodes = self.kubectl.get(&["nodes"]).await?;
        nodes["items"][0]["status"]["addresses"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|address| address["type"] == "InternalIP")
            .and_then(|address| address["address"].as_str())
            .map(str::to_owned)
            .context("the node has no InternalIP")
    }

    /// Asks until every one of `pods` has answered, each by a connection of its own. Once they all have, no other may.
    async fn until_answered_by(&self, address: SocketAddr, pods: &BTreeSet<String>) -> Result<()> {
        ensure!(!pods.is_empty(), "no pod is there to answer");
        let deadline = Instant::now() + PATIENCE;
        let mut seen = BTreeSet::new();
        let mut last = None;
        while &seen != pods {
            ensure!(
                Instant::now() < deadline,
                "{address}: answered by {seen:?} instead of {pods:?}; the last error: {last:?}"
            );
            match ask(address).await {
                // Routing may still lead to a pod that has just gone.
                Ok(pod) if !pods.contains(&pod) => seen.clear(),
                Ok(pod) => drop(seen.insert(pod)),
                Err(error) => last = Some(format!("{error:#}")),
            }
        }
        Ok(())
    }

    /// Asks the cluster's DNS for a Service until it answers with the ClusterIP.
    async fn resolve_service(&self) -> Result<()> {
        let expected: IpAddr = self.field("ClusterIP", "/spec/clusterIP").await?.parse()?;
        let server = NameServerConfig::udp(layout::NODE_ADDRESS.parse()?);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let resolver =
            Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build()?;
        let name = format!(
            "{}.{NAMESPACE}.svc.{}.",
            object_name("ClusterIP"),
            layout::CLUSTER_DOMAIN
        );
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = resolver.lookup_ip(name.as_str()).await;
            let told = match answer {
                Ok(answer) if answer.iter().any(|address| address == expected) => return Ok(()),
                Ok(answer) => format!("{answer:?}"),
                Err(error) => error.to_string(),
            };
            ensure!(Instant::now() < deadline, "{name}: {told}");
            sleep(POLL).await;
        }
    }

    async fn delete_namespace(&mut self) -> Result<()> {
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        let deleted = self
            .kubectl
            .run(&["delete", "namespace", NAMESPACE, &patience])
            .await;
        self.check("namespace deleted with everything in it", &deleted);
        Ok(())
    }
}

/// The name of the pod that answers.
async fn ask(address: SocketAddr) -> Result<String> {
    let mut client = Client::connect(&Target::clear(address, "smoke.example")).await?;
    let answer = client.get("/").await?;
    ensure!(answer.status() == 200, "status {}", answer.status());
    let echo: Value = serde_json::from_slice(answer.body())?;
    ensure!(
        echo["namespace"] == NAMESPACE,
        "somebody else answers: {echo}"
    );
    Ok(echo["pod"]
        .as_str()
        .context("the echo names no pod")?
        .to_owned())
}

fn socket(address: &str, port: u16) -> Result<SocketAddr> {
    let address: IpAddr = address
        .parse()
        .with_context(|| format!("`{address}` is no IP address"))?;
    Ok(SocketAddr::new(address, port))
}

fn ready_names(pods: &Value) -> BTreeSet<String> {
    ready_pods(pods)
        .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
        .collect()
}

fn namespace() -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } })
}

fn object_name(kind: &str) -> String {
    kind.to_lowercase()
}

fn service(kind: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": object_name(kind), "namespace": NAMESPACE },
        "spec": {
            "type": kind,
            "selector": { "app": "echo" },
            "ports": [{ "port": 80, "targetPort": PORT }],
        },
    })
}

fn deployment() -> Value {
    let from_field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "echo", "namespace": NAMESPACE },
        "spec": {
            "replicas": REPLICAS,
            "selector": { "matchLabels": { "app": "echo" } },
            "template": {
                "metadata": { "labels": { "app": "echo" } },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "echo",
                        "image": ECHO_IMAGES[0],
                        "env": [
                            from_field("POD_NAME", "metadata.name"),
                            from_field("NAMESPACE", "metadata.namespace"),
                        ],
                        "readinessProbe": { "httpGet": { "path": "/", "port": PORT }, "periodSeconds": 1 },
                        // What a hardened cluster demands, so that images are shown to cope with it.
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "capabilities": { "drop": ["ALL"] },
                            "readOnlyRootFilesystem": true,
                            "runAsNonRoot": true,
                            "seccompProfile": { "type": "RuntimeDefault" },
                        },
                    }],
                },
            },
        },
    })
}
