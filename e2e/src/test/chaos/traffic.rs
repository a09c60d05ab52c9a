//! What clients outside of the cluster do all the time: requests and WebSockets, and what becomes of them.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::ensure;
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::{join, time::sleep};

use crate::support::{
    client::{Target, Version},
    load::{Caller, Counts},
    process::POLL,
    streams::EchoStream,
};

/// The host of the requests.
const HOST: &str = "app.example";
/// Clients, and the pause between two requests of each: 500 requests a second.
const CALLERS: u32 = 25;
const PACE: Duration = Duration::from_millis(50);
/// Every so many clients speak HTTP/2.
const HTTP2: u32 = 3;
/// Every other client connects anew after so many requests; the rest stay for as long as they may.
const REQUESTS_PER_CONNECTION: u32 = 40;
/// WebSockets that are open all the time.
pub(super) const SOCKETS: usize = 8;

/// Requests and WebSockets at one address.
pub(super) struct Traffic {
    target: Target,
    counts: Counts,
    open: Cell<usize>,
    ends: RefCell<Vec<End>>,
    over: Cell<bool>,
}

/// A WebSocket that has ended, or that did not open.
pub(super) struct End {
    pub(super) at: Instant,
    pub(super) opened: bool,
    pub(super) why: String,
}

impl Traffic {
    pub(super) fn new(address: IpAddr) -> Self {
        Self {
            target: Target::clear(SocketAddr::new(address, 80), HOST),
            counts: Counts::default(),
            open: Cell::new(0),
            ends: RefCell::default(),
            over: Cell::new(false),
        }
    }

    /// Goes on until [`Self::stop`].
    pub(super) async fn run(&self) {
        let callers: Vec<Caller> = (0..CALLERS).map(|number| self.caller(number)).collect();
        let calling = async {
            let mut calls = FuturesUnordered::new();
            for (number, caller) in (0..).zip(&callers) {
                calls.push(async move {
                    // Not all of them at once: requests come evenly.
                    sleep(PACE * number / CALLERS).await;
                    caller.call(&self.counts, &self.over).await
                });
            }
            while calls.next().await.is_some() {}
        };
        join!(calling, join_all((0..SOCKETS).map(|_| self.keep_socket())));
    }

    pub(super) fn stop(&self) {
        self.over.set(true);
    }

    /// How many WebSockets are open.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// What was seen since the last time.
    pub(super) fn take(&self) -> (Counts, Vec<End>) {
        (self.counts.take(), self.ends.take())
    }

    fn caller(&self, number: u32) -> Caller {
        let mut target = self.target.clone();
        if number.is_multiple_of(HTTP2) {
            target.version = Version::Http2;
        }
        Caller {
            target,
            pace: PACE,
            requests_per_connection: number.is_multiple_of(2).then_some(REQUESTS_PER_CONNECTION),
            check: |answer| {
                ensure!(answer.status() == 200, "status {}", answer.status());
                ensure!(!answer.body().is_empty(), "an empty answer");
                Ok(())
            },
        }
    }

    /// Opens a WebSocket, and another one when it ends.
    async fn keep_socket(&self) {
        while !self.over.get() {
            let (opened, outcome) = match EchoStream::websocket(&self.target).await {
                Ok(socket) => {
                    self.open.set(self.open.get() + 1);
                    let outcome = socket.run(&self.over).await;
                    self.open.set(self.open.get() - 1);
                    (true, outcome.map(drop))
                }
                Err(error) => (false, Err(error)),
            };
            if let Err(error) = outcome {
                self.ends.borrow_mut().push(End {
                    at: Instant::now(),
                    opened,
                    why: format!("{error:#}"),
                });
                sleep(POLL).await;
            }
        }
    }
}
