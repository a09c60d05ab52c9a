//! The demo's use cases, called over real sockets.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use http::{Response, StatusCode, header};
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use super::{client::Client, way_out};
use crate::output::{BAD, Columns, GOOD, styled};

/// Requests of which a tenth should go to version 2.
const SPLIT_REQUESTS: u32 = 1000;
/// Four standard deviations of a binomial distribution with 1,000 trials of 10 %: 4 x 9.5.
const SPLIT_TOLERANCE: u32 = 38;

/// Tables that come while requests are under way.
const SWAPS: u32 = 100;
/// Connections on which they are.
const CONNECTIONS: u32 = 8;

/// Where the demo serves, and how its certificate is known.
pub(crate) struct Target {
    pub(crate) address: IpAddr,
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// The explicit proxy.
    pub(crate) proxy: u16,
    pub(crate) certificate: CertificateDer<'static>,
}

/// What one use case showed.
pub(crate) struct Outcome {
    use_case: &'static str,
    call: &'static str,
    result: anyhow::Result<String>,
}

impl Outcome {
    /// Whether it went as it should.
    pub(crate) fn passed(&self) -> bool {
        self.result.is_ok()
    }
}

/// Makes every call of the demo. `swap` gives the proxy another table each time.
pub(crate) async fn run(target: &Target, swap: impl FnMut() -> anyhow::Result<()>) -> Vec<Outcome> {
    let mut outcomes = vec![
        outcome("default route", "GET /", default_route(target).await),
        outcome(
            "dark launch",
            "GET / with user: test",
            dark_launch(target).await,
        ),
        outcome(
            "prefix rewrite",
            "GET /api/items",
            prefix_rewrite(target).await,
        ),
        outcome(
            "90/10 split",
            "GET /split, 1,000 times",
            split(target).await,
        ),
        outcome("mirror", "GET /mirror/NONCE", mirror(target).await),
        outcome("timeout", "GET /slow?delay_ms=5000", timeout(target).await),
        outcome("redirect", "GET /secure/page", redirect(target).await),
        outcome(
            "reload",
            "GET / on 8 connections",
            reload(target, swap).await,
        ),
        outcome("HTTPS", "GET /secure/page over TLS", https(target).await),
    ];
    outcomes.extend(way_out::run(target).await);
    outcomes
}

/// The outcomes in columns.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut columns = Columns::new(["RESULT", "USE CASE", "CALL", "SEEN"]);
    for Outcome {
        use_case,
        call,
        result,
    } in outcomes
    {
        let (word, seen) = match result {
            Ok(seen) => (styled(GOOD, "pass"), seen.clone()),
            Err(error) => (styled(BAD, "FAIL"), format!("{error:#}")),
        };
        columns.row([word, (*use_case).into(), (*call).into(), seen]);
    }
    columns.to_string()
}

pub(super) fn outcome(
    use_case: &'static str,
    call: &'static str,
    result: anyhow::Result<String>,
) -> Outcome {
    Outcome {
        use_case,
        call,
        result,
    }
}

async fn default_route(target: &Target) -> anyhow::Result<String> {
    let answer = target.http().await?.get("/", &[]).await?;
    served_by(&answer, "echo-v1")?;
    Ok("echo-v1 answered".into())
}

async fn dark_launch(target: &Target) -> anyhow::Result<String> {
    let mut client = target.http().await?;
    served_by(&client.get("/", &[("user", "test")]).await?, "echo-v2")?;
    served_by(&client.get("/", &[("user", "somebody")]).await?, "echo-v1")?;
    Ok("echo-v2 for user: test, echo-v1 for user: somebody".into())
}

async fn prefix_rewrite(target: &Target) -> anyhow::Result<String> {
    let echo = served_by(
        &target.http().await?.get("/api/items", &[]).await?,
        "echo-v1",
    )?;
    expect(&echo["path"], "/items")?;
    expect(&echo["headers"]["x-gateway"], "portcullis")?;
    Ok("echo-v1 got /items with x-gateway: portcullis".into())
}

async fn split(target: &Target) -> anyhow::Result<String> {
    let mut client = target.http().await?;
    let mut second = 0;
    for _ in 0..SPLIT_REQUESTS {
        let answer = client.get("/split", &[]).await?;
        second += u32::from(served_by(&answer, "echo-v2").is_ok());
        if served_by(&answer, "echo-v2").is_err() {
            served_by(&answer, "echo-v1")?;
        }
    }
    ensure!(
        second.abs_diff(SPLIT_REQUESTS / 10) <= SPLIT_TOLERANCE,
        "echo-v2 answered {second} of {SPLIT_REQUESTS} requests, expected 100 +/- {SPLIT_TOLERANCE}"
    );
    Ok(format!("echo-v2 answered {second} of {SPLIT_REQUESTS}"))
}

