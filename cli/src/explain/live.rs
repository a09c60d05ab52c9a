//! The objects of a cluster, read once and translated as the controller does it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, anyhow, bail};
use http::HeaderMap;
use kube::api::DynamicObject;
use portcullis_controller::{
    Finding, ObjectKey, ObjectRef, Options, Resources, Severity, Translation,
    manifests::{LoadProblem, Loaded},
    status::{Observed, condition::kind},
    translate,
    translate::EGRESS_CLASS,
};
use portcullis_routing::{Explanation, GatewayKey, RoutingTable};
use serde::Serialize;

use super::{
    Answer, Asked, around::Around, entrance, of_egress, progress::Proxies, reader::Reader,
    routes::Routes, unread::Unread,
};
use crate::{
    args::ExplainArgs,
    cluster::{Cluster, Controller, Kind, Refusal},
    output::count,
    report::Issue,
    request::Request,
    status::condition_of,
    words,
};

/// More notes are for programs.
const NOTES_SHOWN: usize = 10;

/// The objects of a Gateway, and what they become.
pub(crate) struct Live {
    pub(super) resources: Resources,
    pub(super) translation: Translation,
    pub(super) gateway: ObjectKey,
    /// The Gateway as it is in the cluster, with its status.
    pub(super) found: DynamicObject,
    /// Objects that this release cannot read, and what is taken for what may not be read.
    unreadable: Vec<String>,
    /// Routes that have changed since a controller looked at them.
    pub(super) outdated_routes: BTreeSet<ObjectRef>,
    /// As they are in the cluster, with their statuses.
    pub(super) listener_sets: BTreeMap<ObjectKey, DynamicObject>,
    pub(super) controller: Controller,
    /// What the caller may not read.
    pub(super) unread: Unread,
}

/// What an answer was made of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Origin {
    /// Namespace and name.
    gateway: String,
    /// Status of the Gateway's condition of this name: whether proxies have acknowledged the table.
    programmed: String,
    /// Why the proxies may serve something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<String>,
    /// Why not every client reaches proxies that have the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    hindered: Option<String>,
    /// What proxies have of listeners that cannot be served as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    in_force: Vec<String>,
    /// Where clients reach the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    entrance: Option<String>,
    /// What could not be read.
    notes: Vec<String>,
}

impl Origin {
    /// In words.
    pub(super) fn text(&self) -> String {
        let Self {
            gateway,
            programmed,
            behind,
            hindered,
            in_force,
            entrance,
            notes,
        } = self;
        let state = match (programmed.as_str(), behind, hindered) {
            (_, Some(behind), _) => format!("its proxies may serve something else: {behind}"),
            (_, None, Some(why)) => {
                format!("its proxies have acknowledged their table, but: {why}")
            }
            ("True", ..) => {
                "its proxies have acknowledged their table (Programmed is True)".to_owned()
            }
            (other, ..) => format!(
                "its proxies may serve something else: Programmed is {other}, see `portcullis status`"
            ),
        };
        let mut lines = vec![format!(
            "Computed from the objects of Gateway {gateway} in the cluster; {state}."
        )];
        lines.extend(in_force.iter().chain(entrance).cloned());
        let shown = notes.iter().take(NOTES_SHOWN);
        lines.extend(shown.map(|note| format!("note: {note}")));
        if let Some(more) = notes.len().checked_sub(NOTES_SHOWN).filter(|it| *it > 0) {
            let more = count(more, "more note");
            lines.push(format!("... and {more} (-o json shows all)"));
        }
        lines.join("\n")
    }
}

