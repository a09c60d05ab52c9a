//! `portcullis status`: what a cluster serves, and every condition that is not as it should be.

mod classes;
mod condition;
mod gateways;
mod routes;
mod text;

use std::process::ExitCode;

use serde::Serialize;

use self::{
    classes::Class, condition::Finding, gateways::Gateway, gateways::ListenerSet, routes::Route,
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
    pub(crate) findings: Vec<Finding>,
    /// What could not be looked at, and what else is worth knowing.
    pub(crate) notes: Vec<String>,
}

/// What is asked, and of whom.
struct Question<'a> {
    cluster: &'a Cluster,
    controller_name: &'a str,
    scope: Scope,
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
    let namespace = args.namespace.as_ref().unwrap_or(&cluster.namespace);
    let scope = if args.all_namespaces {
        Scope::All
    } else {
        Scope::Namespace(namespace.clone())
    };
    look(&cluster, &args.controller_name, scope, args.what).await
}

/// Looks at what a controller serves.
pub(crate) async fn look(
    cluster: &Cluster,
    controller_name: &str,
    scope: Scope,
    what: StatusOf,
) -> anyhow::Result<Status> {
    let question = Question {
        cluster,
        controller_name,
        scope,
    };
    let mut status = Status::default();
    if what != StatusOf::Routes {
        let classes = question.classes(&mut status).await?;
        question.gateways(&classes, &mut status).await?;
        question.listener_sets(&mut status).await?;
    }
    if what != StatusOf::Gateways {
        question.routes(&mut status).await?;
        question.policies(&mut status).await?;
    }
    if let Scope::Namespace(namespace) = &question.scope
        && status.gateways.is_empty()
        && status.routes.is_empty()
    {
        status.notes.push(format!(
            "nothing of Portcullis is in namespace {namespace}; -A looks at all of them"
        ));
    }
    Ok(status)
}

impl Question<'_> {
    /// The objects of a kind that a cluster may do without.
    async fn optional(
        &self,
        kind: &Kind,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<Vec<kube::api::DynamicObject>> {
        match self.cluster.list(kind, &self.scope).await {
            Ok(objects) => Ok(objects),
            Err(Refusal::NotInstalled) => Ok(Vec::new()),
            Err(Refusal::Forbidden(message)) => {
                notes.push(format!("without {}s: {message}", kind.name));
                Ok(Vec::new())
            }
            Err(Refusal::Failed(error)) => Err(error),
        }
    }
}
