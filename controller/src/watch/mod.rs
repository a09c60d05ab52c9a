//! The watches of the API server, and the store that they fill.
//!
//! One task per kind. A kind whose CRD is not installed has no objects; it is watched as soon as its CRD appears. Pods and
//! nodes are watched only while there is an egress Gateway, and so are the keys of service accounts.

mod backoff;
mod crds;
mod delegate;
mod follow;
mod issuer;
mod kind;
mod object;
mod reader;
mod referenced;
mod store;

use std::{collections::BTreeMap, sync::Arc};

use kube::{Api, Client, core::PartialObjectMeta, runtime::watcher::Config};
use tokio::{sync::watch::Receiver, task::JoinSet};

pub(crate) use self::{
    backoff::Backoff,
    delegate::delegate_resource,
    follow::{Sink, follow, why, why_watch_failed},
    object::{AtVersion, Version, Watched},
    store::{SeenStatus, StatusTarget},
};
use self::{
    crds::Crds,
    follow::Ended,
    kind::{Kind, Referenced},
};
pub use self::{
    referenced::References,
    store::{ResourceStore, Snapshot},
};
use crate::{metrics::Metrics, resources::ObjectKey};

/// Watches everything that a translation for `controller_name` reads, in tasks of their own.
pub(crate) fn watch(
    client: &Client,
    controller_name: &str,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
) -> Arc<ResourceStore> {
    let store = Arc::new(ResourceStore::new(
        controller_name.to_owned(),
        kind::NAMES.iter().copied().chain([issuer::NAME]),
        kind::names_for_egress()
            .into_iter()
            .chain([issuer::NAME])
            .collect(),
    ));
    let crds = Crds::new();
    tasks.spawn(crds.clone().watch(client.clone(), Arc::clone(metrics)));
    tasks.spawn(issuer::follow(
        client.clone(),
        Arc::clone(&store),
        Arc::clone(metrics),
    ));
    let mut watches = Watches {
        client: client.clone(),
        store: Arc::clone(&store),
        metrics: Arc::clone(metrics),
        crds: crds.clone(),
        custom: Vec::new(),
        tasks,
    };
    kind::watch_all(&mut watches);
    let custom = watches.custom;
    tasks.spawn(crds.tell(Arc::clone(&store), custom));
    store
}

/// What starting a watch needs.
struct Watches<'a> {
    client: Client,
    store: Arc<ResourceStore>,
    metrics: Arc<Metrics>,
    crds: Crds,
    /// Kinds that need a CRD, and its name.
    custom: Vec<(&'static str, String)>,
    tasks: &'a mut JoinSet<()>,
}

