//! The routes of a cluster and the BackendTLSPolicies beside them.

use std::{collections::BTreeSet, fmt::Write as _};

use jiff::Timestamp;
use portcullis_controller::status::condition::kind;
use serde::{Deserialize, Serialize};

use super::{
    Question, Status,
    condition::{Condition, Subject, key, status, view},
    parents::{Gateways, ROUTE_NOT_SEEN},
};
use crate::cluster::{Kind, Scope};

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

/// A route that is looked at.
struct Asked<'a> {
    kind: &'a str,
    namespace: &'a str,
    subject: Subject<'a>,
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
    pub(super) kind: Option<String>,
    namespace: Option<String>,
    pub(super) name: String,
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
    pub(super) async fn routes(
        &self,
        gateways: &Gateways<'_>,
        answer: &mut Status,
    ) -> anyhow::Result<()> {
        let mut is_there = false;
        let mut missing = "RouteNotFound";
        for kind in &Kind::ROUTES {
            let Some(objects) = self.optional(kind, answer).await? else {
                missing = ROUTE_NOT_SEEN;
                continue;
            };
            for object in objects {
                if !self.asks_for(&object) {
                    continue;
                }
                is_there = true;
                let view: View = view(&object)?;
                let route = Asked {
                    kind: kind.name,
                    namespace: object.metadata.namespace.as_deref().unwrap_or_default(),
                    subject: Subject::new(kind.name, &object),
                };
                let parents = self.parents(&view, &route, gateways, answer);
                if parents.is_empty() {
                    if self.name.is_some() {
                        let note = format!(
                            "{} {} names nothing of Portcullis as its parent",
                            kind.name,
                            key(&object)
                        );
                        answer.notes.push(note);
                    }
                    continue;
                }
                answer.routes.push(Route {
                    kind: kind.name,
                    name: key(&object),
                    hostnames: view.spec.hostnames,
                    parents,
                    created_at: object.metadata.creation_timestamp.as_ref().map(|it| it.0),
                });
            }
        }
        if let Some(name) = self.name.filter(|_| !is_there) {
            let finding = self.not_found(&Kind::ROUTES, name, missing).await?;
            answer.findings.push(finding);
        }
        Ok(())
    }

    /// Says of the Gateways how many of their routes have findings.
    pub(super) async fn hint_at_routes(
        &self,
        known: &Gateways<'_>,
        answer: &mut Status,
    ) -> anyhow::Result<()> {
        let mut beside = Status::default();
        for scope in [Scope::All, self.scope.clone()] {
            let all = Question {
                scope,
                name: None,
                ..*self
            };
            beside = Status::default();
            all.routes(known, &mut beside).await?;
            if beside.hidden.is_empty() {
                break;
            }
        }
        let sets = answer.listener_sets.iter();
        let sets = sets.map(|set| format!("{} {}", Kind::LISTENER_SET.name, set.name));
        let gateways = answer.gateways.iter();
        let gateways = gateways.map(|it| format!("{} {}", Kind::GATEWAY.name, it.name));
        let parents: Vec<_> = gateways.chain(sets).collect();
        let faulty = beside.findings.iter().filter(|finding| {
            let part = finding.part.as_deref().unwrap_or_default();
            parents.iter().any(|parent| is_at(part, parent))
        });
        let faulty: BTreeSet<_> = faulty.map(|finding| &finding.object).collect();
        if !faulty.is_empty() {
            answer.notes.push(format!(
                "{} of its routes {} findings: portcullis status routes -A",
                faulty.len(),
                if faulty.len() == 1 { "has" } else { "have" }
            ));
        }
        Ok(())
    }

    /// The parents of a route that we have answered for, and those that nobody has.
    fn parents(
        &self,
        route: &View,
        asked: &Asked<'_>,
        gateways: &Gateways<'_>,
        answer: &mut Status,
    ) -> Vec<Parent> {
        let Asked {
            kind,
            namespace,
            subject,
        } = asked;
        let mut parents = Vec::new();
        for reference in &route.spec.parent_refs {
            let name = reference.text(namespace);
            let part = subject.part(format!("parent {name}"));
            let mut entries = route.status.parents.iter();
            let answered = |entry: &&ParentStated| entry.parent_ref.text(namespace) == name;
            let Some(first) = entries.find(answered) else {
                let (reason, why) = gateways.silence(kind, reference, namespace);
                answer
                    .findings
                    .push(part.finding(kind::ACCEPTED, reason, why));
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
        let (kind, what) = (&Kind::BACKEND_TLS_POLICY, "BackendTLSPolicies");
        let policies = self.optional_in(&self.scope, kind, (what, answer)).await?;
        for object in policies.unwrap_or_default() {
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

/// Whether a part of a route is this parent, or a listener of it.
fn is_at(part: &str, parent: &str) -> bool {
    let below = part
        .strip_prefix("parent ")
        .and_then(|it| it.strip_prefix(parent));
    below.is_some_and(|it| it.is_empty() || it.starts_with([' ', ':']))
}

fn parent(name: String, conditions: &[Condition]) -> Parent {
    Parent {
        name,
        accepted: status(conditions, kind::ACCEPTED),
        resolved: status(conditions, kind::RESOLVED_REFS),
    }
}
