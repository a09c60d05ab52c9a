//! What a scenario stands on: its namespace, echo backends, Gateways, and ways to ask and to wait.

use std::{iter, net::IpAddr, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{Scenario, Test, answer::Answer};
use crate::{
    cluster::kubectl::Kubectl,
    images::ECHO_IMAGES,
    support::{
        binaries::installed,
        process::{POLL, output_of},
    },
};

/// How long the cluster may take for a step. Machines that build something beside are slow.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// The exit code of curl when it cannot verify the other side's certificate.
const UNTRUSTED: i32 = 60;
/// Where echo-basic listens.
const ECHO_PORT: u16 = 3000;

/// The surroundings of one scenario.
#[derive(Clone)]
pub(crate) struct Bed {
    pub(crate) kubectl: Kubectl,
    /// The scenario's own.
    pub(crate) namespace: String,
    /// Cargo profile of programs that a scenario runs itself.
    pub(crate) profile: String,
    /// Namespaces that manifests of the scenario make; they are gone before it and after it, as its own.
    manifests_namespaces: &'static [&'static str],
    keep: bool,
}

impl Bed {
    pub(super) fn new(kubectl: &Kubectl, scenario: &Scenario, test: &Test) -> Self {
        Self {
            kubectl: kubectl.clone(),
            namespace: format!("e2e-{}", scenario.name),
            profile: test.profile.clone(),
            manifests_namespaces: scenario.namespaces,
            keep: test.keep,
        }
    }

    /// Makes the namespace anew.
    pub(super) async fn open(&self) -> Result<()> {
        // What an interrupted run has left would answer for this one.
        self.delete_namespaces().await?;
        self.create_namespace().await
    }

    async fn create_namespace(&self) -> Result<()> {
        self.kubectl
            .run(&["create", "namespace", &self.namespace])
            .await
            .map(drop)
    }

    /// The same with a second namespace, which is gone afterwards, too.
    pub(crate) async fn neighbour(&self) -> Result<Self> {
        let neighbour = self.in_namespace(&self.neighbours_namespace());
        neighbour.create_namespace().await?;
        Ok(neighbour)
    }

