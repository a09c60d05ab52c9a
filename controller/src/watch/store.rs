//! Everything that is known of the cluster: one consistent snapshot at a time, and only once all of it is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tokio::sync::{Notify, watch};

use super::{
    follow::{Unreadable, remedy},
    issuer,
    kind::{self, Kind, Referenced},
    object::{AtVersion, Version, Watched},
    referenced::{Contents, References},
    state::{Known, State},
};
use crate::{
    metrics::Metrics,
    resources::{NotRead, ObjectKey, Redacted, Resources},
    translate::{InstalledApi, Obstacle, TokenIssuer, Unread, has_egress_gateway},
    writer::wait_until,
};

/// An object with a status of the Gateway API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StatusTarget {
    /// Kind, such as `HTTPRoute`.
    pub(crate) kind: &'static str,
    /// Namespace and name.
    pub(crate) key: ObjectKey,
}

/// The status that an object has at the API server.
#[derive(Clone, Debug)]
pub(crate) struct SeenStatus {
    /// The object's version.
    pub(crate) version: Version,
    /// JSON.
    pub(crate) status: Arc<str>,
}

/// Everything that a translation reads, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The objects.
    pub resources: Resources,
    /// What of the Gateway API is installed.
    pub installed: InstalledApi,
    /// Who issues tokens of service accounts, or why that is not known; `None` while nobody needs to know.
    pub token_issuer: Option<Result<TokenIssuer, String>>,
}

/// The objects of the cluster, kept up to date by watches.
#[derive(Debug)]
pub struct ResourceStore {
    controller_name: String,
    state: Mutex<State>,
    /// Something that a translation reads has changed.
    changed: Notify,
    /// The status of some object has changed.
    statuses_changed: Notify,
    /// There are objects to be read by reference.
    unread: watch::Sender<()>,
    /// Whether egress Gateways are served.
    serves_egress: bool,
    /// Kinds that matter only while there is an egress Gateway.
    for_egress: Vec<&'static str>,
    /// Whether there is one.
    egress: watch::Sender<bool>,
    metrics: Arc<Metrics>,
}

