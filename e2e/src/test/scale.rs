//! A thousand routes at once: how soon they are in force, how often the API server is written to, and what it costs.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    Company, Scenario,
    api::{Api, Watch},
    bed::{Bed, PATIENCE, expect_condition},
    controllers::Controllers,
    proxies,
};
use crate::support::watch::mib;

const ROUTES: usize = 1000;
/// How long all may take to be in force after the last was created.
const SETTLED: Duration = Duration::from_secs(2);
/// How often the Gateway's status may be written meanwhile.
const GATEWAY_WRITES: usize = 20;
/// What a controller may need with all routes, in MiB.
const CONTROLLER_MEMORY: f64 = 60.0;
/// What a proxy may need with a few routes, in MiB.
const PROXY_MEMORY: f64 = 25.0;
/// What a controller may need when nothing happens, in cores.
const IDLE_CPU: f64 = 0.01;
/// Time over which that is measured.
const IDLE: Duration = Duration::from_secs(20);
/// Every so many routes have an entry of another controller in their status.
const SHARED: usize = 200;
const OURS: &str = "portcullis.dev/gateway-controller";
const OTHER: &str = "example.com/other-controller";

const GATEWAY: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  gatewayClassName: portcullis
  listeners: [{ name: http, port: 80, protocol: HTTP }]
";

pub(super) fn scenario() -> Scenario {
    Scenario::new(
        "scale",
        "1,000 routes made by one kubectl are in force 2 s after the last, for few writes and little memory",
        Company::AloneOnOwnNode,
        |bed| run(bed).boxed_local(),
    )
}

