//! A run: the world, the publisher, the proxy and the pods, from the first table to the last tunnel.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitStatus,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use portcullis_routing::RoutingTable;
use tokio::{process::Command, task::spawn_blocking, time::sleep};

use super::{
    Egress,
    backends::Backends,
    control::{Control, gateway_key},
    edits::{Editor, Step, addresses, sites},
    history::History,
    load::{Load, Made, Signals},
    manifests::{PORT, gateway},
    names::Names,
    world::World,
};
use crate::support::{
    certificate::Authority,
    client::{Client, Target},
    dns::DnsServer,
    process::Service,
    proxy::free_address,
};

/// Pause between two rounds of changes.
const PAUSE: Duration = Duration::from_millis(150);

/// What was found.
pub(super) struct Found {
    pub(super) made: Made,
    pub(super) changes: Changes,
    /// What the proxy says of itself.
    pub(super) frames: Frames,
    pub(super) status: ExitStatus,
    pub(super) log: String,
}

/// What has happened to the tables.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) objects: usize,
    /// Those of them while nobody published.
    pub(super) unpublished: usize,
    pub(super) tables: usize,
    /// Milliseconds from a change to its being in force, and what of that is translation.
    pub(super) in_force: Vec<f64>,
    pub(super) translated: Vec<f64>,
    /// The same once the publisher was back.
    pub(super) after_return: f64,
}

/// What the proxy has got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    pub(super) snapshots: u64,
    pub(super) deltas: u64,
}

/// All that is there.
struct Scene {
    world: World,
    editor: Editor,
    control: Control,
    history: Arc<History>,
    changes: Changes,
}

/// Runs it.
pub(super) async fn run(binary: &Path, plan: &Egress) -> Result<Found> {
    let folder = tempfile::tempdir()?;
    let names = Arc::new(Names::new(sites(plan.entries)));
    let dns = DnsServer::start(Ipv4Addr::LOCALHOST.into()).await?;
    names.tell(&dns)?;
    let backends = Backends::start().await?;
    let identity = folder.path().join("identity");
    let mut control = Control::start(&identity).await?;
    control.add(&gateway(dns.address))?;
    let mut editor = Editor::new(
        plan.seed,
        Arc::clone(&names),
        backends.targets(),
        (plan.entries, plan.pods),
    );
    let mut world = World::new(Arc::clone(&names));
    for change in editor.begin() {
        control.apply(&change)?;
        world.apply(&change);
    }
    let made = control.make().await?;
    expect_all(&world, &made.table)?;
    control.publish(&made.table)?;
    let (proxy, admin) = (free_address()?, free_address()?);
    let mut service = start(binary, &control, &identity, (proxy, admin), folder.path())?;
    let version = &made.table.version;
    let served = control.acknowledged(version).await;
    served.with_context(|| format!("the proxy's log ends so:\n{}", service.log()))?;
    service.until_listening(&[proxy]).await?;

    let history = Arc::new(History::new(world.clone()));
    let signals = Arc::<Signals>::default();
    let load = Load {
        proxy,
        seed: plan.seed,
        rate: plan.rate,
        names,
        addresses: addresses(plan.pods),
        history: Arc::clone(&history),
        tls: Authority::new()?.client(&["h2", "http/1.1"])?,
        signals: Arc::clone(&signals),
    };
    let calling = thread::Builder::new()
        .name("pods".to_owned())
        .spawn(|| load.run())?;
    let mut scene = Scene {
        world,
        editor,
        control,
        history,
        changes: Changes::default(),
    };
    let played = scene.play(plan, &signals).await;
    signals.over.store(true, Relaxed);
    let joined = spawn_blocking(|| calling.join()).await?;
    let made = joined.map_err(|_| anyhow!("the thread of the pods has panicked"))??;
    played.with_context(|| format!("the proxy's log ends so:\n{}", service.log()))?;
    let frames = frames(admin).await?;
    let log = service.log();
    Ok(Found {
        made,
        changes: scene.changes,
        frames,
        status: service.stop().await?,
        log,
    })
}

