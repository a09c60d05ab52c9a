//! The running controller: watches, translation, publication and statuses, each in a task of its own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use portcullis_routing::{GatewayKey, RoutingTable};
use tokio::{
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{
    certificates::{AuthorityKeeper, CertificateOptions, IdentityKeeper},
    leader::{Elector, LeaseOptions},
    metrics::Metrics,
    provision::{self, Input, Obstacles, Owners, ProvisionOptions, Provisioner},
    publish::Fleet,
    resources::{ObjectKey, Resources},
    status::{
        Statuses,
        programmed::{self, Unready},
    },
    translate::{Options, ParametersInForce, Translation, translate},
    watch::{self as watches, ResourceStore, Snapshot, WatchOptions},
    writer::StatusWriter,
};

pub use crate::{
    watch::{BackoffTimes, LINGER},
    writer::LET_STAND,
};

/// Changes that arrive within this time of the first one are translated together.
const COALESCE: Duration = Duration::from_millis(5);

/// The routing tables of all Gateways. One that has not changed is the same allocation as before.
pub type Tables = Arc<BTreeMap<GatewayKey, Arc<RoutingTable>>>;

/// How the controller is run.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// GatewayClasses with this `controllerName` are ours.
    pub controller_name: String,
    /// The Lease that decides which replica writes.
    pub lease: LeaseOptions,
    /// Certificates of this controller and of the data planes.
    pub certificates: CertificateOptions,
    /// What the infrastructure of Gateways is made with; `None` if somebody else makes it.
    pub provision: Option<ProvisionOptions>,
    /// After a replica began to lead: how long `Programmed` stays True for a Gateway that it has heard nothing of yet.
    /// [`LET_STAND`] unless a test is in a hurry.
    pub let_stand: Duration,
    /// How long pods and nodes stay known after the last egress Gateway. [`LINGER`] unless a test is in a hurry.
    pub linger: Duration,
    /// Whether Gateways of egress are served. Without that nothing is asked for that only they need.
    pub egress: bool,
    /// How long failures of watches are borne.
    pub backoff: BackoffTimes,
}

/// A running controller. When it is dropped everything stops at once, and the Lease is left to run out.
#[derive(Debug)]
pub struct Controller {
    tasks: JoinSet<()>,
    election: JoinHandle<()>,
    stop_election: Option<oneshot::Sender<()>>,
    store: Arc<ResourceStore>,
    tables: watch::Receiver<Option<Tables>>,
    leads: watch::Receiver<bool>,
    leader: watch::Receiver<Option<SocketAddr>>,
}

impl Controller {
    /// Starts it on the present runtime. `fleet` is what is known of the data planes: which tables they have acknowledged.
    pub fn start(
        client: &Client,
        options: ControllerOptions,
        fleet: watch::Receiver<Arc<Fleet>>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let watched = WatchOptions {
            egress: options.egress,
            linger: options.linger,
            backoff: options.backoff,
        };
        let name = &options.controller_name;
        let store = watches::watch(client, name, watched, metrics, &mut tasks);
        let elector = Elector::new(client.clone(), options.lease);
        let (leads, leader) = (elector.leads(), elector.leader());
        let (stop_election, stop) = oneshot::channel::<()>();
        // The controller being dropped is no wish to give the Lease back in peace; its task is aborted then.
        let election = tokio::spawn(elector.run(async move {
            stop.await.ok();
        }));
        let (published, tables) = watch::channel(None);
        let (stated, desired) = watch::channel(None);
        tasks.spawn(
            StatusWriter {
                client: client.clone(),
                controller_name: options.controller_name.clone(),
                store: Arc::clone(&store),
                desired,
                leads: leads.clone(),
                let_stand: options.let_stand,
                metrics: Arc::clone(metrics),
            }
            .run(),
        );
        let provisions = options.provision.is_some();
        let (owners, unidentified) = certificates(
            client,
            options.certificates,
            provisions,
            &leads,
            metrics,
            &mut tasks,
        );
        let (provisioned, input) = watch::channel(None);
        let (obstructed, obstacles) = watch::channel(Obstacles::new());
        let (missed, unready) = watch::channel(BTreeMap::new());
        if let Some(provision) = options.provision {
            tasks.spawn(
                Provisioner {
                    client: client.clone(),
                    controller_name: options.controller_name.clone(),
                    options: provision,
                    input,
                    leads: leads.clone(),
                    obstacles: obstructed,
                    unready: missed,
                    metrics: Arc::clone(metrics),
                }
                .run(),
            );
        }
        let reconciler = Reconciler {
            controller_name: options.controller_name,
            serves_egress: options.egress,
            store: Arc::clone(&store),
            fleet,
            obstacles,
            unready,
            unidentified,
            published,
            provisioned,
            stated,
            owners,
            parameters: Arc::default(),
            metrics: Arc::clone(metrics),
        };
        tasks.spawn(reconciler.run());
        Self {
            tasks,
            election,
            stop_election: Some(stop_election),
            store,
            tables,
            leads,
            leader,
        }
    }

