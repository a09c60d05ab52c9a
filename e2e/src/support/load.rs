//! Clients that ask all the time, one connection each, and count what goes wrong.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use bytes::Bytes;
use hyper::Response;
use tokio::time::{MissedTickBehavior, interval};

use super::client::{Client, Target, is_unprocessed};

/// Connections that a request may be tried on.
const ATTEMPTS: u32 = 3;

/// One client.
pub(crate) struct Caller<C = fn(&Response<Bytes>) -> Result<()>> {
    pub(crate) target: Target,
    /// Pause between two requests.
    pub(crate) pace: Duration,
    /// Requests after which it connects anew; `None` if it stays until the server ends the connection.
    pub(crate) requests_per_connection: Option<u32>,
    /// Whether an answer is the right one.
    pub(crate) check: C,
}

/// What the clients have seen so far.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) requests: Cell<u64>,
    pub(crate) connections: Cell<u64>,
    /// Requests that were sent again because the server, or the end of the connection before, left them unprocessed.
    pub(crate) resent: Cell<u64>,
    /// The longest time that a request took, with its connect if it needed one.
    pub(crate) slowest: Cell<Duration>,
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

    /// What was seen since the last time; counting begins anew.
    pub(crate) fn take(&self) -> Self {
        Self {
            requests: self.requests.take().into(),
            connections: self.connections.take().into(),
            resent: self.resent.take().into(),
            slowest: self.slowest.take().into(),
            failures: self.failures.take().into(),
        }
    }

    fn fail(&self, what: &anyhow::Error) {
        *self
            .failures
            .borrow_mut()
            .entry(format!("{what:#}"))
            .or_default() += 1;
    }
}

impl<C: Fn(&Response<Bytes>) -> Result<()>> Caller<C> {
    /// Asks on one connection at a time until `over`. Returns the number of requests.
    pub(crate) async fn call(&self, counts: &Counts, over: &Cell<bool>) -> u64 {
        let mut clock = interval(self.pace);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut requests = 0;
        let mut kept = None;
        loop {
            clock.tick().await;
            if over.get() {
                return requests;
            }
            requests += 1;
            counts.requests.set(counts.requests.get() + 1);
            let start = Instant::now();
            if let Err(error) = self.ask(&mut kept, counts).await {
                counts.fail(&error);
                kept = None;
            }
            counts
                .slowest
                .set(counts.slowest.get().max(start.elapsed()));
        }
    }

    /// Asks once, on the connection that is kept if it is good for it.
    async fn ask(&self, kept: &mut Option<Kept>, counts: &Counts) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let connection = match kept.take().filter(Kept::is_usable) {
                Some(connection) => connection,
                None => self.connect(counts).await?,
            };
            let connection = kept.insert(connection);
            connection.left = connection.left.map(|left| left - 1);
            match connection.client.get("/").await {
                Err(error) if is_unprocessed(&error) => {
                    counts.resent.set(counts.resent.get() + 1);
                    *kept = None;
                }
                answer => return (self.check)(&answer?),
            }
        }
        bail!("{ATTEMPTS} connections in a row did not process it")
    }

    async fn connect(&self, counts: &Counts) -> Result<Kept> {
        let client = Client::connect(&self.target).await?;
        counts.connections.set(counts.connections.get() + 1);
        Ok(Kept {
            client,
            left: self.requests_per_connection,
        })
    }
}

/// A connection that is kept from request to request.
struct Kept {
    client: Client,
    /// Requests until it is given up.
    left: Option<u32>,
}

impl Kept {
    /// A proxy may ask a client to reconnect; it may not lose a request.
    fn is_usable(&self) -> bool {
        !self.client.is_closed() && self.left != Some(0)
    }
}
