//! Pods that make tunnels: so many each second, whatever becomes of those before, on a thread of their own.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use fastrand::Rng;
use rustls::ClientConfig;
use tokio::{
    runtime::Builder,
    sync::Semaphore,
    task::LocalSet,
    time::{Instant, sleep_until},
};

use super::{
    backends::Speech,
    edits::address,
    exchange::{Asked, Outcome, tunnel},
    history::{History, Recent},
    judge::Count,
    names::Names,
    reference::decide,
    world::{Verdict, World},
};
use crate::support::process::to_f64;

/// Tunnels at once. Those for which there is no room are late, and made all the same.
const MOST: u32 = 300;
/// Callers that are looked at, for most tunnels, until one is found that may reach the host.
const LOOKS: usize = 12;
/// A port that no entry has.
const ODD_PORT: u16 = 8080;

/// Who calls, whom, and how often.
pub(super) struct Load {
    pub(super) proxy: SocketAddr,
    pub(super) seed: u64,
    /// Tunnels each second.
    pub(super) rate: u32,
    pub(super) names: Arc<Names>,
    /// Addresses that pods may call from.
    pub(super) addresses: usize,
    pub(super) history: Arc<History>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) signals: Arc<Signals>,
}

/// What the thread is told.
#[derive(Default)]
pub(super) struct Signals {
    /// No tunnel is made any more.
    pub(super) over: AtomicBool,
    /// Nobody publishes.
    pub(super) away: AtomicBool,
}

/// What the thread tells.
pub(super) struct Made {
    pub(super) count: Count,
    /// From the first tunnel to the end of the last.
    pub(super) lasted: Duration,
    /// How late a tunnel began at most.
    pub(super) latest: Duration,
}

impl Load {
    /// Makes tunnels until it is over. Blocks.
    pub(super) fn run(self) -> Result<Made> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.call())
    }

    async fn call(self) -> Result<Made> {
        let load = Rc::new(self);
        let count = Rc::new(RefCell::new(Count::default()));
        let places = Arc::new(Semaphore::new(MOST as usize));
        let start = Instant::now();
        let mut latest = Duration::ZERO;
        for number in 0.. {
            let due = start + Duration::from_secs(1) * number / load.rate;
            sleep_until(due).await;
            if load.signals.over.load(Relaxed) {
                break;
            }
            let place = Arc::clone(&places).acquire_owned().await?;
            latest = latest.max(due.elapsed());
            let (load, count) = (Rc::clone(&load), Rc::clone(&count));
            tokio::task::spawn_local(async move {
                load.one(number, &count).await;
                drop(place);
            });
        }
        // Whoever has all places is the last.
        let _all = places.acquire_many(MOST).await?;
        Ok(Made {
            count: count.take(),
            lasted: start.elapsed(),
            latest,
        })
    }

    /// The tunnel of that number, and whether it was right.
    async fn one(&self, number: u32, count: &RefCell<Count>) {
        let Some(asked) = self.draw(number) else {
            return;
        };
        let is_away = self.signals.away.load(Relaxed);
        let in_force = self.history.in_force();
        let start = Instant::now();
        let mut outcome = tunnel(self.proxy, &asked, &self.tls).await;
        let lasted = start.elapsed();
        let worlds = self.history.since(in_force).unwrap_or_default();
        if worlds.is_empty() {
            outcome = Outcome::Failed(format!(
                "it took {lasted:?}, and nobody knows what was right"
            ));
        }
        let mut count = count.borrow_mut();
        count.judge(&asked, &outcome, &worlds);
        count.while_away += u64::from(is_away && self.signals.away.load(Relaxed));
        count.slowest = count.slowest.max(lasted.as_secs_f64() * 1e3);
    }

    /// Who calls whom. The same seed draws the same in the same world.
    fn draw(&self, number: u32) -> Option<Asked> {
        let world = self.history.latest()?;
        let mut rng = Rng::with_seed(self.seed.wrapping_add(u64::from(number) << 32));
        let count = self.names.len();
        let site = match rng.usize(..8) {
            0 | 1 => match self.history.recent(rng.usize(..)) {
                Some(Recent::Site(site)) => site,
                _ => rng.usize(..count),
            },
            // Some are called more often than others.
            2..5 => rng.usize(..count.div_ceil(20)),
            _ => rng.usize(..count),
        };
        let site = self.names.site(site);
        let name = &site.names[rng.usize(..site.names.len())];
        let host = match rng.usize(..30) {
            0 => format!("{name}.net"),
            1..8 => name.clone(),
            _ => site.names[0].clone(),
        };
        let speech = speech(&world, &site.listed, &mut rng);
        let greets_another = speech == Speech::Tls && rng.usize(..20) == 0;
        let another = &self.names.site(rng.usize(..count)).names[0];
        let port = if rng.usize(..40) == 0 {
            ODD_PORT
        } else {
            speech.port()
        };
        Some(Asked {
            from: address(self.caller(&world, &host, port, &mut rng)),
            greets: (greets_another && *another != host).then(|| another.clone()),
            host,
            port,
            speech,
        })
    }

    /// The number of an address to call from.
    fn caller(&self, world: &World, host: &str, port: u16, rng: &mut Rng) -> usize {
        if rng.usize(..4) == 0
            && let Some(Recent::Caller(number)) = self.history.recent(rng.usize(..))
        {
            return number;
        }
        let looks = if rng.usize(..4) == 0 { 1 } else { LOOKS };
        let mut number = 0;
        for _ in 0..looks {
            number = rng.usize(..self.addresses);
            let caller = world.caller(address(number)).map(|pod| &**pod);
            if let Verdict::Open { .. } = decide(world, caller, host, port) {
                break;
            }
        }
        number
    }
}

/// What to speak: mostly what some entry has a port for.
fn speech(world: &World, listed: &String, rng: &mut Rng) -> Speech {
    let entries = world.listing(listed);
    let any = Speech::ALL[rng.usize(..Speech::ALL.len())];
    if entries.is_empty() || rng.usize(..8) == 0 {
        return any;
    }
    let ports = &entries[rng.usize(..entries.len())].ports;
    let port = ports[rng.usize(..ports.len())].number;
    let mut all = Speech::ALL.into_iter();
    all.find(|speech| speech.port() == port).unwrap_or(any)
}

impl Made {
    /// Tunnels each second.
    pub(super) fn rate(&self) -> f64 {
        to_f64(self.count.tunnels) / self.lasted.as_secs_f64()
    }
}
