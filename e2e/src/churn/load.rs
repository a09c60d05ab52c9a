//! Clients that load the fixed listeners all the time and count what goes wrong.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use anyhow::Result;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::{
    backend::ANSWER_LENGTH,
    client::{Client, Target},
};

/// Pause between two requests of one client.
const PACE: Duration = Duration::from_millis(10);
/// Requests after which a client connects anew, so that new connections meet every edit, too.
const REQUESTS_PER_CONNECTION: u32 = 50;

/// What the load has seen so far.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) requests: Cell<u64>,
    pub(crate) connections: Cell<u64>,
    failures: RefCell<BTreeMap<String, u64>>,
}

impl Counts {
    pub(crate) fn failed(&self) -> u64 {
        self.failures.borrow().values().sum()
    }

    /// The kinds of failures and how often each came.
    pub(crate) fn failures(&self) -> String {
        format!("{:?}", self.failures.borrow())
    }

    fn fail(&self, what: &anyhow::Error) {
        *self
            .failures
            .borrow_mut()
            .entry(format!("{what:#}"))
            .or_default() += 1;
    }
}

/// Loads `target` on one connection at a time until `over`. Returns the number of requests.
pub(crate) async fn load(target: &Target, counts: &Counts, over: &Cell<bool>) -> u64 {
    let mut clock = interval(PACE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut requests = 0;
    while !over.get() {
        let connection = async {
            let mut client = Client::connect(target).await?;
            counts.connections.set(counts.connections.get() + 1);
            for _ in 0..REQUESTS_PER_CONNECTION {
                clock.tick().await;
                // A proxy may ask a client to reconnect; it may not lose a request.
                if over.get() || client.is_closed() {
                    break;
                }
                requests += 1;
                counts.requests.set(counts.requests.get() + 1);
                one(&mut client).await?;
            }
            anyhow::Ok(())
        };
        if let Err(error) = connection.await {
            counts.fail(&error);
        }
    }
    requests
}

async fn one(client: &mut Client) -> Result<()> {
    let answer = client.get("/").await?;
    anyhow::ensure!(answer.status() == 200, "status {}", answer.status());
    anyhow::ensure!(
        answer.body().len() == ANSWER_LENGTH,
        "{} bytes",
        answer.body().len()
    );
    Ok(())
}
