//! A new version is brought to some requests: by header, by share, by path.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    support::client::{Client, Target},
    test::bed::Bed,
};

const DARK_LAUNCH: &str = include_str!("../manifests/dark-launch.yaml");
const PATHS: &str = include_str!("../manifests/paths.yaml");
/// Requests by which shares are judged.
const REQUESTS: u32 = 2000;
/// Standard deviations that a share may be off: more than that is chance once in two million times.
const SIGMAS: f64 = 5.0;

/// `user: test` gets the new version.
pub(super) async fn dark_launch(bed: &Bed) -> Result<()> {
    for version in ["split", "split-2"] {
        bed.echo(version, 1).await?;
    }
    bed.apply(DARK_LAUNCH).await?;
    let url = format!("http://{}/api/clear", bed.address("split").await?);
    bed.until_curl(&[&url], |answer| answer.is_from("split"))
        .await?;
    for (header, version) in [
        ("user: test", "split-2"),
        ("USER: test", "split-2"),
        ("user: Test", "split"),
        ("user: tester", "split"),
        ("x-user: test", "split"),
    ] {
        let answer = bed.curl(&["--header", header, &url]).await?;
        ensure!(answer.is_from(version), "{header}: {answer}");
    }
    Ok(())
}

/// 90/10, 50/50, 0/100.
pub(super) async fn weights(bed: &Bed) -> Result<()> {
    for version in ["stable", "canary"] {
        bed.echo(version, 1).await?;
    }
    bed.apply(super::EDGE).await?;
    let address = bed.address("edge").await?;
    let url = format!("http://{address}/");
    for share in [10, 50, 100] {
        bed.apply(&shared(share).to_string()).await?;
        // The table has come where this stage is told.
        let stage = share.to_string();
        bed.until_curl(&[&url], |answer| {
            answer.status == 200 && answer.header("x-stage") == Some(&stage)
        })
        .await?;
        let target = Target::clear(SocketAddr::new(address, 80), "shop.example");
        let seen = f64::from(answers_of("canary", &target).await?);
        let share = f64::from(share) / 100.0;
        let expected = f64::from(REQUESTS) * share;
        let sigma = (expected * (1.0 - share)).sqrt();
        ensure!(
            (seen - expected).abs() <= SIGMAS * sigma,
            "{seen} of {REQUESTS} answers are of the new version, {expected} should be, give or take {sigma:.0}"
        );
    }
    Ok(())
}

/// The route with this share, in percent, for the new version; answers tell the stage.
fn shared(share: u32) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": "app" },
        "spec": {
            "parentRefs": [{ "name": "edge" }],
            "rules": [{
                "filters": [{
                    "type": "ResponseHeaderModifier",
                    "responseHeaderModifier": { "set": [{ "name": "x-stage", "value": share.to_string() }] },
                }],
                "backendRefs": [
                    { "name": "stable", "port": 80, "weight": 100 - share },
                    { "name": "canary", "port": 80, "weight": share },
                ],
            }],
        },
    })
}

async fn answers_of(service: &str, target: &Target) -> Result<u32> {
    let mut client = Client::connect(target).await?;
    let mut count = 0;
    for _ in 0..REQUESTS {
        let answer = client.get("/").await?;
        ensure!(answer.status() == 200, "status {}", answer.status());
        let echo: Value = serde_json::from_slice(answer.body())?;
        count += u32::from(echo["service"] == service);
    }
    Ok(count)
}

/// Exact paths and prefixes.
pub(super) async fn paths(bed: &Bed) -> Result<()> {
    for app in ["pages", "catalog"] {
        bed.echo(app, 1).await?;
    }
    bed.apply(PATHS).await?;
    let address = bed.address("books").await?;
    bed.until_curl(&[&format!("http://{address}/login")], |answer| {
        answer.is_from("pages")
    })
    .await?;
    for (path, app) in [
        ("/productpage", Some("pages")),
        ("/productpage?id=1", Some("pages")),
        ("/productpage/", None),
        ("/login", Some("pages")),
        ("/static", Some("catalog")),
        ("/static/", Some("catalog")),
        ("/static/css/books.css", Some("catalog")),
        // The exact path wins over the prefix.
        ("/static/imprint", Some("pages")),
        ("/static/imprint/more", Some("catalog")),
        // A prefix is made of whole elements.
        ("/statics", None),
        ("/api/v1/products", Some("catalog")),
        ("/api/v1/products/0/reviews", Some("catalog")),
        ("/api/v1/productsale", None),
        ("/api/v1", None),
        ("/Login", None),
        ("/", None),
    ] {
        let answer = bed.curl(&[&format!("http://{address}{path}")]).await?;
        match app {
            Some(app) => ensure!(
                answer.is_from(app) && answer.echo()["path"] == path,
                "{path}: {answer}"
            ),
            None => ensure!(answer.status == 404, "{path}: {answer}"),
        }
    }
    Ok(())
}
