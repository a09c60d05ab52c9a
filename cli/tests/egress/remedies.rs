//! What `portcullis egress check` says would allow what is refused: it does, and takes nothing away.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use crate::{GATEWAY, checked_by, common::config};

/// The answer about the first form, and the exit code.
fn asked(manifests: &str, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, said) = checked_by(manifests, &[arguments, &["-o", "json"]].concat());
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    (code, said["answers"][0].clone())
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "
---
apiVersion: portcullis.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: {name}, namespace: egress}}
spec: {spec}
"
    )
}

fn with(manifests: &str, answer: &Value) -> String {
    let apply = answer["apply"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"));
    format!("{manifests}\n---\n{apply}")
}

#[test]
fn the_remedy_of_a_check_allows_it() {
    let sample =
        fs::read_to_string(config().join("samples/egress/allow-list.yaml")).expect("a sample");
    let web = ["--from", "shop/web", "https://new.example"];
    let refused = asked(&sample, &web).1;
    let allowed = with(&sample, &refused);
    assert_eq!(asked(&allowed, &web).0, Some(0));
    let narrow = policy(
        "narrow",
        "{from: [{serviceAccounts: [shop/web]}], to: [{hosts: [other.example]}]}",
    );
    let narrowed = allowed + &narrow;
    let (_, shut_in) = asked(&narrowed, &web);
    assert_eq!(shut_in["reason"], "not_allowed_by_policy");
    assert_eq!(asked(&with(&narrowed, &shut_in), &web).0, Some(0));
    // All of it at once.
    let (_, answer) = asked(&(sample + &narrow), &web);
    assert_eq!(answer["reason"], "host_not_listed");
    let words = "apply this ServiceEntry; then policies allow the caller other destinations only: add it to egresspolicy/egress/narrow, \
                 or apply this EgressPolicy beside it";
    assert_eq!(answer["remedy"], words);
}

/// What stands in the way of a host that is listed is told before it is.
#[test]
fn policies_and_addresses_are_judged_as_if_the_entry_were_there() {
    let narrow = policy("this-machine", "{to: [{hosts: [a.example]}]}");
    let deny = policy(
        "no-new",
        "{action: Deny, to: [{hosts: [new.example], paths: [{value: /admin}]}]}",
    );
    let to_all = "apply this ServiceEntry, which opens it to every namespace (name the caller with --from for less)";
    for (more, arguments, expected) in [
        (
            &narrow,
            &["http://new.example/"][..],
            "; then policies allow the caller other destinations only: add it to \
                 egresspolicy/egress/this-machine",
        ),
        (
            &deny,
            &["http://new.example/admin"],
            "; then a policy denies it: change egresspolicy/egress/no-new: a Deny goes \
                 before whatever allows",
        ),
        (
            &deny,
            &["new.example:443"],
            "; then a policy denies it: change egresspolicy/egress/no-new: a Deny goes \
                 before whatever allows. The policy goes by methods or paths, which nobody sees in a tunnel: send the requests to the \
                 proxy itself.",
        ),
        (&deny, &["http://new.example/"], ""),
        (
            &deny,
            &["http://new.example/", "--resolve", "93.184.216.34"],
            "",
        ),
        (
            &deny,
            &["http://new.example/", "--resolve", "10.0.0.1"],
            "; then it leads to 10.0.0.1, a private address: if \
                 that is meant, name 10.0.0.1/32 in allowPrivate of an EgressPolicy in namespace egress; whom an Allow there selects reaches \
                 nothing but what such policies name",
        ),
    ] {
        let (code, answer) = asked(&(GATEWAY.to_owned() + more), arguments);
        assert_eq!(code, Some(1), "{answer}");
        let expected = format!("{to_all}{expected}");
        assert_eq!(answer["remedy"], expected, "{arguments:?}");
    }
    // Both steps in one.
    let web = ["--from", "shop/web", "http://new.example/"];
    let manifests = GATEWAY.to_owned() + &narrow;
    let (_, answer) = asked(&manifests, &web);
    assert_eq!(
        asked(&with(&manifests, &answer), &web).0,
        Some(0),
        "{answer}"
    );
}

#[test]
fn no_remedy_replaces_what_is_there() {
    let (clear, secure) = (["http://new.example/"], ["https://new.example/"]);
    let listed = with(GATEWAY, &asked(GATEWAY, &clear).1);
    let (_, answer) = asked(&listed, &secure);
    let words = answer["remedy"].as_str().expect("a remedy");
    assert!(
        words.starts_with("add to serviceentry/egress/new.example-http-80-"),
        "{words}"
    );
    let port = ", spec.ports: - {number: 443, name: tls-443, protocol: TLS}";
    assert!(words.ends_with(port), "{words}");
    assert_eq!(answer["apply"], Value::Null);
    let port = "- {number: 443, name: tls-443, protocol: TLS}";
    let both = listed.replace("\n  ports:\n", &format!("\n  ports:\n  {port}\n"));
    assert_eq!(asked(&both, &clear).0, Some(0));
    assert_eq!(asked(&both, &secure).1["verdict"], "allow");

    // Another port would be open at all hosts of an entry: there is an entry beside it, under a name of its own.
    let several = listed.replace("\n  hosts:\n", "\n  hosts:\n  - b.example\n");
    let (_, answer) = asked(&several, &secure);
    let apply = answer["apply"].as_str().expect("a manifest");
    assert!(apply.contains("name: new.example-tls-443-"), "{apply}");
    let beside = with(&several, &answer);
    assert_eq!(asked(&beside, &clear).0, Some(0));
    assert_eq!(asked(&beside, &secure).1["verdict"], "allow");

    // So it is with policies.
    let narrow = policy(
        "narrow",
        "{from: [{serviceAccounts: [shop/web]}], to: [{hosts: [a.example]}]}",
    );
    let mut manifests = beside + &narrow;
    for destination in ["http://new.example/", "new.example:443"] {
        let asking = ["--from", "shop/web", destination];
        manifests = with(&manifests, &asked(&manifests, &asking).1);
        assert_eq!(asked(&manifests, &asking).0, Some(0), "{manifests}");
    }
    assert_eq!(
        asked(&manifests, &["--from", "shop/web", "http://new.example/"]).0,
        Some(0),
        "{manifests}"
    );
    for port in [80, 443] {
        let name = format!("name: web-new.example-{port}-");
        assert!(manifests.contains(&name), "{manifests}");
    }
}

/// As the proxies say it.
#[test]
fn a_name_of_the_inside_is_reached_without_the_proxy_first() {
    for host in [
        "kubernetes.default.svc",
        "metadata.google.internal",
        "web.shop.svc.cluster.local",
        "localhost",
    ] {
        let url = format!("http://{host}/");
        let (_, answer) = asked(GATEWAY, &["--from", "shop/web", &url]);
        let words = format!(
            "if it is in the cluster, reach it without the proxy, by {host} in NO_PROXY of the caller; else apply this ServiceEntry"
        );
        assert_eq!(answer["remedy"], words);
    }
}

fn policy_of(namespace: &str, name: &str, spec: &str) -> String {
    policy(name, spec).replace("namespace: egress", &format!("namespace: {namespace}"))
}

/// What objects once the first objection is out of the way is told with it.
#[test]
fn a_remedy_is_about_every_objection() {
    let listed = "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: egress}
spec: {hosts: [api.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
";
    let narrow = "{to: [{hosts: [a.example]}]}";
    let levels = [("egress", "ours"), ("shop", "theirs")];
    let [ours, theirs] = levels.map(|(namespace, name)| policy_of(namespace, name, narrow));
    let why = "policies allow the caller other destinations only";
    for (manifests, first) in [
        (GATEWAY.to_owned() + listed, String::new()),
        (
            GATEWAY.to_owned(),
            format!("apply this ServiceEntry; then {why}: "),
        ),
    ] {
        let manifests = manifests + &ours + &theirs;
        let asking = ["--from", "shop/web", "http://api.example/"];
        let (_, answer) = asked(&manifests, &asking);
        let or = "or apply this EgressPolicy beside it";
        let words = format!(
            "{first}add it to egresspolicy/egress/ours, {or}; then {why}: add it to egresspolicy/shop/theirs, {or}"
        );
        assert_eq!(answer["remedy"], words);
        let allowed = with(&manifests, &answer);
        assert_eq!(asked(&allowed, &asking).0, Some(0), "{allowed}");
    }

    let denies = ["one", "other"]
        .map(|name| policy(name, "{action: Deny, to: [{hosts: [api.example]}]}"))
        .concat();
    let manifests = GATEWAY.to_owned() + listed + &denies + &theirs;
    let asking = [
        "--from",
        "shop/web",
        "--resolve",
        "10.0.0.1",
        "http://api.example/",
    ];
    let words = asked(&manifests, &asking).1["remedy"].to_string();
    let steps: Vec<_> = words.split("; then ").collect();
    for (step, expected) in steps.iter().zip([
        "change egresspolicy/egress/one",
        "a policy denies it: change egresspolicy/egress/other",
        "add it to egresspolicy/shop/theirs",
        "it leads to 10.0.0.1",
    ]) {
        assert!(step.contains(expected), "{words}");
    }
    assert_eq!(steps.len(), 4, "{words}");
}

/// A port is added where it is opened to nobody but the caller's namespace. Else there is an entry beside it.
#[test]
fn a_remedy_opens_nothing_to_other_namespaces() {
    for (export, is_added) in [
        ("", false),
        (", exportTo: ['*']", false),
        (", exportTo: ['.', apps]", false),
        (", exportTo: ['.']", true),
        (", exportTo: [shop]", true),
    ] {
        let own = format!(
            "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: own, namespace: shop}}
spec: {{hosts: [new.example], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS{export}}}
"
        );
        let manifests = GATEWAY.to_owned() + &own;
        let asking = ["--from", "shop/web", "new.example:443"];
        let (_, answer) = asked(&manifests, &asking);
        let words = answer["remedy"].as_str().expect("a remedy");
        assert_eq!(words.starts_with("add to "), is_added, "{export}: {words}");
        if !is_added {
            let mended = with(&manifests, &answer);
            assert_eq!(asked(&mended, &asking).0, Some(0), "{mended}");
            let of_others = ["--from", "apps/web", "new.example:443"];
            assert_eq!(asked(&mended, &of_others).0, Some(1), "{mended}");
            let before = ["--from", "shop/web", "http://new.example/"];
            assert_eq!(asked(&mended, &before).0, Some(0), "{mended}");
        }
    }
}

/// One that is enforced beside one that reports would refuse what passed.
#[test]
fn a_policy_beside_one_that_reports_reports() {
    let narrow = policy("narrow", "{mode: Report, to: [{hosts: [a.example]}]}");
    let manifests = GATEWAY.to_owned() + &narrow;
    let of = |host: &'static str| ["--from", "shop/web", host];
    let listed = ["http://b.example/", "http://c.example/"]
        .iter()
        .map(|host| asked(GATEWAY, &of(host)).1)
        .fold(manifests, |manifests, answer| with(&manifests, &answer));
    let (code, answer) = asked(&listed, &of("http://b.example/"));
    assert_eq!((code, &answer["verdict"]), (Some(0), &"report".into()));
    let mended = with(&listed, &answer);
    for (host, verdict) in [
        ("http://b.example/", "allow"),
        ("http://c.example/", "report"),
    ] {
        assert_eq!(asked(&mended, &of(host)).1["verdict"], verdict, "{mended}");
    }
}

/// Several are asked for before any is applied.
#[test]
fn no_remedy_replaces_another() {
    let narrow = policy(
        "narrow",
        "{from: [{serviceAccounts: [egress/web]}], to: [{hosts: [a.example]}]}",
    );
    let manifests = GATEWAY.to_owned() + &narrow;
    let (one, long) = ("a".repeat(61), "b".repeat(60));
    let long = |port: u16| format!("http://{one}.{one}.{one}.{long}.com:{port}/");
    let (long_one, long_other) = (long(8080), long(8081));
    for asked_for in [
        [&["http://new.example/"][..], &["https://new.example/"]],
        [&["http://new.example:443/"], &["https://new.example/"]],
        [
            &["--from", "egress/web", "http://new.example/"],
            &["--from", "egress/web", "https://new.example/"],
        ],
        // One is for everybody, the other for one namespace.
        [
            &["http://new.example/"],
            &["--from", "egress/web", "http://new.example/"],
        ],
        [&["http://my_b.example/"], &["http://my-b.example/"]],
        [&[&long_one], &[&long_other]],
    ] {
        let remedies = asked_for.map(|arguments| asked(&manifests, arguments).1);
        let mut objects = BTreeMap::new();
        for remedy in &remedies {
            let apply = remedy["apply"].as_str().expect("manifests");
            for object in serde_saphyr::from_multiple::<Value>(apply).expect("YAML") {
                let name = object["metadata"]["name"].as_str().expect("a name");
                assert!(name.len() <= 253, "{name}");
                let key = format!("{} {}", object["kind"], object["metadata"]);
                if let Some(other) = objects.insert(key, object.clone()) {
                    assert_eq!(other, object);
                }
            }
        }
        let hosts = objects.values().filter(|it| it["kind"] == "ServiceEntry");
        assert_eq!(hosts.count(), 2, "{asked_for:?}: {objects:?}");
    }
}

/// In the words of the proxies.
#[test]
fn what_nobody_sees_in_a_tunnel_is_said() {
    let entry = "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: egress}
spec: {hosts: [api.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
";
    let why = "The policy goes by methods or paths, which nobody sees in a tunnel: send the requests to the proxy itself.";
    for (spec, remedy) in [
        (
            "{action: Deny, to: [{hosts: [api.example], paths: [{value: /admin}]}]}",
            "change egresspolicy/egress/paths: a Deny goes before whatever allows",
        ),
        (
            "{to: [{hosts: [api.example], paths: [{value: /v1}]}]}",
            "add it to egresspolicy/egress/paths, without methods and paths",
        ),
    ] {
        let manifests = format!("{GATEWAY}{entry}{}", policy("paths", spec));
        let (code, answer) = asked(&manifests, &["https://api.example"]);
        assert_eq!(code, Some(1), "{answer}");
        assert_eq!(answer["because"], why);
        assert_eq!(answer["remedy"], remedy);
        let (_, said) = checked_by(&manifests, &["https://api.example"]);
        assert!(said.contains(&format!("\nBecause  {why}\n")), "{said}");
    }
}
