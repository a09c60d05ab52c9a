//! `portcullis run` as a way out: the DNS servers that it asks.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Instant,
};

use crate::{
    common::{config, run, stderr},
    fake_dns::FakeDns,
    running::{PATIENCE, Running, free_port},
};

/// A way out to `out.example`, which may be on this machine.
fn manifests(dns: SocketAddr, port: u16) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: egress, namespace: egress}}
spec:
  gatewayClassName: portcullis-egress
  infrastructure: {{parametersRef: {{group: portcullis.dev, kind: GatewayParameters, name: egress}}}}
  listeners: [{{name: proxy, protocol: HTTP, port: 3128}}]
---
apiVersion: portcullis.dev/v1alpha1
kind: GatewayParameters
metadata: {{name: egress, namespace: egress}}
spec: {{proxy: {{egress: {{dnsServers: [\"{dns}\"]}}}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: out, namespace: egress}}
spec:
  hosts: [out.example]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: DNS
---
apiVersion: portcullis.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: here, namespace: egress}}
spec: {{to: [{{hosts: [out.example]}}], allowPrivate: [127.0.0.0/8]}}
"
    )
}

/// A server that answers one request after the other with 204.
pub(crate) fn outside() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            if lines.any(|line| line.is_empty()) {
                let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                (&stream).write_all(answer).ok();
            }
        }
    });
    port
}

/// What the proxy at a port says of the host outside, as soon as it answers.
fn answer(port: u16) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask(port) {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < end, "no answer: {error}"),
        }
        thread::yield_now();
    }
}

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let request =
        "GET http://out.example/ HTTP/1.1\r\nHost: out.example\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What a proxy says of the host outside that is started with these arguments besides.
fn served(manifests: &str, arguments: &[&str]) -> (String, Running) {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().join("egress.yaml");
    fs::write(&path, manifests).expect("written");
    let port = free_port();
    let map = format!("3128={port}");
    let path = path.to_str().expect("UTF-8");
    let rest = [
        "--map-port",
        &map,
        "--admin",
        "127.0.0.1:0",
        "--workers",
        "1",
    ];
    let serve = [&["run", "--config", path], &rest[..], arguments].concat();
    let mut running = Running::start(&serve);
    running.wait_for("Following");
    (answer(port), running)
}

#[test]
fn the_dns_server_of_the_command_line_is_asked_instead_of_those_of_the_parameters() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let start = |address: [u8; 4]| {
        runtime.block_on(async move { FakeDns::start(&[address.into()], 60).await })
    };
    let (of_parameters, own) = (start([192, 0, 2, 1]), start([127, 0, 0, 1]));
    let manifests = manifests(of_parameters.address, outside());

    let (told, running) = served(&manifests, &[]);
    assert!(told.starts_with("HTTP/1.1 403"), "{told}");
    assert!(told.contains("out.example leads to 192.0.2.1"), "{told}");
    assert_eq!(running.stop(), Some(0));
    assert_eq!(own.questions(), 0);

    let asked = of_parameters.questions();
    let server = own.address.to_string();
    let (told, running) = served(&manifests, &["--dns-server", &server]);
    assert!(told.starts_with("HTTP/1.1 204"), "{told}");
    assert_eq!(running.stop(), Some(0));
    assert_eq!(of_parameters.questions(), asked);
}

#[test]
fn nobody_else_goes_out_by_this_machine_until_an_address_says_so() {
    let manifests = manifests(([127, 0, 0, 1], 1).into(), 1)
        + "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: egress}
spec: {gatewayClassName: portcullis, listeners: [{name: web, protocol: HTTP, port: 80}]}
";
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(file.path(), manifests).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let start = |address: &[&str]| {
        let map = format!("3128={},80={}", free_port(), free_port());
        let place = ["--map-port", &map, "--admin", "127.0.0.1:0"];
        let mut running =
            Running::start(&[&["run", "--config", path], &place[..], address].concat());
        running.wait_for("Following");
        let heard = running.heard.clone();
        assert_eq!(running.stop(), Some(0));
        heard
    };
    let place = |heard: &str, listener: &str| {
        let mut lines = heard.lines();
        let line = lines.find(|line| line.starts_with(listener));
        line.expect("a row of the listener").to_owned()
    };
    let heard = start(&[]);
    let (proxy, web) = (
        place(&heard, "egress/egress/proxy"),
        place(&heard, "egress/edge/web"),
    );
    assert!(
        proxy.contains("http://127.0.0.1:") && !proxy.contains("0.0.0.0"),
        "{heard}"
    );
    assert!(web.contains("http://0.0.0.0:"), "{heard}");
    assert!(heard.contains("Egress is on loopback"), "{heard}");
    let heard = start(&["--address", "0.0.0.0"]);
    assert!(
        place(&heard, "egress/egress/proxy").contains("http://0.0.0.0:"),
        "{heard}"
    );
    assert!(!heard.contains("Egress is on loopback"), "{heard}");

    // It may come later.
    let whole = fs::read_to_string(file.path()).expect("manifests");
    let (egress, edge) = whole
        .split_once(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge",
        )
        .expect("two Gateways");
    let edge = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge{edge}"
    );
    fs::write(file.path(), edge).expect("written");
    let map = format!("3128={},80={}", free_port(), free_port());
    let mut running = Running::start(&[
        "run",
        "--config",
        path,
        "--map-port",
        &map,
        "--admin",
        "127.0.0.1:0",
    ]);
    running.wait_for("Following");
    assert!(!running.heard.contains("Egress"), "{}", running.heard);
    fs::write(file.path(), egress).expect("written");
    running.wait_for("Egress is on loopback");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_dns_server_that_nobody_would_ask_is_told_of() {
    let sample = config().join("samples/mirror.yaml");
    let path = sample.to_str().expect("UTF-8");
    let check = ["run", "--check", "--config", path, "--dns-server"];
    let output = run(&[&check[..], &["192.0.2.53:53"]].concat());
    assert_eq!(output.status.code(), Some(0));
    let said = stderr(&output);
    assert!(said.contains("--dns-server has no effect"), "{said}");

    let output = run(&[&check[..], &["dns.example:53"]].concat());
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("192.0.2.53:53 or [2001:db8::53]:53"),
        "{said}"
    );
}

