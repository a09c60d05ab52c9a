//! Which kinds are installed: the `CustomResourceDefinitions`, watched by name and annotation.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, Resource, ResourceExt, core::PartialObjectMeta, runtime::watcher::Config};
use tokio::sync::watch;

use super::{
    ResourceStore,
    backoff::{Backoff, BackoffTimes},
    follow::{Sink, follow},
    kind::Kind,
};
use crate::{metrics::Metrics, resources::ObjectKey, translate::InstalledApi};

/// The annotation with the release of the Gateway API that a CRD belongs to.
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";
/// The CRD that is asked for the release.
const GATEWAYS: &str = "gateways.gateway.networking.k8s.io";

/// A `CustomResourceDefinition`: nothing of it is needed but its metadata.
type Definition = PartialObjectMeta<CustomResourceDefinition>;

/// Installed CRDs by name, each with its Gateway API release if it has one, and how often it has changed. `None` before
/// they have been listed.
type Installed = Option<BTreeMap<String, (Option<String>, u64)>>;

/// The installed CRDs.
#[derive(Clone, Debug)]
pub(super) struct Crds(watch::Sender<Installed>);

impl Crds {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self(watch::channel(None).0)
    }

    /// Watches the CRDs for ever.
    pub(super) async fn watch(self, client: Client, metrics: Arc<Metrics>, times: BackoffTimes) {
        let mut backoff = Backoff::new(times);
        loop {
            let api = Api::<Definition>::all(client.clone());
            let ended = follow(
                api,
                "CustomResourceDefinition",
                Config::default(),
                &self,
                &metrics,
                &mut backoff,
            )
            .await;
            let wait = backoff.wait();
            tracing::warn!(
                ?ended,
                ?wait,
                "cannot watch CustomResourceDefinitions; trying again"
            );
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits until the CRD of `K` is installed. Once it is known that it is not, `missing` is called.
    pub(super) async fn installed<K: Kind>(&self, mut missing: impl FnMut()) {
        let name = name::<K>();
        let mut crds = self.0.subscribe();
        loop {
            match &*crds.borrow_and_update() {
                Some(installed) if installed.contains_key(&name) => return,
                Some(_) => missing(),
                None => {}
            }
            // The sender lives in `self`.
            if crds.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until something about the CRD of `K` changes: a new one is not served at once.
    pub(super) async fn changed<K: Kind>(&self) {
        let name = name::<K>();
        let entry =
            |installed: &Installed| installed.as_ref().and_then(|all| all.get(&name).cloned());
        let mut crds = self.0.subscribe();
        let before = entry(&crds.borrow_and_update());
        crds.wait_for(|installed| entry(installed) != before)
            .await
            .ok();
    }

    /// Tells the store what of the Gateway API is installed, for ever.
    pub(super) async fn tell(self, store: Arc<ResourceStore>, kinds: Vec<(&'static str, String)>) {
        let mut crds = self.0.subscribe();
        loop {
            if let Some(installed) = &*crds.borrow_and_update() {
                let missing = kinds.iter().filter(|(_, crd)| !installed.contains_key(crd));
                store.set_installed(InstalledApi {
                    release: installed
                        .get(GATEWAYS)
                        .and_then(|(release, _)| release.clone()),
                    missing: missing.map(|(kind, _)| *kind).collect(),
                    ..InstalledApi::default()
                });
            }
            if crds.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Sink<Definition> for Crds {
    fn replace(&self, all: BTreeMap<ObjectKey, Definition>) {
        self.0.send_modify(|installed| {
            let mut before = installed.take().unwrap_or_default();
            let entry = |(key, definition): (ObjectKey, Definition)| {
                let changes = before
                    .remove(&key.name)
                    .map_or(0, |(_, changes)| changes + 1);
                (key.name, (release(&definition), changes))
            };
            *installed = Some(all.into_iter().map(entry).collect());
        });
    }

    fn apply(&self, key: ObjectKey, definition: Definition) {
        self.0.send_modify(|installed| {
            let (known, changes) = installed
                .get_or_insert_default()
                .entry(key.name)
                .or_default();
            *known = release(&definition);
            *changes += 1;
        });
    }

    fn delete(&self, key: &ObjectKey) {
        self.0.send_modify(|installed| {
            installed.get_or_insert_default().remove(&key.name);
        });
    }
}

/// The name of the CRD of a kind.
pub(super) fn name<K: Resource<DynamicType = ()>>() -> String {
    format!("{}.{}", K::plural(&()), K::group(&()))
}

fn release(definition: &Definition) -> Option<String> {
    definition.annotations().get(BUNDLE_VERSION).cloned()
}
