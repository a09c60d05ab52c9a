//! The Secrets with the certificates of data planes: one per Gateway, made and renewed by the replica that leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use futures::{StreamExt, future, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::watcher,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{CHECK, COMPONENT, COMPONENT_LABEL, KIND, TIMEOUT, labels};
use crate::{
    ca::{Authority, Identity, SpiffeId, Subject},
    metrics::{Metrics, Write},
    provision::{Obstacles, Owner, Owners},
    resources::{ObjectKey, Redacted},
    watch::{Backoff, Sink, Version, follow, why},
};

/// Secrets that are written at once.
const MAX_WRITES: usize = 16;

/// Keeps the certificates of all Gateways' data planes.
pub(crate) struct IdentityKeeper {
    pub(crate) client: Client,
    pub(crate) trust_domain: String,
    pub(crate) authority: watch::Receiver<Option<Arc<Authority>>>,
    pub(crate) owners: watch::Receiver<Arc<Owners>>,
    pub(crate) leads: watch::Receiver<bool>,
    /// Whether a Provisioner makes the infrastructure of Gateways, and tells of those that have one name for it.
    pub(crate) provisions: bool,
    /// What is in the way, in words for the statuses of Gateways.
    pub(crate) obstacles: watch::Sender<Obstacles>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Why a certificate is not as it should be.
enum Problem {
    /// Somebody else was faster: mostly it is over the moment it comes.
    Untold(String),
    /// It is for the status of the Gateway.
    Obstacle(String),
}

/// The Secrets that there are.
#[derive(Default)]
struct Seen {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// `None` before they are known.
    secrets: Option<BTreeMap<ObjectKey, Redacted<Secret>>>,
    /// Those whose write is under way. One that the watch calls gone meanwhile is not among them any more.
    writing: BTreeSet<ObjectKey>,
}

impl IdentityKeeper {
    /// Keeps them for ever.
    pub(crate) async fn run(mut self) {
        let seen = Seen::default();
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        tokio::select! {
            () = watch_secrets(&client, &seen, &metrics) => {}
            () = self.keep(&seen) => {}
        }
    }

