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
mod state;
mod store;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::{Api, Client, core::PartialObjectMeta, runtime::watcher::Config};
use tokio::{sync::watch::Receiver, task::JoinSet, time::sleep};

pub(crate) use self::{
    backoff::Backoff,
    delegate::delegate_resource,
    follow::{Sink, Unreadable, follow, why, why_watch_failed},
    object::{AtVersion, Version, Watched},
    store::{SeenStatus, StatusTarget},
};
pub use self::{
    backoff::BackoffTimes,
    referenced::References,
    store::{ResourceStore, Snapshot},
};
use self::{
    crds::Crds,
    follow::{Ended, remedy},
    kind::{Kind, Referenced},
};
use crate::{metrics::Metrics, resources::ObjectKey, translate::Obstacle};

/// How long what only egress needs stays known after the last egress Gateway, unless a test is in a hurry. Who makes such a
/// Gateway and deletes it again and again must not have all pods of a cluster listed each time.
pub const LINGER: Duration = Duration::from_mins(5);

/// What is watched, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchOptions {
    /// Whether what only egress needs is watched at all.
    pub(crate) egress: bool,
    /// How long what only egress needs stays known after the last egress Gateway.
    pub(crate) linger: Duration,
    pub(crate) backoff: BackoffTimes,
}

