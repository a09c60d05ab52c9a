//! The Gateways of a cluster and the ListenerSets that add to them.

use jiff::Timestamp;
use kube::api::DynamicObject;
use portcullis_controller::status::condition::kind;
use serde::{Deserialize, Serialize};

use super::{
    Question, Status,
    classes::{Names, Owner},
    condition::{Condition, Finding, Subject, all_good, key, status, view},
    parents::Gateways,
    routes::ParentRef,
};
use crate::cluster::{Kind, Scope};

/// Gateways of other controllers that are named where there are no others.
const FOREIGN_SHOWN: usize = 5;

/// A Gateway of one of our classes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Gateway {
    pub(crate) name: String,
    pub(super) class: String,
    pub(super) addresses: Vec<String>,
    pub(super) accepted: String,
    pub(super) programmed: String,
    pub(super) listeners: Listeners,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<Timestamp>,
}

/// A ListenerSet.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListenerSet {
    pub(super) name: String,
    pub(super) parent: String,
    pub(super) accepted: String,
    pub(super) programmed: String,
    pub(super) listeners: Listeners,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<Timestamp>,
}

/// How the listeners are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listeners {
    /// Those with nothing wrong.
    pub(super) good: usize,
    /// Those of the spec.
    pub(super) all: usize,
    /// Attached routes of all listeners together: one that is attached to two of them counts twice.
    pub(super) attached_routes: i64,
}

