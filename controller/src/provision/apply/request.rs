//! Requests to the API server: one thing done to one object.

use std::time::Duration;

use kube::{
    Client,
    api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions},
    core::{Request, Status},
};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    live::{Live, Target},
    takeover::take_over,
};
use crate::{provision::Object, resources::ObjectKey, writer::FIELD_MANAGER};

/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the API server refuses a list with two entries of one name.
const DUPLICATE: &str = "FieldValueDuplicate";

/// Something to be done to an object.
pub(super) struct Action {
    pub(super) target: Target,
    /// The Gateway that it is done for.
    pub(super) gateway: ObjectKey,
    pub(super) step: Step,
}

/// What is to be done.
pub(super) enum Step {
    /// It does not seem to be there: make it for the Gateway with this UID.
    Create(Object, String),
    /// Say what we have to say about the object with this UID.
    Apply(Object, String),
    /// Delete the object with this UID.
    Delete(String),
}

/// How it went.
pub(super) enum Outcome {
    /// It was applied, and is this now.
    Applied(Box<Live>),
    /// It is gone.
    Deleted,
    /// Something that was not made for this Gateway has its name.
    Foreign,
    /// Something is in the way.
    Failed(String),
}

/// Carries an action out.
pub(super) async fn carry_out(client: &Client, action: Action) -> (Action, Outcome) {
    let outcome = match timeout(TIMEOUT, try_to(client, &action)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(kube::Error::Api(status))) => Outcome::Failed(status.message.clone()),
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed("the API server does not answer".into()),
    };
    (action, outcome)
}

async fn try_to(client: &Client, action: &Action) -> kube::Result<Outcome> {
    let (kind, key) = &action.target;
    let request = Request::new(kind.path(&key.namespace));
    match &action.step {
        Step::Create(object, owner) => {
            // Applying would take over whatever is there.
            let get = request.get(&key.name, &GetParams::default());
            let found: kube::Result<Live> = client.request(get.map_err(build)?).await;
            match found {
                Ok(live) if live.metadata.deletion_timestamp.is_some() => {
                    let why = "the one before it is still being deleted";
                    Ok(Outcome::Failed(why.into()))
                }
                // It has lost our label.
                Ok(live) if live.owner() == Some(owner) => {
                    apply(client, &request, object, Some(live.uid())).await
                }
                Ok(_) => Ok(Outcome::Foreign),
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    apply(client, &request, object, None).await
                }
                Err(error) => Err(error),
            }
        }
        Step::Apply(object, uid) => apply(client, &request, object, Some(uid)).await,
        Step::Delete(uid) => {
            let parameters = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: Some(uid.clone()),
                    resource_version: None,
                }),
                ..DeleteParams::background()
            };
            let delete = request.delete(&key.name, &parameters).map_err(build)?;
            match client.request::<Value>(delete).await {
                Ok(_) => Ok(Outcome::Deleted),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Outcome::Deleted),
                Err(error) => Err(error),
            }
        }
    }
}

/// Says what we have to say about an object. With a UID it fails if that object is gone, and another one is in its place.
/// Without one it is taken not to be there, and nobody who was faster in making it is overruled: whoever says otherwise in a
/// field is a conflict, and the next try finds the object.
async fn apply(
    client: &Client,
    request: &Request,
    object: &Object,
    uid: Option<&str>,
) -> kube::Result<Outcome> {
    let mut body = object.body.clone();
    if let Some(uid) = uid {
        body["metadata"]["uid"] = uid.into();
    }
    let mut parameters = PatchParams::apply(FIELD_MANAGER);
    parameters.force = uid.is_some();
    let send = || send(client, request, object, &body, &parameters);
    let live = match send().await {
        Err(kube::Error::Api(status)) if uid.is_some() && is_about_port_names(&status) => {
            if !take_over(client, request, &object.key.name).await? {
                return Err(kube::Error::Api(status));
            }
            send().await
        }
        answer => answer,
    };
    Ok(Outcome::Applied(Box::new(live?)))
}

/// Whether a Service was refused because two of its ports have one name: somebody else has made the other of ours.
fn is_about_port_names(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == DUPLICATE && cause.field.starts_with("spec.ports["))
}

async fn send(
    client: &Client,
    request: &Request,
    object: &Object,
    body: &Value,
    parameters: &PatchParams,
) -> kube::Result<Live> {
    let patch = request.patch(&object.key.name, parameters, &Patch::Apply(body));
    client.request(patch.map_err(build)?).await
}

pub(super) fn build(error: kube::core::request::Error) -> kube::Error {
    kube::Error::BuildRequest(error)
}
