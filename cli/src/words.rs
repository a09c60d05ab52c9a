//! The parts of a routing table in words.

pub(crate) mod egress;

use portcullis_routing::{
    Backend, ClusterEndpoints, ClusterKey, EndpointHost, EndpointState, Filter, Listener,
    ListenerProtocol, PathMatch, Route, RouteAction, RouteMatch, RoutePolicy, RoutingTable,
    SubjectAltName, ValueMatch, WeightedCluster,
    filter::{Credential, HeaderField, HeaderModifier, Mirror, PathModifier, Redirect, UrlRewrite},
    listener::{ClientValidation, ClientValidationMode},
};
use x509_parser::pem::Pem;

/// `rule 1 (testers) of HTTPRoute shop/cart`; rules are counted from 0 as in field paths.
pub(crate) fn source(route: &Route) -> String {
    let source = &route.source;
    let name = source
        .rule_name
        .as_ref()
        .map(|name| format!(" ({name})"))
        .unwrap_or_default();
    format!(
        "rule {}{name} of {} {}/{}",
        source.rule, source.kind, source.namespace, source.name
    )
}

/// `http`, `https`, or `tls` where it passes through.
pub(crate) fn scheme(protocol: ListenerProtocol) -> &'static str {
    match protocol {
        ListenerProtocol::Http => "http",
        ListenerProtocol::Https => "https",
        ListenerProtocol::Tls => "tls",
    }
}

/// The listener's hostname, or `any host`.
pub(crate) fn hostname(listener: &Listener) -> &str {
    listener.hostname.as_deref().unwrap_or("any host")
}

/// What a listener asks of its clients, if it asks for a certificate.
pub(crate) fn client_certificate(listener: &Listener) -> Option<String> {
    let validation = listener.tls.as_ref()?.client_validation.as_ref()?;
    let text = match validation.mode {
        ClientValidationMode::AllowValidOnly => {
            let issuers = authorities(validation).join(" or ");
            format!(
                "a client certificate is needed, issued by {issuers}; without it there is no answer"
            )
        }
        ClientValidationMode::AllowInsecureFallback => {
            "a client certificate is asked for, but any will do, or none".into()
        }
    };
    Some(text)
}

/// The subjects of the CAs.
fn authorities(validation: &ClientValidation) -> Vec<String> {
    let pems = validation.ca_pem.iter();
    let blocks = pems.flat_map(|pem| Pem::iter_from_buffer(pem.as_bytes()));
    let subject = |block: Pem| Some(block.parse_x509().ok()?.subject().to_string());
    blocks.filter_map(|block| subject(block.ok()?)).collect()
}

/// The route's hostnames, or `any host`.
pub(crate) fn hostnames(route: &Route) -> String {
    if route.hostnames.is_empty() {
        "any host".into()
    } else {
        route.hostnames.join(", ")
    }
}

/// `GET path /cart and below, header user: test`.
pub(crate) fn matching(one: &RouteMatch) -> String {
    let path = match &one.path {
        PathMatch::Exact(path) => format!("path {path} exactly"),
        PathMatch::Prefix(path) if path == "/" => "any path".into(),
        PathMatch::Prefix(path) => format!("path {path} and below"),
        PathMatch::Regex(pattern) => format!("path like {pattern}"),
    };
    let method = one.method.iter().map(|method| format!("method {method}"));
    let headers = one
        .headers
        .iter()
        .map(|header| condition("header", &header.name, &header.value));
    let query = one
        .query
        .iter()
        .map(|parameter| condition("query parameter", &parameter.name, &parameter.value));
    std::iter::once(path)
        .chain(method)
        .chain(headers)
        .chain(query)
        .collect::<Vec<_>>()
        .join(", ")
}

fn condition(what: &str, name: &str, value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(value) => format!("{what} {name}: {value}"),
        ValueMatch::Regex(pattern) => format!("{what} {name} like {pattern}"),
    }
}

/// What a route does, in one line.
pub(crate) fn action(action: &RouteAction) -> String {
    match action {
        RouteAction::Forward(backends) if backends.iter().all(|backend| backend.weight == 0) => {
            "answer 500: no backend with a weight above 0".into()
        }
        RouteAction::Forward(backends) => backends
            .iter()
            .map(|backend| share(backend, backends))
            .collect::<Vec<_>>()
            .join(", "),
        RouteAction::Redirect(to) => redirect(to),
        RouteAction::Respond { status, reason } => format!("answer {status}: {reason}"),
    }
}

