//! What other controllers write into statuses stays as they wrote it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::EDGE;
use crate::test::bed::Bed;

const OTHER_CONTROLLER: &str = "example.net/gateway-controller";
const OTHER_CONDITION: &str = "example.net/Audited";
const PARENTS: &str = "/status/parents/0/conditions";

pub(super) async fn status(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    bed.apply(EDGE).await?;
    bed.until_condition("httproute/app", PARENTS, "ResolvedRefs", "True")
        .await?;
    bed.address("edge").await?;

    let entry = other_entry();
    add_status(bed, "httproute/app", "/status/parents/-", &entry).await?;
    let condition = other_condition();
    add_status(bed, "gateway/edge", "/status/conditions/-", &condition).await?;

    // Ours change: a backend that is not there, and a second listener.
    let backend = r#"{"spec":{"rules":[{"backendRefs":[{"name":"nowhere","port":80}]}]}}"#;
    bed.patch("httproute/app", backend).await?;
    bed.until_condition("httproute/app", PARENTS, "ResolvedRefs", "False")
        .await?;
    expect_same(&entry_in(bed).await?, &entry)?;
    let listeners = json!([
        { "name": "http", "port": 80, "protocol": "HTTP" },
        { "name": "more", "port": 8080, "protocol": "HTTP" },
    ]);
    let patch = json!({ "spec": { "listeners": listeners } });
    bed.patch("gateway/edge", &patch.to_string()).await?;
    bed.until("the second listener is served", async || {
        let gateway = bed.get("gateway/edge").await?;
        let conditions = &gateway["status"]["listeners"][1]["conditions"];
        crate::test::bed::expect_condition(conditions, "Programmed", "True").map(drop)
    })
    .await?;
    let gateway = bed.get("gateway/edge").await?;
    let kept = find(&gateway["status"]["conditions"], "type", OTHER_CONDITION)?;
    expect_same(kept, &condition)?;

    // The route leaves us: our entry goes, theirs stays.
    let leave = json!({ "spec": { "parentRefs": [entry["parentRef"]] } });
    bed.patch("httproute/app", &leave.to_string()).await?;
    bed.until("our entry is gone", async || {
        let route = bed.get("httproute/app").await?;
        ensure!(
            route["status"]["parents"] == json!([entry]),
            "parents: {}",
            route["status"]["parents"]
        );
        Ok(())
    })
    .await
}

/// As another controller writes it: nothing in it is as we would write it.
fn other_entry() -> Value {
    json!({
        "controllerName": OTHER_CONTROLLER,
        "parentRef": {
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "namespace": "elsewhere",
            "name": "theirs",
            "sectionName": "web",
        },
        "conditions": [{
            "type": "Accepted",
            "status": "Unknown",
            "reason": "StillThinking",
            "message": "  äöü \"quoted\"\n",
            "observedGeneration": 4711,
            "lastTransitionTime": "2001-02-03T04:05:06Z",
        }],
    })
}

fn other_condition() -> Value {
    json!({
        "type": OTHER_CONDITION,
        "status": "False",
        "reason": "Yesterday",
        "message": "seen by somebody else",
        "observedGeneration": 1,
        "lastTransitionTime": "2001-02-03T04:05:06Z",
    })
}

async fn add_status(bed: &Bed, object: &str, pointer: &str, value: &Value) -> Result<()> {
    let patch = json!([{ "op": "add", "path": pointer, "value": value }]).to_string();
    bed.run(&[
        "patch",
        object,
        "--subresource=status",
        "--type=json",
        "--patch",
        &patch,
    ])
    .await
    .map(drop)
}

async fn entry_in(bed: &Bed) -> Result<Value> {
    let route = bed.get("httproute/app").await?;
    let parents = &route["status"]["parents"];
    find(parents, "controllerName", OTHER_CONTROLLER).cloned()
}

fn find<'a>(list: &'a Value, field: &str, value: &str) -> Result<&'a Value> {
    list.as_array()
        .into_iter()
        .flatten()
        .find(|one| one[field] == value)
        .with_context(|| format!("{field} {value} is gone: {list}"))
}

fn expect_same(found: &Value, written: &Value) -> Result<()> {
    ensure!(found == written, "{written} has become {found}");
    Ok(())
}
