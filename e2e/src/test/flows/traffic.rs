//! What is done with requests on their way: copies, deadlines, further tries, other headers and paths.

use anyhow::{Result, ensure};

use super::EDGE;
use crate::test::bed::Bed;

const TRAFFIC: &str = include_str!("../manifests/traffic.yaml");
const RETRY: &str = include_str!("../manifests/retry.yaml");
/// Where CRDs say of which channel they are.
const CHANNEL: &str = "/metadata/annotations/gateway.networking.k8s.io~1channel";

/// A copy of every order goes to the next version.
pub(super) async fn mirror(bed: &Bed) -> Result<()> {
    for app in ["frontend", "frontend-next"] {
        bed.echo(app, 1).await?;
    }
    let address = open(bed).await?;
    let orders = ["/orders/1", "/orders/2?paid=true", "/orders/3"];
    for order in orders {
        let url = format!("http://{address}{order}");
        let answer = bed
            .curl(&["--header", "x-order: yes", "--data", "{}", &url])
            .await?;
        ensure!(
            answer.is_from("frontend"),
            "{order} was answered by another: {answer}"
        );
    }
    let other = format!("http://{address}/other");
    ensure!(bed.curl(&[&other]).await?.is_from("frontend"), "no answer");
    bed.until("the mirror has got every order", async || {
        let log = bed.run(&["logs", "deployment/frontend-next"]).await?;
        for order in orders {
            let count = log.matches(&format!(" made to {order} to ")).count();
            ensure!(count == 1, "{order} came {count} times: {log}");
        }
        ensure!(!log.contains("/other"), "what is not mirrored came: {log}");
        Ok(())
    })
    .await?;
    // A mirror that is away is nobody's trouble.
    bed.run(&["scale", "deployment/frontend-next", "--replicas=0"])
        .await?;
    bed.run(&[
        "wait",
        "pods",
        "--selector=app=frontend-next",
        "--for=delete",
    ])
    .await?;
    let answer = bed.curl(&[&format!("http://{address}/orders/4")]).await?;
    ensure!(answer.is_from("frontend"), "without the mirror: {answer}");
    Ok(())
}

/// A slow backend is answered for, others may be slow.
pub(super) async fn timeout(bed: &Bed) -> Result<()> {
    for app in ["frontend", "frontend-next"] {
        bed.echo(app, 1).await?;
    }
    let address = open(bed).await?;
    let slow = format!("http://{address}/slow?delay=5s");
    let answer = bed.curl(&[&slow]).await?;
    ensure!(answer.status == 504, "{answer}");
    for path in ["/slow?delay=1ms", "/patient?delay=1s"] {
        // On a busy machine anything may be slow once.
        bed.until_curl(&[&format!("http://{address}{path}")], |answer| {
            answer.is_from("frontend")
        })
        .await?;
    }
    // It does not wait for the backend's end.
    let url = format!("http://{address}/slow?delay=9s");
    let answer = bed.curl(&["--max-time", "4", &url]).await?;
    ensure!(answer.status == 504, "{answer}");
    Ok(())
}

/// Path, host and headers are changed on the way.
pub(super) async fn rewrite(bed: &Bed) -> Result<()> {
    for app in ["frontend", "frontend-next"] {
        bed.echo(app, 1).await?;
    }
    let address = open(bed).await?;
    for (path, becomes) in [
        ("/v1", "/"),
        ("/v1/", "/"),
        ("/v1/weather?city=Mannheim", "/weather?city=Mannheim"),
    ] {
        let url = format!("http://{address}{path}");
        let client = [
            "--header",
            "x-version: none",
            "--header",
            "x-debug: on",
            "--header",
            "x-seen-by: client",
        ];
        let answer = bed.curl(&[&client[..], &[&url]].concat()).await?;
        let echo = answer.echo();
        let header = |name: &str| echo["headers"][name].to_string();
        ensure!(
            echo["path"] == becomes && echo["host"] == "frontend.internal",
            "{path}: {answer}"
        );
        ensure!(header("X-Version") == r#"["v1"]"#, "set: {answer}");
        ensure!(header("X-Debug") == "null", "remove: {answer}");
        let seen = header("X-Seen-By");
        ensure!(
            seen.contains("client") && seen.contains("edge"),
            "add: {answer}"
        );
        ensure!(
            answer.header("x-served-by") == Some("frontend"),
            "response: {answer}"
        );
    }
    // Other paths are left as they are.
    let answer = bed.curl(&[&format!("http://{address}/v10")]).await?;
    let echo = answer.echo();
    ensure!(
        echo["path"] == "/v10" && echo["host"] == address && echo["headers"]["X-Version"].is_null(),
        "{answer}"
    );
    Ok(())
}

/// Opens the Gateway and returns its address once it serves.
async fn open(bed: &Bed) -> Result<String> {
    bed.apply(TRAFFIC).await?;
    let address = bed.address("edge").await?;
    bed.until_curl(&[&format!("http://{address}/")], |answer| {
        answer.is_from("frontend")
    })
    .await?;
    Ok(address.to_string())
}

/// A flaky backend is asked again, as often as the route says.
pub(super) async fn retry(bed: &Bed) -> Result<()> {
    let crd = "crd/httproutes.gateway.networking.k8s.io";
    let crd = bed.kubectl.get(&[crd]).await?;
    if crd.pointer(CHANNEL).and_then(|channel| channel.as_str()) != Some("experimental") {
        println!("SKIPPED: retry, because the cluster's CRDs are not of the experimental channel");
        return Ok(());
    }
    bed.echo("app", 1).await?;
    bed.apply(EDGE).await?;
    let address = bed.address("edge").await?;
    let flaky = |id: &str, failures: u8| {
        format!("http://{address}/retry/?uuid={id}&responseCode=503&succeedAfter={failures}")
    };
    // Without the field, the client gets what the backend says.
    bed.until_curl(&[&format!("http://{address}/")], |answer| {
        answer.is_from("app")
    })
    .await?;
    let answer = bed.curl(&[&flaky("none", 1)]).await?;
    ensure!(answer.status == 503, "without retries: {answer}");
    bed.apply(RETRY).await?;
    let mut round = 0;
    bed.until("three failures do not reach the client", async || {
        round += 1;
        let answer = bed.curl(&[&flaky(&format!("round-{round}"), 3)]).await?;
        ensure!(answer.is_from("app"), "{answer}");
        Ok(())
    })
    .await?;
    let answer = bed.curl(&[&flaky("hopeless", 9)]).await?;
    ensure!(answer.status == 503, "more than three tries: {answer}");
    Ok(())
}
