//! `portcullis explain`: which route would serve a request, and why no other one.

mod around;
mod certificate;
mod connection;
mod cors;
mod entrance;
mod in_force;
mod live;
mod passing;
mod progress;
mod reader;
mod routes;
mod text;
mod unread;

use std::{process::ExitCode, sync::Arc};

use http::{HeaderMap, Method};
use portcullis_controller::{ObjectKey, ObjectRef};
use portcullis_dataplane::{
    exchange::path,
    filter::redirect::{self, RedirectedRequest},
    reason::Reason,
    state::{Overrides, TableState},
    telemetry::{Metrics, MetricsOptions},
};
use portcullis_routing::{
    Backend, Explanation, Filter, ListenerProtocol, Rejection, RequestHead, ResourceKind, Route,
    RouteAction, RouteKey, RoutingTable, WeightedCluster, explain as judge,
    explain::{Candidate, ListenerVerdict},
};
use serde::Serialize;

pub(crate) use self::live::Live;
use self::{
    certificate::Shown,
    connection::{
        ensure_ingress, meant_outward, misdirected, no_port, no_session, of_egress, refused,
        unauthenticated,
    },
    passing::lack,
    routes::Routes,
};
use crate::{
    FINDINGS,
    args::ExplainArgs,
    merge::merge,
    output::{self, BAD, styled, tell},
    report::Issue,
    request::Request,
    source::Source,
    words,
};

/// The answer, for people and programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    request: Asked,
    /// What the client gets, in one line.
    outcome: String,
    /// Whether that is an error, for a share of such requests at least.
    #[serde(skip)]
    is_error: bool,
    /// Whether nothing listens at the port.
    #[serde(skip)]
    is_unbound: bool,
    /// The certificate that the client is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Shown>,
    /// What the handshake asks of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Winner>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
    /// What is wrong with the listeners of the port, and with what they stand in. For manifests others say that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listeners: Vec<Issue>,
    /// What is wrong with routes that are refused and might have been meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Issue>,
    /// Where the objects are from, unless it is manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<live::Origin>,
    /// Words for each candidate of the explanation, in its order.
    #[serde(skip)]
    candidates: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    method: String,
    url: String,
    /// The port of the Gateway's spec.
    port: u16,
    host: String,
    /// The name in the TLS handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<String>,
    /// In normal form, as it is matched and forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl Asked {
    fn of(request: &Request) -> Self {
        Self {
            method: request.method.to_string(),
            url: request.url.to_string(),
            port: request.port,
            host: request.host.clone(),
            sni: request.sni.clone(),
            path: path::normalize(request.url.path().as_bytes())
                .map(Into::into)
                .ok(),
        }
    }
}

/// The route that answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Winner {
    rule: String,
    /// The route that the rule is of.
    #[serde(skip)]
    object: ObjectRef,
    matched: String,
    /// Where a redirect leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    /// In the order in which they are applied.
    filters: Vec<String>,
    limits: Vec<String>,
    backends: Vec<Destination>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issues: Vec<Issue>,
}

impl Winner {
    /// What it is where neither backends nor its redirect are asked.
    fn alone(self) -> Self {
        Self {
            backends: Vec::new(),
            location: None,
            ..self
        }
    }
}

/// One backend of the winner.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Destination {
    share: String,
    filters: Vec<String>,
    endpoints: String,
    /// How TLS with it is made; absent for clear text.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<String>,
}

/// Explains one request.
pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let (request, paths) = Request::of(args)?;
    let headers = args.headers.iter().cloned().collect();
    let (answer, findings) = if let Some(gateway) = &args.gateway {
        let live = live::read(args, gateway)?;
        (live.answer(&request, &headers), 0)
    } else {
        let configuration = Source::new(&paths)?.load()?;
        let (table, conflicts) = merge(&configuration.translation.tables);
        ensure_ingress(request.port, &table)?;
        let outward = meant_outward(&table);
        let findings = configuration.issues.len() + conflicts.len();
        let mut answer = answer(&request, &headers, table);
        let routes = Routes {
            resources: &configuration.resources,
            translation: &configuration.translation,
            host: &request.host,
            gateway: None,
        };
        answer.tell_of(&routes, |finding| configuration.issue(finding).cloned());
        if answer.route.is_none() && answer.explanation.is_some() {
            answer.routes.extend(configuration.broken_routes().cloned());
        }
        if answer.is_unbound {
            answer.outcome += outward;
            answer.outcome += "; `portcullis analyze` says what is wrong with others; if `run` maps ports, give the same \
                               --map-port";
        }
        (answer, findings)
    };
    output::print(args.output.output, &answer, text::text)?;
    if findings > 0 {
        tell(&format!(
            "\nThese manifests have {}: see `portcullis run --check`.\n",
            output::count(findings, "finding")
        ));
    }
    Ok(if answer.is_error {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    })
}

