//! Commands that serve: `run` with its reloads, and `demo`.

#[path = "../common/mod.rs"]
mod common;
mod egress;
mod egress_check;
#[path = "../../../dataplane/src/upstream/testing/dns.rs"]
#[allow(dead_code, reason = "tests of the proxy use all of it")]
mod fake_dns;
mod running;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::Instant,
};

use common::{config, run, stderr, stdout};
use running::{PATIENCE, Running, free_port};

/// A backend that answers every request with `name`, until the test ends.
fn backend(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, name));
        }
    });
    port
}

fn answer(stream: TcpStream, name: &str) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    for line in BufReader::new(stream).lines() {
        if line.ok()?.is_empty() {
            write!(
                writer,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                name.len()
            )
            .ok()?;
        }
    }
    Some(())
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks until the answer ends with `body`.
fn wait_for_body(address: SocketAddr, body: &str) {
    let end = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < end {
        last = get(address, "/").unwrap_or_else(|error| error.to_string());
        if last.ends_with(body) {
            return;
        }
        thread::yield_now();
    }
    panic!("no answer {body:?}; the last one was {last}");
}

const GATEWAY: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, protocol: HTTP, port: 80}]
";

fn route_to(name: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: shop}}\nspec:\n  \
         parentRefs: [{{name: edge}}]\n  rules: [{{backendRefs: [{{name: {name}, port: 80}}]}}]\n"
    )
}

fn service(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{port: 80, targetPort: {port}}}]\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: \
         {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nports: [{{name: '', port: {port}}}]\n\
         endpoints: [{{addresses: [127.0.0.1]}}]\n"
    )
}

/// Saves as many editors do: under another name, then renamed.
fn save(path: &Path, text: &str) {
    let aside = path.with_extension("tmp");
    fs::write(&aside, text).expect("written");
    fs::rename(&aside, path).expect("renamed");
}