fn start(
    binary: &Path,
    control: &Control,
    identity: &Path,
    (proxy, admin): (SocketAddr, SocketAddr),
    folder: &Path,
) -> Result<Service> {
    let mut command = Command::new(binary);
    command
        .args(["--controller", &control.endpoint()])
        .args(["--gateway", gateway_key().as_str()])
        .arg("--identity")
        .arg(identity)
        .args(["--address", &proxy.ip().to_string()])
        .args(["--map-port", &format!("{PORT}={}", proxy.port())])
        .args(["--admin", &admin.to_string()])
        // More than one, so that a table has to be in force for all of them.
        .args(["--workers", "2", "--access-log", "off"]);
    Service::start("portcullis", command, folder)
}

impl Scene {
    /// Changes that are published, then some that are not, then again some that are.
    async fn play(&mut self, plan: &Egress, signals: &Signals) -> Result<()> {
        self.publish_for(plan.half()).await?;
        self.control.kill().await;
        signals.away.store(true, Relaxed);
        println!("the publisher is away for {} s", plan.away);
        let end = Instant::now() + Duration::from_secs(plan.away);
        while Instant::now() < end {
            let step = self.step()?;
            self.changes.unpublished += step.changes.len();
            sleep(PAUSE).await;
        }
        signals.away.store(false, Relaxed);
        self.control.revive().await?;
        let start = Instant::now();
        let number = self.publish(&Step::default()).await?;
        self.until_in_force(number).await?;
        self.changes.after_return = milliseconds(start.elapsed());
        println!(
            "the publisher is back, and what it has missed is in force {:.1} s later",
            self.changes.after_return / 1e3
        );
        self.publish_for(plan.half()).await
    }

    /// Publishes one table or a few, waits until they are in force, and so on.
    async fn publish_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let mut starts = Vec::new();
            let mut last = None;
            for _ in 0..self.editor.burst() {
                starts.push(Instant::now());
                let step = self.step()?;
                last = Some(self.publish(&step).await?);
            }
            if let Some(number) = last {
                self.until_in_force(number).await?;
            }
            let times = starts.iter().map(|start| milliseconds(start.elapsed()));
            self.changes.in_force.extend(times);
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// What happens next in the cluster.
    fn step(&mut self) -> Result<Step> {
        let step = self.editor.step();
        for change in &step.changes {
            self.control.apply(change)?;
            self.world.apply(change);
        }
        self.changes.objects += step.changes.len();
        Ok(step)
    }

    /// Publishes a table of what is there now.
    async fn publish(&mut self, step: &Step) -> Result<Published> {
        let made = self.control.make().await?;
        expect_all(&self.world, &made.table)?;
        self.changes.tables += 1;
        self.changes.translated.push(milliseconds(made.took));
        // Before the proxy can have it.
        let number = self
            .history
            .publish(self.world.clone(), step.recent.clone());
        self.control.publish(&made.table)?;
        Ok(Published {
            number,
            table: made.table,
        })
    }

    async fn until_in_force(&mut self, published: Published) -> Result<()> {
        self.control.acknowledged(&published.table.version).await?;
        self.history.acknowledge(published.number);
        Ok(())
    }
}

/// A table that was published, and the number of its world.
struct Published {
    number: u64,
    table: Arc<RoutingTable>,
}

/// Whether the table has all that is in the world: what the translation leaves out would be judged wrongly.
fn expect_all(world: &World, table: &RoutingTable) -> Result<()> {
    let has = (
        table.entries.len(),
        table.policies.len(),
        table.workloads.len(),
    );
    let wants = (
        world.entry_count(),
        world.policy_count(),
        world.caller_count(),
    );
    ensure!(
        has == wants,
        "entries, policies and callers of the table are {has:?} and should be {wants:?}"
    );
    Ok(())
}

/// What the proxy counts at its admin port.
async fn frames(admin: SocketAddr) -> Result<Frames> {
    let mut client = Client::connect(&Target::clear(admin, "admin")).await?;
    let answer = client.get("/metrics").await?;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    let count = |kind: &str| {
        let sample = format!("portcullis_controller_frames_total{{kind=\"{kind}\"}} ");
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(&sample));
        let value = value.with_context(|| format!("the proxy has no {sample}"))?;
        anyhow::Ok(value.parse()?)
    };
    Ok(Frames {
        snapshots: count("snapshot")?,
        deltas: count("delta")?,
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
