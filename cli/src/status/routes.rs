//! The routes of a cluster and the BackendTLSPolicies beside them.

use std::fmt::Write as _;

use jiff::Timestamp;
use portcullis_controller::status::condition::kind;
use serde::{Deserialize, Serialize};

use super::{
    Question, Status,
    condition::{Condition, Subject, key, status, view},
};
use crate::cluster::Kind;

/// A route with a parent of ours, or with one that nobody has answered for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Route {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) hostnames: Vec<String>,
    pub(super) parents: Vec<Parent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<Timestamp>,
}

/// One of its parents.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parent {
    pub(super) name: String,
    pub(super) accepted: String,
    pub(super) resolved: String,
}

#[derive(Debug, Deserialize)]
struct View {
    spec: Spec,
    #[serde(default)]
    status: Stated,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    parent_refs: Vec<ParentRef>,
    #[serde(default)]
    hostnames: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stated {
    parents: Vec<ParentStated>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParentStated {
    parent_ref: ParentRef,
    controller_name: String,
    #[serde(default)]
    conditions: Vec<Condition>,
}

/// A reference to a Gateway or ListenerSet.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ParentRef {
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    section_name: Option<String>,
    port: Option<u16>,
}

#[derive(Debug, Deserialize)]
struct PolicyView {
    #[serde(default)]
    status: PolicyStated,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PolicyStated {
    ancestors: Vec<AncestorStated>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AncestorStated {
    ancestor_ref: ParentRef,
    controller_name: String,
    #[serde(default)]
    conditions: Vec<Condition>,
}

impl ParentRef {
    /// Namespace and name; without a namespace it is that of the object that refers.
    pub(super) fn key(&self, namespace: &str) -> String {
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        format!("{namespace}/{}", self.name)
    }

    /// All of it, such as `Gateway shop/edge:443 listener https`.
    fn text(&self, namespace: &str) -> String {
        let kind = self.kind.as_deref().unwrap_or("Gateway");
        let mut text = format!("{kind} {}", self.key(namespace));
        if let Some(port) = self.port {
            write!(text, ":{port}").ok();
        }
        if let Some(section) = &self.section_name {
            write!(text, " listener {section}").ok();
        }
        text
    }
}

impl Question<'_> {
    /// Looks at the routes of all kinds.
    pub(super) async fn routes(&self, answer: &mut Status) -> anyhow::Result<()> {
        for kind in &Kind::ROUTES {
            for object in self.optional(kind, &mut answer.notes).await? {
                let view: View = view(&object)?;
                let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                let subject = Subject::new(kind.name, &object);
                let parents = self.parents(&view, namespace, &subject, answer);
                if parents.is_empty() {
                    continue;
                }
                answer.routes.push(Route {
                    kind: kind.name,
                    name: key(&object),
                    hostnames: view.spec.hostnames,
                    parents,
                    created_at: object.metadata.creation_timestamp.map(|time| time.0),
                });
            }
        }
        Ok(())
    }

    /// The parents of a route that we have answered for, and those that nobody has.
    fn parents(
        &self,
        route: &View,
        namespace: &str,
        subject: &Subject,
        answer: &mut Status,
    ) -> Vec<Parent> {
        let mut parents = Vec::new();
        for reference in &route.spec.parent_refs {
            let name = reference.text(namespace);
            let part = subject.part(format!("parent {name}"));
            let mut entries = route.status.parents.iter();
            let answered = |entry: &&ParentStated| entry.parent_ref.text(namespace) == name;
            let Some(first) = entries.find(answered) else {
                answer
                    .findings
                    .push(part.finding(kind::ACCEPTED, "NoAnswer", NOBODY.into()));
                parents.push(parent(name, &[]));
                continue;
            };
            let ours = std::iter::once(first).chain(entries.filter(answered));
            for entry in ours.filter(|entry| entry.controller_name == self.controller_name) {
                answer.findings.extend(part.judge(&entry.conditions));
                parents.push(parent(name.clone(), &entry.conditions));
            }
        }
        parents
    }

    /// Looks at the BackendTLSPolicies that we have answered for. One that nobody uses has no answer, and that is right.
    pub(super) async fn policies(&self, answer: &mut Status) -> anyhow::Result<()> {
        let policies = self.optional(&Kind::BACKEND_TLS_POLICY, &mut answer.notes);
        for object in policies.await? {
            let PolicyView { status } = view(&object)?;
            let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
            let subject = Subject::new(Kind::BACKEND_TLS_POLICY.name, &object);
            for entry in &status.ancestors {
                if entry.controller_name == self.controller_name {
                    let part = subject.part(entry.ancestor_ref.text(namespace));
                    answer.findings.extend(part.judge(&entry.conditions));
                }
            }
        }
        Ok(())
    }
}

const NOBODY: &str = "no controller has answered for this parent: it does not exist, or its class is of no controller that \
    runs, or that controller does not serve this kind of route";

fn parent(name: String, conditions: &[Condition]) -> Parent {
    Parent {
        name,
        accepted: status(conditions, kind::ACCEPTED),
        resolved: status(conditions, kind::RESOLVED_REFS),
    }
}
