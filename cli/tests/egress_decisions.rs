//! `portcullis egress` on files. `UPDATE_GOLDEN=1` writes what it says to `testdata/egress`.

mod common;

use std::{fs, io::Write, path::PathBuf, process::Stdio};

use common::{config, portcullis, run, stderr, stdout};
use serde_json::Value;

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
            "name: a.my-bucket.example\n",
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
            "no such egress Gateway",
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

/// What somebody is told of a destination, by manifests with routes. A server of theirs has port 8080.
fn checked_with_routes(manifests: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(file.path(), manifests).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let output = run(&[&["egress", "check", "-f", path], arguments].concat());
    (output.status.code(), stdout(&output) + &stderr(&output))
}

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
        let (code, said) = checked_with_routes(&with_routes(), &[&caller[..], &[asked]].concat());
        format!("# {asked} ({})\n{said}", code.unwrap_or_default())
    });
    assert_golden("routes.txt", &said.join("\n"));
}

#[test]
fn programs_are_told_of_the_route_too() {
    let asked = ["--from", "shop/web", "http://through.example/old/x"];
    for form in ["json", "yaml"] {
        let (_, said) = checked_with_routes(&with_routes(), &[&asked[..], &["-o", form]].concat());
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
        checked_with_routes(&named, &asked)
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
    let ask = |asked: &str| checked_with_routes(&only_listed, &["--from", "shop/web", asked]);
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
        checked_with_routes(
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
            "list it in a ServiceEntry of namespace egress, or name 169.254.1.1 in allowPrivate",
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
    let (code, said) = checked_with_routes(&manifests, &asked);
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

/// What is said to allow it does.
#[test]
fn the_remedy_of_a_check_allows_it() {
    let sample =
        fs::read_to_string(config().join("samples/egress/allow-list.yaml")).expect("a sample");
    let ask = |manifests: &str| -> Value {
        let file = tempfile::Builder::new()
            .suffix(".yaml")
            .tempfile()
            .expect("a file");
        fs::write(file.path(), manifests).expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let asked = ["--from", "shop/web", "https://new.example", "-o", "json"];
        let output = run(&[&["egress", "check", "-f", path][..], &asked].concat());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let refused = ask(&sample);
    let narrow = "
---
apiVersion: portcullis.dev/v1alpha1
kind: EgressPolicy
metadata: {name: narrow, namespace: egress}
spec: {from: [{serviceAccounts: [shop/web]}], to: [{hosts: [other.example]}]}
";
    let entry = refused["answers"][0]["apply"].as_str().expect("a manifest");
    let with_entry = format!("{sample}\n---\n{entry}");
    let answers = ask(&with_entry)["answers"].clone();
    assert!(
        answers
            .as_array()
            .is_some_and(|all| all.iter().all(|it| it["verdict"] == "allow")),
        "{answers}"
    );
    let narrowed = with_entry + narrow;
    let shut_in = ask(&narrowed);
    assert_eq!(shut_in["answers"][0]["reason"], "not_allowed_by_policy");
    let policy = shut_in["answers"][0]["apply"].as_str().expect("a manifest");
    assert_eq!(
        ask(&format!("{narrowed}\n---\n{policy}"))["answers"][0]["verdict"],
        "allow"
    );
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
        "take endpoints and targetPort out of serviceentry/shop/wide, or have it in namespace egress",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

/// An egress Gateway, which what was learned is for.
const GATEWAY: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: egress, namespace: egress}
spec:
  gatewayClassName: portcullis-egress
  listeners: [{name: proxy, protocol: HTTP, port: 3128}]
";

fn testdata(name: &str) -> PathBuf {
    config().join("../cli/tests/testdata/egress").join(name)
}

/// A log with all that a proxy writes, and what it never would.
fn log() -> String {
    testdata("decisions.log")
        .to_str()
        .expect("UTF-8")
        .to_owned()
}

fn assert_golden(name: &str, said: &str) {
    let path = testdata(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, said).expect("written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        said,
        golden,
        "{}: UPDATE_GOLDEN=1 refreshes it",
        path.display()
    );
}

#[test]
fn refusals_are_counted_by_caller_destination_and_reason() {
    let output = run(&["egress", "denied", "--log", &log()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_golden("denied.txt", &stdout(&output));
}

#[test]
fn nothing_that_a_log_holds_reaches_the_terminal_unescaped() {
    for arguments in [
        &["egress", "denied", "--log", &log()][..],
        &["egress", "denied", "-o", "json", "--log", &log()],
        &["egress", "denied", "-o", "yaml", "--log", &log()],
        &["egress", "learn", "--log", &log()],
    ] {
        let said = stdout(&run(arguments));
        assert!(said.contains("pwned"), "{said}");
        let is_wild = |one: char| one != '\n' && !(one.is_ascii_graphic() || one == ' ');
        assert!(!said.contains(is_wild), "{said:?}");
        assert!(!said.lines().any(|line| line == "kind: Secret"), "{said}");
    }
}

#[test]
fn a_filter_a_limit_and_the_rest() {
    let said = |arguments: &[&str]| -> Value {
        let output = run(&[
            &["egress", "denied", "-o", "json", "--log", &log()],
            arguments,
        ]
        .concat());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let cron = said(&["--from", "shop/cron"]);
    assert_eq!(cron["groups"].as_array().map(Vec::len), Some(1));
    assert_eq!(cron["groups"][0]["caller"]["serviceAccount"], "cron");
    let top = said(&["--top", "1"]);
    assert_eq!(top["groups"][0]["count"], 3);
    let all = said(&[]);
    let counts = all["groups"].as_array().expect("groups").iter();
    let counts: u64 = counts.filter_map(|it| it["count"].as_u64()).sum();
    assert_eq!(top["others"].as_u64(), Some(counts - 3));
    assert_eq!(said(&["--since", "1h"])["decisions"], 0);
}

#[test]
fn nothing_refused_is_well() {
    let output = run(&["egress", "denied", "--from", "nobody", "--log", &log()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("nothing was refused"));
}

#[test]
fn mistakes_of_the_command_line_say_what_to_write() {
    for (arguments, expected) in [
        (
            &["denied", "--gateway", "egress"][..],
            "NAMESPACE/NAME, such as egress-system/egress",
        ),
        (&["denied", "--from", "a/b/c"], "shop or shop/web"),
        (&["denied", "--since", "0s"], "30m, 24h or 1h30m"),
        (&["denied", "--since", "long"], "30m, 24h or 1h30m"),
        (
            &["denied", "--log", "Cargo.toml"],
            "no line of what --log names is one that a proxy writes",
        ),
        (
            &["denied", "--log", "/no/such/file"],
            "cannot read /no/such/file",
        ),
        (
            &["learn", "--log", "a", "--gateway", "a/b"],
            "cannot be used with",
        ),
        (
            &["denied", "--log", "a", "--context", "b"],
            "cannot be used with",
        ),
    ] {
        let output = run(&[&["egress"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn what_was_learned_is_as_before() {
    let output = run(&["egress", "learn", "--log", &log()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("2 lines that no proxy writes"));
    assert_golden("learned.yaml", &stdout(&output));
}

/// What was learned stands the checks of this program, as it is.
#[test]
fn what_was_learned_has_no_findings() {
    let learned = stdout(&run(&["egress", "learn", "--log", &log()]));
    let mut analyze = portcullis(&["analyze", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut input = analyze.stdin.take().expect("a pipe");
    input
        .write_all((learned + GATEWAY).as_bytes())
        .expect("it reads");
    drop(input);
    let output = analyze.wait_with_output().expect("it ends");
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("no findings"), "{said}");
}

#[test]
fn a_namespace_and_what_is_rare_can_be_left_out() {
    let learned = stdout(&run(&[
        "egress",
        "learn",
        "--namespace",
        "shop",
        "--min-count",
        "3",
        "--log",
        &log(),
    ]));
    let objects: Vec<Value> = serde_saphyr::from_multiple(&learned).expect("YAML");
    let hosts = objects.iter().map(|object| match object["kind"].as_str() {
        Some("ServiceEntry") => object["spec"]["hosts"].clone(),
        _ => object["spec"]["to"][0]["hosts"].clone(),
    });
    let only = serde_json::json!(["api.payments.example"]);
    assert_eq!(hosts.collect::<Vec<_>>(), [only.clone(), only]);
    assert!(learned.contains("seen less than 3 times"));
    assert!(!learned.contains("buckets"));
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
    let (code, said) =
        checked_with_routes(&manifests, &["--from", "shop/web", "https://new.example"]);
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