    async fn keep(&mut self, seen: &Seen) {
        let mut backoff = Backoff::default();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = seen.changed.notified() => {}
                Ok(()) = self.authority.changed() => {}
                Ok(()) = self.owners.changed() => {}
                Ok(()) = self.leads.changed() => {}
                () = sleep_until(next) => {}
            }
            let good = self.renew(seen, backoff.is_lasting()).await;
            next = Instant::now()
                + if good {
                    backoff.reset();
                    CHECK
                } else {
                    backoff.wait()
                };
        }
    }

    /// Makes what is missing and renews what is due. Returns whether all went well; `lasting` says that it has not for long.
    async fn renew(&mut self, seen: &Seen, lasting: bool) -> bool {
        let authority = self.authority.borrow_and_update().clone();
        let owners = self.owners.borrow_and_update().clone();
        let authority = authority.filter(|_| *self.leads.borrow_and_update());
        let Some(authority) = authority.filter(|_| seen.lock().secrets.is_some()) else {
            self.tell(Obstacles::new());
            return true;
        };
        let mut good = true;
        let results = owners.iter().filter_map(|(gateway, owner)| {
            let key = ObjectKey::new(&gateway.namespace, &owner.identity_secret);
            // Two Gateways would take it from each other for ever.
            if let Some(obstacle) = &owner.obstacle {
                let problem = Problem::Obstacle(obstacle.clone());
                return (!self.provisions).then(|| (gateway.clone(), key, Err(problem)));
            }
            let present = seen.get(&key);
            let renewed = self.renewed(&authority, gateway, present.as_ref());
            match renewed {
                Ok(None) => None,
                Ok(Some(identity)) => Some((
                    gateway.clone(),
                    key,
                    Ok((secret(owner, &identity), present)),
                )),
                Err(error) => Some((gateway.clone(), key, Err(Problem::Obstacle(error)))),
            }
        });
        let (client, metrics) = (&self.client, &self.metrics);
        let problems: Vec<_> = stream::iter(results.collect::<Vec<_>>())
            .map(|(gateway, key, due)| async move {
                let written = match due {
                    Ok((wanted, present)) => {
                        seen.begin(key.clone());
                        let written = write(client, &key, wanted, present).await;
                        seen.end(&key, written.as_ref().ok());
                        written
                    }
                    Err(problem) => Err(problem),
                };
                match written {
                    Ok(_) => {
                        metrics.wrote_identity(Write::Written);
                        None
                    }
                    Err(problem) => {
                        metrics.wrote_identity(Write::Failed);
                        Some((gateway, key, problem))
                    }
                }
            })
            .buffer_unordered(MAX_WRITES)
            .filter_map(future::ready)
            .collect()
            .await;
        let mut obstacles = Obstacles::new();
        for (gateway, key, problem) in problems {
            good = false;
            match problem {
                Problem::Untold(problem) if lasting => {
                    tracing::warn!(secret = %key, problem, "a Gateway's certificate is still not written; trying again");
                }
                Problem::Untold(problem) => {
                    tracing::debug!(secret = %key, problem, "a Gateway's certificate is not written yet; trying again");
                }
                Problem::Obstacle(problem) => drop(obstacles.insert(gateway, problem)),
            }
        }
        self.tell(obstacles);
        good
    }

    /// Tells the statuses, and the log what is new to it.
    fn tell(&self, obstacles: Obstacles) {
        self.obstacles.send_if_modified(|told| {
            for (gateway, problem) in &obstacles {
                if told.get(gateway) != Some(problem) {
                    tracing::warn!(%gateway, problem, "a Gateway's proxies have no valid certificate; trying again");
                }
            }
            let changed = *told != obstacles;
            *told = obstacles;
            changed
        });
    }

    /// What a Gateway's certificate has to become; `None` if it stays as it is.
    fn renewed(
        &self,
        authority: &Authority,
        gateway: &ObjectKey,
        present: Option<&Redacted<Secret>>,
    ) -> Result<Option<Identity>, String> {
        let subject = Subject::Gateway(SpiffeId {
            trust_domain: self.trust_domain.clone(),
            gateway: gateway.clone(),
        });
        // One that cannot be read is made anew.
        let present = present.and_then(|secret| Identity::from_data(secret.data.as_ref()?).ok());
        authority
            .renewed(present.as_ref(), &subject, SystemTime::now())
            .map_err(|error| error.to_string())
    }
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &ObjectKey) -> Option<Redacted<Secret>> {
        self.lock().secrets.as_ref()?.get(key).cloned()
    }

    /// A write begins.
    fn begin(&self, key: ObjectKey) {
        self.lock().writing.insert(key);
    }

    /// A write has been answered: with the Secret, which is known sooner so than by the watch. If the watch was faster and
    /// knows of its end or of a later version, it has the last word: nobody would say so again.
    fn end(&self, key: &ObjectKey, written: Option<&Secret>) {
        let mut state = self.lock();
        let is_current = state.writing.remove(key);
        if let (true, Some(written)) = (is_current, written) {
            state.put(key.clone(), written.clone());
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }
}

impl State {
    /// Keeps the newer one, unless it is another object of the same name.
    fn put(&mut self, key: ObjectKey, secret: Secret) {
        let Some(secrets) = &mut self.secrets else {
            return;
        };
        let is_newer = secrets.get(&key).is_some_and(|Redacted(known)| {
            known.metadata.uid == secret.metadata.uid
                && Version::of(&known.metadata) >= Version::of(&secret.metadata)
        });
        if !is_newer {
            secrets.insert(key, Redacted(secret));
        }
    }
}

impl Sink<Secret> for Seen {
    fn replace(&self, all: BTreeMap<ObjectKey, Secret>) {
        let all = all.into_iter().map(|(key, secret)| (key, Redacted(secret)));
        self.change(|state| {
            state.secrets = Some(all.collect());
            state.writing.clear();
        });
    }

    fn apply(&self, key: ObjectKey, secret: Secret) {
        self.change(|state| state.put(key, secret));
    }

