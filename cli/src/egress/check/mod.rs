//! `portcullis egress check`: may this caller reach that? Asked of the table that the objects become, by the code that proxies ask.

mod addresses;
mod course;
mod faults;
mod judged;
mod opening;
mod origin;
mod remedy;
mod steps;

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use http::{HeaderMap, Method, header};
use portcullis_controller::Resources;
use portcullis_dataplane::{
    exchange::{Wanted, path},
    plan::PreparedRoute,
    state::Credentials,
};
use portcullis_routing::{
    GatewayKey, Rejection, ResourceKind, RoutingTable, compile,
    egress::{
        Caller, CompiledEgress, Seen, Verdict,
        host::{Authority, Host},
    },
};
use serde::Serialize;

use self::{addresses::Told, course::Entrances, judged::Judged, origin::Origin};
use crate::{
    FINDINGS,
    args::{AskedForm, CheckDestinationArgs},
    output,
};

/// How a destination is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// A request that the proxy reads.
    Request { path: String, query: Option<String> },
    /// CONNECT.
    Tunnel,
    /// TLS that passes through.
    Tls,
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    host: Host,
    /// As proxies look for it: an IPv6 address has its brackets.
    name: String,
    port: u16,
    forms: Vec<Form>,
}

/// A caller.
#[derive(Debug, Default)]
struct Who {
    namespace: String,
    account: String,
    labels: Option<BTreeMap<String, String>>,
}

/// The answer, for people and programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    gateway: GatewayKey,
    /// `namespace/account`; absent if nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<String>,
    answers: Vec<Judged>,
    /// Why proxies may answer otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Everything that bears on the answers.
struct Case<'a> {
    asked: &'a Asked,
    method: &'a Method,
    headers: &'a HeaderMap,
    who: Option<&'a Who>,
    told: Told<'a>,
    egress: &'a CompiledEgress,
    table: &'a RoutingTable,
    /// All that there is, be it of use to the Gateway or not.
    resources: &'a Resources,
}

/// Says whether a caller may reach a destination.
pub(super) fn check(args: &CheckDestinationArgs) -> anyhow::Result<ExitCode> {
    let asked = Asked::parse(&args.destination, args.form)?;
    let headers = headers(args)?;
    let origin = Origin::read(args)?;
    let table = origin.table(args)?;
    let who = who(args, table)?;
    // As proxies have it.
    let credentials = Credentials::prepare(&Credentials::default(), table);
    let (compiled, rejections) = compile(None, Arc::new(table.clone()), |_, route| {
        PreparedRoute::prepare(&credentials, route)
    });
    let case = Case {
        asked: &asked,
        method: &args.method,
        headers: &headers,
        who: who.as_ref(),
        told: Told::new(&args.resolve, origin.listening(args)),
        egress: compiled.egress().context("the Gateway is none of egress")?,
        table,
        resources: origin.resources(),
    };
    let (mut answers, mut notes) = (Vec::new(), Vec::new());
    for form in &asked.forms {
        match Entrances::of(form, &asked, &compiled) {
            Some(entrances) => case.judge(form, &entrances, &mut answers, &mut notes)?,
            None => notes.push(form.not_offered(asked.port, &table.gateway)),
        }
    }
    notes.extend(case.begun_by_gateway());
    case.told.ensure_meant(&asked.host, asked.port)?;
    notes.extend(rejections.iter().filter_map(rejected));
    notes.extend(origin.faults(&asked.host));
    notes.extend(origin.doubts());
    if answers.is_empty() {
        bail!("{}", notes.join("; "));
    }
    let answer = Answer {
        gateway: table.gateway.clone(),
        answers,
        caller: who.map(|who| format!("{}/{}", who.namespace, who.account)),
        notes,
    };
    output::print(args.output.output, &answer, text)?;
    let mut verdicts = answer.answers.iter().map(|answer| answer.verdict);
    Ok(if verdicts.any(|verdict| verdict == Verdict::Refuse) {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    })
}

