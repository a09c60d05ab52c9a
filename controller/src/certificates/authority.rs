//! The authority's Secret: made if there is none, renewed when it is due, followed when another replica did either.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::SystemTime};

use futures::StreamExt;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, watch_object},
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{CHECK, CertificateOptions, KIND, TIMEOUT};
use crate::{
    ca::{Authority, Identity, Subject},
    watch::{Backoff, why, why_watch_failed},
};

/// What is known of the Secret.
#[derive(Clone, Default)]
enum Seen {
    #[default]
    Nothing,
    Absent,
    Present(Box<Secret>),
}

/// Keeps the authority, and this replica's own certificate.
pub(crate) struct AuthorityKeeper {
    api: Api<Secret>,
    options: CertificateOptions,
    leads: watch::Receiver<bool>,
    seen: Seen,
    authority: watch::Sender<Option<Arc<Authority>>>,
    own: Option<Identity>,
    backoff: Backoff,
}

impl AuthorityKeeper {
    /// Knows no authority yet.
    pub(crate) fn new(
        client: &Client,
        options: CertificateOptions,
        leads: watch::Receiver<bool>,
    ) -> Self {
        Self {
            api: Api::namespaced(client.clone(), &options.namespace),
            options,
            leads,
            seen: Seen::default(),
            authority: watch::channel(None).0,
            own: None,
            backoff: Backoff::default(),
        }
    }

    /// The authority, as it changes; `None` until it is known.
    pub(crate) fn authority(&self) -> watch::Receiver<Option<Arc<Authority>>> {
        self.authority.subscribe()
    }

    /// Keeps it for ever.
    pub(crate) async fn run(mut self) {
        let events = watch_object(self.api.clone(), &self.options.secret);
        let mut events = pin!(events.default_backoff());
        let mut next = Instant::now() + CHECK;
        loop {
            tokio::select! {
                Some(event) = events.next() => self.hear(event),
                Ok(()) = self.leads.changed() => {}
                () = sleep_until(next) => {}
            }
            next = Instant::now()
                + match self.act().await {
                    Ok(()) => {
                        self.backoff.reset();
                        CHECK
                    }
                    Err(error) => {
                        let wait = self.backoff.wait();
                        tracing::error!(
                            namespace = self.options.namespace,
                            secret = self.options.secret,
                            error,
                            ?wait,
                            "there is a problem with the certificate authority; trying again"
                        );
                        wait
                    }
                };
        }
    }

    /// Something was heard of the Secret.
    fn hear(&mut self, event: watcher::Result<Option<Secret>>) {
        match event {
            Ok(None) => self.seen = Seen::Absent,
            Ok(Some(secret)) => self.seen = Seen::Present(Box::new(secret)),
            Err(error) => tracing::warn!(
                secret = self.options.secret,
                error = why_watch_failed(KIND, &error),
                "cannot watch the Secret of the certificate authority"
            ),
        }
    }

    /// Does what there is to do: makes the authority, reads it, renews it, and signs this replica's certificate.
    async fn act(&mut self) -> Result<(), String> {
        let now = SystemTime::now();
        let secret = match self.seen.clone() {
            Seen::Nothing => return Ok(()),
            Seen::Present(secret) => secret,
            Seen::Absent => {
                // Where somebody has deleted the Secret, what is in use stays in use.
                let known = self.authority.borrow().clone();
                let authority = match known.as_deref() {
                    Some(authority) => authority.clone(),
                    None => Authority::create(now).map_err(|error| error.to_string())?,
                };
                return self.create(&authority).await;
            }
        };
        let data = secret.data.clone().unwrap_or_default();
        let authority = Authority::from_data(&data).map_err(|error| error.to_string())?;
        if *self.leads.borrow()
            && let Some(advanced) = authority.advanced(now).map_err(|error| error.to_string())?
        {
            self.replace(&secret, &advanced).await?;
            return self.use_authority(advanced, now);
        }
        self.use_authority(authority, now)
    }

    async fn create(&mut self, authority: &Authority) -> Result<(), String> {
        let secret = self.secret(authority.to_data());
        let parameters = PostParams::default();
        match timeout(TIMEOUT, self.api.create(&parameters, &secret)).await {
            Ok(Ok(created)) => {
                tracing::info!(
                    secret = self.options.secret,
                    "made a new certificate authority"
                );
                self.seen = Seen::Present(Box::new(created));
                self.use_authority(authority.clone(), SystemTime::now())
            }
            // Another replica was faster; the watch will tell.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            Ok(Err(error)) => Err(why(KIND, &error)),
            Err(_) => Err("the API server does not answer".into()),
        }
    }

    async fn replace(&mut self, secret: &Secret, advanced: &Authority) -> Result<(), String> {
        let changed = Secret {
            data: Some(advanced.to_data()),
            ..secret.clone()
        };
        let parameters = PostParams::default();
        let name = &self.options.secret;
        let replaced = self.api.replace(name, &parameters, &changed);
        match timeout(TIMEOUT, replaced).await {
            Ok(Ok(replaced)) => {
                tracing::info!(?advanced, "the certificate authority was renewed");
                self.seen = Seen::Present(Box::new(replaced));
                Ok(())
            }
            Ok(Err(error)) => Err(why(KIND, &error)),
            Err(_) => Err("the API server does not answer".into()),
        }
    }

    /// This is the authority now.
    fn use_authority(&mut self, authority: Authority, now: SystemTime) -> Result<(), String> {
        let subject = Subject::Controller {
            names: self.options.names.clone(),
        };
        let renewed = authority
            .renewed(self.own.as_ref(), &subject, now)
            .map_err(|error| error.to_string())?;
        if let Some(identity) = renewed {
            let used = self.options.tls.replace(&identity);
            used.map_err(|error| error.to_string())?;
            self.own = Some(identity);
        }
        self.authority.send_if_modified(|before| {
            let changed = before.as_deref() != Some(&authority);
            if changed {
                *before = Some(Arc::new(authority));
            }
            changed
        });
        Ok(())
    }

    fn secret(&self, data: BTreeMap<String, ByteString>) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(self.options.secret.clone()),
                namespace: Some(self.options.namespace.clone()),
                labels: Some(super::labels()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            type_: Some("kubernetes.io/tls".into()),
            ..Secret::default()
        }
    }
}
