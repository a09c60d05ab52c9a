//! The address of a pod goes to a pod of somebody else, as quickly as a node can do that.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    pods::{Pod, Programs},
    policies::events,
};
use crate::{
    cluster::{
        layout::{self, NODE_NAME},
        node_pid,
    },
    test::{
        api::{Api, Watch},
        bed::{Bed, PATIENCE},
        controllers::Controllers,
    },
};

/// Takeovers that are looked at.
const ROUNDS: usize = 3;
/// Tries to make the node give the address away again: it may give it to somebody else.
const TRIES: usize = 3;
/// Requests of each kind that the new pod makes without controllers.
const REQUESTS: usize = 20;
/// The host that only the namespace of the old pod may reach.
const HOST: &str = "v6.openweathermap.org";
/// What a request gets that is refused; none at all while the proxy still sends its answers to where the old pod was.
const REFUSED: [&str; 3] = ["403", "407", "000"];
/// Pause between two looks at the lease of an address.
const GLANCE: Duration = Duration::from_millis(1);

/// Who takes what from whom.
pub(super) struct Ground<'a> {
    /// Old pods are in here, and may reach the host.
    pub(super) bed: &'a Bed,
    /// New ones are in here, and may not.
    pub(super) neighbour: &'a Bed,
    pub(super) programs: &'a Programs,
    /// The Gateway's address.
    pub(super) gateway: String,
}

/// Moments of one takeover, in seconds since 1970.
struct Takeover {
    address: String,
    /// The old pod's lease of the address had ended.
    free: f64,
    /// The API server had said that the old pod has ended.
    told: f64,
}

/// A pair of requests of the new pod: by its address, and with a token.
struct Asked {
    /// In seconds since 1970.
    began: f64,
    by_address: String,
    by_token: String,
}

/// Pods take over addresses, with controllers and without.
pub(super) async fn run(ground: &Ground<'_>) -> Result<()> {
    let api = Api::open(&ground.bed.kubectl).await?;
    for round in 1..=ROUNDS {
        let takeover = ground.take_over(&api, async || Ok(())).await?;
        let judged = ground.judge(&takeover).await?;
        println!("          takeover {round}: {judged}");
        ground.clear().await?;
    }
    let controllers = Controllers(ground.bed);
    let replicas = controllers.replicas().await?;
    let alone = ground.without_controllers(&api, controllers).await;
    // Whatever came of it, those who come next need them.
    controllers.scale(replicas).await?;
    println!("          takeover without controllers: {}", alone?);
    ground.clear().await
}

