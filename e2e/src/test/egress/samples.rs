//! The samples of egress, as they are in `config/samples/egress`, hold in a cluster what their headers promise, all of them together.
//!
//! What cannot be as it stands there is changed afterwards, and only that: the workload has programs of the machine's instead of an
//! image that is pulled, and TLS is begun with the authority of our world instead of those that the system trusts.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    apply,
    pods::{Pod, Programs, ask_all},
    world::{HTTP, Plan, TTL, World},
};
use crate::{
    cluster::names::ClusterNames,
    test::{
        bed::{Bed, PATIENCE, expect_condition},
        portcullis::Portcullis,
    },
};

const ALLOW_LIST: &str = include_str!("../../../../config/samples/egress/allow-list.yaml");
const CREDENTIAL: &str = include_str!("../../../../config/samples/egress/credential.yaml");
const POLICIES: &str = include_str!("../../../../config/samples/egress/policies.yaml");
const UNAWARE: &str = include_str!("../../../../config/samples/egress/unaware-clients.yaml");
const WORKLOAD: &str = include_str!("../../../../config/samples/egress/workload.yaml");
/// What the header of [`UNAWARE`] has operators write into their Corefile.
const REWRITE: &str = "rewrite stop name exact api.github.com names-portcullis-egress.egress-names.svc.cluster.local answer auto";

/// Namespaces of the samples, and one that they speak of.
pub(super) const NAMESPACES: [&str; 8] = [
    "apps",
    "build",
    "egress",
    "egress-names",
    "egress-strict",
    "maps",
    "maps-egress",
    "shop",
];
/// The Gateways, behind their namespaces.
const GATEWAYS: [(&str, &str); 4] = [
    ("egress", "egress"),
    ("egress-strict", "strict"),
    ("maps-egress", "maps-egress"),
    ("egress-names", "names"),
];
/// How curl is told of the Gateways that are proxies, and the name of the one that is none.
const LISTED: &str = "--proxy http://egress-portcullis-egress.egress.svc.cluster.local:3128";
const STRICT: &str = "--proxy http://strict-portcullis-egress.egress-strict.svc.cluster.local:3128";
const MAPS: &str =
    "--proxy http://maps-egress-portcullis-egress.maps-egress.svc.cluster.local:3128";
const NAMES: &str = "names-portcullis-egress.egress-names.svc.cluster.local";

/// The hosts of the samples, and one more.
const PLAN: Plan = Plan {
    servers: &[
        ("api.openweathermap.org", &["192.175.48.10"]),
        ("payments.example", &["192.175.48.11"]),
        ("maps.example", &["192.175.48.12"]),
        ("registry.npmjs.org", &["192.175.48.13"]),
        ("crm.example", &["192.175.48.14"]),
        ("api.github.com", &["192.175.48.15"]),
        ("db.partner.example", &["10.1.2.3"]),
        (UNLISTED, &["192.175.48.20"]),
    ],
    clear: &[HTTP, 5432],
    // Those that a sample names.
    dns: &["9.9.9.9", "149.112.112.112"],
    names: &[("api.github.com", &["192.175.48.15"])],
};
/// A host that is there, and that no sample lists.
const UNLISTED: &str = "example.com";
/// The key that nobody in the cluster is to see.
const KEY: &str = "5f0c7b1e-not-for-pods";

/// What comes of a request.
enum Outcome {
    /// The server of the host in the URL answers.
    Reaches,
    /// Nobody does, and all of this is said.
    Refused(&'static [&'static str]),
}
use Outcome::{Reaches, Refused};

/// What is listed for others only is not told apart from what nobody has listed.
const NOT_LISTED: Outcome = Refused(&["403", "host_not_listed"]);
/// What curl says of the alert that refuses a greeting.
const ALERT: Outcome = Refused(&["SSL routines::tlsv1"]);

/// Namespaces, and who calls from there.
struct Ground<'a> {
    bed: &'a Bed,
    apps: Bed,
    shop: Bed,
    build: Bed,
    maps: Bed,
}

