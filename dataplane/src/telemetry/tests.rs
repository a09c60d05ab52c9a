//! Tests of metrics and access log as their readers see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use portcullis_routing::{RouteKey, RoutingTable, settings::AccessLog as Mode};
use serde_json::Value;

use super::{
    AccessLogWriter, Metrics, MetricsOptions, RequestRecord,
    access_log::line::{Line, Millis},
    metrics::ControllerMetrics,
    worker::{ConnectResult, HandshakeResult, MirrorResult, WorkerMetrics},
};
use crate::{
    reason::Reason,
    state::fixtures::{cluster, listener, route, table},
};

const CLIENT: &str = "192.0.2.1:40000";

fn record<'a>() -> RequestRecord<'a> {
    RequestRecord {
        client: CLIENT.parse().unwrap(),
        tls: true,
        http2: true,
        method: "GET",
        host: "shop.example",
        path: "/cart",
        user_agent: None,
        request_id: "",
        listener: None,
        route: None,
        cluster: None,
        endpoint: None,
        status: 200,
        reason: None,
        duration: Duration::from_millis(3),
        upstream_duration: None,
        bytes_in: 1,
        bytes_out: 2,
        attempts: 0,
        upstream_reused: false,
    }
}

/// The samples of a scrape by name and labels.
fn samples(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.encode().unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    let samples: BTreeMap<String, f64> = lines.clone().map(sample).collect();
    assert_eq!(samples.len(), lines.count(), "a series is there twice");
    samples
}

fn exercise(worker: &WorkerMetrics, metrics: &Metrics, table: &RoutingTable) {
    let labels = metrics.assign_labels(table);
    worker.connection_opened();
    worker.tls_handshake(HandshakeResult::Resumed);
    worker.upstream_connect(
        &labels,
        &cluster(0),
        ConnectResult::Refused,
        Duration::from_millis(1),
    );
    worker.upstream_connect(
        &labels,
        &cluster(0),
        ConnectResult::Ok,
        Duration::from_millis(1),
    );
    worker.upstream_request(false);
    for _ in 0..3 {
        worker.upstream_request(true);
    }
    worker.mirror(MirrorResult::Dropped);
    worker.ejected(2);
    worker.request_started();
    worker.request_started();
    let (listener, route, cluster) = (listener("l0"), route(0), cluster(0));
    let known = RequestRecord {
        listener: Some(&listener),
        route: Some(&route),
        cluster: Some(&cluster),
        status: 503,
        reason: Some(Reason::NoEndpoint),
        upstream_duration: Some(Duration::from_millis(2)),
        attempts: 3,
        ..record()
    };
    worker.request(&labels, &known);
    for _ in 0..2 {
        worker.retry(&labels, Some(&route));
    }
}

