//! The program itself: its probes, its metrics, and how it ends.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    fake_api::FakeApi,
    support::{EDGE, SHOP, condition},
};

const LEASE: (&str, &str) = ("Lease", "infra/portcullis-controller");
const AUTHORITY: (&str, &str) = ("Secret", "infra/portcullis-ca");

/// The program, and the address of its admin port.
struct Program {
    child: Child,
    admin: String,
    /// What it has logged so far.
    log: Arc<Mutex<String>>,
    /// Where the kubeconfig is.
    _home: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Program {
    fn start(api: &FakeApi) -> Self {
        Self::logging(api, None)
    }

    /// Starts it with this as `PORTCULLIS_LOG`.
    fn logging(api: &FakeApi, filter: Option<&str>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let kubeconfig = home.path().join("config");
        std::fs::write(&kubeconfig, api.kubeconfig("program")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-controller"));
        command
            .args(["--admin", "127.0.0.1:0", "--publish", "127.0.0.1:0"])
            .args(["--identity", "program"])
            .args(["--namespace", "infra", "--log-format", "json"])
            .env("KUBECONFIG", &kubeconfig)
            .env_remove("PORTCULLIS_LOG")
            .stderr(Stdio::piped());
        if let Some(filter) = filter {
            command.env("PORTCULLIS_LOG", filter);
        }
        let mut child = command.spawn().unwrap();
        // A line at the beginning of the log says where the admin port is; the rest is for whoever reads the test's output.
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let log = Arc::<Mutex<String>>::default();
        let admin = lines.find_map(|line| {
            *log.lock().unwrap() += &line;
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            line["admin"].as_str().map(str::to_owned)
        });
        let heard = Arc::clone(&log);
        std::thread::spawn(move || {
            lines.for_each(|line| {
                eprintln!("{line}");
                *heard.lock().unwrap() += &line;
            });
        });
        Self {
            child,
            admin: admin.unwrap(),
            log,
            _home: home,
        }
    }

    /// Waits until it is ready.
    async fn until_ready(&self) {
        let wait = async {
            while self.ask("GET", "/readyz").await.0 != 200 {
                tokio::task::yield_now().await;
            }
        };
        let ready = tokio::time::timeout(std::time::Duration::from_mins(1), wait).await;
        ready.expect("it is ready");
    }

    /// Status and body of a page.
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let stream = TcpStream::connect(&self.admin).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "admin");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_is_ready_once_it_knows_everything_and_gives_the_lease_back() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.hold("HTTPRoute");
    let mut program = Program::start(&api);
    assert_eq!(program.ask("GET", "/livez").await, (200, "ok\n".into()));
    api.until("it asks for everything but routes", |api| {
        let kinds = [
            "GatewayClass",
            "Gateway",
            "ConfigMap",
            "EndpointSlice",
            "Namespace",
        ];
        kinds
            .iter()
            .all(|kind| api.count(|it| it.kind == *kind && it.from.is_some()) > 0)
    })
    .await;
    let (status, why) = program.ask("GET", "/readyz").await;
    assert!(status == 503 && why.contains("HTTPRoute"), "{status} {why}");
    api.release("HTTPRoute");
    api.until("it writes", |api| {
        condition(&api.get(EDGE)["status"]["conditions"], "Accepted")["status"] == "True"
    })
    .await;
    program.until_ready().await;
    assert_eq!(api.get(AUTHORITY)["type"], "kubernetes.io/tls");
    assert_eq!(api.get(LEASE)["spec"]["holderIdentity"], "program");

    let (status, metrics) = program.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    for sample in [
        "portcullis_controller_leader 1",
        "portcullis_controller_tables 1",
        "portcullis_controller_objects{kind=\"HTTPRoute\"} 1",
    ] {
        assert!(
            metrics.lines().any(|line| line == sample),
            "{sample} in\n{metrics}"
        );
    }
    let (_, index) = program.ask("GET", "/").await;
    for page in ["/livez", "/readyz", "/metrics"] {
        assert!(index.contains(page));
        assert_eq!(program.ask("POST", page).await.0, 405);
    }
    assert_eq!(program.ask("GET", "/nothing").await, (404, index));

    let id = rustix::process::Pid::from_child(&program.child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let status = program.child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(
        api.get(LEASE)["spec"]["holderIdentity"].is_null(),
        "the Lease was given back"
    );
}

/// Neither those that it reads and makes, nor those that it cannot read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_at_any_level() {
    for filter in ["trace", "info,kube_client::client=trace"] {
        let api = FakeApi::start().await;
        api.apply(SHOP);
        let marker = "bm9ib2R5IG1heSByZWFkIHRoaXM=";
        api.create(&serde_json::json!({
            "kind": "Secret", "data": marker,
            "metadata": {
                "name": "broken", "namespace": "shop",
                "labels": { "portcullis.dev/component": "certificates" },
            },
        }));
        let program = Program::logging(&api, Some(filter));
        program.until_ready().await;
        api.until("it has read them, in vain and not", |api| {
            let log = program.log.lock().unwrap();
            log.contains("cannot watch") && !api.get(AUTHORITY).is_null()
        })
        .await;
        let key = api.get(AUTHORITY)["data"]["tls.key"].clone();
        let log = program.log.lock().unwrap();
        for secret in [
            marker,
            key.as_str().unwrap(),
            "nobody may read this",
            "PRIVATE KEY",
        ] {
            assert!(!log.contains(secret), "{filter}: {secret}");
        }
    }
}

/// The words of its parser quote what it does not expect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_authority_that_cannot_be_read_is_logged() {
    let api = FakeApi::start().await;
    let marker = "bm9ib2R5IG1heSByZWFkIHRoaXM=";
    api.create(&serde_json::json!({
        "kind": "Secret", "data": marker,
        "metadata": { "name": "portcullis-ca", "namespace": "infra" },
    }));
    let program = Program::start(&api);
    api.until("it has read it in vain", |_| {
        let log = program.log.lock().unwrap();
        log.contains("cannot watch the Secret of the certificate authority")
    })
    .await;
    let log = program.log.lock().unwrap();
    assert!(log.contains("could not be decoded"), "{log}");
    assert!(!log.contains(marker), "{log}");
}

/// The page names every metric, and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_are_documented() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.refuse("Gateway", 1, 500);
    let program = Program::start(&api);
    api.until("it writes", |api| {
        condition(&api.get(EDGE)["status"]["conditions"], "Accepted")["status"] == "True"
    })
    .await;
    let (_, metrics) = program.ask("GET", "/metrics").await;
    let types = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let mut exposed: Vec<_> = types.map(|line| line.split_once(' ').unwrap()).collect();
    let page = include_str!("../../../docs/controller.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `portcullis"));
    let mut documented: Vec<_> = rows
        .map(|row| {
            let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`'));
            (cells.next().unwrap(), cells.next().unwrap())
        })
        .collect();
    for (name, _) in &mut exposed {
        *name = name.strip_prefix("portcullis").unwrap();
    }
    exposed.sort_unstable();
    documented.sort_unstable();
    assert_eq!(exposed, documented);
}