async fn run(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    bed.apply(GATEWAY).await?;
    let address = bed.address("edge").await?;
    let proxies = proxies::until_ready(bed, "edge", 1).await?;
    let proxy = proxies.first().context("there is no proxy")?;
    let idle = mib(proxy.process()?.stat()?.rss());

    let api = Api::open(&bed.kubectl).await?;
    let lists = format!(
        "/apis/gateway.networking.k8s.io/v1/namespaces/{}",
        bed.namespace
    );
    let gateway = api
        .watch(&format!(
            "{lists}/gateways?watch=true&fieldSelector=metadata.name=edge&resourceVersion=0"
        ))
        .await?;
    let statuses = api
        .watch(&format!("{lists}/httproutes?watch=true&resourceVersion=0"))
        .await?;
    let last = name(ROUTES - 1);
    let begin = Instant::now();
    let (created, served, (attached, gateway_writes), (accepted, route_writes), ()) = tokio::try_join!(
        create(bed),
        until_served(bed, &address, &last),
        until_attached(gateway),
        until_accepted(statuses),
        share(bed),
    )?;
    let settled = attached.max(accepted).max(served);
    let late = settled.saturating_duration_since(created);
    println!(
        "          {ROUTES} routes created in {:.1} s, in force {:.2} s after the last; {} writes of the Gateway's status, {} of the routes'",
        (created - begin).as_secs_f64(),
        late.as_secs_f64(),
        gateway_writes,
        route_writes,
    );
    let mut failures = Vec::new();
    let mut check = |good: bool, what: String| {
        if !good {
            failures.push(what);
        }
    };
    check(
        late <= SETTLED,
        format!("in force only {:.2} s after the last", late.as_secs_f64()),
    );
    check(
        gateway_writes <= GATEWAY_WRITES,
        format!("{gateway_writes} writes of the Gateway"),
    );
    check(
        idle <= PROXY_MEMORY,
        format!("the proxy needs {idle:.1} MiB without routes"),
    );
    for (pod, memory, cpu) in controllers(bed).await? {
        println!("          {pod}: {memory:.1} MiB, {cpu:.4} cores when idle");
        check(
            memory <= CONTROLLER_MEMORY,
            format!("{pod} needs {memory:.1} MiB"),
        );
        check(
            cpu <= IDLE_CPU,
            format!("{pod} needs {cpu:.4} cores when idle"),
        );
    }
    println!(
        "          the proxy: {idle:.1} MiB without routes, {:.1} MiB with all",
        mib(proxy.process()?.stat()?.rss())
    );
    until_shared_still(bed).await?;
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// One kubectl creates all routes. Returns when the last was created.
async fn create(bed: &Bed) -> Result<Instant> {
    let routes: Vec<Value> = (0..ROUTES).map(|number| route(&name(number))).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": routes }).to_string();
    let arguments = ["create", "--namespace", &bed.namespace, "--filename=-"];
    bed.kubectl.feed(&arguments, &list).await?;
    Ok(Instant::now())
}

/// Returns when a client has had its first answer by this route.
async fn until_served(bed: &Bed, address: &IpAddr, route: &str) -> Result<Instant> {
    let host = format!("Host: {route}.example");
    let url = format!("http://{address}/");
    bed.until_curl(&["--header", &host, &url], |answer| answer.is_from("app"))
        .await?;
    Ok(Instant::now())
}

/// Returns when all routes are attached to the Gateway, and how often it was written until then.
async fn until_attached(mut gateway: Watch) -> Result<(Instant, usize)> {
    let mut writes = 0;
    loop {
        let event = next(&mut gateway, "routes are attached").await?;
        writes += usize::from(event["type"] == "MODIFIED");
        if event["object"]["status"]["listeners"][0]["attachedRoutes"] == ROUTES {
            return Ok((Instant::now(), writes));
        }
    }
}

/// Returns when all routes are accepted, and how often they were written until then.
async fn until_accepted(mut routes: Watch) -> Result<(Instant, usize)> {
    let mut writes = 0;
    let mut accepted = BTreeSet::new();
    while accepted.len() < ROUTES {
        let event = next(&mut routes, "routes are accepted").await?;
        writes += usize::from(event["type"] == "MODIFIED");
        let route = &event["object"];
        let ours = entry(route, OURS).is_some_and(|entry| {
            expect_condition(&entry["conditions"], "Accepted", "True").is_ok()
        });
        if let Some(name) = route["metadata"]["name"].as_str().filter(|_| ours) {
            accepted.insert(name.to_owned());
        }
    }
    Ok((Instant::now(), writes))
}

async fn next(watch: &mut Watch, what: &str) -> Result<Value> {
    timeout(PATIENCE, watch.next())
        .await
        .with_context(|| format!("{what}: nothing happens for {} s", PATIENCE.as_secs()))?
}

/// Another controller writes into the status of some routes.
async fn share(bed: &Bed) -> Result<()> {
    for number in (0..ROUTES).step_by(SHARED) {
        let name = name(number);
        let patch = json!([{ "op": "add", "path": "/status/parents/-", "value": others() }]);
        let patch = patch.to_string();
        bed.until("the route has a status to add to", async || {
            bed.run(&[
                "patch",
                "httproute",
                &name,
                "--subresource=status",
                "--type=json",
                "--patch",
                &patch,
            ])
            .await
        })
        .await?;
    }
    Ok(())
}

/// Changes the routes that another controller has written into too, and checks that its entries stay as our own change.
async fn until_shared_still(bed: &Bed) -> Result<()> {
    for number in (0..ROUTES).step_by(SHARED) {
        let name = name(number);
        let patch = json!({ "spec": { "hostnames": [format!("changed-{number}.example")] } });
        let patch = patch.to_string();
        bed.run(&[
            "patch",
            "httproute",
            &name,
            "--type=merge",
            "--patch",
            &patch,
        ])
        .await?;
        let route = bed
            .until("the status is that of the changed route", async || {
                let route = bed.get(&format!("httproute/{name}")).await?;
                let ours = entry(&route, OURS).context("we have no entry")?;
                ensure!(
                    ours["conditions"][0]["observedGeneration"] == route["metadata"]["generation"],
                    "the status is an older one: {ours}"
                );
                Ok(route)
            })
            .await?;
        ensure!(
            entry(&route, OTHER) == Some(&others()),
            "{name}: the other controller's entry is not what it was: {}",
            route["status"]
        );
    }
    Ok(())
}

/// A controller's entry in the status of a route.
fn entry<'a>(route: &'a Value, controller: &str) -> Option<&'a Value> {
    let parents = route["status"]["parents"].as_array()?;
    parents
        .iter()
        .find(|entry| entry["controllerName"] == controller)
}

/// What the other controller has to say.
fn others() -> Value {
    json!({
        "controllerName": OTHER,
        "parentRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "elsewhere" },
        "conditions": [{
            "type": "Accepted",
            "status": "False",
            "reason": "NoMatchingParent",
            "message": "it is not for us",
            "observedGeneration": 1,
            "lastTransitionTime": "2020-01-01T00:00:00Z",
        }],
    })
}

/// Memory in MiB of every controller, and the cores that it needs while nothing happens.
async fn controllers(bed: &Bed) -> Result<Vec<(String, f64, f64)>> {
    let controllers = Controllers(bed);
    let mut before = Vec::new();
    for pod in controllers.pods().await? {
        let process = controllers.process(&pod).await?;
        before.push((pod, process.stat()?, process));
    }
    let start = Instant::now();
    sleep(IDLE).await;
    before
        .into_iter()
        .map(|(pod, before, process)| {
            let now = process.stat()?;
            let used = now.cpu().saturating_sub(before.cpu());
            let cpu = used.as_secs_f64() / start.elapsed().as_secs_f64();
            Ok((pod, mib(now.rss()), cpu))
        })
        .collect()
}

fn name(number: usize) -> String {
    format!("route-{number}")
}

fn route(name: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": name },
        "spec": {
            "parentRefs": [{ "name": "edge" }],
            "hostnames": [format!("{name}.example")],
            "rules": [{ "backendRefs": [{ "name": "app", "port": 80 }] }],
        },
    })
}