impl Watches<'_> {
    /// Watches a kind that every cluster has.
    fn built_in<K: Kind>(&mut self) {
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        let objects = Whole(Arc::clone(&self.store));
        self.tasks.spawn(async move {
            let mut backoff = Backoff::default();
            loop {
                let api = Api::<Watched<K>>::all(client.clone());
                let ended = follow(
                    api,
                    K::NAME,
                    Config::default(),
                    &objects,
                    &metrics,
                    &mut backoff,
                )
                .await;
                pause(K::NAME, ended, &mut backoff).await;
            }
        });
    }

    /// Watches a kind that every cluster has, while there is an egress Gateway.
    fn for_egress<K: Kind>(&mut self) {
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        let store = Arc::clone(&self.store);
        self.tasks.spawn(async move {
            let objects = WhereAllowed(Whole(Arc::clone(&store)));
            let mut egress = store.egress();
            let mut backoff = Backoff::default();
            while is(&mut egress, true).await {
                let api = Api::<Watched<K>>::all(client.clone());
                let config = Config::default();
                tokio::select! {
                    ended = follow(api, K::NAME, config, &objects, &metrics, &mut backoff) => {
                        pause(K::NAME, ended, &mut backoff).await;
                    }
                    _ = is(&mut egress, false) => {
                        store.forget::<K>();
                        backoff.reset();
                    }
                }
            }
        });
    }

    /// Watches a kind once its CRD is installed, at the first of its versions that is served.
    fn custom<K: Kind>(&mut self) {
        self.custom.push((K::NAME, crds::name::<K>()));
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        let (crds, store) = (self.crds.clone(), Arc::clone(&self.store));
        self.tasks.spawn(async move {
            let objects = Whole(Arc::clone(&store));
            let mut backoff = Backoff::default();
            let mut version = 0;
            loop {
                let mut told = false;
                let missing = || {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(kind = K::NAME, "the CRD is not installed; waiting for it");
                    }
                    store.not_installed::<K>();
                };
                crds.installed::<K>(missing).await;
                let at = AtVersion(K::VERSIONS.get(version).copied());
                store.set_version::<K>(at);
                let api = Api::<Watched<K>>::all_with(client.clone(), &at);
                let ended = follow(
                    api,
                    K::NAME,
                    Config::default(),
                    &objects,
                    &metrics,
                    &mut backoff,
                )
                .await;
                if ended == Ended::NotFound {
                    version = (version + 1) % K::VERSIONS.len().max(1);
                }
                tokio::select! {
                    () = pause(K::NAME, ended, &mut backoff) => {}
                    () = crds.changed::<K>() => version = 0,
                }
            }
        });
    }

    /// Watches the metadata of a kind, and reads those objects that others refer to.
    fn by_reference<K: Referenced>(&mut self) {
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        let versions = Versions(Arc::clone(&self.store));
        self.tasks.spawn(async move {
            let mut backoff = Backoff::default();
            loop {
                let api = Api::<PartialObjectMeta<K>>::all(client.clone());
                let ended = follow(
                    api,
                    K::NAME,
                    Config::default(),
                    &versions,
                    &metrics,
                    &mut backoff,
                )
                .await;
                pause(K::NAME, ended, &mut backoff).await;
            }
        });
        self.tasks.spawn(reader::read::<K>(
            self.client.clone(),
            Arc::clone(&self.store),
            Arc::clone(&self.metrics),
        ));
    }
}

/// Waits until it is so; returns false if it never will be.
async fn is(it: &mut Receiver<bool>, so: bool) -> bool {
    it.wait_for(|it| *it == so).await.is_ok()
}

/// Before a watch begins anew.
pub(crate) async fn pause(kind: &'static str, ended: Ended, backoff: &mut Backoff) {
    let wait = backoff.wait();
    tracing::debug!(kind, ?ended, ?wait, "a watch begins anew");
    tokio::time::sleep(wait).await;
}

/// Keeps objects as they are.
struct Whole(Arc<ResourceStore>);

impl<K: Kind> Sink<Watched<K>> for Whole {
    fn replace(&self, all: BTreeMap<ObjectKey, Watched<K>>) {
        self.0.replace(all);
    }

    fn apply(&self, key: ObjectKey, object: Watched<K>) {
        self.0.apply(key, object);
    }

    fn delete(&self, key: &ObjectKey) {
        self.0.delete::<K>(key);
    }
}

/// As [`Whole`], of a kind that can be done without: where its objects may not be read, it has none.
struct WhereAllowed(Whole);

impl<K: Kind> Sink<Watched<K>> for WhereAllowed {
    fn replace(&self, all: BTreeMap<ObjectKey, Watched<K>>) {
        self.0.replace(all);
        self.0.0.set_refused::<K>(false);
    }

    fn apply(&self, key: ObjectKey, object: Watched<K>) {
        self.0.apply(key, object);
    }

    fn delete(&self, key: &ObjectKey) {
        Sink::<Watched<K>>::delete(&self.0, key);
    }

    fn refused(&self) {
        self.0.0.set_refused::<K>(true);
    }
}

/// Keeps only the versions of objects.
struct Versions(Arc<ResourceStore>);

impl<K: Referenced> Sink<PartialObjectMeta<K>> for Versions {
    fn replace(&self, all: BTreeMap<ObjectKey, PartialObjectMeta<K>>) {
        let versions = all
            .into_iter()
            .map(|(key, object)| (key, Version::of(&object.metadata)));
        self.0.replace_versions::<K>(versions.collect());
    }

    fn apply(&self, key: ObjectKey, object: PartialObjectMeta<K>) {
        self.0
            .apply_version::<K>(key, Version::of(&object.metadata));
    }

    fn delete(&self, key: &ObjectKey) {
        self.0.delete_version::<K>(key);
    }
}