/// Watches everything that a translation for `controller_name` reads, in tasks of their own.
pub(crate) fn watch(
    client: &Client,
    controller_name: &str,
    options: WatchOptions,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
) -> Arc<ResourceStore> {
    let WatchOptions {
        egress,
        linger,
        backoff: times,
    } = options;
    let kinds = kind::NAMES.iter().copied().chain([issuer::NAME]);
    let is_watched = |kind: &&str| egress || !(kind::is_of_egress(kind) || *kind == issuer::NAME);
    let for_egress = kind::names_for_egress().into_iter().chain([issuer::NAME]);
    let store = Arc::new(ResourceStore::new(
        controller_name.to_owned(),
        kinds.filter(is_watched),
        egress.then(|| for_egress.collect()),
        Arc::clone(metrics),
    ));
    let crds = Crds::new();
    let definitions = crds.clone();
    tasks.spawn(definitions.watch(client.clone(), Arc::clone(metrics), times));
    if egress {
        tasks.spawn(issuer::follow(
            client.clone(),
            Arc::clone(&store),
            linger,
            times,
            Arc::clone(metrics),
        ));
    }
    let mut watches = Watches {
        client: client.clone(),
        store: Arc::clone(&store),
        metrics: Arc::clone(metrics),
        crds: crds.clone(),
        egress,
        linger,
        times,
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
    egress: bool,
    linger: Duration,
    times: BackoffTimes,
    /// Kinds that need a CRD, and its name.
    custom: Vec<(&'static str, String)>,
    tasks: &'a mut JoinSet<()>,
}

impl Watches<'_> {
    /// Watches a kind that every cluster has.
    fn built_in<K: Kind>(&mut self) {
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        let objects = Whole(Arc::clone(&self.store));
        let mut backoff = Backoff::new(self.times);
        self.tasks.spawn(async move {
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

    /// Watches a kind that every cluster has, while there is an egress Gateway and a while longer.
    fn for_egress<K: Kind>(&mut self) {
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        let (store, linger) = (Arc::clone(&self.store), self.linger);
        let mut backoff = Backoff::new(self.times);
        self.tasks.spawn(async move {
            let objects = Whole(Arc::clone(&store));
            let (mut egress, mut over) = (store.egress(), store.egress());
            while is(&mut egress, true).await {
                let watched = async {
                    loop {
                        let api = Api::<Watched<K>>::all(client.clone());
                        let config = Config::default();
                        let ended =
                            follow(api, K::NAME, config, &objects, &metrics, &mut backoff).await;
                        if ended == Ended::NotFound {
                            not_found::<K>(&objects, &backoff);
                        }
                        pause(K::NAME, ended, &mut backoff).await;
                    }
                };
                tokio::select! {
                    () = watched => {}
                    () = is_over(&mut over, linger) => {}
                }
                store.forget::<K>();
                backoff.reset();
            }
        });
    }

    /// Watches a kind once its CRD is installed, at the first of its versions that is served.
    fn custom<K: Kind>(&mut self) {
        self.custom.push((K::NAME, crds::name::<K>()));
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        let (crds, store) = (self.crds.clone(), Arc::clone(&self.store));
        let mut backoff = Backoff::new(self.times);
        self.tasks.spawn(async move {
            let objects = Whole(Arc::clone(&store));
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
                    if backoff.is_lasting() {
                        not_served::<K>(&store);
                    }
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
        let mut backoff = Backoff::new(self.times);
        self.tasks.spawn(async move {
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
            self.times,
        ));
    }
}

/// The versions that a kind is read at.
fn versions_of<K: Kind>() -> String {
    if K::VERSIONS.is_empty() {
        K::version(&()).into_owned()
    } else {
        K::VERSIONS.join(", ")
    }
}

/// Waits until it is so; returns false if it never will be.
async fn is(it: &mut Receiver<bool>, so: bool) -> bool {
    it.wait_for(|it| *it == so).await.is_ok()
}

/// Waits until there has been no egress Gateway for so long.
async fn is_over(egress: &mut Receiver<bool>, linger: Duration) {
    while is(egress, false).await {
        tokio::select! {
            () = sleep(linger) => return,
            _ = is(egress, true) => {}
        }
    }
}

/// Before a watch begins anew.
pub(crate) async fn pause(kind: &'static str, ended: Ended, backoff: &mut Backoff) {
    let wait = backoff.wait();
    tracing::debug!(kind, ?ended, ?wait, "a watch begins anew");
    sleep(wait).await;
}

/// The API server says that it has no such kind. Of one that every release has that is as good as no answer: without Nodes egress
/// would be more open.
fn not_found<K: Kind>(objects: &Whole, backoff: &Backoff) {
    if K::MAY_BE_MISSING {
        objects.0.not_installed::<K>();
    } else if backoff.is_lasting() {
        let why = Unreadable {
            obstacle: Obstacle::Failing,
            why: "the API server says that there is no such kind".to_owned(),
        };
        Sink::<Watched<K>>::unreadable(objects, &why);
    }
}

/// The CRD of a kind is there, but serves no version of it that is read.
fn not_served<K: Kind>(store: &ResourceStore) {
    if K::MAY_BE_MISSING {
        return store.not_served::<K>();
    }
    let why = Unreadable {
        obstacle: Obstacle::NotServed,
        why: format!(
            "its CRD is there, but serves no version that is read here ({})",
            versions_of::<K>()
        ),
    };
    if !store.set_unreadable::<K>(&why) {
        tracing::warn!(
            kind = K::NAME,
            error = why.why,
            "cannot watch; what is known stays in force{}",
            remedy(why.obstacle)
        );
    }
}

/// Keeps objects as they are.
struct Whole(Arc<ResourceStore>);

impl<K: Kind> Sink<Watched<K>> for Whole {
    fn replace(&self, all: BTreeMap<ObjectKey, Watched<K>>) {
        self.0.replace(all);
    }

    fn takes_lists(&self) -> bool {
        !K::IDENTIFIES
    }

    fn renew(&self, all: BTreeMap<ObjectKey, Watched<K>>) {
        self.0.renew(all);
    }

    fn apply(&self, key: ObjectKey, object: Watched<K>) {
        self.0.apply(key, object);
    }

    fn delete(&self, key: &ObjectKey) {
        self.0.delete::<K>(key);
    }

    fn may_be_missing(&self) -> bool {
        K::MAY_BE_MISSING
    }

    fn unreadable(&self, why: &Unreadable) -> bool {
        self.0.set_unreadable::<K>(why)
    }

    fn is_unreadable(&self) -> bool {
        self.0.is_unreadable::<K>()
    }
}

/// Keeps only the versions of objects.
struct Versions(Arc<ResourceStore>);

impl<K: Referenced> Sink<PartialObjectMeta<K>> for Versions {
    fn replace(&self, all: BTreeMap<ObjectKey, PartialObjectMeta<K>>) {
        self.0.replace_versions::<K>(versions(all));
    }

    fn takes_lists(&self) -> bool {
        true
    }

    fn renew(&self, all: BTreeMap<ObjectKey, PartialObjectMeta<K>>) {
        self.0.renew_versions::<K>(versions(all));
    }

    fn apply(&self, key: ObjectKey, object: PartialObjectMeta<K>) {
        self.0
            .apply_version::<K>(key, Version::of(&object.metadata));
    }

    fn delete(&self, key: &ObjectKey) {
        self.0.delete_version::<K>(key);
    }

    fn unreadable(&self, why: &Unreadable) -> bool {
        self.0.set_unreadable::<K>(why)
    }

    fn is_unreadable(&self) -> bool {
        self.0.is_unreadable::<K>()
    }
}

fn versions<K>(all: BTreeMap<ObjectKey, PartialObjectMeta<K>>) -> BTreeMap<ObjectKey, Version> {
    let all = all.into_iter();
    all.map(|(key, object)| (key, Version::of(&object.metadata)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use gateway_api::apis::experimental::httproutes::HttpRoute;
    use http::{Request, Response};
    use kube::client::Body;
    use portcullis_crds::EgressPolicy;
    use tokio::{sync::watch::channel, time::timeout};
    use tower::service_fn;

    use super::*;

    /// An API server that fails for ever.
    fn broken() -> Client {
        let fail = |_: Request<Body>| async {
            let mut response = Response::new(Body::from(b"broken".to_vec()));
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            Ok::<_, Infallible>(response)
        };
        Client::new(service_fn(fail), "default")
    }

    /// Watches one kind for an hour, and gives what is known of it then.
    async fn watched<K: Kind>() -> (bool, Option<Snapshot>) {
        let store = Arc::new(ResourceStore::of_kinds(&[K::NAME]));
        let (objects, metrics) = (Whole(Arc::clone(&store)), Metrics::new().unwrap());
        let mut backoff = Backoff::default();
        let api = Api::<Watched<K>>::all(broken());
        let config = Config::default();
        let watch = follow(api, K::NAME, config, &objects, &metrics, &mut backoff);
        let ended = timeout(Duration::from_hours(1), watch).await;
        (ended == Ok(Ended::Unreadable), store.snapshot())
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_fails_for_one_kind_of_egress_holds_nothing_else_up() {
        let (has_ended, snapshot) = watched::<EgressPolicy>().await;
        let unread = snapshot.unwrap().installed.unread;
        let unread = &unread["EgressPolicy"];
        assert!(
            has_ended && unread.obstacle == Obstacle::Failing && !unread.is_known,
            "{unread:?}"
        );
        let (has_ended, snapshot) = watched::<HttpRoute>().await;
        assert!(!has_ended && snapshot.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_once_there_was_no_egress_gateway_for_long() {
        let linger = Duration::from_mins(5);
        let (egress, mut changes) = channel(true);
        let over = tokio::spawn(async move { is_over(&mut changes, linger).await });
        for there_is_one in [false, true, false, true] {
            egress.send_replace(there_is_one);
            sleep(linger / 2).await;
            assert!(!over.is_finished());
        }
        egress.send_replace(false);
        sleep(linger * 2).await;
        assert!(over.is_finished());
    }
}
