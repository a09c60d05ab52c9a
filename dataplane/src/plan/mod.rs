//! What the compiler prepares of a route so that a request only has to follow it.

use std::time::Duration;

use http::StatusCode;
use portcullis_routing::{
    Backend, ClusterKey, EntryKey, Filter, Millis, Route, RouteAction, WeightedCluster,
    filter::{Mirror, Redirect},
    policy::MAX_RETRIES,
};

use crate::{
    filter::{
        cors::PreparedCors, credential::PreparedCredential, headers::PreparedModifier,
        rewrite::PreparedRewrite,
    },
    reason::Reason,
    state::Credentials,
};

/// A route's prepared form: the payload of the compiled table. Filters stand apart by the phase that applies them; what is
/// large and rare is boxed, since there are thousands of these.
#[derive(Debug)]
pub struct PreparedRoute {
    /// Answers preflights, marks responses.
    pub cors: Option<Box<PreparedCors>>,
    /// Changes of the request that the whole rule asks for.
    pub request: RequestFilters,
    /// Changes of the response that the whole rule asks for.
    pub response: Box<[PreparedModifier]>,
    /// Backends that get a copy.
    pub mirrors: Box<[Mirror]>,
    /// What answers.
    pub action: PreparedAction,
    /// Deadline of the whole exchange.
    pub request_timeout: Option<Duration>,
    /// Deadline of each attempt.
    pub backend_timeout: Option<Duration>,
    /// Retries, if there are any.
    pub retry: Option<PreparedRetry>,
}

/// Changes of a request, in the order they apply.
#[derive(Debug, Default)]
pub struct RequestFilters {
    /// Header changes.
    pub headers: Box<[PreparedModifier]>,
    /// Host and path; applied before the headers, so that a header filter has the last word on `Host`.
    pub rewrite: Option<Box<PreparedRewrite>>,
    /// Secrets; applied when the copies for mirrors are made, which are not to have them.
    pub credentials: Box<[PreparedCredential]>,
}

/// What a route does.
#[derive(Debug)]
pub enum PreparedAction {
    /// Forward to a backend chosen by weight.
    Forward(Choice),
    /// Redirect.
    Redirect(Box<Redirect>),
    /// Answer with a status.
    Respond(StatusCode, Reason),
}

/// The backends of a route with their running sums, so that one random number chooses.
#[derive(Debug)]
pub struct Choice {
    total: u64,
    shares: Box<[Share]>,
}

#[derive(Debug)]
struct Share {
    /// Sum of the weights up to and including this one.
    upto: u64,
    backend: PreparedBackend,
}

/// One backendRef.
#[derive(Debug)]
pub struct PreparedBackend {
    /// Where it is.
    pub destination: PreparedDestination,
    /// Changes of the request for this backend only.
    pub request: RequestFilters,
    /// Changes of the response for this backend only.
    pub response: Box<[PreparedModifier]>,
}

/// Where a backend is.
#[derive(Debug)]
pub enum PreparedDestination {
    /// In a cluster.
    Cluster(ClusterKey),
    /// Outside, by an entry.
    External(Box<PreparedExternal>),
    /// Outside: the host that the request names.
    Requested,
    /// Nowhere: answers 500.
    Invalid,
}

/// A host of an entry.
#[derive(Debug)]
pub struct PreparedExternal {
    /// The entry.
    pub entry: EntryKey,
    /// The host, in normal form; `None` is the one that the request names.
    pub host: Option<Box<str>>,
    /// The port, as the entry names it.
    pub port: u16,
}

/// Retries of a route.
#[derive(Debug)]
pub struct PreparedRetry {
    /// Codes to retry, sorted.
    pub codes: Box<[u16]>,
    /// Repeats after the first attempt.
    pub attempts: u32,
    /// Pause before the first repeat.
    pub backoff: Duration,
}

impl PreparedRoute {
    /// Prepares `route`, with the credentials of its table, so that no request has to look for them; an error rejects this one route.
    pub fn prepare(credentials: &Credentials, route: &Route) -> Result<Self, String> {
        let rule = Filters::prepare(&route.filters, credentials)?;
        Ok(Self {
            cors: rule.cors,
            request: rule.request,
            response: rule.response.into(),
            mirrors: rule.mirrors.into(),
            action: PreparedAction::prepare(&route.action, credentials)?,
            request_timeout: route.policy.timeouts.request.map(Millis::duration),
            backend_timeout: route.policy.timeouts.backend_request.map(Millis::duration),
            retry: route
                .policy
                .retry
                .as_ref()
                .filter(|retry| retry.attempts > 0)
                .map(|retry| {
                    let mut codes = retry.codes.clone();
                    codes.sort_unstable();
                    PreparedRetry {
                        codes: codes.into(),
                        attempts: retry.attempts.min(MAX_RETRIES),
                        backoff: retry.backoff.duration(),
                    }
                }),
        })
    }
}

impl PreparedRoute {
    /// To whatever host a request names, without any filter.
    pub(crate) fn outward() -> Self {
        let requested = PreparedBackend {
            destination: PreparedDestination::Requested,
            request: RequestFilters::default(),
            response: Box::default(),
        };
        Self {
            cors: None,
            request: RequestFilters::default(),
            response: Box::default(),
            mirrors: Box::default(),
            action: PreparedAction::Forward(Choice::only(requested)),
            request_timeout: None,
            backend_timeout: None,
            retry: None,
        }
    }
}

