//! The names and meanings of all metrics. `docs/metrics.md` describes each of them.

use std::{sync::Arc, time::SystemTime};

use portcullis_routing::{Frame, egress::Verdict};

use super::{
    cells::{Counter, Histogram, HistogramSum},
    families::{Families, count, float, seconds},
    labels::{Kind, Owner},
    metrics::{ControllerMetrics, TableMetrics, TableOutcome},
    worker::{
        CODES, ConnectResult, DnsResult, ENTRY_DECISIONS, HandshakeResult, MirrorResult, SlotSum,
        UNLISTED_DECISIONS, WorkerMetrics,
    },
};
use crate::reason::Reason;

type Workers = [Arc<WorkerMetrics>];
type Labelled<'a> = (Vec<(&'a str, &'a str)>, f64);

/// What runs.
pub fn process(families: &mut Families, workers: usize) {
    families.gauges(
        "portcullis_build_info",
        "Always 1; the label tells the version of the proxy.",
        [(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)].into_iter(),
    );
    families.gauge(
        "portcullis_workers",
        "Worker threads.",
        float(count(workers)),
    );
}

/// The routing table.
pub fn table(families: &mut Families, table: &TableMetrics) {
    if let Some(version) = &table.version {
        families.gauges(
            "portcullis_table_info",
            "Always 1; the label tells the version of the routing table being served.",
            [(vec![("version", &*version.0)], 1.0)].into_iter(),
        );
    }
    if let Some(applied_at) = table.applied_at {
        let age = SystemTime::now()
            .duration_since(applied_at)
            .unwrap_or_default();
        families.gauge(
            "portcullis_table_age_seconds",
            "Time since the table was applied.",
            age.as_secs_f64(),
        );
    }
    families.counters(
        "portcullis_table_applies_total",
        "Tables offered, by what became of them.",
        named("result", &TableOutcome::NAMES, &table.outcomes),
    );
    families.gauges(
        "portcullis_table_resources",
        "Resources in the table being served.",
        named("kind", &TableMetrics::KINDS, &table.resources),
    );
    families.gauge(
        "portcullis_table_rejected_resources",
        "Resources of the last table that were rejected; their predecessors are served on.",
        float(table.rejected),
    );
    families.gauge(
        "portcullis_table_apply_seconds",
        "Time to validate and compile the last table.",
        table.apply_seconds,
    );
    if let Some(link) = &table.controller {
        controller(families, link);
    }
}

/// The controller that tables come from.
fn controller(families: &mut Families, link: &ControllerMetrics) {
    families.gauge(
        "portcullis_controller_connected",
        "1 while there is a stream of tables from the controller, else 0.",
        float(link.connected.into()),
    );
    families.counter(
        "portcullis_controller_failures_total",
        "Attempts to connect to the controller that failed, and streams that ended.",
        float(link.failures),
    );
    families.counters(
        "portcullis_controller_frames_total",
        "Frames received from the controller, by kind.",
        named("kind", &Frame::KINDS, &link.frames),
    );
    families.gauge(
        "portcullis_table_stale",
        "1 while the last known good table is served and the controller has not been heard of, else 0.",
        float(link.stale.into()),
    );
}

/// Clients and their requests.
pub fn downstream(families: &mut Families, workers: &Workers) {
    let opened = sum(workers, |w| &w.connections);
    families.counter(
        "portcullis_connections_total",
        "Client connections accepted.",
        float(opened),
    );
    let open = opened.saturating_sub(sum(workers, |w| &w.connections_closed));
    families.gauge(
        "portcullis_connections",
        "Client connections open.",
        float(open),
    );
    families.counters(
        "portcullis_tls_handshakes_total",
        "TLS handshakes with clients, by result.",
        named(
            "result",
            &HandshakeResult::NAMES,
            &sums(workers, |w| &w.handshakes),
        ),
    );
    let started = sum(workers, |w| &w.requests_started);
    let in_flight = started.saturating_sub(sum(workers, |w| &w.requests_finished));
    families.gauge(
        "portcullis_requests_in_flight",
        "Requests being served.",
        float(in_flight),
    );
    families.histogram(
        "portcullis_request_duration_seconds",
        "From the request's head to the last byte of the response.",
        &histogram(workers, |w| &w.request_duration),
    );
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    families.counters(
        "portcullis_errors_total",
        "Requests and connections that the proxy answered or ended by itself, by reason.",
        named("reason", &reasons, &sums(workers, |w| &w.errors)),
    );
    families.counter(
        "portcullis_access_log_lines_total",
        "Lines handed to the access log's writer.",
        float(sum(workers, |w| &w.access_log_lines)),
    );
    families.counter(
        "portcullis_access_log_dropped_lines_total",
        "Lines lost because the access log's reader does not keep up.",
        float(sum(workers, |w| &w.access_log_dropped)),
    );
}

