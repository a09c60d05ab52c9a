//! What one tenant may make of the table of a Gateway that is for all: it still goes to the proxies, in one frame.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use portcullis_controller::{
    Finding, ObjectKey, Options, Translation, manifests::Loaded, status::Observed, translate,
};
use portcullis_routing::{
    EntryKey, PolicyKey,
    egress::Policy,
    frame::{MAX_FRAME, length_of},
};
use serde_json::{Value, json};

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: egress, namespace: infra}
spec:
  gatewayClassName: portcullis-egress
  listeners: [{name: proxy, port: 3128, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
";

fn translated(objects: &[Value]) -> Translation {
    with_gateway(&loaded(objects))
}

fn loaded(objects: &[Value]) -> Loaded {
    let mut loaded = Loaded::default();
    loaded.read_text("gateway.yaml", GATEWAY);
    for object in objects {
        loaded.read_text("object.json", &object.to_string());
    }
    loaded
}

/// As for a cluster: tables are sent.
fn with_gateway(loaded: &Loaded) -> Translation {
    let options = Options {
        observed: Observed::default(),
        ..Options::standalone()
    };
    translate(&loaded.resources, &options)
}

fn length(translation: &Translation) -> usize {
    let table = translation.tables.values().next().expect("a table");
    length_of(table)
}

fn told(translation: &Translation, object: &str) -> String {
    let findings = translation.findings.iter();
    let findings = findings.filter(|finding| finding.object.to_string() == object);
    findings.map(Finding::text).collect()
}

fn entry(ports: u16, names: usize) -> Value {
    let ports = (0..ports).map(
        |port| json!({"number": 1000 + port, "name": format!("p{port}"), "protocol": "HTTPS"}),
    );
    let names = (0..names).map(|name| format!("spiffe://{name}/{}", "x".repeat(2000)));
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "api", "namespace": "shop"},
        "spec": {
            "hosts": ["api.example"], "ports": ports.collect::<Vec<_>>(), "subjectAltNames": names.collect::<Vec<_>>(),
        },
    })
}

#[test]
fn ports_share_what_certificates_must_be_valid_for() {
    let translation = translated(&[entry(256, 100)]);
    let table = translation.tables.values().next().unwrap();
    let entry = table.entries.values().next().expect("the entry");
    assert_eq!((entry.ports.len(), entry.tls.len()), (256, 1));
    for port in &entry.ports {
        assert_eq!(entry.tls_of(port).unwrap().subject_alt_names.len(), 100);
    }
    assert!(length(&translation) < 1 << 18, "{}", length(&translation));
}

#[test]
fn an_entry_beyond_what_one_may_have_is_refused_with_its_longest_field() {
    let translation = translated(&[entry(256, 256)]);
    assert!(length(&translation) < 1 << 18, "{}", length(&translation));
    let told = told(&translation, "ServiceEntry shop/api");
    for part in [
        "spec.subjectAltNames",
        "262144 are the most",
        "list fewer names",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

/// The route, the credential and its Secret, each as large as it may be.
fn with_credentials(rules: usize, per_place: usize, backends: usize) -> Vec<Value> {
    let filter = |name: usize| {
        json!({
            "type": "ExtensionRef",
            "extensionRef": {"group": "portcullis.dev", "kind": "CredentialInjection", "name": format!("c{name}")},
        })
    };
    let filters: Vec<_> = (0..per_place).map(filter).collect();
    let backend = json!({
        "group": "networking.istio.io", "kind": "Hostname", "name": "api.example", "port": 1000, "filters": filters,
    });
    let rule = json!({"filters": filters, "backendRefs": vec![backend; backends]});
    let metadata = |name: &str| json!({"name": name, "namespace": "shop"});
    let injections = (0..per_place).map(|name| {
        json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "CredentialInjection", "metadata": metadata(&format!("c{name}")),
            "spec": {"header": format!("x-{name}"), "secretRef": {"name": "long"}},
        })
    });
    let others = [
        entry(1, 0),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata("long"),
            "stringData": {"credential": "hidden".repeat(1365)},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata("web"),
            "spec": {"parentRefs": [{"name": "egress", "namespace": "infra"}], "rules": vec![rule; rules]},
        }),
    ];
    injections.chain(others).collect()
}

