//! `portcullis explain`: who answers a request, and why nobody else does.

mod common;

use std::fs;

use common::{config, run, stderr, stdout};
use serde_json::Value;

fn sample(name: &str) -> String {
    config()
        .join("samples")
        .join(name)
        .to_str()
        .expect("UTF-8")
        .to_owned()
}

/// Arguments of `explain` about a sample.
fn explain(name: &str, rest: &[&str]) -> std::process::Output {
    let path = sample(name);
    run(&[&["explain", "--config", &path], rest].concat())
}

#[test]
fn explain_tells_the_winner_and_why_the_others_lost() {
    let dark = stdout(&explain(
        "dark-launch.yaml",
        &["GET", "http://shop.example/", "-H", "user: test"],
    ));
    assert!(
        dark.contains("Answer     forwarded, to Service dark-launch/shop-next:80"),
        "{dark}"
    );
    assert!(
        dark.contains("rule 0 (testers) of HTTPRoute dark-launch/shop"),
        "{dark}"
    );
    assert!(dark.contains("127.0.0.1:3002"), "{dark}");
    assert!(
        dark.contains("matches, but the winner goes first: it names more headers"),
        "{dark}"
    );
    let light = stdout(&explain(
        "dark-launch.yaml",
        &["GET", "http://shop.example/"],
    ));
    assert!(
        light.contains("Answer     forwarded, to Service dark-launch/shop:80"),
        "{light}"
    );
    assert!(light.contains("header user is missing"), "{light}");
}

#[test]
fn explain_lists_filters_in_order() {
    let output = explain(
        "rewrite-and-headers.yaml",
        &["GET", "http://shop.example/api/x", "-o", "json"],
    );
    let answer: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let filters = &answer["route"]["filters"];
    assert_eq!(
        filters[0],
        "rewrite: the matched prefix is cut off the path"
    );
    assert_eq!(filters[1], "request headers: set x-from: gateway");
    assert_eq!(answer["explanation"]["candidates"][0]["verdict"], "won");
}

#[test]
fn explain_knows_redirects_splits_and_limits() {
    let redirect = stdout(&explain(
        "tls-redirect.yaml",
        &["GET", "http://shop.example/cart"],
    ));
    assert!(
        redirect.contains("redirect 301 to scheme https"),
        "{redirect}"
    );
    let secure = stdout(&explain(
        "tls-redirect.yaml",
        &["GET", "https://shop.example/cart"],
    ));
    assert!(
        secure.contains("Listener   tls-redirect/shop/https, for shop.example"),
        "{secure}"
    );
    let split = stdout(&explain(
        "weighted-split.yaml",
        &["GET", "http://shop.example/"],
    ));
    assert!(
        split.contains("10 % to Service weighted-split/shop-next:80"),
        "{split}"
    );
    let limits = stdout(&explain(
        "timeouts-and-retries.yaml",
        &["GET", "http://shop.example/"],
    ));
    assert!(
        limits.contains("the whole request may take 2000 ms"),
        "{limits}"
    );
    assert!(
        limits.contains(
            "up to 2 more attempts on connection errors and attempt timeouts and on 502, 503"
        ),
        "{limits}"
    );
}

#[test]
fn explain_says_why_nobody_answers() {
    let cases = [
        (
            "http://other.example/",
            "404: no route matches this request",
        ),
        (
            "http://shop.example:8080/",
            "no listener that can be served has port 8080, only 80",
        ),
        (
            "http://shop.example/%5c",
            "400: the path holds characters that are not accepted",
        ),
    ];
    for (url, expected) in cases {
        let output = explain("two-hosts.yaml", &["GET", url]);
        assert_eq!(output.status.code(), Some(1), "{url}");
        assert!(
            stdout(&output).contains(expected),
            "{url}: {}",
            stdout(&output)
        );
    }
    let mapped = explain(
        "two-hosts.yaml",
        &["--map-port", "80=8080", "GET", "http://shop.example:8080/"],
    );
    assert_eq!(mapped.status.code(), Some(0), "{}", stdout(&mapped));
}

