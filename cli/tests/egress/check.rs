//! `portcullis egress check` by manifests.

use std::fs;

use serde_json::Value;

use crate::{
    GATEWAY, assert_golden, checked_by,
    common::{config, run, stderr, stdout},
    testdata,
};

/// What somebody is told of a destination, by the sample of egress.
fn checked(arguments: &[&str]) -> (Option<i32>, String) {
    let sample = config().join("samples/egress/allow-list.yaml");
    let sample = sample.to_str().expect("UTF-8");
    let output = run(&[&["egress", "check", "-f", sample], arguments].concat());
    (output.status.code(), stdout(&output) + &stderr(&output))
}

#[test]
fn a_destination_is_allowed_or_refused_with_its_reason_and_remedy() {
    let pod_policy = "egresspolicy/shop/payments";
    for (arguments, code, expected) in [
        (
            &["https://api.openweathermap.org"][..],
            0,
            "serviceentry/egress/weather",
        ),
        (
            &["http://api.openweathermap.org", "--resolve", "127.0.0.1"],
            1,
            "Address  127.0.0.1: refused, a loopback address",
        ),
        (
            &["http://api.openweathermap.org/data", "--from", "apps"],
            0,
            "apps/default",
        ),
        (
            &["https://API.openweathermap.org.:444", "--from", "apps"],
            1,
            "(port_not_listed)",
        ),
        (
            &["api.openweathermap.org:444", "--from", "apps/x"],
            1,
            "serviceentry/egress/weather: the host is listed, but not with this port",
        ),
        (
            &["http://payments.example/", "--from", "apps"],
            1,
            "(not_exported)",
        ),
        (&["http://payments.example/"], 1, "(unknown_caller)"),
        (
            &["http://payments.example/", "--from", "shop"],
            1,
            pod_policy,
        ),
        (
            &["https://new.example", "--from", "shop/web"],
            1,
            "hosts:\n           - new.example",
        ),
        (&["192.0.2.1:443", "--from", "shop"], 1, "addresses"),
        (
            &["https://_a.my_bucket.example", "--from", "shop/web"],
            1,
            "name: a.my-bucket.example-tls-443-",
        ),
        (
            &["https://api.openweathermap.org:8443"],
            1,
            "note: TLS that passes through does not come by Gateway egress/egress: it has no listener of protocol TLS with port 8443",
        ),
        (&["http://a.example", "--method", "GE T"], 2, "--method"),
        (&["new.example"], 2, "has no port"),
        (
            &["new.example:1", "--pod", "shop/none"],
            2,
            "no proxy knows Pod shop/none",
        ),
        (
            &["new.example:1", "--gateway", "a/b"],
            2,
            "no egress Gateway a/b is served, but egress/egress: correct --gateway",
        ),
        (
            &["new.example:1", "--gateway", "egress/egress"],
            1,
            "namespace: egress",
        ),
    ] {
        let (found, said) = checked(arguments);
        assert_eq!(found, Some(code), "{arguments:?} {said}");
        assert!(said.contains(expected), "{arguments:?} {said}");
    }
}

/// Manifests with routes. A server of theirs has port 8080.
fn with_routes() -> String {
    let manifests = fs::read_to_string(testdata("routes.yaml")).expect("manifests");
    manifests.replace("PORT", "8080")
}

/// By which listener, which route and which entry: all of it is said.
#[test]
fn a_destination_that_a_route_takes_is_answered_as_before() {
    let caller = ["--from", "shop/web"];
    let asked = [
        "http://api.example/",
        "http://metadata.example/",
        "http://through.example/old/x",
        "http://through.example/others",
        "http://through.example/",
        "http://inside.example/open",
        "http://inside.listed.example/admin",
        "http://inside.example/moved",
        "http://inside.example/gone",
        "https://api.example",
        "grpc.example:80",
    ];
    let said = asked.map(|asked| {
        let (code, said) = checked_by(&with_routes(), &[&caller[..], &[asked]].concat());
        format!("# {asked} ({})\n{said}", code.unwrap_or_default())
    });
    assert_golden("routes.txt", &said.join("\n"));
}

#[test]
fn programs_are_told_of_the_route_too() {
    let asked = ["--from", "shop/web", "http://through.example/old/x"];
    for form in ["json", "yaml"] {
        let (_, said) = checked_by(&with_routes(), &[&asked[..], &["-o", form]].concat());
        let said: Value = serde_saphyr::from_str(&said).expect("JSON, or YAML");
        let answer = &said["answers"][0];
        assert_eq!(
            answer["route"],
            serde_json::json!({
                "rule": "rule 0 of HTTPRoute egress/through", "path": "/admin/x",
                "to": "to host api.example:80 of serviceentry/egress/api",
            })
        );
        assert_eq!(answer["listeners"], serde_json::json!(["egress/out/proxy"]));
        assert_eq!(answer["reason"], "denied_by_policy");
    }
}