#[test]
fn a_credential_is_sent_once_however_many_rules_add_it() {
    let translation = translated(&with_credentials(4, 2, 15));
    let table = translation.tables.values().next().unwrap();
    assert_eq!((table.routes.len(), table.credentials.len()), (4, 2));
    assert!(length(&translation) < 1 << 16, "{}", length(&translation));
    let shown = serde_json::to_string(&table.redacted()).unwrap();
    assert!(!shown.contains("hidden") && !format!("{table:?}").contains("hidden"));
}

#[test]
fn a_rule_with_too_many_credentials_is_rejected() {
    let translation = translated(&with_credentials(1, 16, 16));
    assert!(length(&translation) < 1 << 18, "{}", length(&translation));
    let table = translation.tables.values().next().unwrap();
    assert!(table.credentials.is_empty());
    let told = told(&translation, "HTTPRoute shop/web");
    for part in [
        "name 272 CredentialInjections, and 32 are the most",
        "split the rule",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

/// So many entries of 240 KiB in each of some namespaces. What is refused comes from the youngest, whose numbers are the greatest.
fn many_entries(per_namespace: usize, namespaces: usize) -> Loaded {
    let mut loaded = loaded(&[entry(100, 120)]);
    let entries = &mut loaded.resources.service_entries;
    let (_, one) = entries.pop_first().expect("the entry");
    for number in 0..per_namespace * namespaces {
        let mut entry = (*one).clone();
        entry.spec.hosts = vec![format!("e{number}.example")];
        entry.metadata.creation_timestamp = Some(created(number));
        let namespace = format!("shop-{}", number / per_namespace);
        let key = ObjectKey::new(namespace, format!("e{number}"));
        entries.insert(key, entry.into());
    }
    loaded
}

fn created(second: usize) -> Time {
    let second = i64::try_from(second).expect("a second");
    Time(Timestamp::from_second(1_700_000_000 + second).expect("a time"))
}

fn condition(translation: &Translation, kind: &str) -> Value {
    let gateway = &translation.statuses.gateways[&ObjectKey::new("infra", "egress")];
    let status = serde_json::to_value(gateway).expect("a status");
    let conditions = status["conditions"].as_array().expect("conditions");
    let mut conditions = conditions.iter();
    let found = conditions.find(|it| it["type"] == kind).cloned();
    found.expect("the condition")
}

/// Routes of 128 KiB, none of which is too large.
fn many_routes(number: usize) -> Loaded {
    let mut loaded = loaded(&[]);
    let path =
        |number: usize| json!({"path": {"value": format!("/{number}/{}", "x".repeat(1000))}});
    let rule = json!({"matches": (0..64).map(path).collect::<Vec<_>>()});
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"parentRefs": [{"name": "egress", "namespace": "infra"}], "rules": vec![rule; 2]},
    });
    loaded.read_text("route.json", &route.to_string());
    let routes = &mut loaded.resources.http_routes;
    let (_, one) = routes.pop_first().expect("the route");
    routes.extend((0..number).map(|number| {
        let mut route = (*one).clone();
        let name = format!("web-{number}");
        route.metadata.name = Some(name.clone());
        (ObjectKey::new("shop", name), route.into())
    }));
    loaded
}