    /// The routing tables, as they change. `None` until everything in the cluster is known but for what egress Gateways alone go by;
    /// these have none until that is known too.
    pub fn tables(&self) -> watch::Receiver<Option<Tables>> {
        self.tables.clone()
    }

    /// Whether this replica writes statuses, as it changes.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Where the replica that leads is, if it is another one, as it changes.
    pub fn leader(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.leader.clone()
    }

    /// What is known of the cluster.
    pub fn store(&self) -> Arc<ResourceStore> {
        Arc::clone(&self.store)
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        Progress {
            store: Arc::clone(&self.store),
            tables: self.tables.clone(),
        }
    }

    /// Returns when a part of it has failed, which is a bug.
    pub async fn failed(&mut self) {
        self.tasks.join_next().await;
    }

    /// Stops in peace: nothing is written any more, and the Lease is given back.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
        if let Some(stop) = self.stop_election.take()
            && stop.send(()).is_ok()
        {
            (&mut self.election).await.ok();
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.election.abort();
    }
}

/// How far a controller has come.
#[derive(Clone, Debug)]
pub struct Progress {
    store: Arc<ResourceStore>,
    tables: watch::Receiver<Option<Tables>>,
}

impl Progress {
    /// Whether everything in the cluster, but for what egress Gateways alone go by, has been known and translated at least once.
    pub fn translated(&self) -> bool {
        self.tables.borrow().is_some()
    }

    /// The kinds that have not been listed yet.
    pub fn unknown_kinds(&self) -> Vec<&'static str> {
        self.store.unknown_kinds()
    }
}

/// Starts what keeps the certificates, and returns where it hears of the Gateways whose data planes need one, and where it
/// tells what is in its way.
fn certificates(
    client: &Client,
    options: CertificateOptions,
    provisions: bool,
    leads: &watch::Receiver<bool>,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
) -> (watch::Sender<Arc<Owners>>, watch::Receiver<Obstacles>) {
    let (owners, wanted) = watch::channel(Arc::default());
    let (obstructed, obstacles) = watch::channel(Obstacles::new());
    let trust_domain = options.tls.trust_domain().to_owned();
    let authority = AuthorityKeeper::new(client, options, leads.clone());
    let identities = IdentityKeeper {
        client: client.clone(),
        trust_domain,
        authority: authority.authority(),
        owners: wanted,
        leads: leads.clone(),
        provisions,
        obstacles: obstructed,
        metrics: Arc::clone(metrics),
    };
    tasks.spawn(authority.run());
    tasks.spawn(identities.run());
    (owners, obstacles)
}

/// Makes tables and statuses of what is known, whenever that changes.
struct Reconciler {
    controller_name: String,
    serves_egress: bool,
    store: Arc<ResourceStore>,
    fleet: watch::Receiver<Arc<Fleet>>,
    obstacles: watch::Receiver<Obstacles>,
    /// The Gateways without a ready proxy.
    unready: watch::Receiver<BTreeMap<ObjectKey, Unready>>,
    /// What is in the way of the certificates of data planes.
    unidentified: watch::Receiver<Obstacles>,
    published: watch::Sender<Option<Tables>>,
    provisioned: watch::Sender<Option<Input>>,
    stated: watch::Sender<Option<Arc<Statuses>>>,
    owners: watch::Sender<Arc<Owners>>,
    /// The parameters that Gateways were served with after the last translation: it tells the next one what was good.
    parameters: Arc<ParametersInForce>,
    metrics: Arc<Metrics>,
}

/// What the last translation gave.
struct Pass {
    resources: Arc<Resources>,
    statuses: Statuses,
    tables: Tables,
}