/// What comes of a request, in the order in which the proxy looks at it: connection, handshake, head, route.
fn answer(request: &Request, headers: &HeaderMap, table: RoutingTable) -> Answer {
    let asked = Asked::of(request);
    let path = asked.path.clone();
    let received = Arc::new(table);
    // The proxy itself: what it cannot carry out it answers in its own way.
    let proxy = TableState::new(
        Arc::new(Metrics::new(MetricsOptions::default())),
        Overrides::default(),
    );
    for rejection in proxy
        .apply(Arc::clone(&received))
        .iter()
        .flat_map(|report| &report.rejected)
        .filter(|rejection| !lacks_certificate(rejection, &received))
    {
        tell(&format!("{} {rejection}\n", styled(BAD, "not as written:")));
    }
    let snapshot = proxy.current();
    let bound = snapshot
        .as_ref()
        .and_then(|snapshot| Some((snapshot, snapshot.compiled.port(request.port)?)));
    let Some((snapshot, bound)) = bound else {
        return Answer {
            is_unbound: true,
            ..unanswered(asked, &no_port(&received, request.port), None)
        };
    };
    let (compiled, table) = (&snapshot.compiled, snapshot.compiled.table());
    if bound.protocol() == ListenerProtocol::Tls && request.url.scheme_str() == Some("https") {
        return passing::answer(asked, request, compiled, table);
    }
    if let Some(outcome) = no_session(request, bound, &snapshot.tls) {
        return unanswered(asked, &outcome, None);
    }
    let Some(path) = path else {
        return unanswered(asked, &refused(Reason::BadPath), None);
    };
    if [Method::CONNECT, Method::TRACE].contains(&request.method) {
        let mut outcome = format!("405: the proxy serves no {}", request.method);
        if request.method == Method::CONNECT {
            outcome.push_str("; ask for GET to see what becomes of a WebSocket, over HTTP/2 too");
        }
        return unanswered(asked, &outcome, None);
    }
    let head = RequestHead {
        host: &request.host,
        path: &path,
        query: request.url.query(),
        method: &request.method,
        headers,
    };
    let explanation = judge(compiled, request.port, &head);
    let answer = match misdirected(request, bound).or_else(|| unauthenticated(request, bound)) {
        Some(outcome) => unanswered(asked, &outcome, Some(explanation)),
        None => judged(asked, (request, headers), explanation, table),
    };
    let named = request.sni.as_deref().unwrap_or_default();
    let listener = bound.listener_for(named);
    let listener = listener.map(|listener| listener.listener());
    let shown = listener.and_then(|listener| Shown::of(listener, table, request));
    Answer {
        client_certificate: listener.and_then(|it| words::client_certificate(it)),
        ..answer.shows(shown)
    }
}

/// Whether it follows from a Secret that is broken, which the findings tell in the words of its owner.
fn lacks_certificate(rejection: &Rejection, table: &RoutingTable) -> bool {
    match rejection.kind {
        ResourceKind::Certificate => !table.certificates.contains_key(rejection.key.as_str()),
        ResourceKind::Listener => {
            let listener = table.listeners.get(rejection.key.as_str());
            listener.is_some_and(|listener| !table.has_certificate(listener))
        }
        _ => false,
    }
}

fn unanswered(request: Asked, outcome: &str, explanation: Option<Explanation>) -> Answer {
    Answer {
        request,
        outcome: outcome.to_owned(),
        is_error: true,
        is_unbound: false,
        certificate: None,
        client_certificate: None,
        listeners: Vec::new(),
        routes: Vec::new(),
        cluster: None,
        route: None,
        explanation,
        candidates: Vec::new(),
    }
}