#[test]
fn a_table_that_no_frame_holds_is_told_in_the_condition_of_its_gateway() {
    let translation = with_gateway(&many_routes(560));
    assert!(length(&translation) > MAX_FRAME);
    let programmed = condition(&translation, "Programmed");
    assert_eq!(
        (&programmed["status"], &programmed["reason"]),
        (&json!("False"), &json!("Invalid"))
    );
    let told = told(&translation, "Gateway infra/egress");
    let message = programmed["message"].as_str().unwrap();
    for part in [
        "67108864 are the most",
        "Most of it are routes, above all of the namespaces shop, then",
        "spread routes over several Gateways",
    ] {
        assert!(
            message.contains(part) && told.contains(part),
            "{message} {told}"
        );
    }
}

/// Namespaces none of which has too much make no table that no frame holds: those with the most have less, and those with little lose
/// nothing, however young that is.
#[test]
fn what_all_namespaces_have_is_bounded_and_those_with_the_most_lose() {
    let mut loaded = many_entries(14, 19);
    let entries = &mut loaded.resources.service_entries;
    let (_, last) = entries.last_key_value().expect("an entry");
    let mut small = (**last).clone();
    small.spec.hosts = vec!["small.example".to_owned()];
    small.metadata.creation_timestamp = Some(created(1_000));
    entries.insert(ObjectKey::new("small", "small"), small.into());
    let translation = with_gateway(&loaded);
    let bytes = length(&translation);
    assert!((32 << 20..MAX_FRAME).contains(&bytes), "{bytes}");
    assert_eq!(condition(&translation, "Programmed")["status"], "Unknown");
    let table = translation.tables.values().next().unwrap();
    let is_served = |namespace: &str, name: &str| {
        let entry = table.entries.get(&EntryKey::of(namespace, name));
        entry.is_some_and(|entry| !entry.is_shut())
    };
    assert!(is_served("small", "small"));
    for namespace in 0..19 {
        let name = |number: usize| format!("e{}", namespace * 14 + number);
        let of = format!("shop-{namespace}");
        let served = [0, 6, 9, 13].map(|number| is_served(&of, &name(number)));
        assert_eq!(served, [true, true, false, false], "{of}");
    }
    let accepted = condition(&translation, "Accepted");
    let accepted = accepted["message"].as_str().unwrap();
    for part in [
        "shop-0 (6 ServiceEntries",
        "14 others",
        "together may have 41943040 bytes",
    ] {
        assert!(accepted.contains(part), "{accepted}");
    }
    for (key, status) in &translation.statuses.service_entries {
        let status = serde_json::to_value(status).unwrap().to_string();
        let others = ["shop-", "small"].iter().any(|it| status.contains(it));
        assert!(!others, "{key} is told of others: {status}");
        assert_eq!(
            status.contains("together") && status.contains("QuotaExceeded"),
            key.namespace != "small" && !is_served(&key.namespace, &key.name)
        );
    }
}

#[test]
fn what_a_namespace_has_beyond_what_it_may_is_refused_the_youngest_first() {
    let translation = with_gateway(&many_entries(280, 1));
    assert!(length(&translation) < 5 << 20, "{}", length(&translation));
    let programmed = condition(&translation, "Programmed");
    assert_eq!(programmed["status"], "Unknown");
    let table = translation.tables.values().next().unwrap();
    let is_served = |number: usize| {
        let key = EntryKey::of("shop-0", &format!("e{number}"));
        table.entries.get(&key).map(|entry| !entry.is_shut())
    };
    // Those that are refused are shut, as long as that takes little, so that nobody else leads their callers elsewhere.
    let served = [0, 15, 100, 279].map(is_served);
    assert_eq!(served, [Some(true), Some(true), Some(false), None]);
    for (number, follows) in [(100, "it is shut"), (279, "it is as good as none")] {
        let key = ObjectKey::new("shop-0", format!("e{number}"));
        let status = serde_json::to_value(&translation.statuses.service_entries[&key]).unwrap();
        let status = status.to_string();
        for part in ["QuotaExceeded", "of 4194304", follows, "list less"] {
            assert!(status.contains(part), "{status}");
        }
    }
    let accepted = condition(&translation, "Accepted");
    assert_eq!(accepted["status"], "True");
    for part in ["the youngest are refused: shop-0 (26", "0 EgressPolicies"] {
        let message = accepted["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
        assert!(told(&translation, "Gateway infra/egress").contains(part));
    }
    let few = with_gateway(&many_entries(10, 2));
    assert_eq!(told(&few, "Gateway infra/egress"), "");
}

/// A policy with so many hosts of 250 bytes.
fn policy(name: &str, action: &str, hosts: usize) -> Value {
    let label = "x".repeat(60);
    let host = |number: usize| format!("h{number:05}.{label}.{label}.{label}.{label}");
    let hosts: Vec<_> = (0..hosts).map(host).collect();
    let to: Vec<_> = hosts
        .chunks(256)
        .map(|hosts| json!({"hosts": hosts}))
        .collect();
    json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "EgressPolicy", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"action": action, "from": [{"serviceAccounts": ["web"]}], "to": to},
    })
}

