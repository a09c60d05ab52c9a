//! The Secrets with the certificates of data planes: one per Gateway, made and renewed by the replica that leads.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use futures::{StreamExt, stream};
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

use super::{CHECK, COMPONENT, COMPONENT_LABEL, TIMEOUT, labels};
use crate::{
    ca::{Authority, Identity, SpiffeId, Subject},
    metrics::{Metrics, Write},
    provision::{Owner, Owners},
    resources::{ObjectKey, Redacted},
    watch::{Backoff, Sink, follow},
};

/// Secrets that are written at once.
const MAX_WRITES: usize = 16;

const KIND: &str = "Secret";

/// Keeps the certificates of all Gateways' data planes.
pub(crate) struct IdentityKeeper {
    pub(crate) client: Client,
    pub(crate) trust_domain: String,
    pub(crate) authority: watch::Receiver<Option<Arc<Authority>>>,
    pub(crate) owners: watch::Receiver<Arc<Owners>>,
    pub(crate) leads: watch::Receiver<bool>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The Secrets that there are; `None` before they are known.
#[derive(Default)]
struct Seen {
    secrets: Mutex<Option<BTreeMap<ObjectKey, Redacted<Secret>>>>,
    changed: Notify,
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
            let good = self.renew(seen).await;
            next = Instant::now()
                + if good {
                    backoff.reset();
                    CHECK
                } else {
                    backoff.wait()
                };
        }
    }

    /// Makes what is missing and renews what is due. Returns whether all went well.
    async fn renew(&mut self, seen: &Seen) -> bool {
        let authority = self.authority.borrow_and_update().clone();
        let owners = self.owners.borrow_and_update().clone();
        let Some(authority) = authority.filter(|_| *self.leads.borrow_and_update()) else {
            return true;
        };
        if seen.lock().is_none() {
            return true;
        }
        let results = owners.iter().filter_map(|(gateway, owner)| {
            let key = ObjectKey::new(&gateway.namespace, &owner.identity_secret);
            // Two Gateways would take it from each other for ever.
            if let Some(obstacle) = &owner.obstacle {
                return Some(Err((key, obstacle.clone())));
            }
            let present = seen.get(&key);
            let renewed = self.renewed(&authority, gateway, present.as_ref());
            match renewed {
                Ok(None) => None,
                Ok(Some(identity)) => Some(Ok((key, secret(owner, &identity), present))),
                Err(error) => Some(Err((key, error))),
            }
        });
        let (client, metrics) = (&self.client, &self.metrics);
        stream::iter(results.collect::<Vec<_>>())
            .map(|due| async move {
                let (key, problem) = match due {
                    Ok((key, wanted, present)) => {
                        match write(client, &key, wanted, present).await {
                            Ok(written) => {
                                metrics.wrote_identity(Write::Written);
                                seen.record(key, written);
                                return true;
                            }
                            Err(problem) => (key, problem),
                        }
                    }
                    Err(failed) => failed,
                };
                metrics.wrote_identity(Write::Failed);
                tracing::warn!(
                    secret = %key,
                    problem,
                    "a Gateway's proxies have no valid certificate; trying again"
                );
                false
            })
            .buffer_unordered(MAX_WRITES)
            .fold(true, |all, good| async move { all && good })
            .await
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
    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<ObjectKey, Redacted<Secret>>>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &ObjectKey) -> Option<Redacted<Secret>> {
        self.lock().as_ref()?.get(key).cloned()
    }

    /// A Secret as the answer to a write gave it: sooner than the watch does.
    fn record(&self, key: ObjectKey, secret: Secret) {
        if let Some(secrets) = &mut *self.lock() {
            secrets.insert(key, Redacted(secret));
        }
    }
}

impl Sink<Secret> for Seen {
    fn replace(&self, all: BTreeMap<ObjectKey, Secret>) {
        let all = all.into_iter().map(|(key, secret)| (key, Redacted(secret)));
        *self.lock() = Some(all.collect());
        self.changed.notify_one();
    }

    fn apply(&self, key: ObjectKey, secret: Secret) {
        self.record(key, secret);
        self.changed.notify_one();
    }

    fn delete(&self, key: &ObjectKey) {
        if let Some(secrets) = &mut *self.lock() {
            secrets.remove(key);
        }
        self.changed.notify_one();
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
) -> Result<Secret, String> {
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
        Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => Err(
            "there is a Secret of this name that Portcullis did not make; delete or rename it"
                .into(),
        ),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server does not answer".into()),
    }
}
