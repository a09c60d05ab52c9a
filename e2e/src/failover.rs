//! `cargo e2e failover`: one of four endpoints dies and comes back, over and over; no retries are configured.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, rc::Rc, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use portcullis_routing::{ClusterProtocol, Millis, RoutePolicy, policy::Timeouts};
use tokio::{
    task::LocalSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::support::{
    backend::{ANSWER_LENGTH, Backend, Mode},
    binaries,
    certificate::Authority,
    client::{Client, Target, expect_answer},
    process::to_f64,
    proxy::Proxy,
    report::{Table, Tally},
    table::{MARK, TableBuilder},
};

const ENDPOINTS: usize = 4;
/// Requests per second, sent on time whether or not earlier ones have been answered.
const RATE: u32 = 200;
/// Deadline of the route for one attempt; what hangs longer has failed.
const ATTEMPT: Millis = Millis(1000);
/// A client gives up after this.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the endpoint stays dead, and alive again: as in the published test.
const PHASE: Duration = Duration::from_secs(22);
const QUICK_PHASE: Duration = Duration::from_secs(5);
/// Highest share of failed requests.
const MAX_FAILED: f64 = 0.0002;
/// The same in a quick run, whose phases are so short that the requests under way at a death weigh much more.
const QUICK_MAX_FAILED: f64 = 0.002;
/// Least share of the requests that each endpoint gets over the whole run; a fair share is a quarter.
const MIN_SHARE: f64 = 0.05;

/// One of four endpoints refusing or black-holed at 200 requests per second; at most 0.02 % may fail.
#[derive(Args)]
pub(crate) struct Failover {
    /// Seconds per kind of death.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// 15 seconds per kind of death, with short phases; 0.2 % may fail.
    #[arg(long)]
    quick: bool,
    /// Cargo profile that portcullis-proxy is built with.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// How the requests of a run ended.
#[derive(Default)]
struct Outcome {
    sent: u32,
    failures: BTreeMap<String, u32>,
    worst: Duration,
}

impl Outcome {
    fn failed(&self) -> u32 {
        self.failures.values().sum()
    }
}

impl Failover {
    pub(crate) async fn run(self) -> Result<()> {
        let binary = binaries::build("portcullis-proxy", &self.profile).await?;
        let (duration, phase) = if self.quick {
            (3 * QUICK_PHASE, QUICK_PHASE)
        } else {
            (Duration::from_secs(self.seconds), PHASE)
        };
        let mut tally = Tally::default();
        let header = [
            "one of four",
            "requests",
            "failed",
            "share %",
            "worst ms",
            "requests per endpoint",
            "verdict",
        ];
        let mut table = Table::new("Failover without retries", &header);
        for (name, death) in [
            ("refusing", Mode::Refusing),
            ("black-holed", Mode::BlackHole),
        ] {
            let folder = tempfile::tempdir()?;
            let backends = (0..ENDPOINTS)
                .map(|number| Backend::start(&format!("backend-{number}")))
                .collect::<Result<Vec<_>>>()?;
            let mut proxy =
                Proxy::start(&binary, &table_of(&backends)?, folder.path(), &[]).await?;
            let outcome = LocalSet::new()
                .run_until(run(proxy.http, &backends[0], death, duration, phase))
                .await?;
            proxy.service.expect_running()?;
            let requests: Vec<u64> = backends.iter().map(Backend::requests).collect();
            let share = f64::from(outcome.failed()) / f64::from(outcome.sent);
            let allowed = if self.quick {
                QUICK_MAX_FAILED
            } else {
                MAX_FAILED
            };
            let good = share <= allowed;
            tally.check(good, || {
                format!("{name}: {:?} of {} failed", outcome.failures, outcome.sent)
            });
            let total: u64 = requests.iter().sum();
            let least = requests
                .iter()
                .min()
                .map_or(0.0, |least| to_f64(*least) / to_f64(total));
            tally.check(least >= MIN_SHARE, || {
                format!("{name}: an endpoint is starved: {requests:?}")
            });
            table.row([
                name.to_owned(),
                outcome.sent.to_string(),
                outcome.failed().to_string(),
                format!("{:.4}", share * 100.0),
                outcome.worst.as_millis().to_string(),
                format!("{requests:?}"),
                if good { "PASS" } else { "LOSS" }.to_owned(),
            ]);
        }
        println!("{table}");
        tally.close()
    }
}

fn table_of(backends: &[Backend]) -> Result<TableBuilder> {
    let identity = Authority::new()?.issue(&["a.example"])?;
    let mut table = TableBuilder::new(&identity);
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let cluster = table.cluster("backend", ClusterProtocol::Http1, &addresses);
    let timeouts = Timeouts {
        request: None,
        backend_request: Some(ATTEMPT),
    };
    table.route(
        "all",
        &[],
        "/",
        &cluster,
        RoutePolicy {
            timeouts,
            retry: None,
        },
    );
    Ok(table)
}

/// An open loop of requests while `victim` dies and comes back every `phase`.
async fn run(
    address: SocketAddr,
    victim: &Backend,
    death: Mode,
    duration: Duration,
    phase: Duration,
) -> Result<Outcome> {
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let idle = Rc::new(RefCell::new(Vec::new()));
    let toggling = async {
        loop {
            for mode in [Mode::Serving, death] {
                victim.set(mode);
                sleep(phase).await;
            }
        }
    };
    let sending = async {
        let start = Instant::now();
        let mut clock = interval(Duration::from_secs(1) / RATE);
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut under_way = Vec::new();
        while start.elapsed() < duration {
            clock.tick().await;
            let (outcome, idle) = (Rc::clone(&outcome), Rc::clone(&idle));
            under_way.push(tokio::task::spawn_local(async move {
                one(address, &idle, &outcome).await;
            }));
            under_way.retain(|task| !task.is_finished());
        }
        for task in under_way {
            task.await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        () = toggling => {}
        sent = sending => sent?,
    }
    let outcome = outcome.take();
    ensure!(
        f64::from(outcome.sent) > duration.as_secs_f64() * f64::from(RATE) * 0.9,
        "the sender could not keep its rate"
    );
    Ok(outcome)
}

/// One request on an idle connection to the proxy, or a new one.
async fn one(address: SocketAddr, idle: &RefCell<Vec<Client>>, outcome: &RefCell<Outcome>) {
    let start = Instant::now();
    let exchange = async {
        let reused = idle.borrow_mut().pop();
        let mut client = match reused {
            Some(client) if !client.is_closed() => client,
            _ => Client::connect(&Target::clear(address, "a.example")).await?,
        };
        expect_answer(&client.get("/").await?, ANSWER_LENGTH, MARK)?;
        idle.borrow_mut().push(client);
        anyhow::Ok(())
    };
    let failure = match timeout(PATIENCE, exchange).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no answer".to_owned()),
    };
    let mut outcome = outcome.borrow_mut();
    outcome.sent += 1;
    outcome.worst = outcome.worst.max(start.elapsed());
    if let Some(failure) = failure {
        *outcome.failures.entry(failure).or_default() += 1;
    }
}