/// What governs every caller is not refused for what tenants have: it would shut all of them.
#[test]
fn policies_of_the_gateways_namespace_go_before_what_tenants_have() {
    let mut loaded = many_entries(17, 40);
    for number in 0..6 {
        let mut policy = policy(&format!("p{number}"), "Deny", 1000);
        policy["metadata"]["namespace"] = json!("infra");
        loaded.read_text("policy.json", &policy.to_string());
    }
    let translation = with_gateway(&loaded);
    let bytes = length(&translation);
    assert!((32 << 20..MAX_FRAME).contains(&bytes), "{bytes}");
    for (key, status) in &translation.statuses.egress_policies {
        let status = serde_json::to_value(status).unwrap().to_string();
        assert!(!status.contains("QuotaExceeded"), "{key}: {status}");
    }
    let accepted = condition(&translation, "Accepted");
    let accepted = accepted["message"].as_str().unwrap();
    for part in [
        "shop-0 (",
        "each with egress Gateways may have 4194304, and any other 9",
    ] {
        assert!(accepted.contains(part), "{accepted}");
    }
}

fn policy_in_table<'t>(translation: &'t Translation, name: &str) -> Option<&'t Policy> {
    let table = translation.tables.values().next().unwrap();
    let policy = table.policies.get(&PolicyKey::of("shop", name));
    policy.map(|policy| &**policy)
}

#[test]
fn a_policy_beyond_what_one_may_have_holds_against_its_callers() {
    let translation = translated(&[policy("allow", "Allow", 1100), policy("deny", "Deny", 1100)]);
    assert!(length(&translation) < 1 << 14, "{}", length(&translation));
    let [allow, deny] = ["allow", "deny"].map(|name| policy_in_table(&translation, name).unwrap());
    assert_eq!((&allow.to, &deny.to), (&Some(vec![]), &None));
    assert_eq!(allow.from.as_ref().map(Vec::len), Some(1));
    for (name, follows) in [
        ("allow", "allows its callers nothing"),
        ("deny", "denies its callers everything"),
    ] {
        let told = told(&translation, &format!("EgressPolicy shop/{name}"));
        for part in ["spec.to", "262144 are the most", follows, "split it"] {
            assert!(told.contains(part), "{told}");
        }
        let status = &translation.statuses.egress_policies[&ObjectKey::new("shop", name)];
        let status = serde_json::to_value(status).unwrap().to_string();
        assert!(
            status.contains("Invalid") && status.contains("False"),
            "{status}"
        );
    }
}