/// `90 % to Service shop/cart:80`; the share is left out if there is only one backend.
pub(crate) fn share(one: &WeightedCluster, all: &[WeightedCluster]) -> String {
    let sum: u64 = all.iter().map(|backend| u64::from(backend.weight)).sum();
    let percent = if all.len() < 2 {
        String::new()
    } else {
        let tenths = (u64::from(one.weight) * 1000 + sum / 2)
            .checked_div(sum)
            .unwrap_or_default();
        match tenths % 10 {
            0 => format!("{} % ", tenths / 10),
            rest => format!("{}.{rest} % ", tenths / 10),
        }
    };
    match &one.backend {
        Backend::Cluster(key) => format!("{percent}to {}", cluster(key)),
        Backend::External { entry, host, port } => match host {
            Some(host) => format!("{percent}to host {host}:{port} of {entry}"),
            None => format!("{percent}to port {port} of the host that is asked for, by {entry}"),
        },
        Backend::Invalid { reason } => {
            format!("{percent}answer 500: the backendRef is invalid ({reason})")
        }
    }
}

/// `Service shop/cart:80` or `host api.example:443`.
pub(crate) fn cluster(key: &ClusterKey) -> String {
    let parts: Vec<&str> = key.as_str().split('/').collect();
    match parts[..] {
        ["service", namespace, name, port] => format!("Service {namespace}/{name}:{port}"),
        ["external", host, port] => format!("host {host}:{port}"),
        _ => key.to_string(),
    }
}

/// `TLS: server name cart.internal, trusts the CAs of its policy`; `None` in clear text.
pub(crate) fn backend_tls(backend: &Backend, table: &RoutingTable) -> Option<String> {
    let Backend::Cluster(key) = backend else {
        return None;
    };
    let tls = table.clusters.get(key)?.tls.as_ref()?;
    let trusted = if tls.ca_pem.is_empty() {
        "the CAs of the system"
    } else {
        "the CAs of its policy"
    };
    let mut parts = vec![
        format!("TLS: server name {}", tls.server_name),
        format!("trusts {trusted}"),
    ];
    let names = tls.subject_alt_names.iter().map(|name| match name {
        SubjectAltName::Hostname(name) => name.clone(),
        SubjectAltName::Uri(uri) => format!("URI {uri}"),
    });
    let names: Vec<_> = names.collect();
    if !names.is_empty() {
        parts.push(format!("the certificate must name {}", names.join(" or ")));
    }
    if let Some(own) = &tls.client_certificate {
        parts.push(format!("shows certificate {own}"));
    }
    Some(parts.join(", "))
}

/// `10.0.0.1:8080, 10.0.0.2:8080 (draining)`.
pub(crate) fn endpoints(known: Option<&ClusterEndpoints>) -> String {
    let known = known
        .map(|known| known.endpoints.as_slice())
        .unwrap_or_default();
    if known.is_empty() {
        return "no endpoints: answers 503".into();
    }
    let one = |endpoint: &portcullis_routing::Endpoint| {
        let port = endpoint.port;
        let place = match &endpoint.host {
            EndpointHost::Ip(ip) => std::net::SocketAddr::new(*ip, port).to_string(),
            EndpointHost::Name(name) => format!("{name}:{port}"),
        };
        match endpoint.state {
            EndpointState::Ready => place,
            EndpointState::Draining => place + " (draining)",
        }
    };
    known.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Everything that is done with a request, in one line.
pub(crate) fn deeds(route: &Route, table: &RoutingTable) -> String {
    let filters = route.filters.iter().map(|one| filter(one, table));
    let parts = std::iter::once(action(&route.action)).chain(filters);
    parts
        .chain(policy(&route.policy))
        .collect::<Vec<_>>()
        .join("; ")
}

/// What a filter does, in one line.
pub(crate) fn filter(filter: &Filter, table: &RoutingTable) -> String {
    match filter {
        Filter::RequestHeaders(modifier) => format!("request headers: {}", headers(modifier)),
        Filter::ResponseHeaders(modifier) => format!("response headers: {}", headers(modifier)),
        Filter::UrlRewrite(to) => rewrite(to),
        Filter::Mirror(mirror) => mirrored(mirror),
        Filter::Cors(cors) => format!("CORS: allow origins {}", cors.allow_origins.join(", ")),
        Filter::Credential(key) => match table.credentials.get(key) {
            Some(credential) => injected(credential),
            None => format!("adds {key}, which is not in the table"),
        },
    }
}

fn injected(credential: &Credential) -> String {
    let Credential { header, secret, .. } = credential;
    let unless = if credential.overwrite {
        ""
    } else {
        ", unless the request has one"
    };
    format!("adds {header} from Secret {secret}{unless}")
}

fn headers(modifier: &HeaderModifier) -> String {
    let line = |verb: &'static str| {
        move |field: &HeaderField| format!("{verb} {}: {}", field.name, field.value)
    };
    let set = modifier.set.iter().map(line("set"));
    let add = modifier.add.iter().map(line("add"));
    let remove = modifier.remove.iter().map(|name| format!("remove {name}"));
    set.chain(add).chain(remove).collect::<Vec<_>>().join(", ")
}

