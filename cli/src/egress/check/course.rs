//! The ways that proxies take with what somebody asks for: by a listener, and by a route if one takes it, up to what is decided on.

use http::request;
use portcullis_dataplane::{
    exchange::{Wanted, filter_request},
    plan::{PreparedAction, PreparedBackend, PreparedDestination, PreparedRoute},
    reason::Reason,
};
use portcullis_routing::{
    CompiledListener, CompiledTable, Direction, EntryKey, Found, ListenerKey, ListenerProtocol,
    RequestHead, Route, RouteAction, egress::host::Host,
};
use serde::Serialize;

use super::{Asked, Case, Form};
use crate::words;

/// The listeners that take a form of traffic to a host.
pub(super) struct Entrances<'t> {
    pub(super) listeners: Vec<Entrance<'t>>,
    /// Ports of the protocol, none of whose listeners is for the host.
    pub(super) closed: Vec<u16>,
}

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct Entrance<'t> {
    listener: &'t CompiledListener<PreparedRoute>,
    /// Whether callers speak TLS with it.
    pub(super) encrypted: bool,
}

/// One way.
pub(super) struct Course<'t> {
    /// The route that takes it.
    pub(super) via: Option<Via>,
    pub(super) leads: Leads<'t>,
    /// The path that is asked about.
    pub(super) path: String,
}

/// Where a way leads.
pub(super) enum Leads<'t> {
    /// To a host outside.
    Outside {
        host: Wanted<'t>,
        /// By this entry and no other.
        through: Option<&'t EntryKey>,
    },
    /// To a backend of the cluster.
    Inside,
    /// The proxy answers itself.
    Nowhere(Ended),
}

/// An answer that the proxy gives itself.
pub(super) struct Ended {
    pub(super) reason: &'static str,
    pub(super) why: String,
}

/// The rule of a route that takes a request, and what it does with it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Via {
    rule: String,
    /// The backend; absent where the rule has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// The path, if filters have changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl<'t> Entrances<'t> {
    /// `None` if there is no listener of the protocol at all.
    pub(super) fn of(
        form: &Form,
        asked: &Asked,
        table: &'t CompiledTable<PreparedRoute>,
    ) -> Option<Self> {
        let takes = |protocol| match form {
            Form::Request { .. } | Form::Tunnel => protocol != ListenerProtocol::Tls,
            Form::Tls => protocol == ListenerProtocol::Tls,
        };
        let ports = table.ports().filter(|port| {
            let is_meant = *form != Form::Tls || port.port() == asked.port;
            is_meant && port.direction() == Direction::Egress && takes(port.protocol())
        });
        let (mut listeners, mut closed, mut is_offered) = (Vec::new(), Vec::new(), false);
        for port in ports {
            is_offered = true;
            let encrypted = port.protocol() == ListenerProtocol::Https;
            let known = listeners.len();
            // Over TLS the caller chooses by the name in its greeting, which may be the proxy's.
            let any = port.listeners().filter(|_| encrypted);
            let by_host = port.listener_for(&asked.name).filter(|_| !encrypted);
            listeners.extend(any.chain(by_host).map(|listener| Entrance {
                listener,
                encrypted,
            }));
            if listeners.len() == known {
                closed.push(port.port());
            }
        }
        is_offered.then_some(Self { listeners, closed })
    }
}

impl<'t> Entrance<'t> {
    pub(super) fn key(&self) -> &'t ListenerKey {
        self.listener.key()
    }

    /// What proxies do with what comes by it, each with its share if a route has several backends.
    pub(super) fn courses(
        &self,
        form: &Form,
        case: &'t Case<'_>,
    ) -> anyhow::Result<Vec<Course<'t>>> {
        match form {
            Form::Request { path, query } => self.of_request(path, query.as_deref(), case),
            // Who wants an address has no name to greet (RFC 6066 3).
            Form::Tls if matches!(case.asked.host, Host::Address(_)) => {
                let ended = Ended {
                    why: "TLS names no host where an address is asked for".to_owned(),
                    ..Reason::BadDestination.into()
                };
                Ok(vec![Course::nowhere(ended)])
            }
            Form::Tunnel | Form::Tls => Ok(vec![Course::straight(case.asked, String::new())]),
        }
    }

    fn of_request(
        &self,
        path: &str,
        query: Option<&str>,
        case: &'t Case<'_>,
    ) -> anyhow::Result<Vec<Course<'t>>> {
        let head = RequestHead {
            host: &case.asked.name,
            path,
            query,
            method: case.method,
            headers: case.headers,
        };
        let caller = case.who.map(|who| who.namespace.as_str());
        let Some(found) = self.listener.lookup_of(caller, &head) else {
            return Ok(vec![Course::straight(case.asked, path.to_owned())]);
        };
        let (route, plan) = (found.route.route(), found.route.payload());
        let preflight = plan.cors.as_ref();
        if preflight.is_some_and(|cors| cors.check(case.method, case.headers).preflight) {
            let why = "the route answers preflights itself".to_owned();
            return Ok(vec![Course::answered(route, "preflight", why)]);
        }
        match (&plan.action, &route.action) {
            (PreparedAction::Forward(choice), RouteAction::Forward(all)) => {
                let taking = all.iter().filter(|backend| backend.weight > 0);
                let backends = taking
                    .map(|it| words::share(it, all))
                    .zip(choice.backends());
                let courses =
                    backends.map(|backend| to_backend(&found, &head, backend, case.asked));
                let courses: Vec<_> = courses.collect::<anyhow::Result<_>>()?;
                Ok(if courses.is_empty() {
                    vec![Course::nowhere(Reason::InvalidBackend.into()).by(Via::of(route))]
                } else {
                    courses
                })
            }
            (PreparedAction::Respond(_, reason), _) => {
                Ok(vec![Course::nowhere((*reason).into()).by(Via::of(route))])
            }
            (_, action) => {
                let why = format!("the route answers itself: {}", words::action(action));
                Ok(vec![Course::answered(route, "redirect", why)])
            }
        }
    }
}