#[derive(Debug, Deserialize)]
struct GatewayView {
    spec: GatewaySpec,
    #[serde(default)]
    status: Stated,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GatewaySpec {
    gateway_class_name: String,
    listeners: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct SetView {
    spec: SetSpec,
    #[serde(default)]
    status: Stated,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetSpec {
    parent_ref: ParentRef,
    listeners: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stated {
    conditions: Vec<Condition>,
    addresses: Vec<Address>,
    listeners: Vec<ListenerStated>,
}

#[derive(Debug, Deserialize)]
struct Address {
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListenerStated {
    name: String,
    #[serde(default)]
    attached_routes: i64,
    #[serde(default)]
    conditions: Vec<Condition>,
}

impl Question<'_> {
    /// Looks at the Gateways.
    pub(super) async fn gateways(
        &self,
        classes: &Names,
        listed: &[DynamicObject],
        answer: &mut Status,
    ) -> anyhow::Result<()> {
        let mut foreign = Vec::new();
        for object in listed.iter().filter(|object| self.asks_for(object)) {
            let GatewayView {
                spec,
                status: stated,
            } = view(object)?;
            let class = spec.gateway_class_name;
            let subject = Subject::new(Kind::GATEWAY.name, object);
            match classes.owner(&class) {
                Owner::Ours | Owner::Unknown => answer.judge(&subject, &stated, &spec.listeners),
                Owner::Nobody => {
                    let why = classes.missing(&class);
                    let finding = subject.finding(kind::ACCEPTED, "NoSuchClass", why);
                    answer.findings.push(finding);
                }
                Owner::Others(controller) => {
                    let why = classes.foreign(&class, controller);
                    foreign.push(subject.finding(kind::ACCEPTED, "ForeignGateway", why));
                    continue;
                }
            }
            answer.gateways.push(Gateway {
                name: key(object),
                class,
                addresses: stated.addresses.iter().map(|it| it.value.clone()).collect(),
                accepted: status(&stated.conditions, kind::ACCEPTED),
                programmed: status(&stated.conditions, kind::PROGRAMMED),
                listeners: Listeners::of(&spec.listeners, &stated),
                created_at: object.metadata.creation_timestamp.as_ref().map(|it| it.0),
            });
        }
        if answer.gateways.is_empty() {
            self.left_out(foreign, answer).await?;
        }
        Ok(())
    }

    /// Nothing is left of what was asked for. Whoever asked for a Gateway by its name is told why; else it is only worth
    /// knowing whose Gateways there are.
    async fn left_out(&self, foreign: Vec<Finding>, answer: &mut Status) -> anyhow::Result<()> {
        match self.name {
            Some(name) if foreign.is_empty() => {
                let finding = self
                    .not_found(&[Kind::GATEWAY], name, "GatewayNotFound")
                    .await?;
                answer.findings.push(finding);
            }
            Some(_) => answer.findings.extend(foreign),
            None => {
                let foreign = foreign.iter().take(FOREIGN_SHOWN);
                let notes = foreign.map(|it| format!("{} is left out: {}", it.object, it.message));
                answer.notes.extend(notes);
            }
        }
        Ok(())
    }

    /// Looks at the ListenerSets of the Gateways that are told of, and at others in scope that are ours.
    pub(super) async fn listener_sets(
        &self,
        known: &Gateways<'_>,
        answer: &mut Status,
    ) -> anyhow::Result<()> {
        for object in self.sets_in_question(answer).await? {
            let SetView {
                spec,
                status: stated,
            } = view(&object)?;
            let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
            let parent = spec.parent_ref.key(namespace);
            let is_told = answer.gateways.iter().any(|it| it.name == parent);
            let is_other = self.name.is_none() && is_ours(&stated, &known.owner(&parent));
            if !is_told && !is_other {
                continue;
            }
            let subject = Subject::new(Kind::LISTENER_SET.name, &object);
            answer.judge(&subject, &stated, &spec.listeners);
            answer.listener_sets.push(ListenerSet {
                name: key(&object),
                parent,
                accepted: status(&stated.conditions, kind::ACCEPTED),
                programmed: status(&stated.conditions, kind::PROGRAMMED),
                listeners: Listeners::of(&spec.listeners, &stated),
                created_at: object.metadata.creation_timestamp.map(|time| time.0),
            });
        }
        Ok(())
    }

    /// A Gateway that is asked for by its name may have some in all namespaces.
    async fn sets_in_question(&self, answer: &mut Status) -> anyhow::Result<Vec<DynamicObject>> {
        let kind = &Kind::LISTENER_SET;
        if self.name.is_some() && self.scope != Scope::All {
            let what = "ListenerSets of other namespaces";
            let listed = self.optional_in(&Scope::All, kind, (what, answer)).await?;
            if let Some(listed) = listed {
                return Ok(listed);
            }
        }
        Ok(self.optional(kind, answer).await?.unwrap_or_default())
    }
}

/// Whether a ListenerSet is to be told of for itself. If nobody may know whose it is, one that has been answered is.
fn is_ours(stated: &Stated, owner_of_gateway: &Owner<'_>) -> bool {
    match owner_of_gateway {
        Owner::Ours => true,
        Owner::Unknown => !stated.conditions.is_empty(),
        Owner::Nobody | Owner::Others(_) => false,
    }
}

impl Status {
    /// What is wrong with a Gateway or ListenerSet and its listeners. What the controller has not answered at all is said
    /// once, not for each listener too. Causes come first.
    fn judge(&mut self, subject: &Subject<'_>, stated: &Stated, listeners: &[Named]) {
        let mut findings = subject.judge(&stated.conditions);
        for listener in listeners {
            if let Some(entry) = stated.entry(listener) {
                let part = subject.part(format!("listener {}", listener.name));
                findings.extend(part.judge(&entry.conditions));
            }
        }
        findings.sort_by_key(Finding::is_consequence);
        self.findings.extend(findings);
    }
}

impl Stated {
    fn entry(&self, listener: &Named) -> Option<&ListenerStated> {
        self.listeners.iter().find(|it| it.name == listener.name)
    }
}

impl Listeners {
    fn of(listeners: &[Named], stated: &Stated) -> Self {
        let entries = || {
            listeners
                .iter()
                .filter_map(|listener| stated.entry(listener))
        };
        Self {
            good: entries().filter(|it| all_good(&it.conditions)).count(),
            all: listeners.len(),
            attached_routes: entries().map(|it| it.attached_routes).sum(),
        }
    }
}
