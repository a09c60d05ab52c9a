//! `portcullis status`: what a cluster serves, and every condition that is not as it should be.

mod classes;
mod condition;
mod egress;
mod gateways;
mod parents;
mod routes;
mod text;

use std::process::ExitCode;

use anyhow::bail;
use kube::api::DynamicObject;
use serde::Serialize;

pub(crate) use self::condition::condition_of;
use self::{
    classes::Class, condition::Finding, egress::EgressObject, gateways::Gateway,
    gateways::ListenerSet, routes::Route,
};
use crate::{
    FINDINGS,
    args::{StatusArgs, StatusOf},
    cluster::{Cluster, Kind, Refusal, Scope},
    output,
};

/// The answer, for people and programs.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// The release of Gateway API whose CRDs are installed, if the caller may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_api: Option<String>,
    pub(crate) gateway_classes: Vec<Class>,
    pub(crate) gateways: Vec<Gateway>,
    listener_sets: Vec<ListenerSet>,
    routes: Vec<Route>,
    egress: Vec<EgressObject>,
    pub(crate) findings: Vec<Finding>,
    /// What the caller may not look at.
    pub(crate) hidden: Vec<Hidden>,
    /// What else is worth knowing.
    notes: Vec<String>,
}

/// Objects that the caller may not list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hidden {
    pub(crate) what: String,
    /// Names the right that is missing.
    pub(crate) message: String,
}

/// What is asked, and of whom.
struct Question<'a> {
    cluster: &'a Cluster,
    controller_name: &'a str,
    scope: Scope,
    /// The one object that is asked for, of those in scope.
    name: Option<&'a str>,
}

/// Asks the cluster.
pub(crate) fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(ask(args))?;
    output::print(args.output.output, &status, text::text)?;
    Ok(if status.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

async fn ask(args: &StatusArgs) -> anyhow::Result<Status> {
    let cluster = Cluster::new(&args.cluster).await?;
    let named = args.name.as_ref();
    let inside = named.and_then(|(namespace, _)| namespace.as_deref());
    let name = named.map(|(_, name)| name.as_str());
    if let (StatusOf::All, Some(name)) = (args.what, name) {
        bail!("say of what kind it is, as in `portcullis status gateway {name}`");
    }
    let namespace = inside.or(args.namespace.as_deref());
    let scope = if args.all_namespaces && inside.is_none() {
        Scope::All
    } else {
        Scope::Namespace(namespace.unwrap_or(&cluster.namespace).to_owned())
    };
    let question = Question {
        cluster: &cluster,
        controller_name: &args.controller_name,
        scope,
        name,
    };
    question.look(args.what).await
}

/// Looks at the classes and Gateways of a controller, in all namespaces, as far as the caller may.
pub(crate) async fn gateways(cluster: &Cluster, controller_name: &str) -> anyhow::Result<Status> {
    let question = Question {
        cluster,
        controller_name,
        scope: Scope::All,
        name: None,
    };
    let mut status = Status::default();
    let classes = question.classes(&mut status).await?;
    match cluster.list(&Kind::GATEWAY, &question.scope).await {
        Ok(listed) => question.gateways(&classes, &listed, &mut status).await?,
        Err(Refusal::Forbidden(message)) => status.hide("Gateways", message),
        Err(refusal) => return Err(refusal.fatal(&Kind::GATEWAY)),
    }
    Ok(status)
}

impl Status {
    fn hide(&mut self, what: impl Into<String>, message: String) {
        let what = what.into();
        self.hidden.push(Hidden { what, message });
    }
}

impl Question<'_> {
    /// Looks at what a controller serves.
    async fn look(&self, what: StatusOf) -> anyhow::Result<Status> {
        let mut status = Status::default();
        let classes = self.classes(&mut status).await?;
        if what == StatusOf::Egress {
            let mut status = Status::default();
            self.egress(&mut status).await?;
            return Ok(status);
        }
        let known = self.named_gateways(&classes).await?;
        if what == StatusOf::Routes {
            // Of the classes only that is asked whose the Gateways are.
            status = Status::default();
        } else {
            status.gateway_api = self.release().await?;
            let listed = self.cluster.list(&Kind::GATEWAY, &self.scope).await;
            let listed = listed.map_err(|refusal| refusal.fatal(&Kind::GATEWAY))?;
            self.gateways(&classes, &listed, &mut status).await?;
            self.listener_sets(&known, &mut status).await?;
            if self.name.is_some() {
                self.hint_at_routes(&known, &mut status).await?;
            }
        }
        if what != StatusOf::Gateways {
            self.routes(&known, &mut status).await?;
            if self.name.is_none() {
                self.policies(&mut status).await?;
            }
        }
        if what == StatusOf::All {
            self.egress(&mut status).await?;
        }
        if let (Scope::Namespace(namespace), None) = (&self.scope, self.name)
            && status.gateways.is_empty()
            && status.listener_sets.is_empty()
            && status.routes.is_empty()
            && status.egress.is_empty()
        {
            status.notes.push(format!(
                "nothing of Portcullis is in namespace {namespace}; -A looks at all of them"
            ));
        }
        Ok(status)
    }

    /// Whether an object is the one that is asked for, or all are.
    fn asks_for(&self, object: &DynamicObject) -> bool {
        self.name
            .is_none_or(|name| object.metadata.name.as_deref() == Some(name))
    }

    /// The objects of a kind that a cluster may do without; `None` if the caller may not list them, which is written down.
    async fn optional(
        &self,
        kind: &Kind,
        answer: &mut Status,
    ) -> anyhow::Result<Option<Vec<DynamicObject>>> {
        self.optional_in(&self.scope, kind, (&format!("{}s", kind.name), answer))
            .await
    }

    /// The same of another scope; `what` is what there is not if they may not be listed.
    async fn optional_in(
        &self,
        scope: &Scope,
        kind: &Kind,
        (what, answer): (&str, &mut Status),
    ) -> anyhow::Result<Option<Vec<DynamicObject>>> {
        match self.cluster.list(kind, scope).await {
            Ok(objects) => Ok(Some(objects)),
            Err(Refusal::NotInstalled) => Ok(Some(Vec::new())),
            Err(Refusal::Forbidden(message)) => {
                answer.hide(what, message);
                Ok(None)
            }
            Err(Refusal::Failed(error)) => Err(error),
        }
    }
}
