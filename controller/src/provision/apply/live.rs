//! What was made for Gateways, as it is at the API server: watched by label.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    marker::PhantomData,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment},
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Service, ServiceAccount},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource, runtime::watcher};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;
use tokio::{sync::Notify, task::JoinSet};

use super::{
    super::{
        labels::{MANAGED_BY, OURS},
        object::Kind,
        owner,
    },
    takeover::is_as_created,
};
use crate::{
    metrics::Metrics,
    resources::ObjectKey,
    watch::{Backoff, Sink, Version, delegate_resource, follow, pause},
};

/// A kind, and the namespace and name of an object.
pub(super) type Target = (Kind, ObjectKey);

/// An object as it is.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) metadata: ObjectMeta,
    /// The whole of it, without managed fields.
    pub(super) body: Value,
    /// Whether what we said when we created it has not been taken over yet.
    pub(super) is_as_created: bool,
}

impl Live {
    /// UID of the object that it was made for.
    pub(super) fn owner(&self) -> Option<&str> {
        owner::controller(&self.metadata)
    }

    /// UID of the object itself.
    pub(super) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn version(&self) -> Version {
        Version::of(&self.metadata)
    }
}

impl<'de> Deserialize<'de> for Live {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut body = Value::deserialize(deserializer)?;
        let metadata = body["metadata"].as_object_mut();
        let fields = metadata.and_then(|metadata| metadata.remove("managedFields"));
        let metadata = ObjectMeta::deserialize(&body["metadata"]).map_err(D::Error::custom)?;
        Ok(Self {
            metadata,
            body,
            is_as_created: fields.is_some_and(|fields| is_as_created(&fields)),
        })
    }
}

/// An object of the kind `K`.
struct Typed<K>(Live, PhantomData<K>);

impl<K> Clone for Typed<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<K> fmt::Debug for Typed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, K> Deserialize<'de> for Typed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Live::deserialize(deserializer).map(|live| Self(live, PhantomData))
    }
}

delegate_resource!(Typed, it => &it.0.metadata, &mut it.0.metadata);

/// Everything that carries our label.
#[derive(Debug, Default)]
pub(super) struct LiveObjects {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Target, Arc<Live>>,
    /// Kinds that have been listed.
    known: BTreeSet<Kind>,
    /// What has changed since it was asked for last.
    touched: BTreeSet<Target>,
}

impl LiveObjects {
    /// Watches everything that carries our label, in tasks of their own.
    pub(super) fn watch(
        client: &Client,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let live = Arc::new(Self::default());
        live.watch_kind::<ServiceAccount>(Kind::ServiceAccount, client, metrics, tasks);
        live.watch_kind::<Service>(Kind::Service, client, metrics, tasks);
        live.watch_kind::<Deployment>(Kind::Deployment, client, metrics, tasks);
        live.watch_kind::<DaemonSet>(Kind::DaemonSet, client, metrics, tasks);
        live.watch_kind::<PodDisruptionBudget>(Kind::PodDisruptionBudget, client, metrics, tasks);
        live.watch_kind::<HorizontalPodAutoscaler>(
            Kind::HorizontalPodAutoscaler,
            client,
            metrics,
            tasks,
        );
        live
    }

    fn watch_kind<K>(
        self: &Arc<Self>,
        kind: Kind,
        client: &Client,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) where
        K: Resource<DynamicType = ()> + Send + 'static,
    {
        let sink = OfKind(Arc::clone(self), kind);
        let (client, metrics) = (client.clone(), Arc::clone(metrics));
        tasks.spawn(async move {
            let mut backoff = Backoff::default();
            loop {
                let api = Api::<Typed<K>>::all(client.clone());
                let ours = watcher::Config::default().labels(&format!("{MANAGED_BY}={OURS}"));
                let ended = follow(api, kind.name(), ours, &sink, &metrics, &mut backoff).await;
                pause(kind.name(), ended, &mut backoff).await;
            }
        });
    }

    /// Waits until something has changed since the last call. For one caller.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether every kind has been listed: what is not here by then is not there.
    pub(super) fn known(&self) -> bool {
        self.lock().known.len() == Kind::ALL.len()
    }

    /// What has changed since the last call.
    pub(super) fn take_touched(&self) -> BTreeSet<Target> {
        mem::take(&mut self.lock().touched)
    }

    /// Everything there is.
    pub(super) fn targets(&self) -> Vec<Target> {
        self.lock().objects.keys().cloned().collect()
    }

    /// An object, if it is there.
    pub(super) fn get(&self, target: &Target) -> Option<Arc<Live>> {
        self.lock().objects.get(target).cloned()
    }

    /// An object as a write gave it: sooner than the watch does. Of one that the watch does not know of, or not any more, it
    /// has the last word.
    pub(super) fn record(&self, target: &Target, live: Live) {
        let mut state = self.lock();
        let known = state.objects.get(target);
        if known.is_some_and(|known| known.uid() == live.uid()) {
            state.put(target.clone(), live);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if the watch had told of it.
    #[cfg(test)]
    pub(super) fn add(&self, kind: Kind, live: Live) {
        let key = ObjectKey::new(
            live.metadata.namespace.as_deref().unwrap_or_default(),
            live.metadata.name.as_deref().unwrap_or_default(),
        );
        self.lock().put((kind, key), live);
    }
}

impl State {
    /// Keeps the newer one, unless it is another object of the same name.
    fn put(&mut self, target: Target, live: Live) {
        let known = self.objects.get(&target);
        if known.is_some_and(|it| it.uid() == live.uid() && it.version() >= live.version()) {
            return;
        }
        self.objects.insert(target, Arc::new(live));
    }
}

/// Keeps the objects of one kind.
struct OfKind(Arc<LiveObjects>, Kind);

impl OfKind {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock());
        self.0.changed.notify_one();
    }
}

impl<K> Sink<Typed<K>> for OfKind {
    fn replace(&self, all: BTreeMap<ObjectKey, Typed<K>>) {
        self.change(|state| {
            let gone: Vec<_> = state
                .objects
                .keys()
                .filter(|(kind, key)| *kind == self.1 && !all.contains_key(key))
                .cloned()
                .collect();
            for target in gone {
                state.objects.remove(&target);
                state.touched.insert(target);
            }
            for (key, object) in all {
                state.touched.insert((self.1, key.clone()));
                state.put((self.1, key), object.0);
            }
            state.known.insert(self.1);
        });
    }

    fn apply(&self, key: ObjectKey, object: Typed<K>) {
        self.change(|state| {
            state.touched.insert((self.1, key.clone()));
            state.put((self.1, key), object.0);
        });
    }

    fn delete(&self, key: &ObjectKey) {
        self.change(|state| {
            let target = (self.1, key.clone());
            state.objects.remove(&target);
            state.touched.insert(target);
        });
    }
}
