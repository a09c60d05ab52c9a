//! Which replica writes statuses: the one that holds the Lease.
//!
//! Whose Lease it is follows from watching it. Clocks of different machines are never compared: a holder counts as gone
//! when the Lease has not changed for its whole duration as measured here. Every write names the version that it was made
//! of, so that of two replicas that want it at once only one gets it.

use std::{collections::BTreeMap, fmt, net::SocketAddr, pin::pin, time::Duration};

use futures::StreamExt;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
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

use crate::watch::{Backoff, Version};

/// Where the holder of the Lease is reached by the other replicas: an annotation of the Lease.
const ADDRESS: &str = "portcullis.dev/address";

/// Which Lease, who asks for it, and how long it holds.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this replica is; different for each one.
    pub identity: String,
    /// How long the Lease holds without being renewed, in whole seconds. A replica that dies is replaced after so long.
    pub duration: Duration,
    /// Where the other replicas reach what this one publishes, while it leads; `None` if they cannot.
    pub address: Option<SocketAddr>,
}

impl LeaseOptions {
    /// Between two renewals.
    fn renewal(&self) -> Duration {
        self.duration / 5
    }

    /// Time to renew the Lease before it is given up here, well before anybody else may take it.
    fn deadline(&self) -> Duration {
        self.duration * 2 / 5
    }
}

/// Asks for the Lease, keeps it while it can, and gives it back in the end.
pub struct Elector {
    api: Api<Lease>,
    options: LeaseOptions,
    leads: watch::Sender<bool>,
    leader: watch::Sender<Option<SocketAddr>>,
    /// The Lease as it was seen last, and when that was.
    seen: Option<(Lease, Instant)>,
    /// When this replica held it for certain.
    held: Option<Instant>,
    backoff: Backoff,
}

impl fmt::Debug for Elector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elector")
            .field("options", &self.options)
            .field("leads", &self.leads)
            .finish_non_exhaustive()
    }
}

impl Elector {
    /// Does not lead yet.
    pub fn new(client: Client, options: LeaseOptions) -> Self {
        Self {
            api: Api::namespaced(client, &options.namespace),
            options,
            leads: watch::channel(false).0,
            leader: watch::channel(None).0,
            seen: None,
            held: None,
            backoff: Backoff::default(),
        }
    }

    /// Whether this replica leads.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Where the replica that leads is, if it is another one and says so.
    pub fn leader(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.leader.subscribe()
    }

