//! What an installation waits for, told while Helm is silent, and after it has given up.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use tokio::time::sleep;

use crate::{
    args::InstallArgs,
    check::{Fleet, Item, lines},
    cluster::Cluster,
    output::tell,
};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(3);

/// The controller of a release.
pub(super) struct Progress<'a> {
    /// None if the kubeconfig is no good. Helm says so.
    cluster: Option<Cluster>,
    args: &'a InstallArgs,
}

impl<'a> Progress<'a> {
    pub(super) async fn new(args: &'a InstallArgs) -> Self {
        Self {
            cluster: Cluster::new(&args.cluster).await.ok(),
            args,
        }
    }

    /// Tells what is waited for, each thing once. Never ends.
    pub(super) async fn follow(&self) -> Infallible {
        let mut told = BTreeSet::new();
        loop {
            sleep(INTERVAL).await;
            for item in self.waits().await {
                let line = format!("Waiting: {item}\n");
                if !told.contains(&line) {
                    tell(&line);
                    told.insert(line);
                }
            }
        }
    }

    /// The same with remedies.
    pub(super) async fn remedies(&self) -> String {
        lines(&self.waits().await)
    }

    /// What is not well. That nothing can be known is Helm's to say.
    async fn waits(&self) -> Vec<Item> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        let label = format!("app.kubernetes.io/instance={}", self.args.release);
        let fleet = Fleet::controllers(cluster, &self.args.namespace, &label).await;
        let items = fleet.map(Fleet::items).unwrap_or_default();
        items.into_iter().filter(|item| !item.is_ok()).collect()
    }
}
