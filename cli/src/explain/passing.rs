//! TLS that passes through: which route takes the connection, by the name in its greeting. The request in it is not read.

use http::{HeaderMap, Method};
use portcullis_routing::{
    Backend, CompiledTable, RequestHead, RoutingTable, WeightedCluster, explain as judge,
};

use super::{Answer, Asked, in_words, unanswered, winner};
use crate::{request::Request, words};

/// What comes of a connection for the request to a port where TLS passes through.
pub(super) fn answer<P>(
    asked: Asked,
    request: &Request,
    compiled: &CompiledTable<P>,
    table: &RoutingTable,
) -> Answer {
    let Some(name) = request.sni.as_deref() else {
        let outcome = "no connection: the greeting names no host, for clients name none for an IP address; \
                       `--sni` says what a client names";
        return unanswered(asked, outcome, None);
    };
    let head = RequestHead {
        host: name,
        path: "",
        query: None,
        method: &Method::CONNECT,
        headers: &HeaderMap::new(),
    };
    let explanation = judge(compiled, request.port, &head);
    if explanation.listener().is_none() {
        let outcome = "no connection: no listener of this port serves this host";
        return unanswered(asked, outcome, Some(explanation));
    }
    let won = explanation
        .winner()
        .and_then(|won| Some((won, table.routes.get(&won.route)?)));
    let Some((won, route)) = won else {
        let outcome = "no connection: no TLSRoute takes connections for this host";
        let candidates = explanation.candidates.iter();
        let candidates = candidates.map(|candidate| in_words(candidate, table));
        return Answer {
            candidates: candidates.collect(),
            ..unanswered(asked, outcome, Some(explanation.clone()))
        };
    };
    let backends = route.backends();
    let picked = backends.iter().filter(|backend| backend.weight > 0);
    let failures: Vec<_> = picked
        .map(|it| lack(it, table).map(|(_, why)| why))
        .collect();
    let outcome = match failures.first() {
        None => "no connection: no backend has a weight above 0".to_owned(),
        Some(Some(first)) if failures.iter().all(|it| it.as_ref() == Some(first)) => {
            format!("no connection: {first}")
        }
        Some(_) => format!(
            "passed through, {}; nothing of what is in it is read",
            words::action(&route.action)
        ),
    };
    let candidates = explanation.candidates.iter();
    Answer {
        is_error: failures.is_empty() || failures.iter().any(Option::is_some),
        route: Some(winner(won, route, table)),
        candidates: candidates.map(|it| in_words(it, table)).collect(),
        ..unanswered(asked, &outcome, Some(explanation.clone()))
    }
}

/// What a backend lacks, and the status that a request gets for it.
pub(super) fn lack(backend: &WeightedCluster, table: &RoutingTable) -> Option<(u16, String)> {
    match &backend.backend {
        Backend::Invalid { reason } => Some((500, format!("the backendRef is invalid ({reason})"))),
        // Where its host is, is asked when a request comes.
        Backend::External { .. } => None,
        Backend::Cluster(key) => {
            let known = table.endpoints.get(key);
            let is_empty = known.is_none_or(|known| known.endpoints.is_empty());
            is_empty.then(|| (503, format!("{} has no endpoints", words::cluster(key))))
        }
    }
}