impl Reconciler {
    async fn run(mut self) {
        let mut pass = None;
        loop {
            tokio::select! {
                () = self.store.changed() => {
                    tokio::time::sleep(COALESCE).await;
                    // What is not known in full says nothing: a route that has not been listed yet is not a deleted one.
                    let Some(snapshot) = self.store.snapshot() else {
                        continue;
                    };
                    match self.translate(snapshot).await {
                        Some(translated) => pass = Some(translated),
                        None => return,
                    }
                }
                Ok(()) = self.fleet.changed() => {}
                Ok(()) = self.obstacles.changed() => {}
                Ok(()) = self.unready.changed() => {}
                Ok(()) = self.unidentified.changed() => {}
            }
            if let Some(pass) = &mut pass {
                self.publish(pass);
            }
        }
    }

    /// Translates on a thread where it holds nobody up. `None` if that has failed.
    async fn translate(&mut self, snapshot: Snapshot) -> Option<Pass> {
        let options = Options {
            controller_name: self.controller_name.clone(),
            serves_egress: self.serves_egress,
            installed: Some(snapshot.installed),
            last_good: Some(Arc::clone(&self.parameters)),
            token_issuer: snapshot.token_issuer,
            ..Options::default()
        };
        let start = Instant::now();
        let translating = tokio::task::spawn_blocking(move || {
            let translation = translate(&snapshot.resources, &options);
            (snapshot.resources, translation)
        });
        let (resources, translation) = translating.await.ok()?;
        let Translation {
            tables,
            statuses,
            ports,
            parameters,
            ..
        } = translation;
        self.parameters = parameters;
        self.metrics
            .translated(&resources, tables.len(), start.elapsed());
        let before = self.published.borrow().clone();
        let pass = Pass {
            resources: Arc::new(resources),
            statuses,
            tables: shared(tables, before.as_ref()),
        };
        self.provisioned.send_replace(Some(Input {
            resources: Arc::clone(&pass.resources),
            tables: Arc::clone(&pass.tables),
            ports,
            parameters: Arc::clone(&self.parameters),
        }));
        Some(pass)
    }

    /// Tables first: a status never speaks of a table that nobody can have yet.
    fn publish(&mut self, pass: &mut Pass) {
        self.published.send_if_modified(|published| {
            let before = published.replace(Arc::clone(&pass.tables));
            before.is_none_or(|before| !Arc::ptr_eq(&before, &pass.tables))
        });
        let owners = provision::owners(&pass.resources, &pass.tables);
        self.owners.send_if_modified(|before| {
            let changed = **before != owners;
            if changed {
                *before = Arc::new(owners);
            }
            changed
        });
        let fleet = self.fleet.borrow_and_update().clone();
        self.metrics.data_planes(fleet.connected());
        let mut observed = fleet.observed(&provision::addresses(&pass.resources));
        observed.miss(&self.unready.borrow_and_update());
        observed.lack_addresses(provision::unaddressed(&pass.resources));
        programmed::observe(&mut pass.statuses, &pass.resources, &pass.tables, &observed);
        let mut obstacles = self.obstacles.borrow_and_update().clone();
        for (gateway, why) in &*self.unidentified.borrow_and_update() {
            provision::obstruct(&mut obstacles, gateway, why);
        }
        programmed::obstruct(&mut pass.statuses, &obstacles);
        self.stated.send_if_modified(|stated| {
            let changed = stated.as_deref() != Some(&pass.statuses);
            if changed {
                *stated = Some(Arc::new(pass.statuses.clone()));
            }
            changed
        });
    }
}

/// The tables, what is as it was before in the same allocation.
fn shared(tables: BTreeMap<GatewayKey, RoutingTable>, before: Option<&Tables>) -> Tables {
    let same = |key: &GatewayKey, table: &RoutingTable| {
        let before = before?.get(key)?;
        (before.version == table.version).then(|| Arc::clone(before))
    };
    let tables: BTreeMap<_, _> = tables
        .into_iter()
        .map(|(key, table)| {
            let table = same(&key, &table).unwrap_or_else(|| Arc::new(table));
            (key, table)
        })
        .collect();
    let unchanged = |before: &&Tables| {
        before.len() == tables.len()
            && before
                .iter()
                .all(|(key, before)| tables.get(key).is_some_and(|it| Arc::ptr_eq(it, before)))
    };
    match before.filter(unchanged) {
        Some(before) => Arc::clone(before),
        None => Arc::new(tables),
    }
}
