//! What a cluster does to Portcullis: its parts are killed, taken away and replaced one after the other, and clients
//! outside of the cluster must not notice.

mod absence;
mod leader;
mod traffic;
mod updates;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use tokio::join;

use self::traffic::{End, SOCKETS, Traffic};
use super::{
    Company, Scenario,
    bed::Bed,
    controllers::Controllers,
    proxies::{self, Proxy},
};
use crate::support::process::to_f64;

const GATEWAY: &str = "edge";
const REPLICAS: usize = 2;
/// Time that a proxy serves everybody after it was told to end, which is its default.
const DRAIN_DELAY: Duration = Duration::from_secs(5);
/// Time that connections get then; see [`OBJECTS`].
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// By so much a WebSocket may seem to end too early or too late: the clocks are not read at the same time.
const TOLERANCE: Duration = Duration::from_secs(2);
/// Less load than this would show nothing, in requests per second. A busy machine may not manage all of it.
const LEAST_RATE: f64 = 150.0;

/// The drain timeout is shorter than the default one, so that the scenario is, too.
const OBJECTS: &str = r"
apiVersion: portcullis.dev/v1alpha1
kind: GatewayParameters
metadata: { name: edge }
spec:
  proxy: { drainTimeout: 10s }
  workload: { replicas: 2 }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  gatewayClassName: portcullis
  infrastructure: { parametersRef: { group: portcullis.dev, kind: GatewayParameters, name: edge } }
  listeners: [{ name: http, port: 80, protocol: HTTP }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: app }
spec:
  parentRefs: [{ name: edge }]
  hostnames: [app.example]
  rules: [{ backendRefs: [{ name: app, port: 80 }] }]
";

pub(super) fn scenario() -> Scenario {
    Scenario::new(
        "chaos",
        "no request fails and no WebSocket is cut while parts of Portcullis and of the cluster die, are away, or are replaced",
        Company::AloneOnOwnNode,
        |bed| run(bed).boxed_local(),
    )
}

async fn run(bed: &Bed) -> Result<()> {
    let controllers = Controllers(bed);
    let replicas = controllers.replicas().await?;
    ensure!(
        replicas == 2,
        "there are {replicas} controllers instead of 2"
    );
    controllers.until_ready(replicas).await?;
    bed.echo("app", 2).await?;
    bed.apply(OBJECTS).await?;
    let address = bed.address(GATEWAY).await?;
    let url = format!("http://{address}/");
    bed.until_curl(&["--header", "Host: app.example", &url], |answer| {
        answer.is_from("app")
    })
    .await?;
    proxies::until_ready(bed, GATEWAY, REPLICAS).await?;
    let chaos = Chaos {
        bed,
        controllers,
        traffic: Traffic::new(address),
        changes: Cell::new(0),
        drains: RefCell::default(),
        failures: RefCell::default(),
    };
    let steps = async {
        let done = chaos.steps().await;
        chaos.traffic.stop();
        done
    };
    let (done, ()) = join!(steps, chaos.traffic.run());
    let failures = chaos.failures.take();
    done?;
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

struct Chaos<'a> {
    bed: &'a Bed,
    controllers: Controllers<'a>,
    traffic: Traffic,
    /// Changes that were applied and served.
    changes: Cell<u32>,
    /// When proxies were told to end.
    drains: RefCell<Vec<Instant>>,
    failures: RefCell<Vec<String>>,
}

