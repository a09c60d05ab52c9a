//! The Deployments and DaemonSets of controllers and proxies with their pods, as the cluster has them.

use kube::api::DynamicObject;
use serde_json::Value;

use super::{Item, pods, rollout};
use crate::cluster::{Cluster, Kind, Refusal, Scope};

/// The labels of what is made for Gateways.
const PROXIES: &str =
    "app.kubernetes.io/name=portcullis-proxy,app.kubernetes.io/managed-by=portcullis";

/// Workloads of one sort, as far as the caller may look at them.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    pub(super) workloads: Vec<Workload>,
    pods: Vec<DynamicObject>,
    /// What may not be looked at.
    pub(super) hidden: Vec<Item>,
}

/// A Deployment or DaemonSet.
#[derive(Debug)]
pub(super) struct Workload {
    kind: &'static Kind,
    pub(super) object: DynamicObject,
}

impl Fleet {
    /// The controllers of a namespace that have these labels too.
    pub(crate) async fn controllers(
        cluster: &Cluster,
        namespace: &str,
        labels: &str,
    ) -> anyhow::Result<Self> {
        let scope = Scope::Namespace(namespace.to_owned());
        let labels = format!("app.kubernetes.io/component=controller,{labels}");
        Self::look(cluster, "Controller", &[&Kind::DEPLOYMENT], &scope, &labels).await
    }

    /// What runs the proxies of all Gateways.
    pub(super) async fn proxies(cluster: &Cluster) -> anyhow::Result<Self> {
        let kinds = [&Kind::DEPLOYMENT, &Kind::DAEMON_SET];
        Self::look(cluster, "Proxies", &kinds, &Scope::All, PROXIES).await
    }

    async fn look(
        cluster: &Cluster,
        what: &str,
        kinds: &[&'static Kind],
        scope: &Scope,
        labels: &str,
    ) -> anyhow::Result<Self> {
        let mut fleet = Self::default();
        for kind in kinds {
            let objects = fleet.list(cluster, what, kind, scope, labels).await?;
            let workloads = objects.into_iter().map(|it| Workload::new(kind, it));
            fleet.workloads.extend(workloads);
        }
        if !fleet.workloads.is_empty() {
            fleet.pods = fleet.list(cluster, what, &Kind::POD, scope, labels).await?;
        }
        Ok(fleet)
    }

    async fn list(
        &mut self,
        cluster: &Cluster,
        what: &str,
        kind: &Kind,
        scope: &Scope,
        labels: &str,
    ) -> anyhow::Result<Vec<DynamicObject>> {
        match cluster.labelled(kind, scope, labels).await {
            Ok(objects) => Ok(objects),
            Err(Refusal::Forbidden(message)) => {
                self.hidden.push(Item::hidden(what, &message));
                Ok(Vec::new())
            }
            Err(refusal) => Err(refusal.fatal(kind)),
        }
    }

    /// How its rollouts are, and the pods that are not ready.
    pub(crate) fn items(self) -> Vec<Item> {
        let mut items = self.hidden;
        for workload in &self.workloads {
            items.push(rollout::item(workload));
            let own: Vec<_> = self.pods.iter().filter(|it| workload.has(it)).collect();
            items.extend(pods::items(&own));
        }
        items
    }
}

impl Workload {
    pub(super) fn new(kind: &'static Kind, object: DynamicObject) -> Self {
        Self { kind, object }
    }

    pub(super) fn is_daemon_set(&self) -> bool {
        self.kind.name == Kind::DAEMON_SET.name
    }

    pub(super) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> &str {
        namespace(&self.object)
    }

    /// As items call it.
    pub(super) fn title(&self) -> String {
        format!("{} {}/{}", self.kind.name, self.namespace(), self.name())
    }

    /// As kubectl wants it.
    pub(super) fn argument(&self) -> String {
        format!("{}/{}", self.kind.name.to_lowercase(), self.name())
    }

    /// The labels of its pods, as kubectl wants them.
    pub(super) fn selector(&self) -> String {
        let labels = self.labels().map(|(name, value)| format!("{name}={value}"));
        labels.collect::<Vec<_>>().join(",")
    }

    /// The Gateway that it is made for.
    pub(super) fn gateway(&self) -> Option<String> {
        let mut owners = self.object.metadata.owner_references.iter().flatten();
        let owner = owners.find(|it| it.kind == Kind::GATEWAY.name)?;
        Some(format!("{}/{}", self.namespace(), owner.name))
    }

    fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.object.data.pointer("/spec/selector/matchLabels");
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        labels.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// Whether a pod is one of its own, of whatever version.
    fn has(&self, pod: &DynamicObject) -> bool {
        let of_pod = |name: &str| Some(pod.metadata.labels.as_ref()?.get(name)?.as_str());
        namespace(pod) == self.namespace()
            && self
                .labels()
                .all(|(name, value)| of_pod(name) == Some(value))
    }
}

fn namespace(object: &DynamicObject) -> &str {
    object.metadata.namespace.as_deref().unwrap_or_default()
}