/// Connections and attempts towards the backends.
pub fn upstream(families: &mut Families, workers: &Workers) {
    let new = sum(workers, |w| &w.upstream_requests_new);
    let reused = sum(workers, |w| &w.upstream_requests_reused);
    families.counters(
        "portcullis_upstream_requests_total",
        "Attempts sent to a backend, by whether the connection was new or reused.",
        named("connection", &["new", "reused"], &[new, reused]),
    );
    families.gauge(
        "portcullis_upstream_reuse_ratio",
        "Share of all attempts so far that went over a reused connection.",
        float(reused) / float((new + reused).max(1)),
    );
    let connects = sums(workers, |w| &w.upstream_connects);
    families.counters(
        "portcullis_upstream_connects_total",
        "Attempts to connect to an endpoint, by result.",
        named("result", &ConnectResult::NAMES, &connects),
    );
    let connected = connects
        .get(ConnectResult::Ok as usize)
        .copied()
        .unwrap_or_default();
    let open = connected.saturating_sub(sum(workers, |w| &w.upstream_closed));
    families.gauge(
        "portcullis_upstream_connections",
        "Connections to endpoints open.",
        float(open),
    );
    families.histogram(
        "portcullis_upstream_connect_duration_seconds",
        "Time to connect to an endpoint, TLS handshake included.",
        &histogram(workers, |w| &w.connect_duration),
    );
    families.histogram(
        "portcullis_upstream_response_duration_seconds",
        "From the first attempt to the head of the backend's final response.",
        &histogram(workers, |w| &w.upstream_duration),
    );
    families.counter(
        "portcullis_retries_total",
        "Attempts after the first.",
        float(sum(workers, |w| &w.retries)),
    );
    families.counter(
        "portcullis_retries_over_budget_total",
        "Retries not made because the retry budget was spent.",
        float(sum(workers, |w| &w.retries_over_budget)),
    );
    families.counter(
        "portcullis_upstream_ejections_total",
        "Endpoints taken out of balancing because they failed, counted by each worker.",
        float(sum(workers, |w| &w.ejections)),
    );
    families.gauge(
        "portcullis_upstream_ejected_endpoints",
        "Endpoints out of balancing at present, added up over the workers.",
        float(sum(workers, |w| &w.ejected)),
    );
    families.counters(
        "portcullis_mirrors_total",
        "Mirrored requests, by what became of them.",
        named(
            "result",
            &MirrorResult::NAMES,
            &sums(workers, |w| &w.mirrors),
        ),
    );
}

/// What the counters of a kind of resource are called: name and help.
struct SlotNames {
    kind: Kind,
    requests: (&'static str, &'static str),
    amount: (&'static str, &'static str),
    amount_unit: fn(u64) -> f64,
    extra: (&'static str, &'static str),
}

const SLOT_NAMES: [SlotNames; 3] = [
    SlotNames {
        kind: Kind::Listener,
        requests: (
            "portcullis_requests_total",
            "Requests per listener, by class of the status sent.",
        ),
        amount: (
            "portcullis_request_body_bytes_total",
            "Bytes of request bodies received, per listener.",
        ),
        amount_unit: float,
        extra: (
            "portcullis_response_body_bytes_total",
            "Bytes of response bodies sent, per listener.",
        ),
    },
    SlotNames {
        kind: Kind::Route,
        requests: (
            "portcullis_route_requests_total",
            "Requests per route, by class of the status sent.",
        ),
        amount: (
            "portcullis_route_request_seconds_total",
            "Time spent on a route's requests, summed.",
        ),
        amount_unit: seconds,
        extra: (
            "portcullis_route_retries_total",
            "Attempts after the first, per route.",
        ),
    },
    SlotNames {
        kind: Kind::Cluster,
        requests: (
            "portcullis_cluster_requests_total",
            "Requests per cluster, by class of the status sent.",
        ),
        amount: (
            "portcullis_cluster_response_seconds_total",
            "Time until the head of the cluster's response, summed over its requests.",
        ),
        amount_unit: seconds,
        extra: (
            "portcullis_cluster_connect_failures_total",
            "Failed attempts to connect, per cluster.",
        ),
    },
];

/// Listeners, routes and clusters.
pub fn resources(families: &mut Families, slots: &[(&Owner, SlotSum)]) {
    for names in SLOT_NAMES {
        let of_kind = || slots.iter().filter(|(owner, _)| owner.kind == names.kind);
        let by_code = of_kind().flat_map(|(owner, sum)| {
            CODES.iter().zip(sum.requests).map(|(code, requests)| {
                let mut labels = owner_labels(owner);
                labels.push(("code", code));
                (labels, float(requests))
            })
        });
        families.counters(names.requests.0, names.requests.1, by_code);
        let amounts =
            of_kind().map(|(owner, sum)| (owner_labels(owner), (names.amount_unit)(sum.amount)));
        families.counters(names.amount.0, names.amount.1, amounts);
        let extras = of_kind().map(|(owner, sum)| (owner_labels(owner), float(sum.extra)));
        families.counters(names.extra.0, names.extra.1, extras);
    }
}