async fn mirror(target: &Target) -> anyhow::Result<String> {
    let mut client = target.http().await?;
    let path = format!("/mirror/{:016x}", nonce());
    served_by(&client.get(&path, &[]).await?, "echo-v1")?;
    // The copy travels on its own time; it has to arrive, not by when.
    let arrived = async {
        loop {
            let seen = client.get("/seen", &[("user", "test")]).await?;
            if String::from_utf8_lossy(seen.body()).contains(&path) {
                return anyhow::Ok(());
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::client::PATIENCE, arrived)
        .await
        .context("the copy did not reach echo-v2")??;
    Ok("echo-v1 answered, echo-v2 got the copy".into())
}

async fn timeout(target: &Target) -> anyhow::Result<String> {
    let started = std::time::Instant::now();
    let answer = target.http().await?.get("/slow?delay_ms=5000", &[]).await?;
    status(&answer, StatusCode::GATEWAY_TIMEOUT)?;
    Ok(format!("504 after {} ms", started.elapsed().as_millis()))
}

async fn redirect(target: &Target) -> anyhow::Result<String> {
    let answer = target.http().await?.get("/secure/page", &[]).await?;
    status(&answer, StatusCode::MOVED_PERMANENTLY)?;
    let location = answer
        .headers()
        .get(header::LOCATION)
        .context("no Location header")?
        .to_str()?;
    let expected = format!("https://localhost:{}/secure/page", target.https);
    ensure!(
        location == expected,
        "Location is {location}, expected {expected}"
    );
    Ok(format!("301 to {location}"))
}

async fn https(target: &Target) -> anyhow::Result<String> {
    let address = SocketAddr::new(target.address, target.https);
    let mut client = Client::https(address, target.certificate.clone()).await?;
    let echo = served_by(&client.get("/secure/page", &[]).await?, "echo-v1")?;
    expect(&echo["headers"]["x-forwarded-proto"], "https")?;
    Ok("certificate verified, echo-v1 answered".into())
}

/// No request may fail while tables come and go.
async fn reload(
    target: &Target,
    mut swap: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let go_on = Cell::new(true);
    let mut connections: FuturesUnordered<_> =
        (0..CONNECTIONS).map(|_| requests(target, &go_on)).collect();
    let mut answered = 0;
    let swaps = async {
        for _ in 0..SWAPS {
            swap()?;
            // Requests are under way on the other connections meanwhile.
            default_route(target).await?;
        }
        go_on.set(false);
        anyhow::Ok(())
    };
    let count = async {
        while let Some(number) = connections.next().await {
            answered += number?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(swaps, count)?;
    Ok(format!(
        "{SWAPS} new tables, {} requests, none failed",
        answered + SWAPS
    ))
}

/// Requests without a pause, until told to stop.
async fn requests(target: &Target, go_on: &Cell<bool>) -> anyhow::Result<u32> {
    let mut client = target.http().await?;
    let mut answered = 0;
    while go_on.get() {
        served_by(&client.get("/", &[]).await?, "echo-v1")?;
        answered += 1;
    }
    Ok(answered)
}

impl Target {
    async fn http(&self) -> anyhow::Result<Client> {
        Client::http(SocketAddr::new(self.address, self.http)).await
    }
}

/// What an echo server was asked, if it is that one.
pub(super) fn served_by(answer: &Response<Bytes>, service: &str) -> anyhow::Result<Value> {
    status(answer, StatusCode::OK)?;
    let echo: Value = serde_json::from_slice(answer.body()).context("the answer is no echo")?;
    expect(&echo["service"], service)?;
    Ok(echo)
}

pub(super) fn status(answer: &Response<Bytes>, expected: StatusCode) -> anyhow::Result<()> {
    let status = answer.status();
    ensure!(
        status == expected,
        "status {status}, expected {expected}: {}",
        String::from_utf8_lossy(answer.body())
    );
    Ok(())
}

fn expect(seen: &Value, expected: &str) -> anyhow::Result<()> {
    ensure!(seen == expected, "saw {seen}, expected {expected:?}");
    Ok(())
}

/// Tells this run's mirrored request from any other.
fn nonce() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{super::echo, *};

    /// Without a gateway in between, whatever needs one must fail: a test that cannot fail would prove nothing.
    #[tokio::test]
    async fn an_echo_server_alone_does_not_pass() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let mut listeners = echo::bind(1).await.unwrap();
                let listener = listeners.pop().unwrap();
                let http = listener.local_addr().unwrap().port();
                tokio::task::spawn_local(echo::serve("echo-v1", listener));
                let certificate = super::super::quickstart::certificate().unwrap().der;
                let target = Target {
                    address: Ipv4Addr::LOCALHOST.into(),
                    http,
                    https: http,
                    proxy: http,
                    certificate,
                };

                assert!(default_route(&target).await.is_ok());
                assert!(dark_launch(&target).await.is_err());
                assert!(prefix_rewrite(&target).await.is_err());
                assert!(split(&target).await.is_err());
                assert!(redirect(&target).await.is_err());
                assert!(https(&target).await.is_err());
            })
            .await;
    }

    #[test]
    fn the_table_shows_what_failed_and_why() {
        let outcomes = [
            outcome("one", "GET /1", Ok("seen".into())),
            outcome(
                "two",
                "GET /2",
                Err(anyhow::anyhow!("inner").context("outer")),
            ),
        ];
        let plain: String = anstream::adapter::strip_str(&table(&outcomes)).collect();
        assert!(plain.contains("pass    one"), "{plain}");
        assert!(
            plain.contains("FAIL    two       GET /2  outer: inner"),
            "{plain}"
        );
        assert_eq!(outcomes.map(|outcome| outcome.passed()), [true, false]);
    }
}