#[test]
fn what_a_route_leads_to_can_be_resolved() {
    // What has endpoints is not looked up.
    let named = with_routes().replacen(
        "resolution: STATIC\n  endpoints: [{address: 127.0.0.1}]",
        "resolution: DNS",
        1,
    );
    let ask = |resolve: &str| {
        let asked = [
            "--from",
            "shop/web",
            "http://through.example/",
            "--resolve",
            resolve,
        ];
        checked_by(&named, &asked)
    };
    let (code, said) = ask("api.example:80:10.0.0.1");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("it leads to 10.0.0.1, a private address"),
        "{said}"
    );
    let (code, said) = ask("api.example:81:10.0.0.1");
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("no --resolve is for through.example:80"),
        "{said}"
    );
}

#[test]
fn a_host_that_no_listener_is_for_is_refused() {
    let all = with_routes();
    let only_listed = all
        .lines()
        .filter(|it| !it.contains("name: proxy, protocol"));
    let only_listed = only_listed.collect::<Vec<_>>().join("\n");
    let ask = |asked: &str| checked_by(&only_listed, &["--from", "shop/web", asked]);
    for asked in ["http://api.example/", "api.example:80"] {
        let (code, said) = ask(asked);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("(no_route)"), "{said}");
    }
    let (code, said) = ask("http://inside.listed.example/open");
    assert_eq!(code, Some(0), "{said}");
}

/// One of several endpoints is enough, and whose word it is matters.
#[test]
fn endpoints_are_judged_one_by_one() {
    let ask = |endpoints: &str, namespace: &str| {
        let manifests = with_routes()
            .replace("[{address: 169.254.1.1}]", endpoints)
            .replace(
                "name: metadata, namespace: shop",
                &format!("name: metadata, namespace: {namespace}"),
            );
        checked_by(
            &manifests,
            &["--from", "shop/web", "http://metadata.example/"],
        )
    };
    let refused = "Endpoint 169.254.1.1: refused, a link-local address";
    for (endpoints, namespace, code, expected) in [
        ("[{address: 169.254.1.1}]", "shop", 1, refused),
        (
            "[{address: 169.254.1.1}]",
            "shop",
            1,
            "list it in a ServiceEntry of namespace egress, or name 169.254.1.1/32 in allowPrivate",
        ),
        (
            "[{address: 169.254.1.1}]",
            "egress",
            0,
            "Endpoint 169.254.1.1: may be connected to",
        ),
        (
            "[{address: 169.254.1.1}, {address: 10.9.9.9}]",
            "shop",
            0,
            refused,
        ),
        (
            "[{address: 169.254.1.1}, {address: 10.9.9.9}]",
            "shop",
            0,
            "Endpoint 10.9.9.9: may be connected to",
        ),
    ] {
        let (found, said) = ask(endpoints, namespace);
        assert_eq!(found, Some(code), "{endpoints} {said}");
        assert!(said.contains(expected), "{endpoints} {said}");
    }
}

/// Who speaks TLS with the proxy may have it speak to ports for TLS, and names by its greeting which listener it wants.
#[test]
fn listeners_that_differ_have_answers_of_their_own() {
    let sample = fs::read_to_string(config().join("samples/tls-redirect.yaml")).expect("a sample");
    let mut documents = sample.split("\n---\n");
    let secret = documents
        .find(|it| it.contains("kind: Secret"))
        .expect("one");
    let secret = secret.replace("namespace: tls-redirect", "namespace: egress");
    let manifests = format!("{}---\n{secret}", with_routes()).replace(
        "  - {name: listed,",
        "  - {name: secure, protocol: HTTPS, port: 3129, hostname: proxy.example, tls: {certificateRefs: [{name: shop-certificate}]}}\n  \
         - {name: listed,",
    ).replace("protocol: GRPC", "protocol: HTTPS");
    let asked = ["--from", "shop/web", "http://grpc.example/", "-o", "json"];
    let (code, said) = checked_by(&manifests, &asked);
    assert_eq!(code, Some(1), "{said}");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let answers = said["answers"].as_array().expect("answers").iter();
    let answers = answers.map(|it| (it["listeners"][0].as_str(), it["reason"].as_str()));
    let answers: Vec<_> = answers.collect();
    assert_eq!(
        answers,
        [
            (Some("egress/out/proxy"), Some("protocol_not_listed")),
            (Some("egress/out/secure"), Some("allowed")),
        ]
    );
}

