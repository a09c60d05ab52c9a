//! One worker's counters. Only that worker changes them; the control thread adds all workers up when it is scraped.

use std::{array, time::Duration};

use portcullis_routing::{ClusterKey, RouteKey, egress::Verdict};

use super::{
    cells::{Counter, Histogram, micros},
    labels::{Labels, OTHER},
    record::RequestRecord,
};
use crate::{egress::Ruling, reason::Reason};

/// Values of the label `code`: the first digit of the status, or `none` if no response was sent.
pub const CODES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// How an attempt to connect to an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectResult {
    /// Connected, and the TLS handshake (if any) is done.
    Ok,
    /// Refused or unreachable.
    Refused,
    /// Not connected within the cluster's connect timeout.
    Timeout,
    /// The TLS handshake failed, or the certificate was not accepted.
    Tls,
    /// Anything else, such as a reset while connecting.
    Other,
}

impl ConnectResult {
    /// Values of the label `result`.
    pub const NAMES: [&str; 5] = ["ok", "refused", "timeout", "tls", "other"];
}

/// How a client's TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeResult {
    /// A full handshake.
    Full,
    /// A resumed session.
    Resumed,
    /// No connection: no common version, unknown name, time-out, ...
    Failed,
}

impl HandshakeResult {
    /// Values of the label `result`.
    pub const NAMES: [&str; 3] = ["full", "resumed", "failed"];
}

/// What became of a mirrored request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorResult {
    /// Sent, and answered (the answer is thrown away).
    Sent,
    /// Could not be sent, or was not answered.
    Failed,
    /// Not sent, or cut, because mirrors may not cost the main exchange more.
    Dropped,
}

impl MirrorResult {
    /// Values of the label `result`.
    pub const NAMES: [&str; 3] = ["sent", "failed", "dropped"];
}

/// What a look at a DNS name of the outside world came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsResult {
    /// It was known.
    Cached,
    /// A server was asked and gave addresses.
    Answered,
    /// A server was asked and said that there are none.
    Negative,
    /// The servers were asked and did not say.
    Failed,
    /// An old answer was given out because of that.
    Stale,
}

impl DnsResult {
    /// Values of the label `result`.
    pub const NAMES: [&str; 5] = ["cached", "answered", "negative", "failed", "stale"];
}

/// Verdict and reason of the decisions that are counted of an entry, by their place in its [`Slot`].
pub const ENTRY_DECISIONS: [(Verdict, &str); SlotSum::SERIES] = [
    (Verdict::Allow, "allowed"),
    (Verdict::Report, "denied_by_policy"),
    (Verdict::Report, "not_allowed_by_policy"),
    (Verdict::Report, "unknown_caller"),
    (Verdict::Refuse, "denied_by_policy"),
    (Verdict::Refuse, "not_allowed_by_policy"),
    (Verdict::Refuse, "unknown_caller"),
    (Verdict::Refuse, OTHER),
];

/// The same of what no entry lists.
pub const UNLISTED_DECISIONS: [(Verdict, &str); SlotSum::SERIES] = [
    (Verdict::Report, "host_not_listed"),
    (Verdict::Report, "port_not_listed"),
    (Verdict::Report, "not_exported"),
    (Verdict::Report, OTHER),
    (Verdict::Refuse, "host_not_listed"),
    (Verdict::Refuse, "port_not_listed"),
    (Verdict::Refuse, "not_exported"),
    (Verdict::Refuse, OTHER),
];

/// The counters of one listener, route, cluster or entry: one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Slot {
    requests: [Counter; CODES.len()],
    amount: Counter,
    extra: Counter,
}

/// The counters of a [`Slot`], added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotSum {
    /// Requests, by [`CODES`]. Of an entry these and what follows are decisions, by [`ENTRY_DECISIONS`].
    pub requests: [u64; CODES.len()],
    /// Listener: bytes of request bodies. Route and cluster: microseconds.
    pub amount: u64,
    /// Listener: bytes of response bodies. Route: retries. Cluster: failed connects.
    pub extra: u64,
}

impl Slot {
    fn request(&self, status: u16) {
        let class = usize::from(status / 100);
        if let Some(count) = self.requests.get(class).or(self.requests.last()) {
            count.add(1);
        }
    }

    fn decision(&self, ruling: &Ruling<'_>) {
        let known = match ruling.entry {
            Some(_) => &ENTRY_DECISIONS,
            None => &UNLISTED_DECISIONS,
        };
        let place = |reason| {
            known
                .iter()
                .position(|known| *known == (ruling.verdict, reason))
        };
        let counters = self.requests.iter().chain([&self.amount, &self.extra]);
        // To do something about it one has to look at the log in either case.
        let reason = match ruling.reason {
            "led_elsewhere" => "not_allowed_by_policy",
            reason => reason,
        };
        let place = place(reason).or_else(|| place(OTHER));
        if let Some(counter) = place.and_then(|place| counters.into_iter().nth(place)) {
            counter.add(1);
        }
    }
}