    fn delete(&self, key: &ObjectKey) {
        self.change(|state| {
            state.writing.remove(key);
            if let Some(secrets) = &mut state.secrets {
                secrets.remove(key);
            }
        });
    }
}

/// Watches the Secrets that are made here, for ever.
async fn watch_secrets(client: &Client, seen: &Seen, metrics: &Metrics) {
    let mut backoff = Backoff::default();
    let selected = watcher::Config::default().labels(&format!("{COMPONENT_LABEL}={COMPONENT}"));
    loop {
        let api = Api::all(client.clone());
        follow(api, KIND, selected.clone(), seen, metrics, &mut backoff).await;
        sleep(backoff.wait()).await;
    }
}

fn secret(owner: &Owner, identity: &Identity) -> Secret {
    Secret {
        metadata: ObjectMeta {
            labels: Some(labels()),
            owner_references: Some(vec![owner.reference.clone()]),
            ..ObjectMeta::default()
        },
        data: Some(identity.to_data()),
        type_: Some("kubernetes.io/tls".into()),
        ..Secret::default()
    }
}

/// Creates or replaces a Secret. One that is not ours is never replaced.
async fn write(
    client: &Client,
    key: &ObjectKey,
    mut secret: Secret,
    present: Option<Redacted<Secret>>,
) -> Result<Secret, Problem> {
    let api = Api::<Secret>::namespaced(client.clone(), &key.namespace);
    secret.metadata.name = Some(key.name.clone());
    secret.metadata.namespace = Some(key.namespace.clone());
    let parameters = PostParams::default();
    let written = async {
        match present {
            None => api.create(&parameters, &secret).await,
            Some(present) => {
                secret.metadata.resource_version = present.0.metadata.resource_version;
                api.replace(&key.name, &parameters, &secret).await
            }
        }
    };
    match timeout(TIMEOUT, written).await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => {
            Err(Problem::Obstacle(format!(
                "Secret {key} exists and was not made by Portcullis, so it is left alone; delete or rename it, or rename \
                 the Gateway"
            )))
        }
        // Somebody was faster, and the watch tells what it has become.
        Ok(Err(error)) if is_conflict(&error) => Err(Problem::Untold(error.to_string())),
        Ok(Err(error)) => Err(Problem::Obstacle(format!(
            "Secret {key} cannot be written: {}",
            why(KIND, &error)
        ))),
        Err(_) => Err(Problem::Obstacle(format!(
            "Secret {key} cannot be written: the API server does not answer"
        ))),
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(uid: &str, version: &str) -> Secret {
        Secret {
            metadata: ObjectMeta {
                uid: Some(uid.to_owned()),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        }
    }

    /// UID and version of what is there after a write of version 5 of `first`, and `watched` before its answer.
    fn after(watched: impl FnOnce(&Seen, &ObjectKey)) -> Option<(String, String)> {
        let seen = Seen::default();
        let key = ObjectKey::new("shop", "edge-portcullis-identity");
        seen.replace(BTreeMap::new());
        seen.begin(key.clone());
        watched(&seen, &key);
        seen.end(&key, Some(&secret("first", "5")));
        let ObjectMeta {
            uid,
            resource_version,
            ..
        } = seen.get(&key)?.0.metadata;
        uid.zip(resource_version)
    }

    #[test]
    fn a_written_secret_is_there_before_the_watch_says_so() {
        let there = Some(("first".to_owned(), "5".to_owned()));
        assert_eq!(after(|_, _| {}), there);
    }

    #[test]
    fn what_the_watch_says_during_a_write_outlives_its_answer() {
        // Its Gateway or its namespace goes at the same time.
        let gone = after(|seen, key| {
            seen.apply(key.clone(), secret("first", "5"));
            seen.delete(key);
        });
        assert_eq!(gone, None);
        let edited = after(|seen, key| seen.apply(key.clone(), secret("first", "6")));
        assert_eq!(edited, Some(("first".to_owned(), "6".to_owned())));
        let another = after(|seen, key| {
            seen.delete(key);
            seen.apply(key.clone(), secret("second", "7"));
        });
        assert_eq!(another, Some(("second".to_owned(), "7".to_owned())));
    }
}