/// A Deny of this host, as a document of its own.
fn deny(host: &str) -> String {
    format!(
        "---\napiVersion: portcullis.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: deny, namespace: egress}}\n\
         spec: {{action: Deny, to: [{{hosts: [\"{host}\"]}}]}}\n"
    )
}

#[test]
fn without_a_policy_that_is_broken_nothing_is_served() {
    let good = manifests(([127, 0, 0, 1], 1).into(), 1);
    for (broken, expected) in [
        (
            deny("https://a.example"),
            "EgressPolicy egress/deny spec.to[0].hosts[0]: ",
        ),
        (
            deny("a.example").replace("hosts", "host"),
            "EgressPolicy egress/deny spec.to[0].host: ",
        ),
        (
            deny("a.example").replace("EgressPolicy", "EgresPolicy"),
            "did you mean EgressPolicy?",
        ),
        (
            deny("a.example").replace("EgressPolicy", "EgressPolicies"),
            "may be an EgressPolicy is broken",
        ),
        (
            deny("a.example").replace("EgressPolicy", "Policy"),
            "did you mean EgressPolicy?",
        ),
        (
            deny("a.example").replace("portcullis.dev", "portcullis.io"),
            "may be an EgressPolicy is broken",
        ),
        (
            deny("a.example").replace("portcullis.dev/v1alpha1", "networking.istio.io/v1"),
            "write apiVersion: portcullis.dev/v1alpha1",
        ),
        (
            deny("a.example").replace("v1alpha1", "v1"),
            "EgressPolicy egress/deny apiVersion: ",
        ),
        (
            deny("a.example").replace("kind: EgressPolicy\n", ""),
            "egress/deny kind: is missing",
        ),
        (
            "---\nkind: [".to_owned(),
            "may be an EgressPolicy is broken",
        ),
    ] {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
        fs::write(file.path(), good.clone() + &broken).expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let line = format!("{path}:{}", good.lines().count() + 1);
        let port = format!("3128={}", free_port());
        for (command, code) in [
            (
                &[
                    "run",
                    "--admin",
                    "127.0.0.1:0",
                    "--map-port",
                    &port,
                    "--config",
                    path,
                ][..],
                2,
            ),
            (&["run", "--check", "--config", path], 1),
            (&["egress", "check", "http://out.example/", "-f", path], 2),
        ] {
            let output = run(command);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(code), "{command:?} {said}");
            assert!(said.contains(expected), "{command:?} {said}");
            assert!(
                said.contains(line.trim_end_matches(char::is_numeric)),
                "{said}"
            );
            assert!(
                said.contains("callers could reach what it refuses"),
                "{said}"
            );
        }
    }
    // Nobody goes by policies where nobody lets anything out.
    let inward = good.replace("portcullis-egress", "portcullis") + &deny("https://a.example");
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(file.path(), inward).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let said = stderr(&run(&["run", "--check", "--config", path]));
    assert!(!said.contains("callers could reach"), "{said}");
}

#[test]
fn a_reload_with_a_policy_that_is_broken_from_the_start_changes_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().join("egress.yaml");
    let good = manifests(([127, 0, 0, 1], 1).into(), 1);
    fs::write(&path, &good).expect("written");
    let map = format!("3128={}", free_port());
    let config = root.path().to_str().expect("UTF-8");
    let place = [
        "--address",
        "127.0.0.1",
        "--map-port",
        &map,
        "--admin",
        "127.0.0.1:0",
    ];
    let mut running = Running::start(&[&["run", "--config", config][..], &place].concat());
    running.wait_for("Following");
    let opened = good.replace("[out.example]", "[out.example, new.example]");
    fs::write(&path, opened.clone() + &deny("https://new.example")).expect("written");
    running.wait_for("reload refused");
    running.wait_for("The last good configuration stays in force");
    fs::write(&path, opened.clone() + &deny("new.example")).expect("written");
    running.wait_for("Reloaded");
    // What it said before stays in force.
    fs::write(&path, opened + &deny("https://new.example")).expect("written");
    running.wait_for("stays in force as it was: EgressPolicy egress/deny");
    assert_eq!(running.stop(), Some(0));
}