    /// Takes part in the election until `stop`, then gives the Lease back, so that the next one need not wait.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let events = watch_object(self.api.clone(), &self.options.name);
        let mut events = pin!(events.default_backoff());
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(event) = events.next() => {
                    if let Some(wait) = self.hear(event) {
                        next = wait;
                    }
                }
                () = sleep_until(next) => next = self.act().await,
            }
        }
        self.release().await;
    }

    /// Something was heard of the Lease. Returns when to act, if that has changed.
    fn hear(&mut self, event: watcher::Result<Option<Lease>>) -> Option<Instant> {
        match event {
            Ok(Some(lease)) => self.see(lease),
            Ok(None) => {
                self.seen = None;
                self.follow(None);
                Some(Instant::now())
            }
            Err(error) => {
                // The Lease is asked for before it is taken, so nothing is lost but time.
                tracing::debug!(%error, "cannot watch the Lease");
                None
            }
        }
    }

    /// The Lease is this now. Returns when to act on it, if somebody else wrote it.
    fn see(&mut self, lease: Lease) -> Option<Instant> {
        let version = Version::of(&lease.metadata);
        // The answer to a write is known before the watch tells of it, and of what was before.
        let known = self.seen.as_ref();
        if known.is_some_and(|(seen, _)| Version::of(&seen.metadata) >= version) {
            return None;
        }
        let now = Instant::now();
        let own = self.is_own(&lease);
        let free = holder(&lease).is_none();
        let expires = now + duration(&lease);
        let is_other = !own && !free;
        self.follow(is_other.then(|| address(&lease)).flatten());
        self.seen = Some((lease, now));
        if own {
            return None;
        }
        self.lead(false);
        Some(if free { now } else { expires })
    }

    /// Takes or renews the Lease if it is time to. Returns when to act again.
    async fn act(&mut self) -> Instant {
        let limit = self.options.renewal().max(Duration::from_secs(1));
        match timeout(limit, self.try_hold()).await {
            Ok(Ok(next)) => {
                self.backoff.reset();
                return next;
            }
            // Somebody else was faster; the watch will say who.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                tracing::debug!("the Lease has changed meanwhile");
                self.seen = None;
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot take or renew the Lease"),
            Err(_) => tracing::warn!("cannot take or renew the Lease: no answer"),
        }
        let lost = self
            .held
            .is_some_and(|held| held.elapsed() > self.options.deadline());
        if lost {
            self.lead(false);
        }
        Instant::now() + self.backoff.wait().min(self.options.renewal())
    }

    async fn try_hold(&mut self) -> kube::Result<Instant> {
        if self.seen.is_none() {
            match self.api.get_opt(&self.options.name).await? {
                None => return self.create().await,
                Some(lease) => drop(self.see(lease)),
            }
        }
        let Some((lease, since)) = &self.seen else {
            return Ok(Instant::now());
        };
        let expires = *since + duration(lease);
        if self.is_own(lease) || holder(lease).is_none() {
            return self.hold(lease.clone()).await;
        }
        if expires > Instant::now() {
            return Ok(expires);
        }
        // It may have been renewed without our hearing of it.
        let fresh = self.api.get(&self.options.name).await?;
        if fresh.metadata.resource_version != lease.metadata.resource_version {
            return Ok(self.see(fresh).unwrap_or_else(Instant::now));
        }
        self.hold(fresh).await
    }

    async fn create(&mut self) -> kube::Result<Instant> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.options.name.clone()),
                annotations: Some(self.annotations(BTreeMap::new())),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec(None)),
        };
        let asked = Instant::now();
        let lease = self.api.create(&PostParams::default(), &lease).await?;
        Ok(self.holds(lease, asked))
    }

    async fn hold(&mut self, mut lease: Lease) -> kube::Result<Instant> {
        lease.spec = Some(self.spec(lease.spec.as_ref()));
        let annotations = lease.metadata.annotations.unwrap_or_default();
        lease.metadata.annotations = Some(self.annotations(annotations));
        let asked = Instant::now();
        let name = &self.options.name;
        let lease = self
            .api
            .replace(name, &PostParams::default(), &lease)
            .await?;
        Ok(self.holds(lease, asked))
    }

    /// The Lease is ours as of `asked`. Returns when to renew it.
    fn holds(&mut self, lease: Lease, asked: Instant) -> Instant {
        self.seen = Some((lease, asked));
        self.held = Some(asked);
        self.follow(None);
        self.lead(true);
        asked + self.options.renewal()
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let holder = before.and_then(|before| before.holder_identity.as_deref());
        let renews = holder == Some(&self.options.identity);
        let since = before
            .filter(|_| renews)
            .and_then(|it| it.acquire_time.clone());
        let transitions = before.and_then(|before| before.lease_transitions);
        LeaseSpec {
            acquire_time: Some(since.unwrap_or_else(|| now.clone())),
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: Some(seconds(self.options.duration)),
            lease_transitions: transitions.map_or(Some(0), |number| {
                Some(number.saturating_add(i32::from(!renews)))
            }),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    /// These, with our own address in place of that of whoever held the Lease before.
    fn annotations(&self, mut before: BTreeMap<String, String>) -> BTreeMap<String, String> {
        before.remove(ADDRESS);
        let address = self.options.address;
        before.extend(address.map(|address| (ADDRESS.to_owned(), address.to_string())));
        before
    }

    /// The replica that leads is there.
    fn follow(&self, leader: Option<SocketAddr>) {
        // A holder that does not know of the annotation leaves that of the one before.
        let leader = leader.filter(|_| leader != self.options.address);
        self.leader
            .send_if_modified(|before| std::mem::replace(before, leader) != leader);
    }

    /// Gives the Lease back, if it is ours.
    async fn release(&mut self) {
        self.lead(false);
        match timeout(self.options.deadline(), self.try_release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot give the Lease back; it will run out"),
            Err(_) => tracing::warn!("cannot give the Lease back; it will run out"),
        }
    }

    async fn try_release(&self) -> kube::Result<()> {
        // What was seen last may be old by now.
        let Some(mut lease) = self.api.get_opt(&self.options.name).await? else {
            return Ok(());
        };
        if !self.is_own(&lease) {
            return Ok(());
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = None;
            spec.acquire_time = None;
        }
        let parameters = PostParams::default();
        self.api
            .replace(&self.options.name, &parameters, &lease)
            .await?;
        tracing::info!("the Lease is given back");
        Ok(())
    }

    fn is_own(&self, lease: &Lease) -> bool {
        holder(lease) == Some(&self.options.identity)
    }

    fn lead(&mut self, leads: bool) {
        if !leads {
            self.held = None;
        }
        let changed = self
            .leads
            .send_if_modified(|led| std::mem::replace(led, leads) != leads);
        if changed {
            tracing::info!(identity = self.options.identity, leads, "leadership");
        }
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    let holder = lease.spec.as_ref()?.holder_identity.as_ref();
    holder.filter(|holder| !holder.is_empty())
}

fn address(lease: &Lease) -> Option<SocketAddr> {
    let annotations = lease.metadata.annotations.as_ref()?;
    annotations.get(ADDRESS)?.parse().ok()
}

fn duration(lease: &Lease) -> Duration {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    Duration::from_secs(seconds.and_then(|it| u64::try_from(it).ok()).unwrap_or(0))
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX)
}
