//! What is remembered of an exchange for log and metrics.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Instant,
};

use http::{HeaderValue, Method, StatusCode, header, request};
use portcullis_routing::{ClusterKey, ListenerKey, RouteKey, egress::Verdict};

use super::head::Target;
use crate::{
    downstream::Connection,
    egress::{
        Ruling,
        event::{Departure, Form},
    },
    reason::Reason,
    state::Snapshot,
    telemetry::RequestRecord,
    worker::Worker,
};

/// Facts of one exchange, gathered as they become known. Keys are borrowed from the table it began with.
pub(super) struct Record<'s> {
    started: Instant,
    method: Method,
    user_agent: Option<HeaderValue>,
    target: Option<Rc<Target>>,
    client: IpAddr,
    request_id: Option<HeaderValue>,
    pub(super) listener: Option<&'s ListenerKey>,
    pub(super) route: Option<&'s RouteKey>,
    pub(super) cluster: Option<&'s ClusterKey>,
    /// The host outside, in place of a cluster.
    pub(super) external: Option<ClusterKey>,
    endpoint: Option<SocketAddr>,
    reused: bool,
    status: Option<StatusCode>,
    reason: Option<Reason>,
    first_attempt: Option<Instant>,
    answered_at: Option<Instant>,
    bytes_in: u64,
    bytes_out: u64,
    attempts: u32,
}

impl Record<'_> {
    /// Begins with the request's head.
    pub(super) fn begin(worker: &Worker, connection: &Connection, head: &request::Parts) -> Self {
        worker.metrics.request_started();
        Self {
            started: Instant::now(),
            method: head.method.clone(),
            user_agent: head.headers.get(header::USER_AGENT).cloned(),
            target: None,
            client: connection.client.ip(),
            request_id: None,
            listener: None,
            route: None,
            cluster: None,
            external: None,
            endpoint: None,
            reused: false,
            status: None,
            reason: None,
            first_attempt: None,
            answered_at: None,
            bytes_in: 0,
            bytes_out: 0,
            attempts: 0,
        }
    }

    /// When it began.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The request's method.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// The method that the request is served as, if it is another one than it came with.
    pub(super) fn set_method(&mut self, method: Method) {
        self.method = method;
    }

    /// What is asked for.
    pub(super) fn target(&mut self, target: &Rc<Target>) {
        self.target = Some(Rc::clone(target));
    }

    /// The client behind trusted proxies.
    pub(super) fn client(&mut self, address: IpAddr) {
        self.client = address;
    }

    /// The id the backend is told too.
    pub(super) fn request_id(&mut self, id: Option<&HeaderValue>) {
        self.request_id = id.cloned();
    }

    /// One more attempt begins, if there is an endpoint for it. Nothing is waited for before the first, so it begins when the
    /// request does, without another look at the clock.
    pub(super) fn attempt(&mut self) {
        self.first_attempt.get_or_insert(self.started);
    }

    /// An attempt was made at this endpoint, on a connection that had served a request before or not. Tells how many there
    /// have been.
    pub(super) fn tried(&mut self, endpoint: SocketAddr, reused: bool) -> u32 {
        self.attempts += 1;
        self.endpoint = Some(endpoint);
        self.reused = reused;
        self.attempts
    }

    /// The final head came from the backend.
    pub(super) fn upstream_answered(&mut self) {
        self.answered_at = Some(Instant::now());
    }

    /// The final status goes to the client.
    pub(super) fn status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Whether a final head was sent.
    pub(super) fn answered(&self) -> bool {
        self.status.is_some()
    }

    /// Why the proxy answered or broke off by itself.
    pub(super) fn reason(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    /// Bytes of the request's body so far.
    pub(super) fn received(&mut self, bytes: usize) -> u64 {
        self.bytes_in += bytes as u64;
        self.bytes_in
    }

    /// Bytes of the response's body.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// What the line of what wanted to leave shares with the request's own.
    pub(super) fn departure<'a>(&'a self, ruling: Ruling<'a>) -> Departure<'a> {
        let error = match ruling.verdict {
            Verdict::Refuse => None,
            Verdict::Allow | Verdict::Report => self.reason.map(Reason::code),
        };
        Departure {
            gateway: "",
            caller: None,
            client: self.client,
            form: Form::Host,
            host: self.target.as_ref().map_or("", |target| &target.host),
            port: None,
            sni: None,
            ech: false,
            address: self.endpoint,
            ruling,
            route: self.route,
            error,
            detail: None,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration: self.started.elapsed(),
        }
    }

    /// Counts and logs.
    pub(super) fn finish(&self, worker: &Rc<Worker>, connection: &Connection, snapshot: &Snapshot) {
        let since_first = |end: Instant| {
            self.first_attempt
                .map(|first| end.saturating_duration_since(first))
        };
        let record = RequestRecord {
            client: SocketAddr::new(self.client, connection.client.port()),
            tls: connection.tls,
            http2: connection.http2,
            method: self.method.as_str(),
            host: self.target.as_ref().map_or("", |target| &target.host),
            path: self.target.as_ref().map_or("", |target| &target.path),
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            request_id: self
                .request_id
                .as_ref()
                .and_then(|id| id.to_str().ok())
                .unwrap_or_default(),
            listener: self.listener,
            route: self.route,
            cluster: self.cluster.or(self.external.as_ref()),
            endpoint: self.endpoint,
            status: self.status.map_or(0, |status| status.as_u16()),
            reason: self.reason,
            duration: self.started.elapsed(),
            upstream_duration: self.answered_at.and_then(since_first),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            attempts: self.attempts,
            upstream_reused: self.reused,
        };
        worker.metrics.request(&snapshot.labels, &record);
        worker
            .access_log
            .log(snapshot.settings().access_log, &record);
    }
}
