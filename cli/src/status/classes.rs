//! The GatewayClasses of a cluster, and the release of Gateway API that it has.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::api::DynamicObject;
use portcullis_controller::status::condition::kind;
use serde::{Deserialize, Serialize};

use super::{
    Question, Status,
    condition::{Condition, Finding, Subject, key, status, view},
};
use crate::cluster::{Kind, Refusal, Scope};

/// A GatewayClass of ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(super) accepted: String,
    /// Whether the installed release of Gateway API is one that the controller knows.
    pub(super) supported_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<Timestamp>,
}

/// The names of all classes and of ours.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// `None` if they could not be read.
    all: Option<BTreeSet<String>>,
    ours: BTreeSet<String>,
}

impl Names {
    /// Whether a Gateway of this class is looked at. One whose class nobody has is, for nobody else will tell.
    pub(super) fn concerns(&self, class: &str) -> bool {
        self.ours.contains(class) || !self.is_of_others(class)
    }

    fn is_of_others(&self, class: &str) -> bool {
        self.all.as_ref().is_some_and(|all| all.contains(class))
    }

    /// Why a Gateway with this class is served by nobody.
    pub(super) fn missing(&self, class: &str) -> Option<String> {
        let all = self.all.as_ref()?;
        if all.contains(class) {
            return None;
        }
        let ours: Vec<_> = self.ours.iter().map(String::as_str).collect();
        Some(if ours.is_empty() {
            format!("there is no GatewayClass {class}")
        } else {
            format!(
                "there is no GatewayClass {class}; those of Portcullis are: {}",
                ours.join(", ")
            )
        })
    }
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
    controller_name: String,
}

#[derive(Debug, Default, Deserialize)]
struct Stated {
    #[serde(default)]
    conditions: Vec<Condition>,
}

impl Question<'_> {
    /// Looks at the GatewayClasses.
    pub(super) async fn classes(&self, answer: &mut Status) -> anyhow::Result<Names> {
        answer.gateway_api = self.release().await?;
        let objects = match self.cluster.list(&Kind::GATEWAY_CLASS, &Scope::All).await {
            Ok(objects) => objects,
            // Whoever has rights in one namespace only can still be told of it.
            Err(Refusal::Forbidden(message)) => {
                answer.notes.push(format!(
                    "without GatewayClasses, so Gateways of other controllers are here too: {message}"
                ));
                return Ok(Names::default());
            }
            Err(refusal) => return Err(refusal.fatal(&Kind::GATEWAY_CLASS)),
        };
        let mut names = Names::default();
        let mut all = BTreeSet::new();
        for object in &objects {
            let View {
                spec,
                status: stated,
            } = view(object)?;
            all.insert(key(object));
            if spec.controller_name == self.controller_name {
                names.ours.insert(key(object));
                let subject = Subject::new(Kind::GATEWAY_CLASS.name, object);
                answer.findings.extend(subject.judge(&stated.conditions));
                answer
                    .gateway_classes
                    .push(class(object, &stated.conditions));
            }
        }
        names.all = Some(all);
        if names.ours.is_empty() {
            answer.findings.push(self.no_class());
        }
        Ok(names)
    }

    fn no_class(&self) -> Finding {
        Finding {
            object: "GatewayClass".into(),
            part: None,
            condition: kind::ACCEPTED.into(),
            status: "Unknown".into(),
            reason: "NoClass".into(),
            message: format!(
                "no GatewayClass has the controllerName {}: install Portcullis with `portcullis install`, or say with \
                 --controller-name what it is called here",
                self.controller_name
            ),
        }
    }

    /// What the CRDs say of themselves, such as `v1.7.0 standard`.
    async fn release(&self) -> anyhow::Result<Option<String>> {
        let name = "gateways.gateway.networking.k8s.io";
        let definition = self
            .cluster
            .get(&Kind::CUSTOM_RESOURCE_DEFINITION, name)
            .await;
        match definition {
            Ok(definition) => Ok(definition.and_then(|definition| bundle(&definition))),
            Err(Refusal::Failed(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }
}

fn bundle(definition: &DynamicObject) -> Option<String> {
    let annotations = definition.metadata.annotations.as_ref()?;
    let value = |name: &str| annotations.get(&format!("gateway.networking.k8s.io/{name}"));
    let release = value("bundle-version")?;
    Some(match value("channel") {
        Some(channel) => format!("{release} {channel}"),
        None => release.clone(),
    })
}

fn class(object: &DynamicObject, conditions: &[Condition]) -> Class {
    let created_at = object.metadata.creation_timestamp.as_ref();
    Class {
        name: key(object),
        accepted: status(conditions, kind::ACCEPTED),
        supported_version: status(conditions, kind::SUPPORTED_VERSION),
        created_at: created_at.map(|time| time.0),
    }
}
