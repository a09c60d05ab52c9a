//! Who may reach what, by each of the ways in which a caller can be known.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    GATEWAY, WEATHER, apply,
    pods::{Pod, Programs, ask_all},
    takeover,
    world::{self, World},
};
use crate::{
    support::certificate::{Authority, Identity},
    test::bed::{Bed, expect_condition},
};

const POLICIES: &str = include_str!("../manifests/egress-policies.yaml");
const TLS: &str = include_str!("../manifests/egress-tls.yaml");
/// The file of a token for the Gateway, and that of one for the API server.
const TOKEN: &str = "/opt/token/token";
const OTHER_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The scenario.
pub(super) async fn run(bed: &Bed) -> Result<()> {
    let programs = Programs::get().await?;
    let world = World::open(world::TTL).await?;
    let neighbour = bed.neighbour().await?;
    let workloads = Authority::new()?;
    let service = format!("egress-portcullis-egress.{}", bed.namespace);
    let shown = world.authority.issue(&[&service])?;
    apply(bed, &secrets(&workloads, &shown)).await?;
    for objects in [GATEWAY, TLS, WEATHER, POLICIES] {
        bed.apply(objects).await?;
    }
    for bed in [bed, &neighbour] {
        apply(bed, &[Programs::sources(&world.authority.pem())]).await?;
    }
    let account = |name| json!({ "serviceAccountName": name });
    let on_node = json!({ "serviceAccountName": "web", "hostNetwork": true });
    let pods = [
        programs.pod("web", &[], account("web")),
        programs.pod("batch", &[], account("batch")),
        programs.pod("node", &[], on_node),
    ];
    apply(bed, &pods).await?;
    apply(&neighbour, &[programs.pod("guest", &[], json!({}))]).await?;
    let address = bed.address("egress").await?;
    let proxy = format!("--proxy http://{address}:3128");
    let pod = |name| Pod { bed, name };
    let guest = Pod {
        bed: &neighbour,
        name: "guest",
    };
    for pod in [&pod("web"), &pod("batch"), &pod("node"), &guest] {
        pod.ready().await?;
    }
    until_in_force(bed, &guest, &proxy).await?;
    by_address(bed, &guest, &proxy).await?;
    by_token(&pod("node"), &proxy).await?;
    by_certificate(&guest, &workloads, &service).await?;
    told(bed).await?;
    takeover::run(&takeover::Ground {
        bed,
        neighbour: &neighbour,
        programs: &programs,
        gateway: address.to_string(),
    })
    .await
}

/// What the listener with TLS shows, and whom it trusts.
fn secrets(workloads: &Authority, shown: &Identity) -> [Value; 2] {
    [
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": { "name": "proxy" },
            "stringData": { "tls.crt": shown.chain_pem, "tls.key": shown.key_pem },
        }),
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "workloads" },
            "data": { "ca.crt": workloads.pem() },
        }),
    ]
}

/// Waits until every policy is in force at the proxies.
async fn until_in_force(bed: &Bed, guest: &Pod<'_>, proxy: &str) -> Result<()> {
    bed.until("the policies are Programmed", async || {
        let policies = bed.get("egresspolicies").await?;
        let items = policies["items"].as_array().context("a list has items")?;
        ensure!(items.len() == 5, "{} policies", items.len());
        for policy in items {
            let conditions = &policy["status"]["conditions"];
            for kind in ["Accepted", "Programmed"] {
                expect_condition(conditions, kind, "True")
                    .context(policy["metadata"]["name"].to_string())?;
            }
        }
        Ok(())
    })
    .await?;
    // The pods' addresses come by another way.
    bed.until("the callers are known", async || {
        let asked = guest
            .curl(&format!("{proxy} http://v4.openweathermap.org/"))
            .await?;
        asked.refused(&["denied_by_policy"])
    })
    .await
}

/// Who calls is said by the address of a pod.
async fn by_address(bed: &Bed, guest: &Pod<'_>, proxy: &str) -> Result<()> {
    let pod = |name| Pod { bed, name };
    let (web, batch) = (&pod("web"), &pod("batch"));
    let denied = |policy| Some(["denied_by_policy", policy]);
    let not_allowed = Some(["not_allowed_by_policy", "e2e-egress-policies/web"]);
    let tunnel = Some(["403", "CONNECT"]);
    let asked = [
        // By namespace and host.
        (guest, "http://api.openweathermap.org/data", None),
        (
            guest,
            "http://v4.openweathermap.org/data",
            denied("a policy of the Gateway's namespace"),
        ),
        (
            guest,
            "http://v6.openweathermap.org/",
            Some(["host_not_listed", "v6.openweathermap.org:80"]),
        ),
        // By service account, and path, method, port and host.
        (web, "http://api.openweathermap.org/data/2.5/weather", None),
        (web, "http://v6.openweathermap.org/", None),
        (web, "http://api.openweathermap.org/other", not_allowed),
        (web, "http://api.openweathermap.org/database", not_allowed),
        (
            web,
            "--request POST http://api.openweathermap.org/data",
            not_allowed,
        ),
        (web, "http://api.openweathermap.org:8080/data", not_allowed),
        (web, "http://v4.openweathermap.org/data", not_allowed),
        // Method and path cannot be seen in a tunnel: the Allow does not cover it, the Deny does.
        (web, "https://api.openweathermap.org/data", tunnel),
        (batch, "https://api.openweathermap.org/data", tunnel),
        // Deny wins.
        (batch, "http://api.openweathermap.org:8080/data", None),
        (
            batch,
            "--request DELETE http://api.openweathermap.org/data",
            denied("e2e-egress-policies/nobody-deletes"),
        ),
        // Report lets pass.
        (batch, "http://api.openweathermap.org/trial", None),
    ];
    let asked = asked.map(|(pod, arguments, words)| (pod, format!("{proxy} {arguments}"), words));
    ask_all(asked, |asked, words| match words {
        Some(words) => asked.refused(&words),
        None => asked.reached_anything().map(drop),
    })
    .await
}

