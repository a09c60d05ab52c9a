//! `portcullis egress check`: may this caller reach that? Asked of the table that the objects become, by the code that proxies ask.

mod addresses;
mod judged;
mod origin;

use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use portcullis_dataplane::exchange::path;
use portcullis_routing::{
    CompiledTable, GatewayKey, ListenerProtocol, RoutingTable, compile,
    egress::{
        self, Destination, Question, Seen, Verdict,
        host::{Authority, Host},
    },
};
use serde::Serialize;

use self::{judged::Judged, origin::Origin};
use crate::{FINDINGS, args::CheckDestinationArgs, output};

/// How a destination is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// A request in clear text for this path.
    Request(String),
    /// CONNECT.
    Tunnel,
    /// TLS that passes through.
    Tls,
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    host: Host,
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

/// Says whether a caller may reach a destination.
pub(super) fn check(args: &CheckDestinationArgs) -> anyhow::Result<ExitCode> {
    let asked = Asked::parse(&args.destination)?;
    let told = addresses::told(&args.resolve, &asked.host, asked.port)?;
    let origin = Origin::read(args)?;
    let table = origin.table(args)?;
    let who = who(args, table)?;
    let compiled = compiled(table);
    let egress = compiled.egress().context("the Gateway is none of egress")?;
    let offered = asked
        .forms
        .iter()
        .filter(|form| form.is_offered(asked.port, table));
    let answers = offered.map(|form| {
        let question = question(&asked, form, args.method.as_str(), who.as_ref());
        Judged::of(&question, egress, table, told.as_deref())
    });
    let answer = Answer {
        gateway: table.gateway.clone(),
        answers: answers.collect::<anyhow::Result<_>>()?,
        caller: who.map(|who| format!("{}/{}", who.namespace, who.account)),
        notes: asked.not_offered(table).chain(origin.doubts()).collect(),
    };
    if answer.answers.is_empty() {
        bail!("{}", answer.notes.join("; "));
    }
    output::print(args.output.output, &answer, text)?;
    let mut verdicts = answer.answers.iter().map(|answer| answer.verdict);
    Ok(if verdicts.any(|verdict| verdict == Verdict::Refuse) {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    })
}

impl Form {
    /// Whether the Gateway has a listener that takes it.
    fn is_offered(&self, port: u16, table: &RoutingTable) -> bool {
        let mut listeners = table.listeners.values();
        listeners.any(|listener| match (self, listener.protocol) {
            (Self::Tls, protocol) => protocol == ListenerProtocol::Tls && listener.port == port,
            (Self::Request(_) | Self::Tunnel, protocol) => protocol != ListenerProtocol::Tls,
        })
    }
}

impl Asked {
    /// Why some forms have no answer.
    fn not_offered(&self, table: &RoutingTable) -> impl Iterator<Item = String> {
        let missing = self.forms.iter();
        let missing = missing.filter(|form| !form.is_offered(self.port, table));
        let gateway = &table.gateway;
        missing.map(move |form| match form {
            Form::Tls => format!(
                "TLS that passes through does not come by Gateway {gateway}: it has no listener of protocol TLS with port {}",
                self.port
            ),
            Form::Request(_) | Form::Tunnel => format!(
                "requests and tunnels do not come by Gateway {gateway}: it has no listener of protocol HTTP or HTTPS"
            ),
        })
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let authority = Authority::parse(authority).with_context(|| {
            format!("'{text}' names no host that a proxy would take (bad_destination)")
        })?;
        let (port, forms) = match scheme {
            Some("http") => (Some(80), vec![Form::Request(path_of(target)?)]),
            Some("https") => (Some(443), vec![Form::Tunnel, Form::Tls]),
            None if target.is_empty() => (None, vec![Form::Tunnel]),
            _ => bail!("'{text}' is none of http://HOST/PATH, https://HOST and HOST:PORT"),
        };
        let port = authority.port.or(port);
        Ok(Self {
            host: authority.host,
            port: port
                .with_context(|| format!("'{text}' has no port: write HOST:PORT, or a URL"))?,
            forms,
        })
    }

    fn destination(&self) -> Destination<'_> {
        match &self.host {
            Host::Name(name) => Destination::Name(name),
            Host::Address(address) => Destination::Address(*address),
        }
    }
}

/// The path as proxies compare it.
fn path_of(target: &str) -> anyhow::Result<String> {
    let end = target.find(['?', '#']).unwrap_or(target.len());
    let path = match target.split_at(end).0 {
        "" => "/",
        path => path,
    };
    let Ok(path) = path::normalize(path.as_bytes()) else {
        bail!("the path '{path}' can be read in several ways: proxies refuse it (bad_path)");
    };
    Ok(path.into_owned())
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
        labels: None,
    }))
}

/// As proxies have it.
fn compiled(table: &RoutingTable) -> CompiledTable<()> {
    compile(None, Arc::new(table.clone()), |_, _| Ok(())).0
}

fn question<'a>(
    asked: &'a Asked,
    form: &'a Form,
    method: &'a str,
    who: Option<&'a Who>,
) -> Question<'a> {
    Question {
        destination: asked.destination(),
        port: asked.port,
        caller: who.map(|who| egress::Caller {
            namespace: &who.namespace,
            service_account: &who.account,
            labels: who.labels.as_ref(),
        }),
        seen: match form {
            Form::Request(path) => Seen::Request {
                method,
                path,
                encrypted: false,
            },
            Form::Tunnel => Seen::Tunnel,
            Form::Tls => Seen::Tls,
        },
    }
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
        Asked::parse(text).unwrap()
    }

    #[test]
    fn what_is_asked_follows_from_the_form() {
        let request = asked("http://A.Example:8080/a/../b?c");
        assert_eq!(
            (request.host.to_string().as_str(), request.port),
            ("a.example", 8080)
        );
        assert_eq!(request.forms, [Form::Request("/b".into())]);
        assert_eq!(asked("http://a.example").forms, [Form::Request("/".into())]);
        assert_eq!(asked("http://a.example?x").port, 80);
        let https = asked("https://a.example/x");
        assert_eq!(
            (https.port, https.forms),
            (443, vec![Form::Tunnel, Form::Tls])
        );
        let tunnel = asked("[2001:db8::1]:5432");
        assert_eq!((tunnel.port, tunnel.forms), (5432, vec![Form::Tunnel]));
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
            let error = format!("{:#}", Asked::parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
