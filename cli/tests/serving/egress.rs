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
    let place = ["--address", "127.0.0.1", "--map-port", &map];
    let rest = ["--admin", "127.0.0.1:0", "--workers", "1"];
    let serve = [&["run", "--config", path], &place[..], &rest, arguments].concat();
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