/// What wants to leave.
pub fn egress(families: &mut Families, workers: &Workers, slots: &[(&Owner, SlotSum)]) {
    let decisions = slots.iter().flat_map(|(owner, sum)| {
        let known: &[(Verdict, &str)] = match owner.kind {
            Kind::Entry => &ENTRY_DECISIONS,
            Kind::Unlisted => &UNLISTED_DECISIONS,
            Kind::Listener | Kind::Route | Kind::Cluster => &[],
        };
        known
            .iter()
            .zip(sum.numbers())
            .map(|((verdict, reason), decisions)| {
                let mut labels = vec![("verdict", verdict_name(*verdict)), ("reason", *reason)];
                labels.extend(owner_labels(owner));
                (labels, float(decisions))
            })
    });
    families.counters(
        "portcullis_egress_decisions_total",
        "Requests and tunnels that wanted to leave, by what was decided, why, and the entry that opens the host.",
        decisions,
    );
    tunnels(
        families,
        [
            "portcullis_egress_tunnels_total",
            "portcullis_egress_tunnels",
            "portcullis_egress_tunnel_bytes_total",
        ],
        [
            sum(workers, |w| &w.egress_tunnels),
            sum(workers, |w| &w.egress_tunnels_closed),
        ],
        [
            sum(workers, |w| &w.egress_bytes_in),
            sum(workers, |w| &w.egress_bytes_out),
        ],
    );
    families.counters(
        "portcullis_egress_dns_total",
        "Looks at DNS names of the outside world, by what came of them.",
        named(
            "result",
            &DnsResult::NAMES,
            &sums(workers, |w| &w.egress_dns),
        ),
    );
}

/// TLS that passes through to backends of the cluster.
pub fn passthrough(families: &mut Families, workers: &Workers) {
    tunnels(
        families,
        [
            "portcullis_tls_tunnels_total",
            "portcullis_tls_tunnels",
            "portcullis_tls_tunnel_bytes_total",
        ],
        [
            sum(workers, |w| &w.tls_tunnels),
            sum(workers, |w| &w.tls_tunnels_closed),
        ],
        [
            sum(workers, |w| &w.tls_bytes_in),
            sum(workers, |w| &w.tls_bytes_out),
        ],
    );
}

/// Names of what has been opened, of what is open, and of the bytes of what is over.
fn tunnels(
    families: &mut Families,
    [total, now, carried]: [&str; 3],
    [opened, closed]: [u64; 2],
    bytes: [u64; 2],
) {
    families.counter(total, "Tunnels opened.", float(opened));
    let open = opened.saturating_sub(closed);
    families.gauge(now, "Tunnels open.", float(open));
    families.counters(
        carried,
        "Bytes of tunnels that are over, from clients and to them.",
        named("direction", &["in", "out"], &bytes),
    );
}

fn owner_labels(owner: &Owner) -> Vec<(&str, &str)> {
    let label: &str = &owner.label;
    match owner.kind {
        Kind::Listener => {
            let (gateway, listener) = label.rsplit_once('/').unwrap_or((label, label));
            vec![("gateway", gateway), ("listener", listener)]
        }
        Kind::Route => vec![("route", label)],
        Kind::Cluster => vec![("cluster", label)],
        Kind::Entry | Kind::Unlisted => vec![("entry", label)],
    }
}

/// Values of the label `verdict`.
const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Report => "report",
        Verdict::Refuse => "refuse",
    }
}

fn sum(workers: &Workers, pick: impl Fn(&WorkerMetrics) -> &Counter) -> u64 {
    workers.iter().map(|worker| pick(worker).get()).sum()
}

fn sums<const N: usize>(
    workers: &Workers,
    pick: impl Fn(&WorkerMetrics) -> &[Counter; N],
) -> [u64; N] {
    let mut sums = [0; N];
    for worker in workers {
        for (total, counter) in sums.iter_mut().zip(pick(worker)) {
            *total += counter.get();
        }
    }
    sums
}

fn histogram(workers: &Workers, pick: impl Fn(&WorkerMetrics) -> &Histogram) -> HistogramSum {
    let mut sum = HistogramSum::default();
    for worker in workers {
        pick(worker).add_to(&mut sum);
    }
    sum
}

/// One series per name, with the name as the value of `label`.
fn named<'a>(
    label: &'a str,
    names: &'a [&'a str],
    values: &'a [u64],
) -> impl Iterator<Item = Labelled<'a>> {
    names
        .iter()
        .zip(values)
        .map(move |(name, value)| (vec![(label, *name)], float(*value)))
}