impl Live {
    /// What comes of a request, with what stands around that.
    pub(super) fn answer(self, request: &Request, headers: &HeaderMap) -> Answer {
        let table = self.table();
        let around = Around {
            live: &self,
            request,
            table,
        };
        let mut answer = match table {
            Some(table) => super::answer(request, headers, table.clone()),
            None => super::unanswered(Asked::of(request), not_accepted(&around), None),
        };
        answer.listeners = around.listeners();
        let routes = around.routes();
        answer.tell_of(&routes, |finding| {
            Some(self.remedied(&around, &routes, finding))
        });
        if answer.explanation.is_none() && around.shows_earlier(answer.is_unbound) {
            answer.outcome +=
                "; a proxy that had a good certificate before goes on with it (see below)";
        }
        if table.is_some() && !self.unread.is_empty() {
            answer.outcome += ", as far as you may read (see the notes)";
        }
        let service = around.service();
        let meant = service.and_then(|service| entrance::meant(service, request.port));
        if let Some(port) = meant.filter(|_| answer.is_unbound) {
            let hint = format!(
                "; {} is the port of the nodes for port {port}: ask for that",
                request.port
            );
            answer.outcome.push_str(&hint);
        }
        let elsewhere = match answer.route {
            Some(_) => Vec::new(),
            None => named_elsewhere(&routes),
        };
        let behind = around.behind();
        if let Some(behind) = &behind {
            answer.outcome += behind.outcome;
            answer.is_error = true;
        }
        if answer.is_unbound && meant.is_none() && request.url.port_u16().is_some() {
            answer.outcome += &forwarded(table, request);
        }
        let listener = answer.explanation.as_ref().and_then(Explanation::listener);
        let is_refused = listener.is_some_and(|it| around.refuses(&it.key));
        if is_refused && behind.is_none() {
            answer.outcome += "; but the proxies do not serve its listener (see below)";
            answer.is_error = true;
        }
        let (nobody, hindered) = match around.proxies() {
            Proxies::Absent(why) => (Some(why), None),
            Proxies::Hindered(why) => (None, Some(why.to_owned())),
            Proxies::Acknowledged | Proxies::Unconfirmed => (None, None),
        };
        if let Some(why) = nobody {
            answer.outcome = format!(
                "nobody answers: {why}; with a proxy that is ready: {}",
                answer.outcome
            );
            answer.is_error = true;
        }
        let is_reached = nobody.is_none() && !is_refused && !answer.is_unbound && table.is_some();
        let service = service.filter(|_| is_reached);
        answer.cluster = Some(Origin {
            gateway: self.gateway.to_string(),
            programmed: around.programmed_status().to_owned(),
            behind: behind.map(|behind| behind.cause),
            hindered,
            in_force: around.in_force(),
            entrance: service
                .and_then(|service| entrance::text(service, &self.found, request.port)),
            notes: self.notes().chain(elsewhere).collect(),
        });
        answer
    }

    /// A finding with what is to be done as far as this Gateway is concerned, unless it only follows from what may not be read.
    fn remedied(&self, around: &Around<'_>, routes: &Routes<'_>, finding: &Finding) -> Issue {
        let issue = around.issue(finding);
        let remedy = routes.remedy(finding);
        match remedy.filter(|_| !self.unread.is_behind(finding)) {
            Some(remedy) => Issue {
                remedy,
                apply: None,
                ..issue
            },
            None => issue,
        }
    }
}

/// What is to be known of routes that name the host and are for other Gateways.
fn named_elsewhere(routes: &Routes<'_>) -> Vec<String> {
    let others = routes.of_others().into_iter();
    let told = others.map(|(route, gateways)| {
        let gateways = gateways.join(" and ");
        format!("{route} names this host, and is for Gateway {gateways}, not for this one")
    });
    told.collect()
}

/// Reads all that a translation reads.
pub(super) fn read(
    args: &ExplainArgs,
    (namespace, name): &(String, String),
) -> anyhow::Result<Live> {
    let gateway = ObjectKey::new(&**namespace, &**name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cluster = Cluster::new(&args.cluster).await?;
        let live = Live::read(cluster, gateway, &args.controller_name).await?;
        if live.found.data["spec"]["gatewayClassName"] == EGRESS_CLASS {
            return Err(of_egress(&format!(
                "Gateway {} is one of egress",
                live.gateway
            )));
        }
        Ok(live)
    })
}

