//! The GatewayClasses of a cluster, and the release of Gateway API that it has.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::api::DynamicObject;
use portcullis_controller::status::condition::kind;
use serde::{Deserialize, Serialize};

use super::{
    Question, Status,
    condition::{Condition, Finding, Subject, key, status, view},
};
use crate::cluster::{Kind, Refusal, Scope};

/// The class that an installation has, unless its values say otherwise.
const INSTALLED: &str = "portcullis";

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

/// The classes that there are, and whose they are.
#[derive(Debug)]
pub(super) struct Names {
    /// The controller of each class; `None` if they could not be read.
    controllers: Option<BTreeMap<String, String>>,
    /// The name of our controller.
    own: String,
}

/// Whose a class is, for a Gateway that names it.
pub(super) enum Owner<'a> {
    Ours,
    /// Another controller's.
    Others(&'a str),
    /// Nobody's, as there is no such class.
    Nobody,
    /// The classes could not be read.
    Unknown,
}

impl Names {
    /// Whose this class is.
    pub(super) fn owner(&self, class: &str) -> Owner<'_> {
        let Some(controllers) = &self.controllers else {
            return Owner::Unknown;
        };
        match controllers.get(class) {
            Some(controller) if *controller == self.own => Owner::Ours,
            Some(controller) => Owner::Others(controller),
            None => Owner::Nobody,
        }
    }

    /// What follows for a Gateway with a class that does not exist.
    pub(super) fn missing(&self, class: &str) -> String {
        let remedy = if class == INSTALLED {
            "`portcullis install` makes it again".to_owned()
        } else {
            format!("make it again, or {}", self.remedy())
        };
        format!(
            "there is no GatewayClass {class}. Proxies that the Gateway has serve on with what they have, and nothing \
             changes until the class is there: {remedy}"
        )
    }

    /// Why a Gateway of another controller's class is not looked at.
    pub(super) fn foreign(&self, class: &str, controller: &str) -> String {
        format!(
            "it is of GatewayClass {class}, which is of controller {controller}, not of {}. Nothing to do here if that is to \
             serve it (if it is a Portcullis of another name, say --controller-name {controller}); else {}",
            self.own,
            self.remedy()
        )
    }

    /// How a Gateway gets a class of ours.
    fn remedy(&self) -> String {
        let all = self.controllers.iter().flatten();
        let ours = all.filter(|(_, controller)| **controller == self.own);
        let ours: Vec<_> = ours.map(|(name, _)| name.as_str()).collect();
        if ours.is_empty() {
            format!(
                "name GatewayClass {INSTALLED} in spec.gatewayClassName; `portcullis install` makes it"
            )
        } else {
            format!("write spec.gatewayClassName: {}", ours.join(" or "))
        }
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
        let objects = match self.cluster.list(&Kind::GATEWAY_CLASS, &Scope::All).await {
            Ok(objects) => objects,
            // Whoever has rights in one namespace only can still be told of it.
            Err(Refusal::Forbidden(message)) => {
                answer.hide("GatewayClasses", message);
                answer.notes.push(
                    "Gateways of other controllers are here too: whose they are only their GatewayClasses say"
                        .into(),
                );
                return Ok(self.names(None));
            }
            Err(refusal) => return Err(refusal.fatal(&Kind::GATEWAY_CLASS)),
        };
        let mut controllers = BTreeMap::new();
        for object in &objects {
            let View {
                spec,
                status: stated,
            } = view(object)?;
            if spec.controller_name == self.controller_name {
                let subject = Subject::new(Kind::GATEWAY_CLASS.name, object);
                answer.findings.extend(subject.judge(&stated.conditions));
                answer
                    .gateway_classes
                    .push(class(object, &stated.conditions));
            }
            controllers.insert(key(object), spec.controller_name);
        }
        if answer.gateway_classes.is_empty() {
            answer.findings.push(self.no_class());
        }
        Ok(self.names(Some(controllers)))
    }

    fn names(&self, controllers: Option<BTreeMap<String, String>>) -> Names {
        Names {
            controllers,
            own: self.controller_name.to_owned(),
        }
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
            apply: None,
            since: None,
        }
    }

    /// What the CRDs say of themselves, such as `v1.7.0 standard`.
    pub(super) async fn release(&self) -> anyhow::Result<Option<String>> {
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