#[test]
fn a_destination_names_its_host_itself() {
    let asked = ["http://api.example/", "-H", "Host: b.example"];
    let (code, said) = checked(&asked);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("leave the header Host out"), "{said}");
}

#[test]
fn a_check_tells_which_entry_is_in_force_and_which_are_not() {
    let entry = |namespace: &str, name: &str, host: &str, rest: &str| {
        format!(
            "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: ['{host}']
  ports: [{{number: 443, name: tls, protocol: TLS}}]
{rest}
"
        )
    };
    let elsewhere = "  resolution: STATIC\n  endpoints: [{address: 198.51.100.7}]";
    let policy = "
---
apiVersion: portcullis.dev/v1alpha1
kind: EgressPolicy
metadata: {name: api, namespace: egress}
spec: {to: [{hosts: ['*.example.com']}]}
";
    let manifests = [
        GATEWAY,
        policy,
        &entry("egress", "exact", "api.example.com", ""),
        &entry("shop", "wide", "*.example.com", elsewhere),
    ];
    let file = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .expect("a file");
    fs::write(file.path(), manifests.concat()).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let check = |place: &str| {
        let asked = ["egress", "check", "-f", path, "--from", "shop/web", place];
        stdout(&run(&asked))
    };
    let said = check("api.example.com:443");
    for expected in [
        "Entry    serviceentry/egress/exact",
        "Not by   serviceentry/shop/wide: the entry above goes before it",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    let said = check("other.example.com:443");
    for expected in [
        "(led_elsewhere)",
        "Entry    serviceentry/shop/wide",
        "Policy   egresspolicy/egress/api",
        "take endpoints, targetPort and other names for TLS out of serviceentry/shop/wide, or have it in namespace egress",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

/// Who is told that nothing opens a host looks for what should.
#[test]
fn what_is_broken_and_may_name_the_host_is_told() {
    let broken = "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: typo, namespace: shop}
spec: {hosts: [new.example], port: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: url, namespace: shop}
spec: {hosts: ['https://new.example'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other, namespace: shop}
spec: {hosts: ['https://other.example'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
";
    let manifests = with_routes() + broken;
    let (code, said) = checked_by(&manifests, &["--from", "shop/web", "https://new.example"]);
    assert_eq!(code, Some(1), "{said}");
    for expected in [
        "note: as if it were not there: ServiceEntry shop/typo (",
        ": spec.port: ",
        "note: ServiceEntry shop/url: spec.hosts[0]: \"https://new.example\" is no host",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(!said.contains("shop/other"), "{said}");
}

/// A policy may go by labels of which an account says nothing.
#[test]
fn labels_that_matter_are_asked_for() {
    let policy = "
---
apiVersion: portcullis.dev/v1alpha1
kind: EgressPolicy
metadata: {name: by-label, namespace: egress}
spec: {action: Deny, from: [{podSelector: {matchLabels: {app: cron, tier: back}}}], to: [{hosts: [api.example]}]}
";
    let manifests = with_routes() + policy;
    let ask = |more: &[&str]| {
        let asked = [&["--from", "shop/web", "http://api.example/"], more].concat();
        checked_by(&manifests, &asked)
    };
    let (code, said) = ask(&[]);
    assert_eq!(code, Some(1), "{said}");
    for expected in [
        "(unknown_caller)",
        "depends on labels of its pod",
        "--labels KEY=VALUE,... or --pod NAMESPACE/NAME: egresspolicy/egress/by-label goes by app, tier",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    for (labels, code) in [("app=web", 0), ("", 0), ("app=cron,tier=back,x=y", 1)] {
        assert_eq!(ask(&["--labels", labels]).0, Some(code), "{labels}");
    }
}

/// What the gateway begins TLS for is no tunnel.
#[test]
fn the_form_that_was_judged_is_told_and_chosen() {
    let sample = config().join("samples/egress/allow-list.yaml");
    let manifests = fs::read_to_string(sample).expect("a sample");
    assert!(manifests.contains("BackendTLSPolicy"), "{manifests}");
    let ask = |asked: &[&str]| checked_by(&manifests, asked);
    let (_, said) = ask(&["https://payments.example", "--from", "shop/web"]);
    assert!(
        said.contains("has the gateway itself begin TLS for requests to port 80")
            && said.contains("ask with --form request for http://payments.example:80/"),
        "{said}"
    );
    let asked = [
        "https://api.openweathermap.org/x",
        "--form",
        "request",
        "-o",
        "json",
    ];
    let (code, said) = ask(&asked);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(code, Some(1));
    assert_eq!(said["answers"][0]["form"], "request");
    assert_eq!(said["answers"][0]["reason"], "protocol_not_listed");
}

#[test]
fn nobody_calls_by_a_name_that_no_object_can_have() {
    for (option, value, expected) in [
        ("--from", "", "\"\" is no namespace"),
        ("--from", "Shop/..", "\"Shop\" is no namespace"),
        ("--from", "shop/..", "\"..\" is no name"),
        ("--from", "shop/", "\"\" is no name"),
        ("--from", "shop/a/b", "\"a/b\" is no name"),
        ("--pod", "shop", "NAMESPACE/NAME"),
        ("--gateway", "../egress", "\"..\" is no namespace"),
    ] {
        let (code, told) = checked(&["http://api.openweathermap.org", option, value]);
        assert_eq!(code, Some(2), "{option} {value}: {told}");
        assert!(told.contains(expected) && told.contains(option), "{told}");
    }
}

#[test]
fn what_leads_to_the_proxy_itself_is_refused_as_proxies_refuse_it() {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    let entry = |name: &str, port: u16| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: egress}}\n\
             spec: {{hosts: [{name}.example], resolution: DNS, ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]}}\n"
        )
    };
    let open = "---\napiVersion: portcullis.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: here, namespace: egress}\n\
                spec: {allowPrivate: [127.0.0.0/8]}\n";
    let manifests = [
        GATEWAY,
        open,
        &entry("own", 3128),
        &entry("admin", 9901),
        &entry("other", 3129),
    ];
    fs::write(file.path(), manifests.concat()).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    for (host, options, reason) in [
        ("own", &[][..], "leads_to_proxy"),
        ("admin", &[], "leads_to_proxy"),
        ("other", &[], "allowed"),
        ("own", &["--map-port", "3128=3129"], "allowed"),
        ("other", &["--map-port", "3128=3129"], "leads_to_proxy"),
    ] {
        let destination = format!("http://{host}.example");
        let check = [
            "egress",
            "check",
            "-f",
            path,
            &destination,
            "--resolve",
            "127.0.0.1",
        ];
        let told = stdout(&run(&[&check[..], options].concat()));
        assert!(
            told.contains(&format!("({reason})")),
            "{host} {options:?}: {told}"
        );
        let leads = told.contains(", where the proxy itself listens (")
            && told.contains("by targetPort or endpoints");
        assert_eq!(leads, reason == "leads_to_proxy", "{told}");
    }
    // What opens loopback would not help.
    fs::write(file.path(), [GATEWAY, &entry("own", 3128)].concat()).expect("written");
    let told = stdout(&run(&[
        "egress",
        "check",
        "-f",
        path,
        "http://own.example",
        "--resolve",
        "127.0.0.1",
    ]));
    assert!(
        told.contains("(address_refused)") && !told.contains("allowPrivate"),
        "{told}"
    );
    let output = run(&[
        "egress",
        "check",
        "--map-port",
        "3128=3129",
        "http://own.example",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--config"), "{}", stderr(&output));
}

/// As proxies have it: whatever leads there.
#[test]
fn the_address_of_a_load_balancer_is_the_clusters() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
                   spec: {type: LoadBalancer, clusterIP: 10.96.1.2, ports: [{port: 80}]}\n\
                   status: {loadBalancer: {ingress: [{ip: 93.184.216.34}]}}\n";
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: web, namespace: team}\n\
                 spec: {hosts: [web.example], ports: [{number: 80, name: http, protocol: HTTP}]}\n";
    let open = "---\napiVersion: portcullis.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: web, namespace: egress}\n\
                spec: {allowPrivate: [93.184.216.34/32]}\n";
    let ask = |manifests: &[&str]| {
        let asked = ["http://web.example", "--resolve", "93.184.216.34"];
        checked_by(&manifests.concat(), &asked)
    };
    let (code, said) = ask(&[GATEWAY, entry, service]);
    let refused = "Address  93.184.216.34: refused, an address of the cluster";
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(refused), "{said}");
    for manifests in [&[GATEWAY, entry][..], &[GATEWAY, entry, service, open]] {
        let (code, said) = ask(manifests);
        assert_eq!(code, Some(0), "{said}");
    }
}