fn judged(
    asked: Asked,
    (request, headers): (&Request, &HeaderMap),
    explanation: Explanation,
    table: &RoutingTable,
) -> Answer {
    if explanation.listener().is_none() {
        return unanswered(
            asked,
            "404: no listener of this port serves this host",
            Some(explanation),
        );
    }
    let candidates = explanation
        .candidates
        .iter()
        .map(|candidate| in_words(candidate, table))
        .collect();
    let won = explanation
        .winner()
        .and_then(|won| Some((won, table.routes.get(&won.route)?)));
    let (outcome, is_error) = match won {
        Some((_, route)) => answer_of(route, request, headers, table),
        None => (no_route(&explanation).to_owned(), true),
    };
    Answer {
        is_error,
        route: won.map(|(won, route)| {
            let location = location(&asked, request, won, route);
            let winner = winner(won, route, table);
            if cors::preflight(route, &request.method, headers).is_some() {
                return winner.alone();
            }
            Winner { location, ..winner }
        }),
        candidates,
        ..unanswered(asked, &outcome, Some(explanation))
    }
}

/// What a route answers, and whether that is an error.
fn answer_of(
    route: &Route,
    request: &Request,
    headers: &HeaderMap,
    table: &RoutingTable,
) -> (String, bool) {
    if let Some(answer) = cors::preflight(route, &request.method, headers) {
        return answer;
    }
    let in_words = words::action(&route.action);
    match &route.action {
        RouteAction::Forward(backends) => {
            let mut picked = backends.iter().filter(|backend| backend.weight > 0);
            let fails = picked.any(|backend| failure(backend, table).is_some());
            match forwarded(backends, table) {
                Some(outcome) => (outcome, true),
                None => (format!("forwarded, {in_words}"), fails),
            }
        }
        RouteAction::Redirect(_) => (in_words, false),
        RouteAction::Respond { .. } => (in_words, true),
    }
}

/// The answer, if no backend gives it: whichever is picked, there is none to ask.
fn forwarded(backends: &[WeightedCluster], table: &RoutingTable) -> Option<String> {
    let mut picked = backends.iter().filter(|backend| backend.weight > 0);
    let Some(first) = picked.next() else {
        return Some("500: no backend has a weight above 0".into());
    };
    let answer = failure(first, table)?;
    picked
        .all(|other| failure(other, table).as_ref() == Some(&answer))
        .then_some(answer)
}

/// Status and words of the answer that a backend does not give.
fn failure(backend: &WeightedCluster, table: &RoutingTable) -> Option<String> {
    let (status, why) = lack(backend, table)?;
    Some(format!("{status}: {why}"))
}

fn no_route(explanation: &Explanation) -> &'static str {
    let passed_over = |verdict| verdict == ListenerVerdict::LessSpecific;
    if explanation
        .listeners
        .iter()
        .any(|listener| passed_over(listener.verdict))
    {
        "404: no route matches this request; only the listener with the most specific hostname is asked"
    } else {
        "404: no route matches this request"
    }
}

/// Where a redirect sends this request.
fn location(asked: &Asked, request: &Request, won: &Candidate, route: &Route) -> Option<String> {
    let RouteAction::Redirect(to) = &route.action else {
        return None;
    };
    let request = RedirectedRequest {
        scheme: request.url.scheme_str()?,
        host: &request.host,
        listener_port: request.port,
        path: asked.path.as_deref()?,
        query: request.url.query(),
    };
    let matched = &route.matches.get(won.match_index)?.path;
    redirect::location(to, request, matched)
}

fn winner(won: &Candidate, route: &Route, table: &RoutingTable) -> Winner {
    let backends = route.backends();
    let filters = |all: &[Filter]| all.iter().map(|one| words::filter(one, table)).collect();
    Winner {
        rule: words::source(route),
        object: ObjectRef::new(
            &*route.source.kind,
            ObjectKey::new(&*route.source.namespace, &*route.source.name),
        ),
        matched: matched(&won.route, won.match_index, &won.hostname, table),
        location: None,
        filters: filters(&route.filters),
        limits: words::policy(&route.policy),
        backends: backends
            .iter()
            .map(|backend| Destination {
                share: words::share(backend, backends),
                filters: filters(&backend.filters),
                endpoints: match &backend.backend {
                    Backend::Cluster(key) => {
                        words::endpoints(table.endpoints.get(key).map(AsRef::as_ref))
                    }
                    Backend::External { .. } | Backend::Invalid { .. } => String::new(),
                },
                tls: words::backend_tls(&backend.backend, table),
            })
            .collect(),
        issues: Vec::new(),
    }
}

fn matched(route: &RouteKey, index: usize, hostname: &str, table: &RoutingTable) -> String {
    let host = if hostname == "*" {
        "any host".to_owned()
    } else {
        format!("host {hostname}")
    };
    let route = table.routes.get(route);
    match route.and_then(|route| route.matches.get(index)) {
        Some(one) => format!("{host}, {}", words::matching(one)),
        // One that takes connections asks for nothing else.
        None => host,
    }
}