/// The scenario.
pub(super) async fn run(bed: &Bed) -> Result<()> {
    let programs = Programs::get().await?;
    let world = World::of(&PLAN, TTL).await?;
    // The host of the clients that know of no proxy is not among them.
    let known = PLAN.servers.iter().copied();
    let known: Vec<_> = known
        .filter(|(name, _)| *name != "api.github.com")
        .collect();
    let names = ClusterNames::open(&known)?;
    let ground = Ground {
        bed,
        apps: bed.in_namespace("apps"),
        shop: bed.in_namespace("shop"),
        build: bed.in_namespace("build"),
        maps: bed.in_namespace("maps"),
    };
    for sample in [ALLOW_LIST, CREDENTIAL, POLICIES, UNAWARE, WORKLOAD] {
        bed.kubectl.feed(&["apply", "--filename=-"], sample).await?;
    }
    ground.replace(&programs, &world).await?;
    ground.add_callers(&programs, &world).await?;
    for (namespace, gateway) in GATEWAYS {
        bed.in_namespace(namespace).address(gateway).await?;
    }
    ground.until_in_force().await?;
    ground.allow_list().await?;
    ground.policies().await?;
    ground.credential(&world).await?;
    ground.unaware_clients(&names).await?;
    ground.network_policy().await?;
    ground.commands().await
}