impl Ground<'_> {
    fn new_pod(&self) -> Pod<'_> {
        Pod {
            bed: self.neighbour,
            name: "new",
        }
    }

    /// One request, which prints its status.
    fn ask(&self, arguments: &str) -> String {
        format!(
            "curl --silent --output /dev/null --max-time 2 --write-out '%{{http_code}}' --proxy http://{}:3128 {arguments} http://{HOST}/",
            self.gateway
        )
    }

    /// An old pod is known, `before` is done, and a new one has its address.
    async fn take_over(&self, api: &Api, before: impl AsyncFn() -> Result<()>) -> Result<Takeover> {
        for _ in 0..TRIES {
            let address = self.make_old().await?;
            before().await?;
            let takeover = self.replace_old(api, address).await?;
            let got = self.new_pod().addresses().await?;
            if got.first() == Some(&takeover.address) {
                return Ok(takeover);
            }
            println!(
                "          the new pod got {got:?} instead of {}",
                takeover.address
            );
            self.clear().await?;
        }
        bail!("the node did not give the address away again in {TRIES} tries")
    }

    /// Makes the old pod and waits until it is known; returns its address.
    async fn make_old(&self) -> Result<String> {
        let account = json!({ "serviceAccountName": "web" });
        super::apply(self.bed, &[self.programs.pod("old", &[], account)]).await?;
        let old = Pod {
            bed: self.bed,
            name: "old",
        };
        old.ready().await?;
        self.bed
            .until("the old pod is known", async || {
                let status = old.shell(&self.ask("")).await?;
                ensure!(status == "200", "{status}");
                Ok(())
            })
            .await?;
        let addresses = old.addresses().await?;
        addresses
            .first()
            .cloned()
            .context("the old pod has no address")
    }

    /// Deletes the old pod, and makes the new one as soon as the address is free.
    async fn replace_old(&self, api: &Api, address: String) -> Result<Takeover> {
        let with_token = "--proxy-header \"Proxy-Authorization: Bearer $(cat /opt/token/token)\"";
        // It asks from its first moment on.
        let script = format!(
            "while :; do began=$EPOCHREALTIME; echo \"$began $({}) $({})\"; done",
            self.ask(""),
            self.ask(with_token)
        );
        let on_node = json!({ "nodeName": NODE_NAME });
        let mut new = self.programs.pod("new", &[], on_node);
        new["spec"]["containers"][0]["command"] = json!(["/bin/bash", "-c", script]);
        let pods = |bed: &Bed| format!("/api/v1/namespaces/{}/pods", bed.namespace);
        // From what the API server has at hand, which may be a little old: a pod that has not ended.
        let old = "watch=true&resourceVersion=0&fieldSelector=metadata.name%3Dold";
        let mut events = api.watch(&format!("{}?{old}", pods(self.bed))).await?;
        let mut connection = api.connect().await?;
        let leases = leases()?;
        next_is(&leases, address.parse()?)?;
        self.bed
            .run(&["delete", "pod", "old", "--wait=false"])
            .await?;
        let take_over = async {
            until_free(&leases.join(&address)).await?;
            let free = now()?;
            connection.create(&pods(self.neighbour), &new).await?;
            Ok(free)
        };
        let (free, told) = tokio::try_join!(take_over, until_told(&mut events))?;
        self.new_pod().ready().await?;
        Ok(Takeover {
            address,
            free,
            told,
        })
    }

    /// What the new pod has asked for so far.
    async fn asked(&self) -> Result<Vec<Asked>> {
        let log = self.neighbour.run(&["logs", "new"]).await?;
        Ok(log
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ');
                Some(Asked {
                    began: words.next()?.parse().ok()?,
                    by_address: words.next()?.to_owned(),
                    by_token: words.next()?.to_owned(),
                })
            })
            .collect())
    }

    /// Waits until the new pod is known, and judges all that it has asked for.
    async fn judge(&self, takeover: &Takeover) -> Result<String> {
        let (all, known) = self
            .bed
            .until("the new pod is known", async || {
                let all = self.told(takeover).await?;
                let mine = all.iter().find(|event| {
                    event["caller"]["namespace"] == *self.neighbour.namespace
                        && event["caller"]["identity"] == "pod"
                });
                let known = mine.context("nothing that it asked for is told as its own")?;
                let known = time_of(known)?;
                Ok((all, known))
            })
            .await?;
        for event in &all {
            let caller = &event["caller"];
            ensure!(
                event["verdict"] == "refuse"
                    && caller["pod"] != "old"
                    && caller["service_account"] != "web",
                "the new pod was taken for the old one: {event}"
            );
        }
        let asked = self.asked().await?;
        let first = asked.first().context("the new pod has asked for nothing")?;
        for one in &asked {
            ensure!(
                REFUSED.contains(&one.by_address.as_str()),
                "the new pod got {} {:.0} ms after the address was free",
                one.by_address,
                (one.began - takeover.free) * 1000.0
            );
        }
        self.judge_tokens(&asked)?;
        Ok(format!(
            "{:.0} ms after the address was free the new pod asked for the first time; that the old one had ended was told {:+.0} ms after; the new one was nobody for {:.0} ms, then itself; none of its {} requests was taken for the old one's",
            (first.began - takeover.free) * 1000.0,
            (takeover.told - takeover.free) * 1000.0,
            (known - first.began).max(0.0) * 1000.0,
            2 * asked.len()
        ))
    }

    /// A token says who calls from the first request on.
    fn judge_tokens(&self, asked: &[Asked]) -> Result<()> {
        for one in asked {
            ensure!(
                ["403", "000"].contains(&one.by_token.as_str()),
                "with a token of {} the new pod got {}",
                self.neighbour.namespace,
                one.by_token
            );
        }
        Ok(())
    }

    /// Decisions about what was asked for from the address since it was free.
    async fn told(&self, takeover: &Takeover) -> Result<Vec<Value>> {
        let events = events(self.bed).await?.into_iter();
        Ok(events
            .filter(|event| event["host"] == HOST && event["caller"]["ip"] == *takeover.address)
            .filter(|event| time_of(event).is_ok_and(|time| time > takeover.free))
            .collect())
    }

    /// Nobody tells the proxies who has an address: what a token says holds, what the address says is what it was.
    async fn without_controllers(&self, api: &Api, controllers: Controllers<'_>) -> Result<String> {
        self.take_over(api, async || controllers.scale(0).await)
            .await?;
        let asked = self
            .bed
            .until("the new pod has asked often enough", async || {
                let asked = self.asked().await?;
                ensure!(asked.len() >= REQUESTS, "{} requests", asked.len());
                // Answers may go to where the old pod was for a while; without any there would be nothing to judge.
                ensure!(
                    asked.iter().any(|one| one.by_token == "403"),
                    "with its token it was refused nothing"
                );
                ensure!(
                    asked.iter().any(|one| one.by_address != "000"),
                    "by its address it got no answer"
                );
                Ok(asked)
            })
            .await?;
        self.judge_tokens(&asked)?;
        let taken = asked.iter().filter(|one| one.by_address == "200").count();
        Ok(format!(
            "{taken} of {} requests were taken for the old pod's by their address, none of as many that had a token",
            asked.len()
        ))
    }

    async fn clear(&self) -> Result<()> {
        for (bed, pod) in [(self.neighbour, "new"), (self.bed, "old")] {
            bed.run(&["delete", "pod", pod, "--ignore-not-found"])
                .await?;
        }
        Ok(())
    }
}