/// As with curl, which connects to the URL and asks for the host of the header.
#[test]
fn explain_asks_for_the_host_of_the_header() {
    let asked = |url: &str, host: &str| {
        let output = explain("two-hosts.yaml", &["GET", url, "-H", host, "-o", "json"]);
        let answer: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        answer["request"]["host"].as_str().map(String::from)
    };
    let shop = Some("shop.example".to_owned());
    assert_eq!(asked("http://127.0.0.1/", "host: Shop.example:80"), shop);
    assert_eq!(asked("http://Shop.example./", "user: test"), shop);
}

#[test]
fn explain_knows_what_a_port_speaks() {
    for (url, expected) in [
        (
            "http://shop.example:443/",
            "400: plain HTTP was sent to a port that speaks TLS; ask with https",
        ),
        (
            "https://shop.example:80/",
            "no answer: the TLS handshake fails, for port 80 speaks http,",
        ),
    ] {
        let output = explain("tls-redirect.yaml", &["GET", url]);
        assert_eq!(output.status.code(), Some(1), "{url}");
        let said = stdout(&output);
        assert!(said.contains(expected), "{url}: {said}");
    }
}

#[test]
fn explain_foretells_what_happens_before_a_route_is_asked() {
    let cases: [(&[&str], &str); 8] = [
        (
            &["GET", "https://other.example/"],
            "the TLS handshake fails, for no listener of port 443 serves other.example",
        ),
        (
            &["GET", "https://127.0.0.1/"],
            "the TLS handshake fails, for it names no host",
        ),
        (
            &["--sni", "shop.example", "GET", "https://127.0.0.1/"],
            "421: the connection was made for shop.example",
        ),
        (
            &["--sni", "shop.example", "GET", "https://other.example/"],
            "421: the connection was made for shop.example",
        ),
        (
            &["-H", "Host: other.example", "GET", "https://shop.example/"],
            "421: the connection was made for",
        ),
        (
            &["TRACE", "https://shop.example/"],
            "405: the proxy serves no TRACE",
        ),
        (
            &["CONNECT", "http://shop.example/"],
            "405: the proxy serves no CONNECT",
        ),
        (&["TRACE", "http://shop.example/%00"], "400: the path"),
    ];
    for (arguments, expected) in cases {
        let output = explain("tls-redirect.yaml", arguments);
        let said = stdout(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let named = [
        "--sni",
        "shop.example",
        "-H",
        "Host: shop.example",
        "GET",
        "https://127.0.0.1/",
    ];
    let output = explain("tls-redirect.yaml", &named);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

#[test]
fn explain_says_that_a_client_certificate_is_needed() {
    let said = |url| stdout(&explain("client-certificates.yaml", &["GET", url]));
    let needed = "a client certificate is needed, issued by CN=shop clients CA;";
    let closed = said("https://shop.example/");
    assert!(closed.contains(needed), "{closed}");
    let open = said("https://shop.example:8443/");
    assert!(!open.contains("client certificate"), "{open}");
}

/// Gateways share a port here, and need not agree on who has to show a certificate.
#[test]
fn explain_says_that_a_handshake_asked_for_no_client_certificate() {
    const OPEN: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: open, namespace: client-certificates}
spec:
  gatewayClassName: portcullis
  listeners:
  - {name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: shop-certificate}]}}