/// What becomes of a request whose route leads to this backend, which is given in words too.
fn to_backend<'t>(
    found: &Found<'t, PreparedRoute>,
    request: &RequestHead<'_>,
    (words, backend): (String, &'t PreparedBackend),
    asked: &'t Asked,
) -> anyhow::Result<Course<'t>> {
    let route = found.route.route();
    let via = Via {
        to: Some(words),
        ..Via::of(route)
    };
    let external = match &backend.destination {
        PreparedDestination::External(external) => Some(&**external),
        PreparedDestination::Requested => None,
        // Policies are asked about what the caller names, whatever filters make of it.
        PreparedDestination::Cluster(_) => {
            let path = request.path.to_owned();
            let leads = Leads::Inside;
            let via = Some(via);
            return Ok(Course { via, leads, path });
        }
        PreparedDestination::Invalid => {
            return Ok(Course::nowhere(Reason::InvalidBackend.into()).by(via));
        }
    };
    let mut head = head_of(request)?;
    let matched = route.matches.get(found.match_index);
    let filtered = matched.map_or(Err(Reason::NoRoute), |matched| {
        filter_request(&mut head, &matched.path, found.route.payload(), backend)
    });
    if let Err(reason) = filtered {
        return Ok(Course::nowhere(reason.into()).by(via));
    }
    let path = head.uri.path().to_owned();
    let host = asked.wanted();
    Ok(Course {
        via: Some(Via {
            path: (path != request.path).then(|| path.clone()),
            ..via
        }),
        leads: Leads::Outside {
            host: external.map_or(host, |external| host.through(external)),
            through: external.map(|external| &external.entry),
        },
        path,
    })
}

/// The request as filters get it.
fn head_of(request: &RequestHead<'_>) -> anyhow::Result<request::Parts> {
    let target = match request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.to_owned(),
    };
    let head = http::Request::builder().method(request.method).uri(target);
    let (mut head, ()) = head.body(())?.into_parts();
    head.headers = request.headers.clone();
    Ok(head)
}

impl<'t> Course<'t> {
    /// To the host that is asked for.
    fn straight(asked: &'t Asked, path: String) -> Self {
        let (host, through) = (asked.wanted(), None);
        Self {
            via: None,
            leads: Leads::Outside { host, through },
            path,
        }
    }

    pub(super) fn nowhere(ended: Ended) -> Self {
        Self {
            via: None,
            leads: Leads::Nowhere(ended),
            path: String::new(),
        }
    }

    /// The route has another answer than that of a host.
    fn answered(route: &Route, reason: &'static str, why: String) -> Self {
        Self::nowhere(Ended { reason, why }).by(Via::of(route))
    }

    fn by(self, via: Via) -> Self {
        let via = Some(via);
        Self { via, ..self }
    }
}

impl From<Reason> for Ended {
    fn from(reason: Reason) -> Self {
        Self {
            reason: reason.code(),
            why: reason.text().to_owned(),
        }
    }
}

impl Via {
    fn of(route: &Route) -> Self {
        Self {
            rule: words::source(route),
            to: None,
            path: None,
        }
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let Self { rule, to, path } = self;
        let to = to.iter().map(|to| format!(", {to}"));
        let path = path.iter().map(|path| format!(", path {path}"));
        to.chain(path).fold(rule.clone(), |text, more| text + &more)
    }
}