#[test]
fn run_serves_follows_changes_survives_mistakes_and_stops_in_peace() {
    let root = tempfile::tempdir().expect("a directory");
    let manifests = root.path().join("manifests");
    fs::create_dir(&manifests).expect("created");
    let route = manifests.join("route.yaml");
    save(&manifests.join("gateway.yaml"), GATEWAY);
    save(
        &manifests.join("services.yaml"),
        &(service("one", backend("one")) + &service("two", backend("two"))),
    );
    save(&route, &route_to("one"));

    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let map = format!("80={port}");
    let path = manifests.to_str().expect("UTF-8");
    let mut running = Running::start(&[
        "run",
        "--config",
        path,
        "--address",
        "127.0.0.1",
        "--map-port",
        &map,
        "--admin",
        "127.0.0.1:0",
        "--workers",
        "1",
    ]);
    let admin = running.wait_for("/readyz");
    wait_for_body(address, "one");

    save(&route, &route_to("two"));
    running.wait_for("Reloaded");
    wait_for_body(address, "two");

    save(&route, "kind: [\n");
    running.wait_for("Syntax");
    running.wait_for("this stays in force as it was: HTTPRoute");
    assert!(
        get(address, "/").expect("an answer").ends_with("two"),
        "what the file held stays in force"
    );

    save(&route, &route_to("three"));
    running.wait_for("BackendNotFound");
    save(&route, &route_to("one"));
    running.wait_for("mended");
    wait_for_body(address, "one");

    let aside = root.path().join("aside");
    fs::rename(&manifests, &aside).expect("renamed");
    running.wait_for("refused");
    assert!(
        get(address, "/").expect("an answer").ends_with("one"),
        "the last good configuration stays in force"
    );
    fs::rename(&aside, &manifests).expect("renamed back");
    save(&route, &route_to("two"));
    wait_for_body(address, "two");

    let readyz = admin
        .split_whitespace()
        .find_map(|word| word.strip_prefix("http://"))
        .expect("a URL");
    let (admin, _) = readyz.split_once('/').expect("a path");
    let ready = get(admin.parse().expect("an address"), "/readyz").expect("an answer");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn run_says_at_the_start_which_objects_it_does_not_serve() {
    let root = tempfile::tempdir().expect("a directory");
    let gateway = root.path().join("gateway.yaml");
    let misspelt = GATEWAY.replace(
        "port: 80",
        "port: 80, allowedRoute: {namespaces: {from: Same}}",
    );
    save(&gateway, &misspelt);
    save(
        &root.path().join("other.yaml"),
        &GATEWAY.replace("name: edge", "name: other"),
    );
    let port = free_port();
    let mut running = Running::start(&[
        "run",
        "--config",
        root.path().to_str().expect("UTF-8"),
        "--address",
        "127.0.0.1",
        "--map-port",
        &format!("80={port}"),
        "--admin",
        "127.0.0.1:0",
        "--workers",
        "1",
    ]);
    running
        .wait_for("this field is not known, so the Gateway is refused, as a cluster would do it");
    running.wait_for("did you mean allowedRoutes?");
    running.wait_for("Serving");
    let place = gateway.display();
    running.wait_for(&format!(
        "Not served: Gateway default/edge ({place}:1); mend what the errors say of it"
    ));
    save(&gateway, GATEWAY);
    running.wait_for("mended   UnknownField  Gateway default/edge");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn run_waits_for_something_to_serve() {
    let root = tempfile::tempdir().expect("a directory");
    let gateway = root.path().join("gateway.yaml");
    save(&gateway, &GATEWAY.replace("portcullis", "nobody"));
    let rest = route_to("one") + &service("one", backend("one"));
    save(&root.path().join("rest.yaml"), &rest);
    let port = free_port();
    let map = format!("80={port}");
    let path = root.path().to_str().expect("UTF-8");
    let admin = ["--admin", "127.0.0.1:0", "--workers", "1"];
    let serve = [
        "run",
        "--config",
        path,
        "--address",
        "127.0.0.1",
        "--map-port",
        &map,
    ];
    let mut running = Running::start(&[&serve[..], &admin[..]].concat());
    running.wait_for("NothingServed");
    running.wait_for("Waiting");
    running.wait_for("Following");
    save(&gateway, GATEWAY);
    running.wait_for("mended   NothingServed");
    wait_for_body(SocketAddr::from(([127, 0, 0, 1], port)), "one");
    assert!(!running.heard.contains("refused"), "{}", running.heard);
}

#[test]
fn run_check_tells_whether_all_would_be_served() {
    let check = |name: &str| {
        let path = config().join("samples").join(name);
        run(&["run", "--check", "--config", path.to_str().expect("UTF-8")])
    };
    let good = check("tls-redirect.yaml");
    assert_eq!(good.status.code(), Some(0));
    assert_eq!(
        stdout(&good),
        "1 Gateway, 2 listeners, 2 rules, 1 backend: no findings\n"
    );
    let faulty = check("faults/missing-service.yaml");
    assert_eq!(faulty.status.code(), Some(1));
    assert!(
        stderr(&faulty).contains("BackendNotFound"),
        "{}",
        stderr(&faulty)
    );
    let odd = check("faults/shadowed-rule.yaml");
    assert_eq!(
        odd.status.code(),
        Some(0),
        "a warning is no reason to refuse: {}",
        stdout(&odd)
    );
    assert_eq!(check("no-such-file.yaml").status.code(), Some(2));
}

#[test]
fn gateways_that_want_the_same_port_are_reported() {
    let root = tempfile::tempdir().expect("a directory");
    let other = GATEWAY.replace("name: edge", "name: other");
    fs::write(root.path().join("a.yaml"), format!("{GATEWAY}---\n{other}")).expect("written");
    let output = run(&[
        "run",
        "--check",
        "--config",
        root.path().to_str().expect("UTF-8"),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("HostnameConflict") && said.contains("Gateway default/other"),
        "{said}"
    );
}

#[test]
fn a_taken_port_is_an_error_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let demo = run(&["demo", "--self-test", "--http-port", &port]);
    assert_eq!(demo.status.code(), Some(2));
    let said = stderr(&demo);
    assert!(
        said.contains("in use") && said.contains("--http-port"),
        "{said}"
    );

    let sample = config().join("samples/mirror.yaml");
    let map = format!("80={port}");
    let path = sample.to_str().expect("UTF-8");
    let run = run(&[
        "run",
        "--config",
        path,
        "--address",
        "127.0.0.1",
        "--map-port",
        &map,
        "--admin",
        "127.0.0.1:0",
    ]);
    assert_eq!(run.status.code(), Some(2));
    let said = stderr(&run);
    assert!(
        said.contains("in use") && said.contains("--map-port 80=PORT"),
        "{said}"
    );
    assert!(
        said.contains("port 80 of listener http of Gateway mirror/shop"),
        "{said}"
    );

    let admin = format!("127.0.0.1:{port}");
    let map = format!("80={}", free_port());
    let run = common::run(&[
        "run",
        "--config",
        path,
        "--address",
        "127.0.0.1",
        "--map-port",
        &map,
        "--admin",
        &admin,
    ]);
    assert_eq!(run.status.code(), Some(2));
    let said = stderr(&run);
    assert!(
        said.contains("in use") && said.contains("--admin"),
        "{said}"
    );
}

#[test]
fn the_demo_tests_itself() {
    let output = run(&["demo", "--self-test"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    for use_case in [
        "default route",
        "dark launch",
        "90/10 split",
        "mirror",
        "timeout",
        "redirect",
        "reload",
        "HTTPS",
        "egress, allowed ",
        "egress, allowed tunnel",
        "egress, refused ",
        "egress, refused tunnel",
        "egress, inside",
    ] {
        let row = said
            .lines()
            .find(|line| line.contains(use_case))
            .unwrap_or_else(|| panic!("no {use_case}: {said}"));
        assert!(row.starts_with("pass"), "{row}");
    }
}
