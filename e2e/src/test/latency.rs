//! How long it takes from a route's being asked for until a client gets its first answer.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use http_body_util::{BodyExt, Empty};
use hyper::header::{HOST, HeaderValue};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Company, Scenario, api::Api, bed::Bed};
use crate::support::{
    client::{Client, Target},
    machine,
    statistics::quantile,
};

const ROUTES: usize = 200;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(1);
/// How long one route may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// What 99 of 100 routes have to keep on a machine that does nothing else, in milliseconds. A figure over it is printed as a loss.
const BAR: f64 = 50.0;
/// What they have to keep on any machine.
const BROKEN: f64 = 500.0;
/// The header by which a route is known.
const MARK: &str = "x-route";

const GATEWAY: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  gatewayClassName: portcullis
  listeners: [{ name: http, port: 80, protocol: HTTP }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: first }
spec:
  parentRefs: [{ name: edge }]
  hostnames: [first.example]
  rules: [{ backendRefs: [{ name: app, port: 80 }] }]
";

pub(super) fn scenario() -> Scenario {
    Scenario::new(
        "latency",
        "of 200 routes, made one after the other, 99 in 100 answer at once (measured: 50 ms)",
        Company::Alone,
        |bed| run(bed).boxed_local(),
    )
}

async fn run(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    bed.apply(GATEWAY).await?;
    let address = bed.address("edge").await?;
    let url = format!("http://{address}/");
    bed.until_curl(&["--header", "Host: first.example", &url], |answer| {
        answer.is_from("app")
    })
    .await?;
    let Times { taken, served } = measure(bed, address).await?;
    let figure = |times, share| quantile(times, share).context("there are no times");
    let [median, p99, most] = [0.5, 0.99, 1.0].map(|share| figure(&served, share));
    let (median, p99, most) = (median?, p99?, most?);
    let taken = figure(&taken, 0.5)?;
    let load = machine::load()?;
    let verdict = if p99 <= BAR { "PASS" } else { "LOSS" };
    println!(
        "          {ROUTES} routes, from the request that makes one to its first 200: median {median:.1} ms (of which the API server {taken:.1}), p99 {p99:.1} ms, most {most:.1} ms; p99 <= {BAR} ms: {verdict}; load of the machine {load:.1}"
    );
    ensure!(
        p99 <= BROKEN,
        "p99 is {p99:.1} ms: no load explains more than {BROKEN} ms"
    );
    Ok(())
}

/// Milliseconds since the request that makes a route was sent, in ascending order.
struct Times {
    /// Until the API server said that it has the route.
    taken: Vec<f64>,
    /// Until a client had an answer by it.
    served: Vec<f64>,
}

async fn measure(bed: &Bed, address: IpAddr) -> Result<Times> {
    let api = Api::open(&bed.kubectl).await?;
    let mut api = api.connect().await?;
    let mut client = Client::connect(&Target::clear(SocketAddr::new(address, 80), "")).await?;
    let path = format!(
        "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
        bed.namespace
    );
    let mut times = Times {
        taken: Vec::with_capacity(ROUTES),
        served: Vec::with_capacity(ROUTES),
    };
    for number in 0..ROUTES {
        let name = format!("route-{number}");
        let start = Instant::now();
        let elapsed = || start.elapsed().as_secs_f64() * 1e3;
        api.create(&path, &route(&name)).await?;
        times.taken.push(elapsed());
        while !is_served(&mut client, &name).await? {
            ensure!(
                start.elapsed() < PATIENCE,
                "{name} is not served after {} s",
                PATIENCE.as_secs()
            );
            sleep(LOOK).await;
        }
        times.served.push(elapsed());
    }
    times.taken.sort_by(f64::total_cmp);
    times.served.sort_by(f64::total_cmp);
    Ok(times)
}

/// Whether the answer is a 200 by this very route.
async fn is_served(client: &mut Client, name: &str) -> Result<bool> {
    let mut request = client.request("GET", "/", Empty::new().boxed())?;
    let host = HeaderValue::try_from(format!("{name}.example"))?;
    request.headers_mut().insert(HOST, host);
    let (head, body) = client.send(request).await?.into_parts();
    body.collect().await?;
    Ok(head.status == 200 && head.headers.get(MARK).is_some_and(|mark| mark == name))
}

fn route(name: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": name },
        "spec": {
            "parentRefs": [{ "name": "edge" }],
            "hostnames": [format!("{name}.example")],
            "rules": [{
                "backendRefs": [{ "name": "app", "port": 80 }],
                "filters": [{
                    "type": "ResponseHeaderModifier",
                    "responseHeaderModifier": { "set": [{ "name": MARK, "value": name }] },
                }],
            }],
        },
    })
}