/// The address says nothing, for it is that of the node.
async fn by_token(node: &Pod<'_>, proxy: &str) -> Result<()> {
    let url = "http://api.openweathermap.org/data";
    let with = |file: &str| {
        format!("{proxy} --proxy-header \"Proxy-Authorization: Bearer $(cat {file})\"")
    };
    node.curl(&format!("{proxy} {url}")).await?.refused(&[
        "407",
        "token_needed",
        "audience portcullis-egress",
    ])?;
    node.curl(&format!("{} {url}", with(OTHER_TOKEN)))
        .await?
        .refused(&["407", "bad_token"])?;
    node.curl(&format!("{proxy} --proxy-user token:a.b.c {url}"))
        .await?
        .refused(&["407", "bad_token"])?;
    let good = with(TOKEN);
    let as_password = format!("{proxy} --proxy-user token:$(cat {TOKEN})");
    for proxy in [&good, &as_password] {
        let echo = node
            .curl(&format!("{proxy} {url}"))
            .await?
            .reached("api.openweathermap.org")?;
        let told = echo["headers"].to_string();
        ensure!(
            !told.contains("proxy-authorization"),
            "the token has left the cluster: {told}"
        );
    }
    // It is the token of one who may not do everything.
    node.curl(&format!("{good} --request POST {url}"))
        .await?
        .refused(&["not_allowed_by_policy"])
}

/// The certificate says who calls, wherever it comes from.
async fn by_certificate(guest: &Pod<'_>, workloads: &Authority, service: &str) -> Result<()> {
    let id = format!("spiffe://cluster.local/ns/{}/sa/web", namespace_of(service));
    let web = workloads.issue_workload(&id)?;
    let stranger = Authority::new()?.issue_workload(&id)?;
    let url = "http://api.openweathermap.org/data";
    let with = async |identity: &Identity, arguments: &str| {
        let files = format!(
            "cd /tmp; echo '{}' > it.crt; echo '{}' > it.key",
            identity.chain_pem, identity.key_pem
        );
        guest.shell(&files).await?;
        let proxy = format!(
            "--proxy https://{service}:3129 --proxy-cacert /opt/clients/ca.pem --proxy-cert /tmp/it.crt --proxy-key /tmp/it.key"
        );
        guest.curl(&format!("{proxy} {arguments}")).await
    };
    // It may what only `web` may, and may not what it as a guest may.
    with(&web, "http://v6.openweathermap.org/")
        .await?
        .reached("v6.openweathermap.org")?;
    with(&web, url).await?.reached("api.openweathermap.org")?;
    with(&web, &format!("--request POST {url}"))
        .await?
        .refused(&["not_allowed_by_policy"])?;
    let asked = with(&stranger, url).await?;
    asked.refused(&[])?;
    ensure!(
        asked.failed,
        "a certificate of a stranger is taken: {}",
        asked.printed
    );
    Ok(())
}

fn namespace_of(service: &str) -> &str {
    service.rsplit('.').next().unwrap_or_default()
}

/// The log of the proxies has it all.
async fn told(bed: &Bed) -> Result<()> {
    bed.until("the decisions are told", async || {
        let events = events(bed).await?;
        let told = |what: Value| {
            let found = events.iter().any(|event| covers(event, &what));
            ensure!(found, "none of {} events has {what}", events.len());
            Ok(())
        };
        told(json!({
            "verdict": "report", "reason": "denied_by_policy", "policy": "egresspolicy/e2e-egress-policies/trial",
            "caller": { "namespace": "e2e-egress-policies", "service_account": "batch", "pod": "batch", "identity": "pod" },
        }))?;
        told(json!({ "verdict": "refuse", "reason": "denied_by_policy", "caller": { "service_account": "default", "pod": "guest" } }))?;
        told(json!({ "verdict": "allow", "caller": { "service_account": "web", "pod": "node", "identity": "token" } }))?;
        told(json!({ "verdict": "refuse", "reason": "bad_token", "caller": { "identity": "unknown" } }))?;
        told(json!({ "verdict": "refuse", "reason": "unknown_caller", "caller": { "identity": "unknown" } }))?;
        told(json!({ "verdict": "allow", "caller": { "service_account": "web", "identity": "certificate" } }))
    })
    .await
}

/// Whether `event` has all fields of `what`.
fn covers(event: &Value, what: &Value) -> bool {
    match what {
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| covers(&event[name], value)),
        _ => event == what,
    }
}

/// All decisions that the proxies have told.
pub(super) async fn events(bed: &Bed) -> Result<Vec<Value>> {
    let log = bed
        .run(&[
            "logs",
            "--selector=gateway.networking.k8s.io/gateway-name=egress",
            "--tail=-1",
        ])
        .await?;
    Ok(log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["kind"] == "egress")
        .collect())
}