impl Live {
    /// Reads all that this Gateway of the controller of this name is translated from.
    pub(crate) async fn read(
        cluster: Cluster,
        gateway: ObjectKey,
        controller_name: &str,
    ) -> anyhow::Result<Self> {
        let mut reader = Reader {
            cluster,
            loaded: Loaded::accepted(),
            unread: Unread::default(),
            outdated_routes: BTreeSet::new(),
            listener_sets: BTreeMap::new(),
            taken: Vec::new(),
        };
        let found = reader
            .cluster
            .get_in(&Kind::GATEWAY, &gateway.namespace, &gateway.name)
            .await;
        let found = found.map_err(|refusal| match refusal {
        Refusal::Forbidden(message) => anyhow!(
            "you may not read Gateway {gateway}: {message}. Ask for a role with `get` of gateways in namespace {}", gateway.namespace
        ),
        refusal => refusal.fatal(&Kind::GATEWAY),
    })?;
        let found =
            found.with_context(|| format!("there is no Gateway {gateway} in the cluster"))?;
        reader.read_all(&found, controller_name).await?;
        reader.unread.look_at(&gateway, &reader.loaded.resources);
        let options = Options {
            controller_name: controller_name.to_owned(),
            observed: Observed::Standalone {
                addresses: Vec::new(),
            },
            ..Options::default()
        };
        let live = Live {
            unreadable: unreadable(&reader.loaded.problems)
                .into_iter()
                .chain(reader.taken)
                .collect(),
            translation: translate(&reader.loaded.resources, &options),
            resources: reader.loaded.resources,
            gateway,
            found,
            outdated_routes: reader.outdated_routes,
            listener_sets: reader.listener_sets,
            controller: Controller::find(&reader.cluster, controller_name).await?,
            unread: reader.unread,
        };
        live.ensure_ours()?;
        Ok(live)
    }

    /// What its proxies are sent; `None` if the Gateway is not accepted as it is.
    pub(crate) fn table(&self) -> Option<&RoutingTable> {
        let ObjectKey { namespace, name } = &self.gateway;
        let tables = &self.translation.tables;
        tables.get(&GatewayKey::of(namespace, name))
    }

    /// Why what is computed here may not be what the proxies do.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let gateway = &self.gateway;
        let conditions = &self.found.data["status"]["conditions"];
        let programmed = condition_of(conditions, kind::PROGRAMMED);
        let status = programmed.map_or("Unknown", |it| it["status"].as_str().unwrap_or_default());
        let unconfirmed = (status != "True").then(|| {
            format!(
                "the proxies of Gateway {gateway} may do something else: Programmed is {status}, see `portcullis status`"
            )
        });
        let sources = condition_of(conditions, kind::SOURCES_READABLE);
        let blind = sources.filter(|it| it["status"] == "False").map(|it| {
            let message = it["message"].as_str().unwrap_or_default();
            format!("the controller cannot read all that you may: {message}")
        });
        let gone = match &self.controller {
            Controller::Gone(why) => Some(format!(
                "no controller runs, so that changes do not reach the proxies: {why}"
            )),
            _ => None,
        };
        let doubts = [unconfirmed, blind, gone].into_iter().flatten();
        doubts.chain(self.notes()).collect()
    }

    /// Why there is no table, as far as is known.
    pub(crate) fn without_table(&self) -> String {
        if self.unread.is_empty() {
            return "the Gateway is not accepted as it is, so that its proxies go on as they were: `portcullis status gateways -A` says why"
                .to_owned();
        }
        let notes: Vec<_> = self.notes().collect();
        format!(
            "what proxies of the Gateway go by cannot be told from what you may read: {}",
            notes.join("; ")
        )
    }

    /// Everything that was read.
    pub(crate) const fn resources(&self) -> &Resources {
        &self.resources
    }

    /// What is wrong with that.
    pub(crate) fn findings(&self) -> &[Finding] {
        &self.translation.findings
    }

    /// Fails if the controller gives the proxies nothing new, as it cannot read what decides.
    pub(crate) fn ensure_in_force(&self) -> anyhow::Result<()> {
        let conditions = &self.found.data["status"]["conditions"];
        let status_of = |kind| condition_of(conditions, kind).map(|it| &it["status"]);
        let is_blind = status_of(kind::SOURCES_READABLE).is_some_and(|it| it == "False");
        if !is_blind || status_of(kind::PROGRAMMED).is_some_and(|it| it == "True") {
            return Ok(());
        }
        let doubts = self.doubts().join("; ");
        bail!("what the proxies have is not known, and may be old: {doubts}")
    }

    /// Fails if objects of one of these kinds may be there that the caller may not read.
    pub(crate) fn ensure_read(&self, kinds: &[&Kind]) -> anyhow::Result<()> {
        match kinds.iter().find(|kind| self.unread.has_kind(kind)) {
            None => Ok(()),
            Some(kind) => bail!(
                "you may not list {} in all namespaces, and they decide. Ask for a role with `get` and `list` of them, or somebody who \
                 has it",
                kind.plural
            ),
        }
    }
}