impl SlotSum {
    /// Number of series that a slot has.
    pub const SERIES: usize = CODES.len() + 2;

    /// Adds the present values of `slot`.
    pub fn add(&mut self, slot: &Slot) {
        for (total, count) in self.requests.iter_mut().zip(&slot.requests) {
            *total = total.wrapping_add(count.get());
        }
        self.amount = self.amount.wrapping_add(slot.amount.get());
        self.extra = self.extra.wrapping_add(slot.extra.get());
    }

    /// Every number, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.requests.into_iter().chain([self.amount, self.extra])
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        for (total, before) in self.requests.iter_mut().zip(earlier.requests) {
            *total = total.wrapping_sub(before);
        }
        self.amount = self.amount.wrapping_sub(earlier.amount);
        self.extra = self.extra.wrapping_sub(earlier.extra);
        self
    }
}

/// All counters of one worker. Made once per worker, kept for the life of the process.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerMetrics {
    pub(super) slots: Box<[Slot]>,
    pub(super) request_duration: Histogram,
    pub(super) upstream_duration: Histogram,
    pub(super) connect_duration: Histogram,
    pub(super) requests_started: Counter,
    pub(super) requests_finished: Counter,
    pub(super) errors: [Counter; Reason::ALL.len()],
    pub(super) connections: Counter,
    pub(super) connections_closed: Counter,
    pub(super) handshakes: [Counter; HandshakeResult::NAMES.len()],
    pub(super) upstream_requests_new: Counter,
    pub(super) upstream_requests_reused: Counter,
    pub(super) upstream_connects: [Counter; ConnectResult::NAMES.len()],
    pub(super) upstream_closed: Counter,
    pub(super) retries: Counter,
    pub(super) retries_over_budget: Counter,
    pub(super) ejections: Counter,
    pub(super) ejected: Counter,
    pub(super) mirrors: [Counter; MirrorResult::NAMES.len()],
    pub(super) access_log_lines: Counter,
    pub(super) access_log_dropped: Counter,
    pub(super) tls_tunnels: Counter,
    pub(super) tls_tunnels_closed: Counter,
    pub(super) tls_bytes_in: Counter,
    pub(super) tls_bytes_out: Counter,
    pub(super) egress_dns: [Counter; DnsResult::NAMES.len()],
    pub(super) egress_tunnels: Counter,
    pub(super) egress_tunnels_closed: Counter,
    pub(super) egress_bytes_in: Counter,
    pub(super) egress_bytes_out: Counter,
}

