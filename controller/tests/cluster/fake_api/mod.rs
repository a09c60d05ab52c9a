//! A Kubernetes API server in memory, spoken to over a real socket: paged lists, watches with bookmarks and expiry,
//! label selectors, the status subresource, conflicts, server-side apply. It does what it is told to and nothing by itself, so that tests can wait for events
//! instead of times.

mod apply;
mod server;
mod state;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use self::state::{Id, KINDS, Kind, State};

/// Beyond this a test has failed. Nothing waits for so long otherwise.
const PATIENCE: Duration = Duration::from_mins(1);

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) method: String,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// Whether it was for the status subresource.
    pub(crate) status: bool,
    /// HTTP status of the answer.
    pub(crate) code: u16,
    /// The version that a watch begins at.
    pub(crate) from: Option<u64>,
    /// The credentials that it came with: each client has its own.
    pub(crate) client: String,
}

/// The server.
#[derive(Debug)]
pub(crate) struct FakeApi {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Changes with every request and every object.
    changes: watch::Sender<()>,
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.state.lock().unwrap());
        self.changes.send_replace(());
        value
    }
}

impl Shared {
    /// What is served at a path that is no object's.
    fn document(&self, path: &str) -> Option<Value> {
        let found = |state: &mut State| {
            let (document, asked) = state.documents.get_mut(path)?;
            *asked += 1;
            Some(document.clone())
        };
        self.change(found)
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeApi {
    /// An empty cluster without any CRD.
    pub(crate) async fn bare() -> Self {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        // Version 0 has a meaning of its own.
        shared.change(|state| state.version = 1000);
        let server = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Self {
            shared,
            address,
            server,
        }
    }

    /// An empty cluster with all CRDs.
    pub(crate) async fn start() -> Self {
        let api = Self::bare().await;
        for kind in KINDS.iter().filter(|kind| kind.custom) {
            api.install(kind.name);
        }
        api
    }

    /// A client; requests are logged under its name.
    pub(crate) fn client(&self, name: &str) -> Client {
        let mut config = Config::new(format!("http://{}", self.address).parse().unwrap());
        config.auth_info.token = Some(name.to_owned().into());
        Client::try_from(config).unwrap()
    }

    /// A kubeconfig for a client of its own.
    pub(crate) fn kubeconfig(&self, name: &str) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{ "name": "fake", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": name, "user": { "token": name } }],
            "contexts": [{ "name": "fake", "context": { "cluster": "fake", "user": name } }],
        })
        .to_string()
    }