impl Live {
    /// What could not be read.
    fn notes(&self) -> impl Iterator<Item = String> {
        let controller = match &self.controller {
            Controller::Hidden(message) => {
                Some(format!("whether a controller runs is not known: {message}"))
            }
            _ => None,
        };
        let unreadable = self.unreadable.iter().cloned();
        let notes = self.unread.notes().chain(unreadable);
        notes.chain(controller)
    }

    /// A Gateway of another controller, or of no class, has no statuses of ours. The finding says which of the two it is.
    fn ensure_ours(&self) -> anyhow::Result<()> {
        let key = &self.gateway;
        if self.translation.statuses.gateways.contains_key(key) {
            return Ok(());
        }
        let gateway = ObjectRef::new("Gateway", key.clone());
        let mut findings = self.translation.findings.iter();
        let finding = findings.find(|finding| finding.object == gateway);
        let why = finding.map(Finding::text);
        bail!(
            "{gateway} is not served: {}",
            why.unwrap_or_else(|| "it cannot be read as one".into())
        )
    }
}

/// What to say for whom a port of the machine leads to one of the Gateway: the first that speaks what the URL asks for.
fn forwarded(table: Option<&RoutingTable>, request: &Request) -> String {
    let (port, scheme) = (request.port, request.url.scheme_str().unwrap_or_default());
    let mut listeners = table.into_iter().flat_map(|table| table.listeners.values());
    let first = listeners.find(|listener| words::scheme(listener.protocol) == scheme);
    let usual = if scheme == "https" { 443 } else { 80 };
    let own = first.map_or(usual, |listener| listener.port);
    format!(
        "; if `kubectl port-forward` leads there from port {port}, say to which: --map-port {own}={port}"
    )
}

fn not_accepted(around: &Around<'_>) -> &'static str {
    if around.is_undecided() {
        "not known: what you may not read decides whether the Gateway is accepted"
    } else if around.is_never_made() {
        "nobody answers: the Gateway is not accepted, and nothing has been made for it"
    } else {
        "not known: as it is now, the Gateway is not accepted, and its proxies go on as they were"
    }
}

/// Objects that this release cannot read count as not there, as for the controller's first look at them.
fn unreadable(problems: &[LoadProblem]) -> Vec<String> {
    let problems = problems.iter();
    let problems = problems.filter(|problem| problem.severity == Severity::Error);
    let notes = problems.map(|problem| {
        let LoadProblem {
            kind,
            name,
            field,
            message,
            ..
        } = problem;
        format!("as if it were not there: {kind} {name} cannot be read ({field}: {message})")
    });
    notes.collect()
}