    /// The same with its hands in another namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ..self.clone()
        }
    }

    fn neighbours_namespace(&self) -> String {
        format!("{}-neighbour", self.namespace)
    }

    /// Takes the namespaces away with everything in them.
    pub(super) async fn close(&self, good: bool) -> Result<()> {
        let manifests = self.manifests_namespaces.iter().copied();
        let namespaces: Vec<&str> = iter::once(self.namespace.as_str())
            .chain(manifests)
            .collect();
        if self.keep && !good {
            println!("          kept: namespace {}", namespaces.join(", "));
            return Ok(());
        }
        let emptied = namespaces
            .iter()
            .map(async |namespace| self.in_namespace(namespace).empty().await);
        try_join_all(emptied).await?;
        self.delete_namespaces().await
    }

    /// Takes everything away that runs in the namespace.
    async fn empty(&self) -> Result<()> {
        // A namespace that goes with pods in it looks for their end only after half of the time that they may take.
        self.run(&["delete", "gateways,deployments", "--all"])
            .await?;
        // Those that nothing makes again.
        let bare = "--selector=!pod-template-hash,!controller-revision-hash";
        self.run(&["delete", "pods", bare]).await?;
        self.until("no pod is left", async || {
            let pods = self.run(&["get", "pods", "--output=name"]).await?;
            ensure!(pods.is_empty(), "there is {pods}");
            Ok(())
        })
        .await
    }

    async fn delete_namespaces(&self) -> Result<()> {
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        let neighbour = self.neighbours_namespace();
        let mut delete = vec![
            "delete",
            "namespace",
            &self.namespace,
            &neighbour,
            "--ignore-not-found",
            &patience,
        ];
        delete.extend(self.manifests_namespaces);
        self.kubectl.run(&delete).await.map(drop)
    }

    /// Applies manifests in the scenario's namespace, as a user does: `kubectl apply --filename -`.
    pub(crate) async fn apply(&self, manifests: &str) -> Result<()> {
        self.kubectl
            .feed(
                &["apply", "--namespace", &self.namespace, "--filename=-"],
                manifests,
            )
            .await
            .map(drop)
    }

    /// Runs kubectl in the scenario's namespace.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend(arguments);
        self.kubectl.run(&all).await
    }

    /// An object of the scenario's namespace, `gateway/edge`.
    pub(crate) async fn get(&self, object: &str) -> Result<Value> {
        self.kubectl
            .get(&["--namespace", &self.namespace, object])
            .await
    }

    /// Merges `patch`, JSON, into an object of the scenario's namespace.
    pub(crate) async fn patch(&self, object: &str, patch: &str) -> Result<()> {
        self.run(&["patch", object, "--type=merge", "--patch", patch])
            .await
            .map(drop)
    }

    /// Waits until the conditions at `pointer` in an object have one of this type and status, and returns it.
    pub(crate) async fn until_condition(
        &self,
        object: &str,
        pointer: &str,
        kind: &str,
        status: &str,
    ) -> Result<Value> {
        self.until(&format!("{kind} of {object} is {status}"), async || {
            let object = self.get(object).await?;
            let conditions = object.pointer(pointer).unwrap_or(&Value::Null);
            expect_condition(conditions, kind, status).cloned()
        })
        .await
    }

    /// Tries until it succeeds; fails with the last error after [`PATIENCE`].
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) if Instant::now() > deadline => {
                    return Err(
                        error.context(format!("{what}: not within {} s", PATIENCE.as_secs()))
                    );
                }
                Err(_) => sleep(POLL).await,
            }
        }
    }

    /// Runs `replicas` pods of the echo backend as Deployment and Service `name`, port 80, and waits until all are Ready.
    /// Every answer names pod and Service: see [`Answer::echo`].
    pub(crate) async fn echo(&self, name: &str, replicas: usize) -> Result<()> {
        self.apply(&echo(name, replicas).to_string()).await?;
        let deployment = format!("deployment/{name}");
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        self.run(&["rollout", "status", &deployment, &patience])
            .await
            .map(drop)
    }

    /// The first address of a Gateway, once it is Programmed.
    pub(crate) async fn address(&self, gateway: &str) -> Result<IpAddr> {
        self.until(&format!("Gateway {gateway} is Programmed"), async || {
            let gateway = self.get(&format!("gateway/{gateway}")).await?;
            expect_condition(&gateway["status"]["conditions"], "Programmed", "True")?;
            let address = gateway["status"]["addresses"][0]["value"]
                .as_str()
                .context("it has no address")?;
            address
                .parse()
                .with_context(|| format!("`{address}` is no IP address"))
        })
        .await
    }

    /// Asks by curl. The arguments go to curl as they are; certificates and answers are those of curl.
    pub(crate) async fn curl(&self, arguments: &[&str]) -> Result<Answer> {
        Answer::parse(&output_of(curl(arguments)?).await?)
    }

    /// Asks by curl, which must not trust the certificate that it is shown. Any other failure is an error.
    pub(crate) async fn curl_distrusts(&self, arguments: &[&str]) -> Result<()> {
        let mut command = curl(arguments)?;
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await?;
        ensure!(
            output.status.code() == Some(UNTRUSTED),
            "curl ended with {} instead of {UNTRUSTED}, which is for a certificate that it does not trust: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Asks by curl until the answer is what is looked for.
    pub(crate) async fn until_curl(
        &self,
        arguments: &[&str],
        good: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        self.until(&format!("curl {}", arguments.join(" ")), async || {
            let answer = self.curl(arguments).await?;
            ensure!(good(&answer), "the last answer: {answer}");
            Ok(answer)
        })
        .await
    }
}

/// A run of curl that is about to start.
fn curl(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(installed("curl")?);
    command
        .args([
            "--silent",
            "--show-error",
            // A load balancer's address that is not known everywhere yet swallows the whole connection.
            "--connect-timeout",
            "1",
            "--max-time",
            "10",
            "--noproxy",
            "*",
        ])
        // The head comes first, as it is on the wire.
        .args(["--dump-header", "-"])
        .args(arguments);
    Ok(command)
}

/// The condition of this type in a list, if it has this status.
pub(crate) fn expect_condition<'a>(
    conditions: &'a Value,
    kind: &str,
    status: &str,
) -> Result<&'a Value> {
    let found = conditions
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind);
    match found {
        Some(condition) if condition["status"] == status => Ok(condition),
        Some(condition) => bail!("{kind} is not {status}: {condition}"),
        None => bail!("no condition {kind} in {conditions}"),
    }
}

fn echo(name: &str, replicas: usize) -> Value {
    let from_field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "containers": [{
                        "name": "echo",
                        "image": ECHO_IMAGES[0],
                        "imagePullPolicy": "Never",
                        "env": [
                            from_field("POD_NAME", "metadata.name"),
                            from_field("NAMESPACE", "metadata.namespace"),
                            { "name": "SERVICE_NAME", "value": name },
                        ],
                        "readinessProbe": { "httpGet": { "path": "/health", "port": ECHO_PORT }, "periodSeconds": 1 },
                        // It ends at once when it is told to, while others still send it requests.
                        "lifecycle": { "preStop": { "sleep": { "seconds": 2 } } },
                    }],
                },
            },
        },
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": 80, "targetPort": ECHO_PORT }] },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [deployment, service] })
}