impl PreparedDestination {
    fn prepare(backend: &Backend) -> Self {
        match backend {
            Backend::Cluster(key) => Self::Cluster(key.clone()),
            Backend::External { entry, host, port } => Self::External(Box::new(PreparedExternal {
                entry: entry.clone(),
                host: host.as_deref().map(Into::into),
                port: *port,
            })),
            Backend::Invalid { .. } => Self::Invalid,
        }
    }
}

impl PreparedAction {
    fn prepare(action: &RouteAction, credentials: &Credentials) -> Result<Self, String> {
        Ok(match action {
            RouteAction::Forward(clusters) => {
                Self::Forward(Choice::prepare(clusters, credentials)?)
            }
            RouteAction::Redirect(redirect) => Self::Redirect(Box::new(redirect.clone())),
            RouteAction::Respond { status, reason } => {
                let status = StatusCode::from_u16(*status)
                    .map_err(|_| format!("{status} is not a status code"))?;
                let reason = Reason::ALL
                    .iter()
                    .copied()
                    .find(|known| known.code() == reason);
                Self::Respond(status, reason.unwrap_or(Reason::InvalidRule))
            }
        })
    }
}

impl Choice {
    fn prepare(clusters: &[WeightedCluster], credentials: &Credentials) -> Result<Self, String> {
        let mut total = 0;
        let mut shares = Vec::with_capacity(clusters.len());
        for cluster in clusters.iter().filter(|cluster| cluster.weight > 0) {
            total += u64::from(cluster.weight);
            let filters = Filters::prepare(&cluster.filters, credentials)?;
            let backend = PreparedBackend {
                destination: PreparedDestination::prepare(&cluster.backend),
                request: filters.request,
                response: filters.response.into(),
            };
            shares.push(Share {
                upto: total,
                backend,
            });
        }
        Ok(Self {
            total,
            shares: shares.into(),
        })
    }

    fn only(backend: PreparedBackend) -> Self {
        let share = Share { upto: 1, backend };
        Self {
            total: 1,
            shares: Box::new([share]),
        }
    }

    /// Those that get requests, in the order of the route.
    pub fn backends(&self) -> impl Iterator<Item = &PreparedBackend> {
        self.shares.iter().map(|share| &share.backend)
    }

    /// One of the backends, by weight; `None` if there is none with a weight.
    pub fn pick(&self) -> Option<&PreparedBackend> {
        match &*self.shares {
            [] => None,
            [only] => Some(&only.backend),
            shares => {
                let draw = fastrand::u64(0..self.total);
                shares
                    .iter()
                    .find(|share| draw < share.upto)
                    .map(|share| &share.backend)
            }
        }
    }
}

/// The filters of one list, by phase.
#[derive(Default)]
struct Filters {
    cors: Option<Box<PreparedCors>>,
    request: RequestFilters,
    response: Vec<PreparedModifier>,
    mirrors: Vec<Mirror>,
}

impl Filters {
    fn prepare(filters: &[Filter], credentials: &Credentials) -> Result<Self, String> {
        let mut prepared = Self::default();
        let (mut request_headers, mut added) = (Vec::new(), Vec::new());
        for filter in filters {
            match filter {
                Filter::RequestHeaders(modifier) => {
                    request_headers.push(PreparedModifier::prepare(modifier)?);
                }
                Filter::ResponseHeaders(modifier) => {
                    prepared.response.push(PreparedModifier::prepare(modifier)?);
                }
                Filter::UrlRewrite(rewrite) => {
                    prepared.request.rewrite = Some(Box::new(PreparedRewrite::prepare(rewrite)?));
                }
                Filter::Mirror(mirror) => prepared.mirrors.push(mirror.clone()),
                Filter::Cors(cors) => prepared.cors = Some(Box::new(PreparedCors::prepare(cors)?)),
                Filter::Credential(key) => {
                    added.push(credentials.get(key)?);
                }
            }
        }
        prepared.request.headers = request_headers.into();
        prepared.request.credentials = added.into();
        Ok(prepared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str, weight: u32) -> WeightedCluster {
        let backend = Backend::Cluster(ClusterKey::service("ns", name, 80));
        WeightedCluster {
            weight,
            backend,
            filters: vec![],
        }
    }

    fn prepare(clusters: &[WeightedCluster]) -> Choice {
        Choice::prepare(clusters, &Credentials::default()).unwrap()
    }

    fn share(choice: &Choice, name: &str, draws: u32) -> f64 {
        let wanted = ClusterKey::service("ns", name, 80);
        let hits = (0..draws)
            .filter(|_| {
                let destination = choice.pick().map(|backend| &backend.destination);
                matches!(destination, Some(PreparedDestination::Cluster(key)) if *key == wanted)
            })
            .count();
        f64::from(u32::try_from(hits).unwrap()) / f64::from(draws)
    }

    #[test]
    fn what_is_rare_takes_no_room() {
        let size = size_of::<PreparedRoute>();
        assert!(size <= 192, "{size} B for each route");
    }

    #[test]
    fn weights_are_shares_and_zero_gets_nothing() {
        fastrand::seed(7);
        let choice = prepare(&[cluster("a", 90), cluster("b", 10), cluster("c", 0)]);
        assert!((share(&choice, "a", 20_000) - 0.9).abs() < 0.02);
        assert!(share(&choice, "c", 20_000) == 0.0);
        assert!(prepare(&[cluster("c", 0)]).pick().is_none());
    }
}