impl WorkerMetrics {
    /// With `slots` label slots (see [`super::labels::LabelAllocator`]).
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            request_duration: Histogram::default(),
            upstream_duration: Histogram::default(),
            connect_duration: Histogram::default(),
            requests_started: Counter::default(),
            requests_finished: Counter::default(),
            errors: array::from_fn(|_| Counter::default()),
            connections: Counter::default(),
            connections_closed: Counter::default(),
            handshakes: Default::default(),
            upstream_requests_new: Counter::default(),
            upstream_requests_reused: Counter::default(),
            upstream_connects: Default::default(),
            upstream_closed: Counter::default(),
            retries: Counter::default(),
            retries_over_budget: Counter::default(),
            ejections: Counter::default(),
            ejected: Counter::default(),
            mirrors: Default::default(),
            access_log_lines: Counter::default(),
            access_log_dropped: Counter::default(),
            tls_tunnels: Counter::default(),
            tls_tunnels_closed: Counter::default(),
            tls_bytes_in: Counter::default(),
            tls_bytes_out: Counter::default(),
            egress_dns: Default::default(),
            egress_tunnels: Counter::default(),
            egress_tunnels_closed: Counter::default(),
            egress_bytes_in: Counter::default(),
            egress_bytes_out: Counter::default(),
        }
    }

    /// A request's head has arrived. Each call is followed by one of [`Self::request`].
    pub fn request_started(&self) {
        self.requests_started.add(1);
    }

    /// A request is over. `labels` are those of the table it was served by.
    pub fn request(&self, labels: &Labels, record: &RequestRecord<'_>) {
        self.requests_finished.add(1);
        self.request_duration.observe(record.duration);
        if let Some(listener) = self.slots.get(labels.listener(record.listener)) {
            listener.request(record.status);
            listener.amount.add(record.bytes_in);
            listener.extra.add(record.bytes_out);
        }
        if let Some(route) = record
            .route
            .and_then(|key| self.slots.get(labels.route(key)))
        {
            route.request(record.status);
            route.amount.add(micros(record.duration));
        }
        if let Some(cluster) = record
            .cluster
            .and_then(|key| self.slots.get(labels.cluster(key)))
        {
            cluster.request(record.status);
            cluster
                .amount
                .add(micros(record.upstream_duration.unwrap_or_default()));
        }
        if let Some(duration) = record.upstream_duration {
            self.upstream_duration.observe(duration);
        }
        if let Some(reason) = record.reason {
            self.error(reason);
        }
    }

    /// Counts an error that belongs to no request, such as a failed read of a request's head. Errors of requests are
    /// counted by [`Self::request`].
    pub fn error(&self, reason: Reason) {
        bump(&self.errors, reason.index());
    }

    /// A client's connection was accepted.
    pub fn connection_opened(&self) {
        self.connections.add(1);
    }

    /// A client's connection is closed.
    pub fn connection_closed(&self) {
        self.connections_closed.add(1);
    }

    /// A client's TLS handshake ended.
    pub fn tls_handshake(&self, result: HandshakeResult) {
        bump(&self.handshakes, result as usize);
    }

    /// An attempt to connect to an endpoint has come to something.
    pub fn upstream_connected(&self, duration: Duration) {
        bump(&self.upstream_connects, ConnectResult::Ok as usize);
        self.connect_duration.observe(duration);
    }

    /// An attempt to connect to an endpoint ended.
    pub fn upstream_connect(
        &self,
        labels: &Labels,
        cluster: &ClusterKey,
        result: ConnectResult,
        duration: Duration,
    ) {
        if result == ConnectResult::Ok {
            return self.upstream_connected(duration);
        }
        bump(&self.upstream_connects, result as usize);
        self.connect_duration.observe(duration);
        if let Some(slot) = self.slots.get(labels.cluster(cluster)) {
            slot.extra.add(1);
        }
    }

    /// A connection that [`Self::upstream_connect`] counted as `Ok` is closed.
    pub fn upstream_closed(&self) {
        self.upstream_closed.add(1);
    }

    /// A request was given to an upstream session, a pooled one (`reused`) or a new one.
    pub fn upstream_request(&self, reused: bool) {
        let count = if reused {
            &self.upstream_requests_reused
        } else {
            &self.upstream_requests_new
        };
        count.add(1);
    }

    /// A retry has begun.
    pub fn retry(&self, labels: &Labels, route: Option<&RouteKey>) {
        self.retries.add(1);
        if let Some(route) = route.and_then(|key| self.slots.get(labels.route(key))) {
            route.extra.add(1);
        }
    }

    /// A retry was due and not made because the retry budget was spent.
    pub fn retry_over_budget(&self) {
        self.retries_over_budget.add(1);
    }

    /// An endpoint was ejected; `now` are ejected at present, in the view of this worker.
    pub fn ejected(&self, now: usize) {
        self.ejections.add(1);
        self.set_ejected(now);
    }

    /// The number of endpoints ejected at present changed.
    pub fn set_ejected(&self, now: usize) {
        self.ejected.set(u64::try_from(now).unwrap_or(u64::MAX));
    }

    /// A mirrored request is over.
    pub fn mirror(&self, result: MirrorResult) {
        bump(&self.mirrors, result as usize);
    }

    /// Something that wanted to leave is over. `labels` are those of the table that it was judged by.
    pub fn egress_decision(&self, labels: &Labels, ruling: &Ruling<'_>) {
        if let Some(slot) = self.slots.get(labels.entry(ruling.entry)) {
            slot.decision(ruling);
        }
    }

    /// TLS has begun to pass through to a backend of the cluster.
    pub fn tls_tunnel_opened(&self) {
        self.tls_tunnels.add(1);
    }

    /// It is over, and has carried so many bytes, from the client and to it.
    pub fn tls_tunnel_closed(&self, received: u64, sent: u64) {
        self.tls_tunnels_closed.add(1);
        self.tls_bytes_in.add(received);
        self.tls_bytes_out.add(sent);
    }

    /// Somebody wanted a DNS name of the outside world.
    pub fn egress_dns(&self, result: DnsResult) {
        bump(&self.egress_dns, result as usize);
    }

    /// A tunnel is open.
    pub fn egress_tunnel_opened(&self) {
        self.egress_tunnels.add(1);
    }

    /// A tunnel is over.
    pub fn egress_tunnel_closed(&self) {
        self.egress_tunnels_closed.add(1);
    }

    /// A tunnel that is over has carried so many bytes, from the client and to it.
    pub fn egress_tunnel_bytes(&self, received: u64, sent: u64) {
        self.egress_bytes_in.add(received);
        self.egress_bytes_out.add(sent);
    }

    /// Lines were handed to the access log's writer.
    pub fn access_log_lines(&self, lines: u64) {
        self.access_log_lines.add(lines);
    }

    /// Lines were lost because the access log's writer does not keep up.
    pub fn access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.add(lines);
    }
}

fn bump(counters: &[Counter], index: usize) {
    if let Some(counter) = counters.get(index) {
        counter.add(1);
    }
}