impl Chaos<'_> {
    async fn steps(&self) -> Result<()> {
        self.step("all is well", self.settle()).await?;
        self.step("the leading process is killed", leader::process(self))
            .await?;
        self.step("the leading pod is killed", leader::pod(self))
            .await?;
        self.step("there are no controllers", absence::controllers(self))
            .await?;
        self.step("the API server stands still", absence::api_server(self))
            .await?;
        self.step("the proxies are updated", updates::proxies(self))
            .await?;
        self.step("the controllers are updated", updates::controllers(self))
            .await
    }

    /// Does something while clients ask, and tells what became of them.
    async fn step(&self, what: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
        let start = Instant::now();
        let worked = async {
            work.await?;
            self.settle().await
        };
        let worked = worked.await;
        let (counts, ends) = self.traffic.take();
        let took = start.elapsed();
        let (drained, cut): (Vec<_>, Vec<_>) = ends.iter().partition(|end| self.is_drained(end));
        println!(
            "{:>10.1} s  {what}: {} requests on {} connections, {} sent again, {} failed, longest {} ms; {} WebSockets open, {} ended with their proxy, {} cut",
            took.as_secs_f64(),
            counts.requests.get(),
            counts.connections.get(),
            counts.resent.get(),
            counts.failed(),
            counts.slowest.get().as_millis(),
            self.traffic.open(),
            drained.len(),
            cut.len(),
        );
        let mut failures = self.failures.borrow_mut();
        let rate = to_f64(counts.requests.get()) / took.as_secs_f64();
        if rate < LEAST_RATE {
            failures.push(format!("{what}: only {rate:.0} requests a second"));
        }
        if counts.failed() > 0 {
            failures.push(format!("{what}: {}", counts.failures()));
        }
        let cut: BTreeSet<&str> = cut.iter().map(|end| end.why.as_str()).collect();
        if !cut.is_empty() {
            failures.push(format!("{what}: WebSockets: {cut:?}"));
        }
        worked.with_context(|| {
            let seen = failures.join("; ");
            format!("{what} (what clients saw: {seen})")
        })
    }

    /// Whether a WebSocket has ended because its proxy had waited for as long as it may.
    fn is_drained(&self, end: &End) -> bool {
        let grace = DRAIN_DELAY + DRAIN_TIMEOUT;
        let due = |began: &Instant| {
            let waited = end.at.saturating_duration_since(*began);
            waited + TOLERANCE > grace && waited < grace + TOLERANCE
        };
        end.opened && self.drains.borrow().iter().any(due)
    }

    /// Waits until everything is there as it was in the beginning.
    async fn settle(&self) -> Result<()> {
        self.controllers.until_ready(2).await?;
        proxies::until_ready(self.bed, GATEWAY, REPLICAS).await?;
        self.bed
            .until("all WebSockets are open", async || {
                ensure!(
                    self.traffic.open() == SOCKETS,
                    "{} of {SOCKETS}",
                    self.traffic.open()
                );
                Ok(())
            })
            .await
    }

    /// Changes a route, and waits until every one of the proxies serves it as it is now.
    async fn change(&self, proxies: &BTreeSet<Proxy>) -> Result<()> {
        let number = self.changes.get() + 1;
        self.changes.set(number);
        self.bed
            .apply(&format!(
                r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: change }}
spec:
  parentRefs: [{{ name: edge }}]
  hostnames: [change.example]
  rules:
  - backendRefs: [{{ name: app, port: 80 }}]
    filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {{ set: [{{ name: x-change, value: n{number} }}] }}
"
            ))
            .await?;
        for proxy in proxies {
            let url = format!("http://{}/", proxy.address);
            self.bed
                .until_curl(&["--header", "Host: change.example", &url], |answer| {
                    answer.status == 200
                        && answer.header("x-change") == Some(format!("n{number}").as_str())
                })
                .await
                .with_context(|| format!("change {number} at {}", proxy.pod))?;
        }
        Ok(())
    }

    /// Waits until the leader has written the status of the route as it is now.
    async fn until_told(&self) -> Result<()> {
        self.bed
            .until("the changed route has its status", async || {
                let route = self.bed.get("httproute/change").await?;
                let condition = &route["status"]["parents"][0]["conditions"][0];
                ensure!(
                    condition["observedGeneration"] == route["metadata"]["generation"],
                    "the status is an older one: {condition}"
                );
                Ok(())
            })
            .await
    }
}