#[test]
fn policies_beyond_what_a_namespace_may_have_hold_against_their_callers() {
    let name = |number: usize| format!("p{number:03}");
    let policies: Vec<_> = (0..40)
        .map(|number| policy(&name(number), "Deny", 1000))
        .collect();
    let mut loaded = loaded(&policies);
    for (number, object) in loaded.resources.egress_policies.values_mut().enumerate() {
        std::sync::Arc::make_mut(object).metadata.creation_timestamp = Some(created(number));
    }
    let translation = with_gateway(&loaded);
    assert!(length(&translation) < 5 << 20, "{}", length(&translation));
    let hosts =
        |number: usize| policy_in_table(&translation, &name(number)).map(|it| it.to.is_some());
    assert_eq!(
        [0, 15, 30, 39].map(hosts),
        [Some(true), Some(true), Some(false), Some(false)]
    );
    let key = ObjectKey::new("shop", "p039");
    let status = serde_json::to_value(&translation.statuses.egress_policies[&key]).unwrap();
    let status = status.to_string();
    for part in ["QuotaExceeded", "denies its callers everything"] {
        assert!(status.contains(part), "{status}");
    }
}

/// Neither do those that make requests costly without being long.
#[test]
fn what_requests_are_held_against_one_by_one_has_a_bound() {
    let to = vec![json!({"ports": (1..65).collect::<Vec<u16>>()}); 64];
    let policy = |number: usize| {
        json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "EgressPolicy",
            "metadata": {"name": format!("p{number}"), "namespace": "shop"},
            "spec": {"to": to},
        })
    };
    let translation = translated(&(0..6).map(policy).collect::<Vec<_>>());
    let table = translation.tables.values().next().unwrap();
    let terms = table.policies.values().map(|policy| policy.terms());
    assert!(terms.sum::<usize>() < 16_384 + 4096);
    let told = told(&translation, "EgressPolicy shop/p5");
    assert!(told.contains("terms of 16384"), "{told}");
}

/// Services may list any address, and as many as they like.
#[test]
fn external_addresses_of_services_count_up_to_a_bound() {
    let service = |namespace: &str, name: &str, addresses: std::ops::Range<usize>| {
        let addresses =
            addresses.map(|number| format!("203.0.{}.{}", number / 100, 2 * (number % 100)));
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
            "spec": {"externalIPs": addresses.collect::<Vec<_>>(), "ports": [{"port": 80}]},
        })
    };
    let translation = translated(&[
        service("shop", "a", 0..200),
        service("shop", "b", 200..400),
        service("small", "c", 400..410),
    ]);
    let table = translation.tables.values().next().unwrap();
    let settings = table.settings.egress.as_ref().unwrap();
    assert_eq!(settings.external.len(), 256 + 10);
    let told = |name: &str| told(&translation, &format!("Service {name}"));
    assert_eq!(told("shop/a") + &told("small/c"), "");
    for part in ["spec.externalIPs", "56 of the 200 count", "protectedCIDRs"] {
        assert!(told("shop/b").contains(part), "{}", told("shop/b"));
    }
}

/// What tenants ask for of pods puts nothing of others into tables.
#[test]
fn labels_that_a_tenant_asks_for_are_those_of_its_own_pods() {
    let policy = |namespace: &str, key: &str| {
        json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "EgressPolicy", "metadata": {"name": "ask", "namespace": namespace},
            "spec": {"from": [{"podSelector": {"matchExpressions": [{"key": key, "operator": "Exists"}]}}]},
        })
    };
    let pod = |namespace: &str, address: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": namespace, "labels": {"of-all": "x", "of-shop": "x", "of-nobody": "x"}},
            "spec": {"containers": []}, "status": {"phase": "Running", "podIP": address},
        })
    };
    let translation = translated(&[
        policy("infra", "of-all"),
        policy("shop", "of-shop"),
        pod("shop", "10.1.0.1"),
        pod("other", "10.1.0.2"),
    ]);
    let table = translation.tables.values().next().unwrap();
    let labels = |address: &str| {
        let labels = &table.workloads[address].labels;
        labels.keys().map(String::as_str).collect::<Vec<_>>()
    };
    assert_eq!(labels("10.1.0.1"), ["of-all", "of-shop"]);
    assert_eq!(labels("10.1.0.2"), ["of-all"]);
}