impl Ground<'_> {
    /// Changes what cannot be as it stands in the samples, and puts the key where the header says.
    async fn replace(&self, programs: &Programs, world: &World) -> Result<()> {
        let authority = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "world" },
            "data": { "ca.crt": world.authority.pem() },
        });
        let validation = json!({ "spec": { "validation": {
            "wellKnownCACertificates": null,
            "caCertificateRefs": [{ "group": "", "kind": "ConfigMap", "name": "world" }],
        } } });
        for (bed, policy) in [(&self.shop, "payments"), (&self.maps, "maps-api")] {
            apply(bed, std::slice::from_ref(&authority)).await?;
            let policy = format!("backendtlspolicy/{policy}");
            bed.patch(&policy, &validation.to_string()).await?;
        }
        let literal = format!("--from-literal=credential={KEY}");
        let secret = ["create", "secret", "generic", "maps-api", &literal];
        let secret = [&secret[..], &["--dry-run=client", "--output=yaml"]].concat();
        let secret = self.maps.run(&secret).await?;
        self.maps.apply(&secret).await?;
        // The programs of a pod of ours, in the pod of the sample.
        let mut spec = programs.pod("reports", &[], json!({}))["spec"].take();
        let container = &mut spec["containers"][0];
        container["name"] = json!("reports");
        container
            .as_object_mut()
            .context("a container has fields")?
            .remove("command");
        apply(&self.apps, &[Programs::sources(&world.authority.pem())]).await?;
        let patch = json!({ "spec": { "template": { "spec": spec } } }).to_string();
        self.apps
            .run(&["patch", "deployment/reports", "--patch", &patch])
            .await
            .map(drop)
    }

    /// Callers besides the sample's own.
    async fn add_callers(&self, programs: &Programs, world: &World) -> Result<()> {
        let sources = Programs::sources(&world.authority.pem());
        let account = |name| json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
        let create = ["create", "namespace", &self.build.namespace];
        self.bed.kubectl.run(&create).await?;
        let on_node = json!({ "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" });
        let plain = |name| programs.pod(name, &[], json!({}));
        let orders = programs.pod("orders", &[], json!({ "serviceAccountName": "orders" }));
        let callers = [
            (
                self.bed,
                vec![plain("unaware"), programs.pod("node", &[], on_node)],
            ),
            (
                &self.shop,
                vec![account("orders"), plain("checkout"), orders],
            ),
            (&self.build, vec![plain("builder")]),
            (&self.maps, vec![plain("tourist")]),
        ];
        for (bed, objects) in callers {
            apply(bed, &[&[sources.clone()][..], &objects].concat()).await?;
        }
        for pod in [
            self.unaware(),
            self.node(),
            self.checkout(),
            self.orders(),
            self.builder(),
            self.tourist(),
        ] {
            pod.ready().await?;
        }
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        self.apps
            .run(&["rollout", "status", "deployment/reports", &patience])
            .await
            .map(drop)
    }

    /// The workload of the sample.
    fn reports(&self) -> Pod<'_> {
        pod(&self.apps, "deploy/reports")
    }

    fn unaware(&self) -> Pod<'_> {
        pod(self.bed, "unaware")
    }

    /// Who is not known by its address.
    fn node(&self) -> Pod<'_> {
        pod(self.bed, "node")
    }

    fn checkout(&self) -> Pod<'_> {
        pod(&self.shop, "checkout")
    }

    fn orders(&self) -> Pod<'_> {
        pod(&self.shop, "orders")
    }

    fn builder(&self) -> Pod<'_> {
        pod(&self.build, "builder")
    }

    fn tourist(&self) -> Pod<'_> {
        pod(&self.maps, "tourist")
    }

    /// Waits until all that the samples have for proxies is there, and who calls is known.
    async fn until_in_force(&self) -> Result<()> {
        for (kind, prefix, count) in [
            ("serviceentries", "portcullis.dev/", 7),
            ("egresspolicies", "", 5),
        ] {
            self.bed
                .until(&format!("all {kind} are Programmed"), async || {
                    let list = [kind, "--all-namespaces"];
                    let list = self.bed.kubectl.get(&list).await?;
                    let items = list["items"].as_array().context("a list has items")?;
                    ensure!(items.len() == count, "there are {}", items.len());
                    for item in items {
                        let conditions = &item["status"]["conditions"];
                        for kind in ["Accepted", "Programmed"] {
                            expect_condition(conditions, &format!("{prefix}{kind}"), "True")
                                .with_context(|| item["metadata"]["name"].to_string())?;
                        }
                    }
                    Ok(())
                })
                .await?;
        }
        let (orders, tourist) = (self.orders(), self.tourist());
        self.bed
            .until("the callers are known", async || {
                let asked = orders
                    .curl(&format!("{LISTED} http://payments.example/"))
                    .await?;
                asked.refused(&["shop/payments"])?;
                let asked = tourist
                    .curl(&format!("{MAPS} http://maps.example/"))
                    .await?;
                asked.reached("maps.example").map(drop)
            })
            .await
    }

    /// `allow-list.yaml` and `workload.yaml`.
    async fn allow_list(&self) -> Result<()> {
        let (reports, checkout, orders) = (&self.reports(), &self.checkout(), &self.orders());
        let (builder, node) = (&self.builder(), &self.node());
        let sni =
            "--noproxy '*' --connect-to ::egress-portcullis-egress.egress.svc.cluster.local:443";
        // Nothing but the variables in its pod says that it is to go by the Gateway.
        let by_itself = "";
        ask(vec![
            (
                reports,
                by_itself,
                "http://api.openweathermap.org/",
                Reaches,
            ),
            (
                reports,
                by_itself,
                "https://api.openweathermap.org/",
                Reaches,
            ),
            (reports, by_itself, "http://example.com/", NOT_LISTED),
            (reports, by_itself, "https://example.com/", NOT_LISTED),
            (reports, by_itself, "http://payments.example/", NOT_LISTED),
            (builder, LISTED, "https://api.openweathermap.org/", Reaches),
            (builder, LISTED, "http://example.com/", NOT_LISTED),
            // Entries count at every Gateway, and policies of another one's namespace do not.
            (builder, LISTED, "http://crm.example/admin", Reaches),
            (builder, sni, "https://api.openweathermap.org/", Reaches),
            (builder, sni, "https://example.com/", ALERT),
            (node, LISTED, "http://api.openweathermap.org/", Reaches),
            (checkout, LISTED, "http://payments.example/", Reaches),
            (
                orders,
                LISTED,
                "http://payments.example/",
                Refused(&["403", "denied_by_policy", "shop/payments"]),
            ),
            (orders, LISTED, "http://api.openweathermap.org/", Reaches),
        ])
        .await?;
        let paid = checkout
            .curl(&format!("{LISTED} http://payments.example/"))
            .await?;
        let echo = paid.reached("payments.example")?;
        ensure!(
            echo["encrypted"] == true && echo["address"] == "192.175.48.11:443",
            "the gateway has begun no TLS: {echo}"
        );
        let refused = reports.curl("http://example.com/").await?;
        println!("          workload.yaml, example.com: {}", refused.body());
        Ok(())
    }

    /// `policies.yaml`, by the table in its header.
    async fn policies(&self) -> Result<()> {
        let (orders, builder) = (&self.orders(), &self.builder());
        let (reports, node) = (&self.reports(), &self.node());
        let by_policy: &[&str] = &["403", "not_allowed_by_policy"];
        let database = "--proxytunnel http://db.partner.example:5432/";
        ask(vec![
            (orders, STRICT, database, Reaches),
            (
                orders,
                STRICT,
                "https://registry.npmjs.org/",
                Refused(&["403"]),
            ),
            (orders, STRICT, "http://crm.example/", Refused(by_policy)),
            (builder, STRICT, "https://registry.npmjs.org/", Reaches),
            (builder, STRICT, "http://crm.example/", Refused(by_policy)),
            (builder, STRICT, database, Refused(&["403"])),
            (reports, STRICT, "http://crm.example/customers", Reaches),
            (
                reports,
                STRICT,
                "http://crm.example/admin/users",
                Refused(&["403", "denied_by_policy"]),
            ),
            (
                reports,
                STRICT,
                "--proxytunnel http://crm.example/admin",
                Refused(&["403", "denied_by_policy"]),
            ),
            (reports, STRICT, "https://registry.npmjs.org/", Reaches),
            (reports, STRICT, database, Refused(&["403"])),
            (reports, STRICT, "http://example.com/", NOT_LISTED),
            (
                node,
                STRICT,
                "http://crm.example/customers",
                Refused(&["407", "token_needed"]),
            ),
            (
                node,
                STRICT,
                "https://registry.npmjs.org/",
                Refused(&["407"]),
            ),
        ])
        .await
    }

    /// `credential.yaml`: the API gets the key, and nobody else.
    async fn credential(&self, world: &World) -> Result<()> {
        let tourist = self.tourist();
        let added = format!("Bearer {KEY}");
        world.credentials();
        for own in ["", "--header 'Authorization: Bearer mine'"] {
            let asked = tourist
                .curl(&format!("{MAPS} {own} http://maps.example/"))
                .await?;
            let echo = asked.reached("maps.example")?;
            ensure!(
                echo["encrypted"] == true,
                "the gateway has begun no TLS: {echo}"
            );
            let seen = world.credentials();
            ensure!(
                seen == [("maps.example", added.clone())],
                "the API has got {seen:?}"
            );
            ensure!(
                !asked.printed.contains(KEY),
                "the pod sees the key: {}",
                asked.printed
            );
        }
        let (reports, orders, tourist) = (&self.reports(), &self.orders(), &tourist);
        ask(vec![
            // Those of other namespaces get neither the key nor the host.
            (reports, MAPS, "http://maps.example/", NOT_LISTED),
            (orders, MAPS, "https://maps.example/", Refused(&["403"])),
            // In a tunnel there is nothing to be added.
            (tourist, MAPS, "https://maps.example/", Reaches),
            (tourist, MAPS, "http://example.com/", NOT_LISTED),
        ])
        .await?;
        let seen = world.credentials();
        ensure!(seen.is_empty(), "others have come with {seen:?}");
        let of_pod = tourist
            .shell("env; grep --recursive --no-messages . /opt/token /opt/clients /var/run /run")
            .await?;
        let gateway = self.bed.in_namespace("maps-egress");
        let log = gateway
            .run(&[
                "logs",
                "--selector=gateway.networking.k8s.io/gateway-name=maps-egress",
                "--tail=-1",
            ])
            .await?;
        ensure!(
            log.contains("maps.example"),
            "the proxies have logged nothing: {log}"
        );
        for (place, text) in [("the pod", of_pod), ("the log", log)] {
            ensure!(!text.contains(KEY), "the key is in {place}: {text}");
        }
        Ok(())
    }

    /// `unaware-clients.yaml`: both ways of its header to have DNS lead them to the Gateway.
    async fn unaware_clients(&self, names: &ClusterNames) -> Result<()> {
        ensure!(
            UNAWARE.contains(REWRITE),
            "the header of the sample says another line than `{REWRITE}`"
        );
        let (unaware, reports) = (&self.unaware(), &self.reports());
        let by_itself = "";
        let asked = unaware.curl("http://api.github.com/").await?;
        asked.refused(&["Could not resolve host"])?;
        names.add_line(REWRITE)?;
        self.bed
            .until("the cluster's DNS leads to the Gateway", async || {
                unaware
                    .curl("http://api.github.com/")
                    .await?
                    .reached("api.github.com")
                    .map(drop)
            })
            .await?;
        let to_gateway = &format!("--connect-to ::{NAMES}:");
        let clear = &format!("{to_gateway}80");
        let tls = &format!("{to_gateway}443");
        ask(vec![
            (unaware, by_itself, "http://api.github.com/", Reaches),
            (unaware, by_itself, "https://api.github.com/", Reaches),
            (unaware, clear, "http://example.com/", NOT_LISTED),
            (unaware, tls, "https://example.com/", ALERT),
            // A Gateway that asks the cluster's DNS is led to a Service, and refuses that.
            (
                reports,
                by_itself,
                "http://api.github.com/",
                Refused(&["403", "address_refused"]),
            ),
        ])
        .await
    }

    /// `workload.yaml`: what its `NetworkPolicy` stops is not judged where the network enforces none. That it means the proxies of
    /// the Gateway, at the ports that they listen at, can be seen all the same.
    async fn network_policy(&self) -> Result<()> {
        let policy = self
            .apps
            .get("networkpolicy/only-by-the-egress-gateway")
            .await?;
        let rule = &policy["spec"]["egress"][1];
        let labels = rule["to"][0]["podSelector"]["matchLabels"]
            .as_object()
            .context("the second rule names pods")?;
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect();
        let gateway = self.bed.in_namespace("egress");
        let selector = format!("--selector={}", labels.join(","));
        let pods = gateway
            .run(&["get", "pods", "--output=name", &selector])
            .await?;
        ensure!(!pods.is_empty(), "{selector} means no proxy");
        let service = gateway.get("service/egress-portcullis-egress").await?;
        let ports = |list: &Value, field: &str| -> Vec<Value> {
            let ports = list.as_array().into_iter().flatten();
            ports.map(|port| port[field].clone()).collect()
        };
        let listening = ports(&service["spec"]["ports"], "targetPort");
        let open = ports(&rule["ports"], "port");
        ensure!(
            listening.iter().all(|port| open.contains(port)),
            "the proxies listen at {listening:?}, and the NetworkPolicy opens {open:?}"
        );
        let direct = self
            .reports()
            .curl("--noproxy '*' https://example.com/")
            .await?;
        println!(
            "          workload.yaml, past the Gateway: {}",
            match direct.reached(UNLISTED) {
                Ok(_) => "not judged, for this network enforces no NetworkPolicy",
                Err(_) => "nothing is reached",
            }
        );
        Ok(())
    }

    /// The commands of the headers and of the README, asked about the cluster.
    async fn commands(&self) -> Result<()> {
        let portcullis = Portcullis::get(self.bed).await?;
        let check = ["egress", "check", "--gateway"];
        let listed = ["egress/egress", "--from", "apps/reports"];
        let database = [
            "egress-strict/strict",
            "--from",
            "shop/orders",
            "--resolve",
            "10.1.2.3",
            "db.partner.example:5432",
        ];
        let open = [&check[..], &listed, &["https://api.openweathermap.org"]].concat();
        portcullis.expect(&open, 0, &["allowed"]).await?;
        let private = [&check[..], &database].concat();
        portcullis.expect(&private, 0, &["allowed"]).await?;
        let shut = [&check[..], &listed, &["http://example.com/"]].concat();
        portcullis.expect(&shut, 1, &["host_not_listed"]).await?;
        portcullis
            .expect(
                &["egress", "denied"],
                1,
                &["apps/reports", "example.com:443", "not_exported"],
            )
            .await
    }
}

fn pod<'a>(bed: &'a Bed, name: &'static str) -> Pod<'a> {
    Pod { bed, name }
}

/// Asks for URLs by ways that are named to curl.
async fn ask(asked: Vec<(&Pod<'_>, &str, &'static str, Outcome)>) -> Result<()> {
    let asked = asked
        .into_iter()
        .map(|(pod, way, url, outcome)| (pod, format!("{way} {url}"), (url, outcome)));
    ask_all(asked, |asked, (url, outcome)| match outcome {
        Refused(words) => asked.refused(words),
        Reaches => {
            let server = asked.reached_anything()?["server"].take();
            let host = server.as_str().unwrap_or_default();
            ensure!(
                url.contains(&format!("://{host}")),
                "{url} leads to {host}: {}",
                asked.printed
            );
            Ok(())
        }
    })
    .await
}