#[test]
fn workers_are_added_up() {
    let metrics = Metrics::new(MetricsOptions::default());
    let table = table(1, 1);
    for _ in 0..2 {
        exercise(&metrics.worker(), &metrics, &table);
    }
    let samples = samples(&metrics);
    for (name, value) in [
        ("portcullis_workers", 2.0),
        ("portcullis_connections", 2.0),
        ("portcullis_requests_in_flight", 2.0),
        (r#"portcullis_tls_handshakes_total{result="resumed"}"#, 2.0),
        (r#"portcullis_errors_total{reason="no_endpoint"}"#, 2.0),
        (
            r#"portcullis_requests_total{gateway="infra/edge",listener="l0",code="5xx"}"#,
            2.0,
        ),
        (
            r#"portcullis_request_body_bytes_total{gateway="infra/edge",listener="l0"}"#,
            2.0,
        ),
        (
            r#"portcullis_response_body_bytes_total{gateway="infra/edge",listener="l0"}"#,
            4.0,
        ),
        (
            r#"portcullis_route_requests_total{route="httproute/shop/r0",code="5xx"}"#,
            2.0,
        ),
        (
            r#"portcullis_route_request_seconds_total{route="httproute/shop/r0"}"#,
            0.006,
        ),
        (
            r#"portcullis_route_retries_total{route="httproute/shop/r0"}"#,
            4.0,
        ),
        (
            r#"portcullis_cluster_requests_total{cluster="service/shop/s0/80",code="5xx"}"#,
            2.0,
        ),
        (
            r#"portcullis_cluster_response_seconds_total{cluster="service/shop/s0/80"}"#,
            0.004,
        ),
        (
            r#"portcullis_cluster_connect_failures_total{cluster="service/shop/s0/80"}"#,
            2.0,
        ),
        ("portcullis_retries_total", 4.0),
        (
            r#"portcullis_upstream_requests_total{connection="reused"}"#,
            6.0,
        ),
        ("portcullis_upstream_reuse_ratio", 0.75),
        ("portcullis_upstream_connections", 2.0),
        ("portcullis_upstream_ejected_endpoints", 4.0),
        (
            r#"portcullis_request_duration_seconds_bucket{le="0.0025"}"#,
            0.0,
        ),
        (
            r#"portcullis_request_duration_seconds_bucket{le="0.005"}"#,
            2.0,
        ),
        (
            r#"portcullis_request_duration_seconds_bucket{le="+Inf"}"#,
            2.0,
        ),
        ("portcullis_request_duration_seconds_sum", 0.006),
        ("portcullis_request_duration_seconds_count", 2.0),
    ] {
        let found = samples
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing"));
        assert!(
            (found - value).abs() < 1e-9,
            "{name} is {found}, not {value}"
        );
    }
}

#[test]
fn series_depend_on_the_table_and_not_on_the_traffic() {
    let metrics = Metrics::new(MetricsOptions::default());
    let worker = metrics.worker();
    let table = table(20, 5_000);
    let labels = metrics.assign_labels(&table);
    metrics.update_table(|state| state.serving(&table));
    let before = samples(&metrics);
    assert!(before.len() <= 500, "{} series", before.len());
    assert!(
        before.len() > 450,
        "the budget is not used: {} series",
        before.len()
    );

    for number in 0..10_000 {
        let (host, path) = (
            format!("h{number}.example"),
            format!("/p/{}", fastrand::u64(..)),
        );
        let (listener, route, cluster) = (listener(&host), route(number), cluster(number));
        let unknown = RequestRecord {
            host: &host,
            path: &path,
            listener: Some(&listener),
            route: Some(&route),
            cluster: Some(&cluster),
            status: 100 + u16::try_from(number % 900).unwrap(),
            reason: Reason::ALL.get(number % 40).copied(),
            ..record()
        };
        worker.request(&labels, &unknown);
    }
    let after = samples(&metrics);
    assert!(before.keys().eq(after.keys()));
    let requests = |name: &str| -> f64 {
        after
            .iter()
            .filter(|(series, _)| series.starts_with(name))
            .map(|(_, value)| value)
            .sum()
    };
    for name in [
        "portcullis_requests_total",
        "portcullis_route_requests_total",
        "portcullis_cluster_requests_total",
    ] {
        assert!(
            (requests(name) - 10_000.0).abs() < 0.5,
            "{name} lost requests"
        );
    }
}

#[test]
fn more_series_can_be_asked_for() {
    let table = table(2, 100);
    let routes = |max_series| {
        let metrics = Metrics::new(MetricsOptions { max_series });
        metrics.assign_labels(&table);
        samples(&metrics)
            .keys()
            .filter(|name| name.starts_with("portcullis_route_retries_total"))
            .count()
    };
    assert_eq!(routes(5_000), 101);
    assert!(routes(500) < 30);
    assert_eq!(routes(0), 1, "all routes together");
}

#[test]
fn a_new_owner_of_a_slot_starts_at_zero() {
    let metrics = Metrics::new(MetricsOptions::default());
    let worker = metrics.worker();
    let labels = metrics.assign_labels(&table(1, 1));
    let (old, new) = (route(0), RouteKey::of("HTTPRoute", "shop", "new", 0));
    worker.request(
        &labels,
        &RequestRecord {
            route: Some(&old),
            ..record()
        },
    );

    let mut next = table(1, 1);
    let value = next.routes.remove(&old).unwrap();
    next.routes.insert(new.clone(), value);
    let labels = metrics.assign_labels(&next);
    let count = |name: &str| {
        samples(&metrics)
            .get(&format!(
                r#"portcullis_route_requests_total{{route="{name}",code="2xx"}}"#
            ))
            .copied()
    };
    assert_eq!(count("httproute/shop/r0"), None);
    assert_eq!(count("httproute/shop/new"), Some(0.0));
    worker.request(
        &labels,
        &RequestRecord {
            route: Some(&new),
            ..record()
        },
    );
    assert_eq!(count("httproute/shop/new"), Some(1.0));
}

/// The names in the first column of a page's tables, of one chapter if `heading` names it.
fn documented<'a>(page: &'a str, heading: Option<&str>) -> BTreeSet<&'a str> {
    let chapter = match heading {
        Some(heading) => page
            .split("\n## ")
            .find(|chapter| chapter.lines().next() == Some(heading))
            .unwrap_or_default(),
        None => page,
    };
    chapter
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn every_metric_is_documented() {
    let metrics = Metrics::new(MetricsOptions::default());
    exercise(&metrics.worker(), &metrics, &table(1, 1));
    metrics.update_table(|state| {
        state.serving(&table(1, 1));
        state.is_egress = true;
        state.passes_tls = true;
        state.controller = Some(ControllerMetrics::default());
    });
    let text = metrics.encode().unwrap();
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert_eq!(
        documented(include_str!("../../../docs/metrics.md"), None),
        names
    );
}

#[test]
fn every_field_of_the_access_log_is_documented() {
    let (listener, route, cluster) = (listener("l0"), route(0), cluster(0));
    let full = RequestRecord {
        user_agent: Some(b"curl/8"),
        request_id: "id",
        listener: Some(&listener),
        route: Some(&route),
        cluster: Some(&cluster),
        endpoint: Some("10.0.0.1:80".parse().unwrap()),
        reason: Some(Reason::UpstreamReset),
        upstream_duration: Some(Duration::from_millis(1)),
        attempts: 1,
        ..record()
    };
    let line = serde_json::to_value(Line::of(&full)).unwrap();
    let names = line
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        documented(include_str!("../../../docs/access-log.md"), Some("Fields")),
        names
    );
}

