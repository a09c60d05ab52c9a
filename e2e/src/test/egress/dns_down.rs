//! Nobody answers questions for names: what is known is served on, what is not is refused in words, and it passes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::Instant;

use super::{
    GATEWAY, WEATHER, apply,
    pods::{Pod, Programs},
    world::{self, World},
};
use crate::test::bed::Bed;

/// How long an answer of DNS may be kept, in seconds: the least that is kept at all.
const TTL: u32 = 1;
/// Rounds of requests, enough to come to every worker.
const ROUNDS: u32 = 20;
/// Who has waited for DNS has waited for longer than this.
const QUICK: Duration = Duration::from_secs(1);

/// The scenario.
pub(super) async fn run(bed: &Bed) -> Result<()> {
    let programs = Programs::get().await?;
    let world = World::open(TTL).await?;
    for objects in [GATEWAY, WEATHER, super::MORE] {
        bed.apply(objects).await?;
    }
    apply(
        bed,
        &[
            Programs::sources(&world.authority.pem()),
            programs.pod("client", &[], json!({})),
        ],
    )
    .await?;
    let address = bed.address("egress").await?;
    let client = Pod {
        bed,
        name: "client",
    };
    client.ready().await?;
    let ask = async |url: &str| {
        client
            .curl(&format!("--proxy http://{address}:3128 {url}"))
            .await
    };
    let clear = "http://api.openweathermap.org/data";
    let tls = "https://api.openweathermap.org/data";
    let sni = format!("--noproxy '*' --connect-to ::{address}:443 https://v6.openweathermap.org/");
    bed.until("the host is open", async || {
        for url in [clear, tls] {
            ask(url).await?.reached(world::WEATHER)?;
        }
        Ok(())
    })
    .await?;
    // A proxy has as many caches as it has workers, and a connection may come to any of them.
    let proxy = format!("http://{address}:3128");
    many(&client, &proxy, &[clear, tls]).await?;
    world.stop_dns().await;
    let stopped = Instant::now();
    let mut took = Vec::new();
    while took.is_empty() || stopped.elapsed() < Duration::from_secs(TTL.into()) {
        took.extend(many(&client, &proxy, &[clear, tls]).await?);
    }
    took.extend(many(&client, &proxy, &[clear, tls]).await?);
    // Each worker waits for DNS to fail once; afterwards it only looks whether it still does.
    let quick = took.iter().filter(|took| **took < QUICK).count();
    let slowest = took.iter().max().copied().unwrap_or_default();
    ensure!(
        quick > took.len() / 2,
        "only {quick} of {}: {took:?}",
        took.len()
    );
    println!(
        "          {} requests and tunnels without DNS, by names that may be kept for {TTL} s: {quick} took less than {QUICK:?}, the slowest {slowest:.1?}",
        took.len()
    );
    // Nobody has asked for these before.
    let unknown = ask("http://v4.openweathermap.org/data").await?;
    unknown.refused(&[
        "HTTP/1.1 503",
        "x-portcullis-reason: dns_failed",
        "v4.openweathermap.org:80 cannot be reached",
        "DNS servers of the egress Gateway",
    ])?;
    println!(
        "          the answer to who asks for a name that is not known: {}",
        unknown.body()
    );
    ask("https://v4.openweathermap.org/data")
        .await?
        .refused(&["HTTP/1.1 503", "x-portcullis-reason: dns_failed"])?;
    ask(&sni).await?.refused(&["alert"])?;
    world.start_dns(TTL).await?;
    let back = Instant::now();
    bed.until("all names are known again", async || {
        ask("http://v4.openweathermap.org/data")
            .await?
            .reached(world::WEATHER_V4)?;
        ask(&sni).await?.reached(world::WEATHER_V6).map(drop)
    })
    .await?;
    println!(
        "          all names known {} ms after DNS was back",
        back.elapsed().as_millis()
    );
    ask(clear).await?.reached(world::WEATHER).map(drop)
}

/// Asks for all of `urls` in many rounds, one after the other; all must be answered with 200. Tells how long each took.
async fn many(client: &Pod<'_>, proxy: &str, urls: &[&str]) -> Result<Vec<Duration>> {
    let script = format!(
        "for round in {{1..{ROUNDS}}}; do for url in {}; do curl --silent --output /dev/null --max-time 20 --proxy {proxy} --write-out '%{{http_code}} %{{time_total}}\\n' $url; done; done",
        urls.join(" ")
    );
    let printed = client.shell(&script).await?;
    let took: Vec<Duration> = printed
        .lines()
        .map(|line| {
            let seconds = line
                .strip_prefix("200 ")
                .with_context(|| format!("not served: {printed}"))?;
            Ok(Duration::from_secs_f64(seconds.parse()?))
        })
        .collect::<Result<_>>()?;
    ensure!(took.len() == ROUNDS as usize * urls.len(), "{printed}");
    Ok(took)
}
