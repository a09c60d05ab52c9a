//! The proxy as a process: what its command line, its probes and its signals do.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use portcullis_routing::{
    Frame, GatewayKey, Listener, ListenerKey, ListenerProtocol, PathMatch, Route, RouteAction,
    RouteKey, RouteMatch, RouteOrder, RoutePolicy, RouteSource, RoutingTable,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// A running proxy on free ports of its own.
struct Proxy {
    process: Child,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    fn start(table: &Path) -> Self {
        Self::with(|command| command.arg("--table").arg(table))
    }

    /// Follows a controller that is not there.
    fn without_controller(cache: &Path) -> Self {
        Self::with(|command| {
            command
                .args(["--controller", "https://127.0.0.1:1"])
                .args(["--gateway", "infra/edge", "--identity", "/no/such/identity"])
                .arg("--table-cache")
                .arg(cache)
                .stderr(Stdio::piped())
        })
    }

    fn with(arguments: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let [http, admin] = [free_address(), free_address()];
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-proxy"));
        command
            .args([
                "--address",
                "127.0.0.1",
                "--workers",
                "2",
                "--log-format",
                "json",
            ])
            .args(["--map-port", &format!("80={}", http.port())])
            .args(["--admin", &admin.to_string()])
            .stdout(Stdio::piped());
        let process = arguments(&mut command).spawn().unwrap();
        Self {
            process,
            http,
            admin,
        }
    }

    /// Waits until `/readyz` answers with `status`, and returns what it says.
    fn until_ready_is(&self, status: u16) -> String {
        let started = Instant::now();
        loop {
            match get(self.admin, "/readyz") {
                Some((found, body)) if found == status => return body,
                answer => assert!(
                    started.elapsed() < PATIENCE,
                    "still {answer:?} and not {status}"
                ),
            }
            thread::yield_now();
        }
    }

    fn terminate(&self) {
        let kill = Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status()
            .unwrap();
        assert!(kill.success());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Gone already, unless a test failed.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Status and body; `None` if nobody listens.
fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// A table whose only route answers with `status`.
fn table(status: u16) -> Vec<u8> {
    let gateway = GatewayKey::of("infra", "edge");
    let listener = ListenerKey::of(&gateway, "http");
    let mut table = RoutingTable::new(gateway);
    let any = RouteMatch {
        path: PathMatch::Prefix("/".into()),
        method: None,
        headers: vec![],
        query: vec![],
    };
    let route = Route {
        listeners: vec![listener.clone()],
        hostnames: vec![],
        matches: vec![any],
        filters: vec![],
        action: RouteAction::Respond {
            status,
            reason: "invalid_filter".into(),
        },
        policy: RoutePolicy::default(),
        order: RouteOrder {
            created_at: 0,
            namespace: "a".into(),
            name: "r".into(),
            rule: 0,
        },
        source: RouteSource {
            kind: "HTTPRoute".into(),
            namespace: "a".into(),
            name: "r".into(),
            rule: 0,
            rule_name: None,
        },
    };
    table
        .routes
        .insert(RouteKey::of("HTTPRoute", "a", "r", 0), Arc::new(route));
    let http = Listener {
        port: 80,
        protocol: ListenerProtocol::Http,
        hostname: None,
        tls: None,
        direction: portcullis_routing::Direction::Ingress,
    };
    table.listeners.insert(listener, Arc::new(http));
    serde_json::to_vec(&table).unwrap()
}

fn replace(path: &Path, content: &[u8]) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn serves_a_file_follows_it_and_ends_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.json");
    let mut proxy = Proxy::start(&path);
    let log = BufReader::new(proxy.process.stdout.take().unwrap());
    let log = thread::spawn(move || -> Vec<serde_json::Value> {
        log.lines()
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect()
    });
    let why = proxy.until_ready_is(503);
    assert!(why.contains("not ready"), "{why}");

    replace(&path, &table(501));
    proxy.until_ready_is(200);
    assert_eq!(get(proxy.http, "/first").unwrap().0, 501);

    // Not a table: nothing changes.
    replace(&path, b"{}");
    until(|| {
        get(proxy.admin, "/table")
            .unwrap()
            .1
            .contains("holds no routing table")
    });
    assert_eq!(get(proxy.http, "/second").unwrap().0, 501);

    replace(&path, &table(503));
    until(|| get(proxy.http, "/third").unwrap().0 == 503);

    proxy.terminate();
    assert_eq!(proxy.process.wait().unwrap().code(), Some(0));
    let lines = log.join().unwrap();
    let of = |path: &str| {
        lines
            .iter()
            .find(|line| line["path"] == path)
            .unwrap_or_else(|| panic!("{path} in {lines:?}"))
    };
    assert_eq!(of("/first")["status"], 501);
    assert_eq!(of("/first")["route"], "httproute/a/r/0");
    assert_eq!(of("/second")["listener"], "infra/edge/http");
    assert_eq!(of("/third")["host"], "a.example");
}

/// A restart while there is no controller: the last known good table is served if it is whole, and nothing if it is not.
#[test]
fn without_controller_the_last_known_good_table_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table");
    let mut table: RoutingTable = serde_json::from_slice(&table(501)).unwrap();
    table.seal();
    let line = Frame::Snapshot(Arc::new(table)).to_line().unwrap();
    fs::write(&path, &line).unwrap();
    let proxy = Proxy::without_controller(&path);
    proxy.until_ready_is(200);
    assert_eq!(get(proxy.http, "/").unwrap().0, 501);
    let metrics = get(proxy.admin, "/metrics").unwrap().1;
    assert!(metrics.contains("\nportcullis_controller_connected 0\n"));
    assert!(metrics.contains("\nportcullis_table_stale 1\n"));
    drop(proxy);