impl Case<'_> {
    /// The answers for a form, by each listener that takes it.
    fn judge(
        &self,
        form: &Form,
        entrances: &Entrances<'_>,
        answers: &mut Vec<Judged>,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        if entrances.listeners.is_empty() {
            answers.push(Judged::without_listener(form, self));
            return Ok(());
        }
        let name = &self.asked.name;
        let closed = entrances.closed.iter();
        notes.extend(closed.map(|port| {
            format!("port {port} refuses it (no_route): none of its listeners is for {name}")
        }));
        for entrance in &entrances.listeners {
            for course in entrance.courses(form, self)? {
                Judged::of(course, form, *entrance, self)?.join(answers);
            }
        }
        Ok(())
    }

    /// Of an answer about what the gateway does not read: entries by which it reads requests to the host, and begins TLS itself.
    fn begun_by_gateway(&self) -> Vec<String> {
        let is_request = |form: &Form| matches!(form, Form::Request { .. });
        if self.asked.forms.iter().any(is_request) {
            return Vec::new();
        }
        let name = &self.asked.name;
        let wanted = self.asked.wanted();
        let destination = wanted.asked(None, Seen::Tunnel).destination;
        let listing = self.table.entries.iter();
        let listing = listing.filter(|(key, _)| self.egress.lists(key, destination));
        let ports = listing.flat_map(|(key, entry)| {
            let ports = entry.ports.iter().filter(|port| port.tls.is_some());
            ports.map(move |port| {
                format!(
                    "{key} has the gateway itself begin TLS for requests to port {}, which is another form: ask with --form request for \
                     http://{name}:{}/",
                    port.number, port.number
                )
            })
        });
        ports.collect()
    }

    fn caller(&self) -> Option<Caller<'_>> {
        self.who.map(|who| Caller {
            namespace: &who.namespace,
            service_account: &who.account,
            labels: who.labels.as_ref(),
        })
    }
}

impl Form {
    /// Why it has no answer, if the Gateway has no listener that takes it.
    fn not_offered(&self, port: u16, gateway: &GatewayKey) -> String {
        match self {
            Self::Tls => format!(
                "TLS that passes through does not come by Gateway {gateway}: it has no listener of protocol TLS with port {port}"
            ),
            Self::Request { .. } | Self::Tunnel => format!(
                "requests and tunnels do not come by Gateway {gateway}: it has no listener of protocol HTTP or HTTPS"
            ),
        }
    }

    /// For programs.
    fn name(&self) -> &'static str {
        match self {
            Self::Request { .. } => "request",
            Self::Tunnel => "tunnel",
            Self::Tls => "tls",
        }
    }

    /// What proxies see of it, once filters of a route have changed the path. `encrypted`: it comes over TLS with the proxy.
    fn seen<'a>(&self, method: &'a str, path: &'a str, encrypted: bool) -> Seen<'a> {
        match self {
            Self::Request { .. } => Seen::Request {
                method,
                path,
                encrypted,
            },
            Self::Tunnel => Seen::Tunnel,
            Self::Tls => Seen::Tls,
        }
    }
}

impl Asked {
    fn parse(text: &str, form: Option<AskedForm>) -> anyhow::Result<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let authority = Authority::parse(authority).with_context(|| {
            format!("'{text}' names no host that a proxy would take (bad_destination)")
        })?;
        let scheme = scheme.map(str::to_ascii_lowercase);
        let (port, forms) = match scheme.as_deref() {
            Some("http") => (Some(80), vec![request_of(target)?]),
            Some("https") => (Some(443), vec![Form::Tunnel, Form::Tls]),
            None if target.is_empty() => (None, vec![Form::Tunnel]),
            _ => bail!("'{text}' is none of http://HOST/PATH, https://HOST and HOST:PORT"),
        };
        let forms = match form {
            None => forms,
            Some(AskedForm::Request) => vec![request_of(target)?],
            Some(AskedForm::Tunnel) => vec![Form::Tunnel],
            Some(AskedForm::Tls) => vec![Form::Tls],
        };
        let port = authority.port.or(port);
        let name = match &authority.host {
            Host::Name(name) => name.to_string(),
            Host::Address(address @ IpAddr::V6(_)) => format!("[{address}]"),
            Host::Address(address) => address.to_string(),
        };
        Ok(Self {
            name,
            host: authority.host,
            port: port
                .with_context(|| format!("'{text}' has no port: write HOST:PORT, or a URL"))?,
            forms,
        })
    }

    /// The same, as proxies ask about it.
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            name: &self.name,
            address: match self.host {
                Host::Name(_) => None,
                Host::Address(address) => Some(address),
            },
            port: self.port,
        }
    }
}