";
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.yaml");
    let text = fs::read_to_string(sample("client-certificates.yaml")).expect("readable");
    fs::write(&path, text + OPEN).expect("written");
    let output = run(&[
        "explain",
        "--config",
        path.to_str().expect("UTF-8"),
        "-H",
        "Host: shop.example",
        "GET",
        "https://127.0.0.1/",
    ]);
    let said = stdout(&output);
    let expected = "421: listener client-certificates/shop/https needs a client certificate";
    assert!(said.contains(expected), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn explain_says_where_a_redirect_leads() {
    let said = stdout(&explain(
        "tls-redirect.yaml",
        &["GET", "shop.example/cart?a=1"],
    ));
    assert!(
        said.contains("Location   https://shop.example/cart?a=1"),
        "{said}"
    );
}

#[test]
fn explain_says_whether_clients_accept_the_certificate() {
    for (sample, expected) in [
        (
            "expired-certificate",
            "Answer     no answer: the certificate expired on",
        ),
        (
            "certificate-for-another-name",
            "Answer     no answer: the certificate is not for shop.example; for a client that does not check it (`curl -k`): forwarded",
        ),
    ] {
        let output = explain(
            &format!("faults/{sample}.yaml"),
            &["GET", "https://shop.example/"],
        );
        let said = stdout(&output);
        assert!(said.contains(expected), "{sample}: {said}");
        assert!(said.contains(": clients refuse it"), "{sample}: {said}");
        assert_eq!(output.status.code(), Some(1), "{sample}");
    }
    let good = stdout(&explain(
        "tls-redirect.yaml",
        &["GET", "https://shop.example/"],
    ));
    assert!(
        good.contains(
            "TLS        the certificate of Secret tls-redirect/shop-certificate is for shop.example"
        ) && good.contains(": a client that trusts its issuer accepts it"),
        "{good}"
    );
}

#[test]
fn explain_names_the_routes_that_are_refused() {
    for (sample, expected) in [
        ("not-allowed", "NotAllowedByListeners  HTTPRoute"),
        ("wrong-section", "NoMatchingParent  HTTPRoute"),
        ("missing-gateway", "GatewayNotFound  HTTPRoute"),
        ("misspelt-field", "UnknownField  HTTPRoute"),
    ] {
        let output = explain(&format!("faults/{sample}.yaml"), &["GET", "shop.example/"]);
        let said = stdout(&output);
        assert!(
            said.contains("Routes that are refused") && said.contains(expected),
            "{sample}: {said}"
        );
    }
}

#[test]
fn explain_says_when_no_backend_answers() {
    for (sample, expected) in [
        (
            "missing-grant",
            "500: the backendRef is invalid (RefNotPermitted)",
        ),
        ("zero-weights", "500: no backend has a weight above 0"),
        (
            "no-endpoints",
            "503: Service no-endpoints/shop:80 has no endpoints",
        ),
        (
            "missing-service",
            "forwarded, 90 % to Service missing-service/shop:80, 10 % answer 500",
        ),
    ] {
        let output = explain(&format!("faults/{sample}.yaml"), &["GET", "shop.example/"]);
        let said = stdout(&output);
        assert!(
            said.contains(&format!("Answer     {expected}")),
            "{sample}: {said}"
        );
        assert_eq!(output.status.code(), Some(1), "{sample}");
    }
}

#[test]
fn explain_says_that_only_one_listener_is_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = fs::read_to_string(sample("mirror.yaml")).expect("readable");
    let listener = "      port: 80\n";
    let narrow = "      port: 80\n    - name: narrow\n      protocol: HTTP\n      port: 80\n      hostname: '*.example'\n";
    let two = text.replace(listener, narrow).replace(
        "    - name: shop\n  hostnames",
        "    - name: shop\n      sectionName: http\n  hostnames",
    );
    assert!(
        two.contains("narrow") && two.contains("sectionName"),
        "{two}"
    );
    let path = directory.path().join("a.yaml");
    fs::write(&path, two).expect("written");
    let output = run(&[
        "explain",
        "--config",
        path.to_str().expect("UTF-8"),
        "GET",
        "shop.example",
    ]);
    let said = stdout(&output);
    assert!(
        said.contains("only the listener with the most specific hostname is asked"),
        "{said}"
    );
}

#[test]
fn explain_asks_with_the_path_as_the_proxy_sees_it() {
    let output = explain(
        "rewrite-and-headers.yaml",
        &["GET", "http://shop.example/x/../%61pi/y", "-o", "json"],
    );
    let answer: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(answer["request"]["path"], "/api/y");
    assert_eq!(
        answer["route"]["rule"],
        "rule 0 (api) of HTTPRoute rewrite-and-headers/shop"
    );
}