    fs::write(&path, &line[..line.len() / 2]).unwrap();
    let mut proxy = Proxy::without_controller(&path);
    let mut log = BufReader::new(proxy.process.stderr.take().unwrap());
    let told = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "no error was told");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if line["level"] == "ERROR" {
            break line;
        }
    };
    let error = told["error"].as_str().unwrap();
    assert!(
        error.contains(path.to_str().unwrap()) && error.contains("holds no routing table"),
        "{told}"
    );
    assert_eq!(
        proxy.until_ready_is(503),
        "not ready: no routing table yet\n"
    );
    assert_eq!(get(proxy.http, "/"), None);
    proxy.terminate();
    assert_eq!(proxy.process.wait().unwrap().code(), Some(0));
}

fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited too long");
        thread::yield_now();
    }
}

#[test]
fn a_wrong_command_line_is_explained() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis-proxy"))
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = run(&[]);
    assert!(code == Some(2) && text.contains("--table"), "{text}");
    let (code, text) = run(&["--table", "t", "--map-port", "80"]);
    assert!(code == Some(2) && text.contains("80=8080"), "{text}");
    let (code, text) = run(&["--table", "/no/such/directory/t", "--admin", "127.0.0.1:0"]);
    assert!(
        code == Some(1) && text.contains("/no/such/directory"),
        "{text}"
    );
    let (code, text) = run(&["--controller", "http://c:1"]);
    assert!(
        code == Some(2) && text.contains("https://HOST:PORT"),
        "{text}"
    );
    let (code, text) = run(&["--controller", "https://c:1"]);
    assert!(
        code == Some(2) && text.contains("--gateway") && text.contains("--identity"),
        "{text}"
    );
    let (code, text) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for told in [
        "--table",
        "--controller",
        "--gateway",
        "--identity",
        "--table-cache",
        "--map-port",
        "--admin",
        "--access-log",
        "SIGTERM",
        "readyz",
        "portcullis translate",
    ] {
        assert!(text.contains(told), "{told} is not in the help");
    }
}