#[test]
fn every_reason_is_documented_with_its_status() {
    let page = include_str!("../../../docs/access-log.md");
    let codes = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(documented(page, Some("Reasons")), codes);
    for reason in Reason::ALL {
        let row = format!("| `{}` | {} |", reason.code(), reason.status().as_u16());
        assert!(page.contains(&row), "no line starts with {row}");
    }
}

/// Where the writer thread writes in tests.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn lines(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap();
        std::str::from_utf8(&bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn logged<'a>(mode: Mode, records: impl IntoIterator<Item = RequestRecord<'a>>) -> Vec<Value> {
    let output = Output::default();
    let writer = AccessLogWriter::start(output.clone()).unwrap();
    let log = writer.worker(Metrics::new(MetricsOptions::default()).worker());
    for record in records {
        log.log(mode, &record);
    }
    drop(log);
    writer.finish();
    output.lines()
}

#[test]
fn a_line_says_what_happened() {
    let (route, endpoint) = (route(7), SocketAddr::from(([10, 0, 0, 1], 8080)));
    let forwarded = RequestRecord {
        route: Some(&route),
        endpoint: Some(endpoint),
        attempts: 2,
        duration: Duration::from_micros(1_234),
        ..record()
    };
    let lines = logged(
        Mode::On,
        [
            forwarded,
            RequestRecord {
                reason: Some(Reason::NoRoute),
                status: 404,
                ..record()
            },
        ],
    );
    let [forwarded, refused] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(forwarded["client"], CLIENT);
    assert_eq!(forwarded["protocol"], "HTTP/2");
    assert_eq!(forwarded["route"], "httproute/shop/r7/0");
    assert_eq!(forwarded["endpoint"], "10.0.0.1:8080");
    assert_eq!(forwarded["attempts"], 2);
    assert_eq!(forwarded["upstream_reused"], false);
    assert!((forwarded["duration_ms"].as_f64().unwrap() - 1.234).abs() < 1e-9);
    assert!(forwarded.get("reason").is_none());
    assert_eq!(refused["status"], 404);
    assert_eq!(refused["reason"], "no_route");
    assert!(refused.get("upstream_reused").is_none());
    let time: jiff::Timestamp = refused["time"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(time) < jiff::SignedDuration::from_mins(1));
    assert_eq!(
        refused["time"].as_str().unwrap().len(),
        "2026-01-31T12:34:56.789Z".len()
    );
}