/// The table "Paths" of the README.
#[test]
fn paths_are_treated_as_the_readme_says() {
    let path = |path: &str| {
        let url = format!("http://shop.example{path}");
        let output = explain("mirror.yaml", &["GET", &url, "-o", "json"]);
        let answer: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        answer["request"]["path"].as_str().map(String::from)
    };
    let kept = [
        ("/a/./b", "/a/b"),
        ("/a/x/../b", "/a/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/%7Euser", "/~user"),
        ("/%61", "/a"),
        ("/a%2fb", "/a%2Fb"),
        ("/a//b", "/a//b"),
    ];
    for (asked, normal) in kept {
        assert_eq!(path(asked).as_deref(), Some(normal), "{asked}");
    }
    for refused in ["/%00", "/%5C", "/%zz", "/%4"] {
        assert_eq!(path(refused), None, "{refused}");
    }
}

#[test]
fn explain_says_how_a_request_is_written() {
    let error = stderr(&explain("mirror.yaml", &["GET", "/cart"]));
    assert!(
        error.contains("write it in full, such as http://shop.example/cart"),
        "{error}"
    );
    let error = stderr(&explain(
        "mirror.yaml",
        &["GET", "http://a/", "-H", "no colon"],
    ));
    assert!(error.contains("write a header as 'name: value'"), "{error}");
}

#[test]
fn explain_says_nothing_of_what_leaves_the_cluster() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("egress.yaml");
    let manifest = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: out}
spec:
  gatewayClassName: portcullis-egress
  listeners: [{name: proxy, port: 3128, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec: {hosts: [api.example], ports: [{number: 80, name: http, protocol: HTTP}]}
";
    fs::write(&path, manifest).expect("a file");
    let path = path.to_str().expect("UTF-8");
    // With no other Gateway there, whatever the port.
    for url in ["http://api.example:3128/", "http://api.example/"] {
        let output = run(&["explain", "--config", path, "GET", url]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("portcullis egress check"), "{said}");
    }
    // Beside one of ingress somebody may mean either.
    let edge = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, port: 8080, protocol: HTTP}]
";
    fs::write(path, manifest.to_owned() + edge).expect("a file");
    let said = stdout(&run(&[
        "explain",
        "--config",
        path,
        "GET",
        "http://api.example/",
    ]));
    assert!(
        said.contains("no listener that can be served has port 80"),
        "{said}"
    );
    assert!(said.contains("`portcullis egress check`"), "{said}");
}

/// Whose credential it is, for whom, and never what it is.
#[test]
fn a_credential_is_named_by_its_secret() {
    const MANIFESTS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: portcullis, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: shop}
stringData: {credential: "hunter2\n"}
---
apiVersion: portcullis.dev/v1alpha1
kind: CredentialInjection
metadata: {name: key, namespace: shop}
spec: {header: X-Api-Key, secretRef: {name: keys}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - filters:
    - type: ExtensionRef
      extensionRef: {group: portcullis.dev, kind: CredentialInjection, name: key}
    backendRefs: [{name: api, port: 80}]
"#;
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("all.yaml");
    let path = file.to_str().expect("UTF-8");
    fs::write(&file, MANIFESTS).expect("written");
    let explain = ["explain", "--config", path, "GET", "http://shop.example/"];
    let mut told = String::new();
    for command in [
        &explain[..],
        &["translate", path],
        &["translate", path, "-o", "yaml"],
        &["analyze", path],
    ] {
        let output = run(command);
        told += &(stdout(&output) + &stderr(&output));
    }
    let deed = "adds x-api-key from Secret shop/keys";
    assert_eq!(told.matches(deed).count(), 2, "{told}");
    assert!(
        told.contains("[redacted]") && !told.contains("hunter2"),
        "{told}"
    );

    let without = MANIFESTS.replace("{credential: ", "{other: ");
    fs::write(&file, without).expect("written");
    let output = run(&explain);
    assert_eq!(output.status.code(), Some(1));
    let told = stdout(&output);
    assert!(
        told.contains("500") && told.contains("Secret shop/keys has no key"),
        "{told}"
    );
}
