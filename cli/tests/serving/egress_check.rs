//! `portcullis egress check` says what a proxy does.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Instant,
};

use serde_json::Value;

use crate::{
    common::{config, run, stderr},
    egress::outside,
    running::{PATIENCE, Running, free_port},
};

/// What the proxy makes of a request: its own reason, or the status that it was answered with.
fn done(port: u16, request: &str) -> String {
    let end = Instant::now() + PATIENCE;
    let answer = loop {
        match ask(port, request) {
            Ok(answer) => break answer,
            Err(error) => assert!(Instant::now() < end, "no answer: {error}"),
        }
    };
    let reason = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-portcullis-reason: "));
    let status = answer.split(' ').nth(1);
    let done = reason.or(status).unwrap_or_default();
    match done {
        "204" | "200" => "allowed".to_owned(),
        "302" => "redirect".to_owned(),
        other => other.to_owned(),
    }
}

fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    // A tunnel does not end.
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? > 0 {
        answer.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// By which listener, for what, with which header, and what comes of it.
const ASKED: [(&str, &str, &str, &str); 24] = [
    ("proxy", "http://api.example/", "", "allowed"),
    ("proxy", "http://api.example/admin", "", "denied_by_policy"),
    ("proxy", "http://new.example/", "", "host_not_listed"),
    ("proxy", "http://metadata.example/", "", "address_refused"),
    ("proxy", "http://itself.example/", "", "leads_to_proxy"),
    ("proxy", "http://others.example/", "", "not_exported"),
    ("proxy", "http://through.example/", "", "allowed"),
    (
        "proxy",
        "http://through.example/old/x",
        "",
        "denied_by_policy",
    ),
    ("proxy", "http://through.example/others", "", "not_exported"),
    ("proxy", "http://inside.example/open", "", "allowed"),
    (
        "proxy",
        "http://inside.example/admin",
        "",
        "denied_by_policy",
    ),
    ("proxy", "http://inside.example/moved", "", "redirect"),
    ("proxy", "http://inside.example/gone", "", "invalid_backend"),
    (
        "proxy",
        "http://inside.example/asked",
        "",
        "host_not_listed",
    ),
    (
        "proxy",
        "http://inside.example/asked?please=yes",
        "",
        "allowed",
    ),
    (
        "proxy",
        "http://inside.example/asked",
        "please: yes",
        "allowed",
    ),
    ("proxy", "http://inside.example/", "", "host_not_listed"),
    ("proxy", "http://own.example/", "", "redirect"),
    ("proxy", "http://foreign.example/", "", "host_not_listed"),
    ("listed", "http://inside.listed.example/open", "", "allowed"),
    (
        "listed",
        "http://inside.listed.example/",
        "",
        "host_not_listed",
    ),
    ("proxy", "api.example:80", "", "allowed"),
    ("proxy", "grpc.example:80", "", "tunnel_unread"),
    ("proxy", "inside.example:80", "", "host_not_listed"),
];

/// What leads to a port that the proxy itself is bound to.
fn itself(bound: u16) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: itself, namespace: egress}}
spec:
  hosts: [itself.example]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {bound}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
"
    )
}

#[test]
fn the_answers_are_those_of_the_proxy() {
    let manifests = config().join("../cli/tests/testdata/egress/routes.yaml");
    let manifests = fs::read_to_string(manifests).expect("manifests");
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().join("egress.yaml");
    let (proxy, listed) = (free_port(), free_port());
    let manifests = manifests.replace("PORT", &outside().to_string()) + &itself(proxy);
    fs::write(&path, manifests).expect("written");
    let path = path.to_str().expect("UTF-8");
    let map = format!("3128={proxy},80={listed}");
    let place = ["--address", "127.0.0.1", "--map-port", &map];
    let rest = ["--admin", "127.0.0.1:0", "--workers", "1"];
    let serve = [&["run", "--config", path], &place[..], &rest].concat();
    let mut running = Running::start(&serve);
    running.wait_for("Following");

    for (listener, destination, header, expected) in ASKED {
        let port = if listener == "proxy" { proxy } else { listed };
        let (line, host) = match destination.strip_prefix("http://") {
            Some(rest) => (
                format!("GET {destination}"),
                rest.split('/').next().unwrap_or_default(),
            ),
            None => (format!("CONNECT {destination}"), destination),
        };
        let own = if header.is_empty() {
            String::new()
        } else {
            format!("{header}\r\n")
        };
        let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{own}Connection: close\r\n\r\n");
        // Callers are not told what others have.
        let told = match expected {
            "not_exported" => "host_not_listed",
            other => other,
        };
        assert_eq!(done(port, &request), told, "{listener} {destination}");

        let mut check = vec![
            "egress",
            "check",
            "-f",
            path,
            "--pod",
            "shop/web-1",
            "--map-port",
            &map,
        ];
        check.extend([destination, "-o", "json"]);
        if !header.is_empty() {
            check.extend(["-H", header]);
        }
        let output = run(&check);
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let is_by = |answer: &&Value| {
            let listeners = answer["listeners"].as_array();
            let key = format!("egress/out/{listener}");
            listeners.is_some_and(|all| all.iter().any(|one| *one == *key))
        };
        let answer = said["answers"]
            .as_array()
            .and_then(|all| all.iter().find(is_by));
        let answer = answer.unwrap_or_else(|| panic!("{destination} {said} {}", stderr(&output)));
        assert_eq!(answer["reason"], expected, "{destination} {answer}");
        let verdict = if expected == "allowed" {
            "allow"
        } else {
            "refuse"
        };
        assert_eq!(answer["verdict"], verdict, "{destination} {answer}");
    }
    // The host is for no listener of the port.
    let request = "GET http://api.example/ HTTP/1.1\r\nHost: api.example\r\n\r\n";
    assert_eq!(done(listed, request), "no_route");
    assert_eq!(running.stop(), Some(0));
}