fn in_words(candidate: &Candidate, table: &RoutingTable) -> String {
    let rule = table
        .routes
        .get(&candidate.route)
        .map(|route| words::source(route))
        .unwrap_or_default();
    format!(
        "{rule}\n  asks for {}\n  {}",
        matched(
            &candidate.route,
            candidate.match_index,
            &candidate.hostname,
            table
        ),
        candidate.verdict
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What a client gets of a table that has one rule, which is for every request.
    fn outcome(method: Method, headers: &HeaderMap, filters: &Value, action: &Value) -> String {
        let mut table: RoutingTable = serde_json::from_value(json!({
            "schema": 1,
            "gateway": "ns/gw",
            "listeners": { "l": { "port": 80, "protocol": "HTTP" } },
            "routes": { "r": {
                "listeners": ["l"],
                "matches": [{ "path": { "Prefix": "/" } }],
                "filters": filters,
                "action": action,
                "order": { "created_at": 0, "namespace": "ns", "name": "r", "rule": 0 },
                "source": { "kind": "HTTPRoute", "namespace": "ns", "name": "r", "rule": 0 },
            } },
        }))
        .unwrap();
        table.seal();
        let request = Request {
            method,
            url: "http://a.example/".parse().unwrap(),
            port: 80,
            host: "a.example".into(),
            sni: None,
        };
        answer(&request, headers, table).outcome
    }

    #[test]
    fn a_preflight_is_answered_by_the_proxy() {
        let headers = [
            ("origin", "https://a.example"),
            ("access-control-request-method", "PUT"),
        ]
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers = HeaderMap::from_iter(headers);
        let cors = json!([{ "Cors": { "allow_origins": ["https://a.example"], "max_age": 5 } }]);
        let action = json!({ "Respond": { "status": 500, "reason": "invalid_backend" } });
        assert!(outcome(Method::OPTIONS, &headers, &cors, &action).starts_with("204"));
        assert!(outcome(Method::GET, &headers, &cors, &action).contains("500"));
    }

    #[test]
    fn a_preflight_that_permits_too_little_is_told_of() {
        let action = json!({ "Respond": { "status": 500, "reason": "invalid_backend" } });
        let cors = |fields: Value| {
            let mut cors = json!({ "allow_origins": ["https://a.example"], "max_age": 5 });
            cors.as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            json!([{ "Cors": cors }])
        };
        let told = |fields: Value, asked: &[(&str, &str)]| {
            let asked = asked.iter();
            let headers =
                asked.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            outcome(Method::OPTIONS, &headers.collect(), &cors(fields), &action)
        };
        let origin = ("origin", "https://a.example");
        let put = ("access-control-request-method", "PUT");
        let get = ("access-control-request-method", "GET");
        let header = ("access-control-request-headers", "x-one,authorization");
        let any = json!({ "allow_methods": ["*"], "allow_headers": ["*"] });
        let both = json!({ "allow_headers": ["X-One", "Authorization"], "allow_methods": ["PUT"] });
        for (fields, asked, expected) in [
            (
                &any,
                &[("origin", "https://b.example"), get][..],
                "origin https://b.example is not",
            ),
            (&json!({}), &[origin, put], "method PUT is not allowed"),
            (
                &json!({}),
                &[origin, get, header],
                "header x-one is not allowed",
            ),
            (
                &any,
                &[origin, put, header],
                "header authorization is not allowed",
            ),
            (&any, &[origin, put], "answers itself"),
            (&json!({}), &[origin, get], "answers itself"),
            (&both, &[origin, put, header], "answers itself"),
        ] {
            let told = told(fields.clone(), asked);
            assert!(told.contains(expected), "{asked:?} {told}");
            assert_eq!(
                told.contains("not allowed"),
                !expected.ends_with("itself"),
                "{told}"
            );
        }
    }

    /// The translation lets none through; who writes tables by hand may.
    #[test]
    fn a_rule_that_the_proxy_rejects_is_foretold() {
        let action = json!({ "Forward": [{ "weight": 1, "backend": { "Cluster": "missing" } }] });
        let outcome = outcome(Method::GET, &HeaderMap::new(), &json!([]), &action);
        assert!(
            outcome.contains("500") && outcome.contains("invalid_rule"),
            "{outcome}"
        );
    }
}