/// A request for this target, whose path is as proxies compare it.
fn request_of(target: &str) -> anyhow::Result<Form> {
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    let Ok(path) = path::normalize(path.as_bytes()) else {
        bail!("the path '{path}' can be read in several ways: proxies refuse it (bad_path)");
    };
    Ok(Form::Request {
        path: path.into_owned(),
        query,
    })
}

fn headers(args: &CheckDestinationArgs) -> anyhow::Result<HeaderMap> {
    let headers: HeaderMap = args.headers.iter().cloned().collect();
    if headers.contains_key(header::HOST) {
        bail!("the destination names the host: leave the header Host out");
    }
    Ok(headers)
}

/// What proxies do not take of the table. Certificates are for connections, and are not asked for here.
fn rejected(rejection: &Rejection) -> Option<String> {
    (rejection.kind != ResourceKind::Certificate)
        .then(|| format!("proxies do not take this as it is: {rejection}"))
}

fn who(args: &CheckDestinationArgs, table: &RoutingTable) -> anyhow::Result<Option<Who>> {
    if let Some((namespace, pod)) = &args.pod {
        let mut workloads = table.workloads.values();
        let workload = workloads.find(|it| it.namespace == *namespace && it.pod == *pod);
        let workload = workload.with_context(|| {
            format!(
                "no proxy knows Pod {namespace}/{pod} by its address: it is not there, does not run, or is on the network of its node"
            )
        })?;
        return Ok(Some(Who {
            namespace: workload.namespace.clone(),
            account: workload.service_account.clone(),
            labels: Some(workload.labels.clone()),
        }));
    }
    Ok(args.from.as_ref().map(|(namespace, account)| Who {
        namespace: namespace.clone(),
        account: account.as_deref().unwrap_or("default").to_owned(),
        labels: args.labels.clone(),
    }))
}

fn text(answer: &Answer) -> String {
    let caller = answer.caller.as_deref();
    let caller = caller.unwrap_or("somebody who is not known (--from or --pod names a caller)");
    let mut text = format!("Gateway  {}\nCaller   {caller}\n", answer.gateway);
    for judged in &answer.answers {
        text += "\n";
        judged.write(&mut text);
    }
    if !answer.notes.is_empty() {
        text += "\n";
    }
    for note in &answer.notes {
        writeln!(text, "note: {note}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Asked {
        Asked::parse(text, None).unwrap()
    }

    #[test]
    fn what_is_asked_follows_from_the_form() {
        let request = asked("http://A.Example:8080/a/../b?c");
        assert_eq!(
            (request.host.to_string().as_str(), request.port),
            ("a.example", 8080)
        );
        let form = |path: &str, query: Option<&str>| Form::Request {
            path: path.into(),
            query: query.map(Into::into),
        };
        assert_eq!(request.forms, [form("/b", Some("c"))]);
        assert_eq!(asked("HTTP://a.example").forms, [form("/", None)]);
        assert_eq!(asked("http://a.example#d").forms, [form("/", None)]);
        let root = asked("http://a.example?x#y");
        assert_eq!((root.port, root.forms), (80, vec![form("/", Some("x"))]));
        let https = asked("https://a.example/x");
        assert_eq!(
            (https.port, https.forms),
            (443, vec![Form::Tunnel, Form::Tls])
        );
        let tunnel = asked("[2001:db8::1]:5432");
        assert_eq!((tunnel.port, tunnel.forms), (5432, vec![Form::Tunnel]));
        assert_eq!(tunnel.name, "[2001:db8::1]");
        let request = Asked::parse("https://a.example/x", Some(AskedForm::Request)).unwrap();
        assert_eq!((request.port, request.forms), (443, vec![form("/x", None)]));
        let tls = Asked::parse("a.example:8443", Some(AskedForm::Tls)).unwrap();
        assert_eq!(tls.forms, [Form::Tls]);
    }

    #[test]
    fn what_no_proxy_takes_is_told() {
        for (text, expected) in [
            ("a.example", "has no port"),
            ("ftp://a.example", "none of http://"),
            ("a.example:80/x", "none of http://"),
            ("http://0x7f.1/", "bad_destination"),
            ("http://a@b.example/", "bad_destination"),
            ("http:///x", "bad_destination"),
            ("http://a.example/%00", "bad_path"),
        ] {
            let error = format!("{:#}", Asked::parse(text, None).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