fn rewrite(to: &UrlRewrite) -> String {
    let host = to
        .hostname
        .iter()
        .map(|host| format!("host becomes {host}"));
    let path = to.path.iter().map(path_change);
    format!(
        "rewrite: {}",
        host.chain(path).collect::<Vec<_>>().join(", ")
    )
}

fn path_change(change: &PathModifier) -> String {
    match change {
        PathModifier::ReplaceFull(path) => format!("path becomes {path}"),
        PathModifier::ReplacePrefix(prefix) if prefix.is_empty() || prefix == "/" => {
            "the matched prefix is cut off the path".into()
        }
        PathModifier::ReplacePrefix(prefix) => {
            format!("the matched prefix of the path becomes {prefix}")
        }
    }
}

fn mirrored(mirror: &Mirror) -> String {
    let share = if mirror.numerator >= mirror.denominator {
        "every request".into()
    } else {
        format!("{} of {} requests", mirror.numerator, mirror.denominator)
    };
    format!(
        "mirror: a copy of {share} goes to {}",
        cluster(&mirror.cluster)
    )
}

fn redirect(to: &Redirect) -> String {
    let scheme = to.scheme.iter().map(|scheme| format!("scheme {scheme}"));
    let host = to.hostname.iter().map(|host| format!("host {host}"));
    let port = to.port.iter().map(|port| format!("port {port}"));
    let path = to.path.iter().map(path_change);
    let parts: Vec<_> = scheme.chain(host).chain(port).chain(path).collect();
    let place = if parts.is_empty() {
        "the same place".into()
    } else {
        parts.join(", ")
    };
    format!("redirect {} to {place}", to.status)
}

/// Deadlines and retries, if there are any.
pub(crate) fn policy(policy: &RoutePolicy) -> Vec<String> {
    let timeouts = &policy.timeouts;
    let request = timeouts
        .request
        .map(|time| format!("the whole request may take {} ms", time.0));
    let attempt = timeouts
        .backend_request
        .map(|time| format!("each attempt may take {} ms", time.0));
    let retry = policy
        .retry
        .as_ref()
        .filter(|retry| retry.attempts > 0)
        .map(|retry| {
            let codes: Vec<_> = retry.codes.iter().map(ToString::to_string).collect();
            let on = if codes.is_empty() {
                String::new()
            } else {
                format!(" and on {}", codes.join(", "))
            };
            format!(
                "up to {} more attempts on connection errors and attempt timeouts{on}, {} ms apart and more; POST and PATCH only if \
                 nothing was sent",
                retry.attempts, retry.backoff.0
            )
        });
    [request, attempt, retry].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{HeaderMatch, Millis};

    use super::*;

    fn backend(weight: u32, name: &str) -> WeightedCluster {
        WeightedCluster {
            weight,
            backend: Backend::Cluster(ClusterKey::service("n", name, 80)),
            filters: Vec::new(),
        }
    }

    #[test]
    fn shares_are_percentages_of_the_sum() {
        let two = RouteAction::Forward(vec![backend(9, "a"), backend(1, "b")]);
        assert_eq!(
            action(&two),
            "90 % to Service n/a:80, 10 % to Service n/b:80"
        );
        let thirds = RouteAction::Forward(vec![backend(1, "a"), backend(2, "b")]);
        assert_eq!(
            action(&thirds),
            "33.3 % to Service n/a:80, 66.7 % to Service n/b:80"
        );
        assert_eq!(
            action(&RouteAction::Forward(vec![backend(1, "a")])),
            "to Service n/a:80"
        );
        assert!(
            action(&RouteAction::Forward(vec![
                backend(0, "a"),
                backend(0, "b")
            ]))
            .contains("500")
        );
    }

    #[test]
    fn a_match_reads_as_its_conditions() {
        let one = RouteMatch {
            path: PathMatch::Prefix("/cart".into()),
            method: Some("GET".into()),
            headers: vec![HeaderMatch {
                name: "user".into(),
                value: ValueMatch::Exact("test".into()),
            }],
            query: Vec::new(),
        };
        assert_eq!(
            matching(&one),
            "path /cart and below, method GET, header user: test"
        );
    }

    #[test]
    fn only_what_is_configured_is_told() {
        assert!(policy(&RoutePolicy::default()).is_empty());
        let mut limited = RoutePolicy::default();
        limited.timeouts.request = Some(Millis(500));
        assert_eq!(policy(&limited), ["the whole request may take 500 ms"]);
    }
}