    /// Installs the CRD of a kind.
    pub(crate) fn install(&self, kind: &str) {
        self.create(&json!({
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": Kind::named(kind).crd(),
                "annotations": { "gateway.networking.k8s.io/bundle-version": "v1.7.0" },
            },
        }));
    }

    /// From now on a kind is not served at this version.
    pub(crate) fn withdraw(&self, kind: &str, version: &str) {
        let kind = Kind::named(kind).name;
        self.shared
            .change(|state| state.withdrawn.insert((kind, version.to_owned())));
    }

    /// Creates the objects of some YAML documents.
    pub(crate) fn apply(&self, yaml: &str) {
        for document in yaml.split("\n---\n") {
            self.create(&serde_saphyr::from_str(document).unwrap());
        }
    }

    /// Creates an object.
    pub(crate) fn create(&self, object: &Value) {
        let id = id(object);
        self.shared
            .change(|state| state.create(id, object.clone()))
            .unwrap();
    }

    /// Creates an object right after somebody was told that there is none of its kind and name.
    pub(crate) fn sneak_in(&self, object: &Value) {
        let (id, object) = (id(object), object.clone());
        self.shared
            .change(|state| state.sneaking.insert(id, object));
    }

    /// From now on this is served at a path that is no object's.
    pub(crate) fn serve(&self, path: &str, document: Value) {
        self.shared
            .change(|state| state.documents.insert(path.to_owned(), (document, 0)));
    }

    /// How often what is served at a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let state = self.shared.state.lock().unwrap();
        state.documents.get(path).map_or(0, |(_, asked)| *asked)
    }

    /// Changes an object by a merge patch.
    pub(crate) fn patch(&self, (kind, key): (&str, &str), patch: &Value) {
        let id = id_of(kind, key);
        self.shared.change(|state| {
            let mut object = state.get(&id).unwrap();
            json_patch::merge(&mut object, patch);
            let status = patch.get("status").is_some();
            state.replace(id, status, object).unwrap();
        });
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, (kind, key): (&str, &str)) {
        let id = id_of(kind, key);
        self.shared.change(|state| state.delete(&id)).unwrap();
    }

    /// An object as it is now.
    pub(crate) fn get(&self, (kind, key): (&str, &str)) -> Value {
        let id = id_of(kind, key);
        self.shared
            .state
            .lock()
            .unwrap()
            .get(&id)
            .unwrap_or_default()
    }

    /// Forgets all history: a watch that is behind has expired.
    pub(crate) fn forget_history(&self) {
        self.shared.change(|state| {
            state.version += 1;
            state.oldest = state.version;
            state.events.clear();
        });
    }

    /// From now on watches that have expired end without a word, and are refused with 410 when they begin anew.
    pub(crate) fn refuse_expired(&self) {
        self.shared.change(|state| state.refuses_expired = true);
    }

    /// Ends all watches.
    pub(crate) fn cut_watches(&self) {
        self.shared.change(|state| state.cuts += 1);
    }

    /// The version of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.shared.state.lock().unwrap().version
    }

    /// From now on watches of a kind say nothing.
    pub(crate) fn mute(&self, kind: &str) {
        let kind = Kind::named(kind).name;
        self.shared.change(|state| state.muted.insert(kind));
    }

    /// Watches of a kind say what they have to again.
    pub(crate) fn unmute(&self, kind: &str) {
        let kind = Kind::named(kind).name;
        self.shared.change(|state| state.muted.remove(kind));
    }

    /// From now on lists of a kind are not answered.
    pub(crate) fn hold(&self, kind: &str) {
        let kind = Kind::named(kind).name;
        self.shared.change(|state| state.held.insert(kind));
    }

    /// Lists of a kind are answered again.
    pub(crate) fn release(&self, kind: &str) {
        self.shared.change(|state| state.held.remove(kind));
    }

    /// From now on nobody who asks for a single object of a kind is answered.
    pub(crate) fn hold_reads(&self, kind: &str) {
        let kind = Kind::named(kind).name;
        self.shared.change(|state| state.held_reads.insert(kind));
    }

    /// Whoever asks for a single object of a kind is answered again.
    pub(crate) fn release_reads(&self, kind: &str) {
        let kind = Kind::named(kind).name;
        self.shared.change(|state| state.held_reads.remove(kind));
    }

    /// From now on whoever asks for a single object of a kind is refused.
    pub(crate) fn refuse_reads(&self, kind: &str, code: u16) {
        let kind = Kind::named(kind).name;
        self.shared
            .change(|state| state.refused_reads.insert(kind, (code, "Refused")));
    }

    /// Single objects of a kind are given again.
    pub(crate) fn permit_reads(&self, kind: &str) {
        let kind = Kind::named(kind).name;
        self.shared.change(|state| state.refused_reads.remove(kind));
    }

    /// Refuses the next requests for a kind.
    pub(crate) fn refuse(&self, kind: &str, times: u32, code: u16) {
        let kind = Kind::named(kind).name;
        self.shared
            .change(|state| state.refused.insert(kind, (times, (code, "Refused"))));
    }

    /// From now on a kind may be listed, but not watched.
    pub(crate) fn refuse_watches(&self, kind: &str) {
        let kind = Kind::named(kind).name;
        self.shared
            .change(|state| state.refused_watches.insert(kind));
    }

    /// A kind may be watched again.
    pub(crate) fn permit_watches(&self, kind: &str) {
        let kind = Kind::named(kind).name;
        self.shared
            .change(|state| state.refused_watches.remove(kind));
    }

    /// All requests so far.
    pub(crate) fn log(&self) -> Vec<Logged> {
        self.shared.state.lock().unwrap().log.clone()
    }

    /// How many requests so far were of this sort.
    pub(crate) fn count(&self, mut sort: impl FnMut(&Logged) -> bool) -> usize {
        self.log().iter().filter(|logged| sort(logged)).count()
    }

    /// Waits until this holds. Looks again after every request and every change of an object.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        let wait = async {
            while !holds(self) {
                changes.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let objects = &self.shared.state.lock().unwrap().objects;
            panic!("waited in vain: {what}\n{objects:#?}");
        }
    }
}

fn id(object: &Value) -> Id {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let kind = Kind::named(object["kind"].as_str().expect("an object has a kind"));
    (
        kind.name,
        text(&metadata["namespace"]),
        text(&metadata["name"]),
    )
}

/// `key` is `namespace/name`, or only a name.
fn id_of(kind: &str, key: &str) -> Id {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    (Kind::named(kind).name, namespace.into(), name.into())
}