/// Waits until the API server says that every container of the pod has ended, or that it is gone.
async fn until_told(events: &mut Watch) -> Result<f64> {
    loop {
        let event = events.next().await?;
        let containers = event["object"]["status"]["containerStatuses"].as_array();
        let ended = containers.is_some_and(|containers| {
            containers
                .iter()
                .all(|container| container["state"]["terminated"].is_object())
        });
        if ended || event["type"] == "DELETED" {
            return now();
        }
    }
}

/// Seconds since 1970.
fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// When an event was told, in seconds since 1970.
fn time_of(event: &Value) -> Result<f64> {
    let time: jiff::Timestamp = event["time"].as_str().context("no time")?.parse()?;
    Ok(Duration::try_from(time.duration_since(jiff::Timestamp::UNIX_EPOCH))?.as_secs_f64())
}

/// Where the node's network plugin keeps which addresses are taken, one file each.
fn leases() -> Result<PathBuf> {
    let state = layout::state();
    let inside = state.strip_prefix("/")?.join("cni/pods");
    Ok(Path::new("/proc")
        .join(node_pid()?.to_string())
        .join("root")
        .join(inside))
}

/// Makes the plugin begin with `address` when it looks for a free one.
fn next_is(leases: &Path, address: Ipv4Addr) -> Result<()> {
    let before = Ipv4Addr::from(u32::from(address) - 1);
    let last = leases.join("last_reserved_ip.0");
    fs::write(&last, before.to_string()).with_context(|| last.display().to_string())
}

/// Waits until nobody has an address.
async fn until_free(lease: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while lease.exists() {
        ensure!(Instant::now() < deadline, "{} stays", lease.display());
        sleep(GLANCE).await;
    }
    Ok(())
}