impl ResourceStore {
    /// A store that waits for all of these kinds; for some only while there is an egress Gateway. Without such a list none is served.
    pub(super) fn new(
        controller_name: String,
        kinds: impl Iterator<Item = &'static str>,
        for_egress: Option<Vec<&'static str>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let state = State {
            kinds: kinds.map(|kind| (kind, Known::Nothing)).collect(),
            ..State::default()
        };
        Self {
            controller_name,
            state: Mutex::new(state),
            changed: Notify::new(),
            statuses_changed: Notify::new(),
            unread: watch::channel(()).0,
            serves_egress: for_egress.is_some(),
            for_egress: for_egress.unwrap_or_default(),
            egress: watch::channel(false).0,
            metrics,
        }
    }

    /// Waits until something that a translation reads has changed since the last call, or the snapshot has waited long enough for what
    /// cannot be read. For one caller.
    pub async fn changed(&self) {
        let waits_until = self.lock().waits_until;
        tokio::select! {
            () = self.changed.notified() => {}
            () = wait_until(waits_until) => {}
        }
    }

    /// A consistent snapshot; `None` while a kind has not been listed yet, and for a while if an object that is referred to
    /// has never been read. It says which objects these are, and which kinds are missing that only egress Gateways go by.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let mut state = self.lock();
        let unknown = self.unknown(&state, true);
        if !unknown.iter().all(|kind| self.is_of_egress(kind)) {
            return None;
        }
        let egress =
            self.serves_egress && has_egress_gateway(&state.resources, &self.controller_name);
        self.egress
            .send_if_modified(|before| mem::replace(before, egress) != egress);
        // Only tables of egress wait for what nothing else goes by; routes may name entries.
        let pending: BTreeSet<_> = unknown.into_iter().filter(|_| egress).collect();
        if !pending.iter().all(|kind| self.for_egress.contains(kind)) {
            return None;
        }
        let references = References::of(&state.resources, &self.controller_name);
        state.want::<Redacted<Secret>>(&references.secrets);
        state.want::<ConfigMap>(&references.config_maps);
        if state.contents.values().any(Contents::has_unread) {
            self.unread.send_replace(());
        }
        if state.waits() {
            return None;
        }
        Some(Snapshot {
            resources: Resources {
                not_read: state.not_read(),
                ..state.resources.clone()
            },
            installed: InstalledApi {
                unread: state.unread.clone(),
                pending,
                ..state.installed.clone()
            },
            token_issuer: state.token_issuer.clone(),
        })
    }

    /// The kinds that have not been listed yet.
    pub fn unknown_kinds(&self) -> Vec<&'static str> {
        self.unknown(&self.lock(), *self.egress.borrow())
    }

    fn unknown(&self, state: &State, egress: bool) -> Vec<&'static str> {
        let unknown = state
            .kinds
            .iter()
            .filter(|(_, known)| **known == Known::Nothing);
        unknown
            .map(|(kind, _)| *kind)
            .filter(|kind| egress || !self.for_egress.contains(kind))
            .collect()
    }

    /// Whether nothing but egress goes by a kind.
    fn is_of_egress(&self, kind: &str) -> bool {
        kind::is_of_egress(kind) || self.for_egress.contains(&kind)
    }

    /// Whether there is an egress Gateway, as it changes.
    pub(super) fn egress(&self) -> watch::Receiver<bool> {
        self.egress.subscribe()
    }

    /// Waits until the status of some object has changed since the last call. For one caller.
    pub(crate) async fn statuses_changed(&self) {
        self.statuses_changed.notified().await;
    }

    /// The statuses that have changed since the last call.
    pub(crate) fn take_touched(&self) -> BTreeSet<StatusTarget> {
        mem::take(&mut self.lock().touched)
    }

    /// Every object with a status.
    pub(crate) fn status_targets(&self) -> Vec<StatusTarget> {
        self.lock().statuses.keys().cloned().collect()
    }

    /// The status of an object, as far as it is known.
    pub(crate) fn status(&self, target: &StatusTarget) -> Option<SeenStatus> {
        self.lock().statuses.get(target).cloned()
    }

    /// An object's status as a write or a read gave it: sooner than the watch does.
    pub(crate) fn record_status(&self, target: &StatusTarget, seen: SeenStatus) {
        if let Some(status) = self.lock().statuses.get_mut(target)
            && status.version < seen.version
        {
            *status = seen;
        }
    }

    /// What of the Gateway API is installed.
    pub(super) fn set_installed(&self, installed: InstalledApi) {
        let mut state = self.lock();
        if state.installed != installed {
            state.installed = installed;
            self.changed.notify_one();
        }
    }

    /// Who issues tokens of service accounts.
    pub(super) fn set_issuer(&self, issuer: TokenIssuer) {
        self.tell_issuer(&mut self.lock(), Ok(issuer));
    }

    /// It is not known who issues tokens of service accounts, unless it was before.
    pub(super) fn no_issuer(&self, why: String) {
        let mut state = self.lock();
        if !matches!(state.token_issuer, Some(Ok(_))) {
            self.tell_issuer(&mut state, Err(why));
        }
    }

    /// Nobody asks any more.
    pub(super) fn forget_issuer(&self) {
        let mut state = self.lock();
        state.token_issuer = None;
        state.kinds.insert(issuer::NAME, Known::Nothing);
        self.changed.notify_one();
    }

    fn tell_issuer(&self, state: &mut State, issuer: Result<TokenIssuer, String>) {
        let issuer = Some(issuer);
        let before = state.kinds.insert(issuer::NAME, Known::Read);
        if state.token_issuer != issuer || before != Some(Known::Read) {
            state.token_issuer = issuer;
            self.changed.notify_one();
        }
    }

    /// The version that a kind is asked for at; that of its type unless something else was said.
    pub(crate) fn version(&self, kind: &str) -> AtVersion {
        let versions = &self.lock().versions;
        versions.get(kind).copied().unwrap_or_default()
    }

    /// From now on a kind is asked for at this version.
    pub(super) fn set_version<K: Kind>(&self, version: AtVersion) {
        self.lock().versions.insert(K::NAME, version);
    }

    /// A kind that nobody follows any more: what was known of it is not true for long.
    pub(super) fn forget<K: Kind>(&self) {
        let mut state = self.lock();
        K::objects(&mut state.resources).clear();
        state.kinds.insert(K::NAME, Known::Nothing);
        state.unread.remove(K::NAME);
        self.metrics.unreadable(K::NAME, false);
        self.changed.notify_one();
    }

    /// A kind cannot be read. Returns whether all else goes on: what was known of it before stays in force then, unless it says who calls and
    /// may not be read.
    pub(super) fn set_unreadable<K: Kind>(
        &self,
        Unreadable { obstacle, why }: &Unreadable,
    ) -> bool {
        let mut state = self.lock();
        let known = state.known::<K>();
        let goes_on = state.goes_on_without::<K>(*obstacle);
        // A watch of what was read may go on where it was, and nobody would tell that it does.
        if goes_on || known == Known::Nothing {
            self.metrics.unreadable(K::NAME, true);
        }
        if !goes_on {
            return false;
        }
        let was_known = known == Known::Read;
        let unread = Unread {
            obstacle: *obstacle,
            is_known: was_known && !(K::IDENTIFIES && *obstacle == Obstacle::Refused),
            why: why.clone(),
        };
        let before = state.unread.get(K::NAME);
        // Each try may be told of in other words.
        if before.is_some_and(|before| before.is_alike(&unread)) {
            return true;
        }
        tracing::error!(
            kind = K::NAME,
            why,
            "cannot be read; what goes by it goes by what is known, or stands still{}",
            remedy(*obstacle)
        );
        if !unread.is_known {
            K::objects(&mut state.resources).clear();
            state.kinds.insert(K::NAME, Known::Unreadable);
        }
        state.unread.insert(K::NAME, unread);
        self.changed.notify_one();
        true
    }

    /// Whether a kind cannot be read now, as [`Self::set_unreadable`] was told.
    pub(super) fn is_unreadable<K: Kind>(&self) -> bool {
        self.lock().unread.contains_key(K::NAME)
    }

    /// A kind whose CRD is not installed: it has no objects, and that is known.
    pub(super) fn not_installed<K: Kind>(&self) {
        self.set::<K>(BTreeMap::new(), Known::NotInstalled);
    }

    /// A kind whose CRD is that of an earlier release, which has it in other versions only: unless it was known before, it has no
    /// objects. What was said of it while it might not be asked for is not true any more.
    pub(super) fn not_served<K: Kind>(&self) {
        let mut state = self.lock();
        let known = match state.known::<K>() {
            known @ (Known::Read | Known::NotInstalled) => known,
            Known::Nothing | Known::Unreadable => {
                tracing::warn!(
                    kind = K::NAME,
                    "the CRD is there, without the version that is read"
                );
                Known::NotInstalled
            }
        };
        self.learn::<K>(&mut state, known);
    }

    /// All objects of a kind, as a list gave them.
    pub(super) fn replace<K: Kind>(&self, objects: BTreeMap<ObjectKey, Watched<K>>) {
        self.set(objects, Known::Read);
    }

    /// The same of a kind that cannot be watched.
    pub(super) fn renew<K: Kind>(&self, objects: BTreeMap<ObjectKey, Watched<K>>) {
        let mut state = self.lock();
        self.put_all(&mut state, objects);
        self.learn_of_list::<K>(&mut state);
    }

    fn set<K: Kind>(&self, objects: BTreeMap<ObjectKey, Watched<K>>, known: Known) {
        let mut state = self.lock();
        self.put_all(&mut state, objects);
        self.learn::<K>(&mut state, known);
    }

    fn put_all<K: Kind>(&self, state: &mut State, objects: BTreeMap<ObjectKey, Watched<K>>) {
        let gone = |key: &ObjectKey| !objects.contains_key(key);
        let gone: Vec<_> = K::objects(&mut state.resources)
            .keys()
            .filter(|key| gone(key))
            .cloned()
            .collect();
        for key in &gone {
            self.remove::<K>(state, key);
        }
        for (key, object) in objects {
            self.put(state, key, object);
        }
    }

    /// An object that is new or has changed.
    pub(super) fn apply<K: Kind>(&self, key: ObjectKey, object: Watched<K>) {
        self.put(&mut self.lock(), key, object);
    }

    /// An object that is gone.
    pub(super) fn delete<K: Kind>(&self, key: &ObjectKey) {
        self.remove::<K>(&mut self.lock(), key);
    }

    /// Every object of a kind that is read by reference.
    pub(super) fn replace_versions<K: Referenced>(&self, versions: BTreeMap<ObjectKey, Version>) {
        let mut state = self.lock();
        self.put_versions::<K>(&mut state, versions);
        self.learn::<K>(&mut state, Known::Read);
    }

    /// The same of a kind that cannot be watched.
    pub(super) fn renew_versions<K: Referenced>(&self, versions: BTreeMap<ObjectKey, Version>) {
        let mut state = self.lock();
        self.put_versions::<K>(&mut state, versions);
        self.learn_of_list::<K>(&mut state);
    }

    fn put_versions<K: Referenced>(
        &self,
        state: &mut State,
        versions: BTreeMap<ObjectKey, Version>,
    ) {
        for key in state.contents::<K>().replace(versions) {
            K::objects(&mut state.resources).remove(&key);
        }
        self.changed.notify_one();
        self.unread.send_replace(());
    }

    /// An object of such a kind that is new or has changed.
    pub(super) fn apply_version<K: Referenced>(&self, key: ObjectKey, version: Version) {
        let mut state = self.lock();
        state.contents::<K>().exists(key, version);
        if state.contents::<K>().has_unread() {
            self.unread.send_replace(());
        }
    }

    /// An object of such a kind that is gone.
    pub(super) fn delete_version<K: Referenced>(&self, key: &ObjectKey) {
        let mut state = self.lock();
        state.contents::<K>().gone(key);
        if K::objects(&mut state.resources).remove(key).is_some() {
            self.changed.notify_one();
        }
    }

    /// Changes whenever there may be objects to read.
    pub(super) fn unread(&self) -> watch::Receiver<()> {
        self.unread.subscribe()
    }

    /// Takes the objects of such a kind that have to be read now.
    pub(super) fn take_unread<K: Referenced>(&self) -> Vec<ObjectKey> {
        self.lock().contents::<K>().take_unread()
    }

    /// An object of such a kind was read; `None` if it is not there any more.
    pub(super) fn read<K: Referenced>(&self, key: &ObjectKey, object: Option<Watched<K>>) {
        let mut state = self.lock();
        let version = object.as_ref().map(Watched::version);
        if state.contents::<K>().read(key, version) {
            match object {
                Some(object) => self.put(&mut state, key.clone(), object),
                None => drop(K::objects(&mut state.resources).remove(key)),
            }
        }
        self.changed.notify_one();
    }

    /// An object of such a kind could not be read. Returns whether to try again.
    pub(super) fn unreadable<K: Referenced>(&self, key: &ObjectKey, how: NotRead) -> bool {
        let again = self.lock().contents::<K>().failed(key, how);
        self.changed.notify_one();
        again
    }

    /// A kind that can be read, or is not there.
    fn learn<K: Kind>(&self, state: &mut State, known: Known) {
        self.metrics.unreadable(K::NAME, false);
        let before = state.kinds.insert(K::NAME, known).unwrap_or_default();
        if state.unread.remove(K::NAME).is_some() || before == Known::Nothing {
            self.changed.notify_one();
        }
    }

    /// A kind that was listed, but cannot be watched: it is known then, and told as before.
    fn learn_of_list<K: Kind>(&self, state: &mut State) {
        let unread = state.unread.get_mut(K::NAME);
        if unread.is_some_and(|unread| !mem::replace(&mut unread.is_known, true)) {
            state.kinds.insert(K::NAME, Known::Read);
            self.changed.notify_one();
        }
    }

    fn put<K: Kind>(&self, state: &mut State, key: ObjectKey, watched: Watched<K>) {
        if K::WRITTEN {
            self.see(state, K::NAME, &key, &watched);
        }
        let objects = K::objects(&mut state.resources);
        match watched.object {
            Ok(object) => {
                if objects.get(&key) != Some(&object) {
                    objects.insert(key, object);
                    self.tell_of::<K>();
                }
            }
            // What it was before stays in force.
            Err(error) => {
                tracing::warn!(kind = K::NAME, object = %key, %error, "an object cannot be read");
            }
        }
    }

    fn remove<K: Kind>(&self, state: &mut State, key: &ObjectKey) {
        let target = StatusTarget {
            kind: K::NAME,
            key: key.clone(),
        };
        state.statuses.remove(&target);
        if K::objects(&mut state.resources).remove(key).is_some() {
            self.tell_of::<K>();
        }
    }

    /// An object of this kind has changed. Without an egress Gateway nobody goes by what only such Gateways need.
    fn tell_of<K: Kind>(&self) {
        if *self.egress.borrow() || !self.for_egress.contains(&K::NAME) {
            self.changed.notify_one();
        }
    }

    fn see<K: Kind>(
        &self,
        state: &mut State,
        kind: &'static str,
        key: &ObjectKey,
        watched: &Watched<K>,
    ) {
        let target = StatusTarget {
            kind,
            key: key.clone(),
        };
        let version = watched.version();
        let known = state.statuses.get(&target);
        // The answer to a write is known before the watch tells of it.
        if known.is_some_and(|known| known.version >= version) {
            return;
        }
        let seen = SeenStatus {
            version,
            status: Arc::clone(&watched.status),
        };
        state.statuses.insert(target.clone(), seen);
        state.touched.insert(target);
        self.statuses_changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl ResourceStore {
    /// A store that waits for these kinds.
    pub(super) fn of_kinds(kinds: &[&'static str]) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let kinds = kinds.iter().copied();
        Self::new(String::new(), kinds, Some(Vec::new()), metrics)
    }

    /// A store that knows the status of one object, whose kind is asked for at `version`.
    pub(crate) fn with_status(target: StatusTarget, seen: SeenStatus, version: AtVersion) -> Self {
        let store = Self::of_kinds(&[]);
        let mut state = store.lock();
        state.versions.insert(target.kind, version);
        state.statuses.insert(target, seen);
        drop(state);
        store
    }

    /// A store that waits for the issuer of tokens alone.
    pub(super) fn for_issuer() -> Self {
        Self::of_kinds(&[issuer::NAME])
    }

    /// Who issues tokens of service accounts, or why that is not known.
    pub(super) fn issuer(&self) -> Option<Result<TokenIssuer, String>> {
        self.lock().token_issuer.clone()
    }
}