#[test]
fn hostile_values_stay_inside_their_field() {
    let path = "/\"},\n{\"status\":200,\"x\":\"\u{1b}[31m\u{2028}";
    let long = "é".repeat(5_000);
    let agent = [b"\"\r\n\0\xff\xfe".as_slice(), &b"a".repeat(10_000)].concat();
    let lines = logged(
        Mode::On,
        [
            RequestRecord {
                path,
                status: 404,
                user_agent: Some(&agent),
                ..record()
            },
            RequestRecord {
                path: &long,
                request_id: &long,
                host: &long,
                ..record()
            },
        ],
    );
    let [hostile, long] = lines.as_slice() else {
        panic!("{} lines", lines.len())
    };
    assert_eq!(hostile["path"], path);
    assert_eq!(hostile["status"], 404);
    assert!(
        hostile["user_agent"]
            .as_str()
            .unwrap()
            .starts_with("\"\r\n\0\u{fffd}\u{fffd}aaa")
    );
    assert!(hostile["user_agent"].as_str().unwrap().chars().count() <= 512);
    assert_eq!(long["path"].as_str().unwrap().len(), 4096);
    assert_eq!(long["host"].as_str().unwrap().len(), 256);
    assert_eq!(long["request_id"].as_str().unwrap().len(), 256);
}

#[test]
fn sampling_keeps_every_failure() {
    let statuses = [200, 200, 503, 200, 0, 200, 404, 200];
    let status = |mode| -> Vec<u64> {
        let lines = logged(
            mode,
            statuses.map(|status| RequestRecord { status, ..record() }),
        );
        lines
            .iter()
            .map(|line| line["status"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(status(Mode::On), statuses.map(u64::from));
    assert_eq!(status(Mode::Sampled(3)), [503, 200, 0, 200]);
    assert!(status(Mode::Off).is_empty());
}

/// A reader that takes nothing until it is told to.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Released for good once the other end is dropped.
        _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_does_not_keep_up_costs_lines_and_not_time() {
    let metrics = Metrics::new(MetricsOptions::default());
    let (release, stuck) = mpsc::channel();
    let writer = AccessLogWriter::start(Stuck(stuck)).unwrap();
    let log = writer.worker(metrics.worker());
    let lines = 40_000;
    for _ in 0..lines {
        log.log(Mode::On, &record());
    }
    drop(log);
    let samples = samples(&metrics);
    let [written, dropped] = [
        "portcullis_access_log_lines_total",
        "portcullis_access_log_dropped_lines_total",
    ]
    .map(|name| samples[name]);
    assert!(
        dropped > 0.0 && written > 0.0,
        "{written} written, {dropped} dropped"
    );
    assert!((written + dropped - f64::from(lines)).abs() < 0.5);
    // Nor does the end of the process wait for it.
    writer.finish();
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn a_line_does_not_stay_in_a_quiet_workers_buffer() {
    let output = Output::default();
    let writer = AccessLogWriter::start(output.clone()).unwrap();
    let log = writer.worker(Metrics::new(MetricsOptions::default()).worker());
    let metrics = Arc::clone(&log.metrics);
    log.log(Mode::On, &record());
    assert_eq!(metrics.access_log_lines.get(), 0);
    let second = tokio::time::timeout(Duration::from_secs(1), log.keep_flushing()).await;
    assert!(second.is_err(), "flushing never ends");
    assert_eq!(metrics.access_log_lines.get(), 1);
    drop(log);
    writer.finish();
    assert_eq!(output.lines().len(), 1);
}

#[test]
fn milliseconds_have_three_decimals_at_most() {
    for micros in (0..5_000).chain([41, 1_234_567, 86_400_000_001]) {
        let millis = Millis(Duration::from_micros(micros));
        let written = serde_json::to_string(&millis).unwrap();
        let decimals = written.split_once('.').map_or(0, |(_, rest)| rest.len());
        assert!(decimals <= 3, "{written}");
    }
}
