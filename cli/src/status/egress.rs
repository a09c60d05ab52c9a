//! What says where egress may go, and with what: ServiceEntries, EgressPolicies and CredentialInjections.

use jiff::Timestamp;
use kube::api::DynamicObject;
use portcullis_controller::status::{condition::kind, reason};
use serde::{Deserialize, Serialize};

use super::{
    Question, Status,
    condition::{Condition, Subject, all_good, key, status, view},
    parents::OBJECT_NOT_SEEN,
};
use crate::cluster::Kind;

/// One of these objects, and what the controller says of it. A ServiceEntry may be a mesh's alone: then it says nothing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EgressObject {
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// Of a ServiceEntry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) hosts: Vec<String>,
    pub(super) accepted: String,
    /// Of a CredentialInjection.
    pub(super) resolved: String,
    /// Of the others.
    pub(super) programmed: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct View {
    spec: Spec,
    #[serde(default)]
    status: Stated,
}

#[derive(Debug, Deserialize)]
struct Spec {
    #[serde(default)]
    hosts: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stated {
    conditions: Vec<Condition>,
    /// Of a CredentialInjection: what comes of it at each Gateway.
    ancestors: Vec<Ancestor>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ancestor {
    controller_name: String,
    conditions: Vec<Condition>,
}

impl Stated {
    /// What this controller says: of an object that several may speak of, what it says at a Gateway where something is wrong, if
    /// there is one.
    fn of(self, controller_name: &str) -> Vec<Condition> {
        let ancestors = self.ancestors.into_iter();
        let ours = ancestors.filter(|it| it.controller_name == controller_name);
        let at_gateway = ours
            .map(|it| it.conditions)
            .min_by_key(|conditions| all_good(conditions));
        let own = self.conditions.into_iter();
        own.chain(at_gateway.into_iter().flatten()).collect()
    }
}

/// The types of the conditions that say whether an object is accepted, and whether it is in force. Those of ServiceEntries stand
/// beside a mesh's.
type Types = (&'static str, &'static str);

const OF_ENTRIES: Types = (kind::SERVICE_ENTRY_ACCEPTED, kind::SERVICE_ENTRY_PROGRAMMED);
const OF_OURS: Types = (kind::ACCEPTED, kind::PROGRAMMED);

/// What a name that is asked for may be of. Whichever version of ServiceEntry a cluster serves has all of them.
const KINDS: [Kind; 5] = {
    let [v1, v1beta1, v1alpha3] = Kind::SERVICE_ENTRIES;
    let (policy, credential) = (Kind::EGRESS_POLICY, Kind::CREDENTIAL_INJECTION);
    [v1, v1beta1, v1alpha3, policy, credential]
};

impl Question<'_> {
    /// Looks at them.
    pub(super) async fn egress(&self, answer: &mut Status) -> anyhow::Result<()> {
        let (mut is_there, mut missing) = (false, "ObjectNotFound");
        let [entries @ .., policies, credentials] = &KINDS;
        let mut listed = None;
        for version in entries {
            let what = ("ServiceEntries", &mut *answer);
            listed = self.optional_in(&self.scope, version, what).await?;
            // Who may not list one version may not list any.
            if listed.as_ref().is_none_or(|objects| !objects.is_empty()) {
                break;
            }
        }
        let entries = (listed, Kind::SERVICE_ENTRIES[0].name, OF_ENTRIES);
        let what = ("EgressPolicies", &mut *answer);
        let listed = self.optional_in(&self.scope, policies, what).await?;
        let policies = (listed, policies.name, OF_OURS);
        let listed = self.optional(credentials, answer).await?;
        let credentials = (listed, credentials.name, OF_OURS);
        for (listed, kind, types) in [entries, policies, credentials] {
            let Some(objects) = listed else {
                missing = OBJECT_NOT_SEEN;
                continue;
            };
            for object in objects.iter().filter(|object| self.asks_for(object)) {
                is_there = true;
                answer.look_at(kind, types, object, self.controller_name)?;
            }
        }
        if let Some(name) = self.name.filter(|_| !is_there) {
            let finding = self.not_found(&KINDS, name, missing).await?;
            answer.findings.push(finding);
        }
        Ok(())
    }
}

impl Status {
    fn look_at(
        &mut self,
        kind: &'static str,
        (accepted, programmed): Types,
        object: &DynamicObject,
        controller_name: &str,
    ) -> anyhow::Result<()> {
        let View { spec, status: said } = view(object)?;
        let mut ours = said.of(controller_name);
        let types = [accepted, kind::RESOLVED_REFS, programmed];
        ours.retain(|it| types.iter().any(|kind| it.is_of(kind)));
        if !ours.is_empty() {
            let subject = Subject::new(kind, object);
            self.findings.extend(subject.judge(&ours));
            let in_part = ours
                .iter()
                .filter(|it| it.is_true_for(&[reason::PARTIALLY_INVALID, reason::CONFLICTED]));
            self.findings.extend(in_part.map(|it| subject.fault(it)));
        }
        self.egress.push(EgressObject {
            kind,
            name: key(object),
            hosts: spec.hosts,
            accepted: status(&ours, accepted),
            resolved: status(&ours, kind::RESOLVED_REFS),
            programmed: status(&ours, programmed),
            created_at: object.metadata.creation_timestamp.as_ref().map(|it| it.0),
        });
        Ok(())
    }
}
