//! Requests to the API server: one thing done to one object.

use std::{sync::Arc, time::Duration};

use kube::{
    Client,
    api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions},
    core::{Request, Status},
};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    live::{Live, Target},
    takeover::{self, take_over},
};
use crate::{provision::Object, resources::ObjectKey, writer::FIELD_MANAGER};

/// Time for an action, however many requests it takes: who does not lead any more must not go on writing for long.
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
    /// Say what we have to say about this object.
    Apply(Object, Arc<Live>),
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
    /// A port of the nodes cannot be had.
    NoNodePort(String),
    /// Something else is in the way.
    Failed(String),
}

/// Carries an action out.
pub(super) async fn carry_out(client: &Client, action: Action) -> (Action, Outcome) {
    let outcome = match timeout(TIMEOUT, try_to(client, &action)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(kube::Error::Api(status))) if is_about_node_ports(&status) => {
            Outcome::NoNodePort(status.message.clone())
        }
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
        Step::Create(object, owner) => create(client, &request, object, owner).await,
        Step::Apply(object, live) => apply(client, &request, object, live).await,
        Step::Delete(uid) => {
            let parameters = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: Some(uid.clone()),
                    resource_version: None,
                }),
                ..DeleteParams::background()
            };
            let delete = request
                .delete(&key.name, &parameters)
                .map_err(kube::Error::BuildRequest)?;
            match client.request::<Value>(delete).await {
                Ok(_) => Ok(Outcome::Deleted),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Outcome::Deleted),
                Err(error) => Err(error),
            }
        }
    }
}

/// Makes an object for the Gateway with the UID `owner`, unless one is there that we have not heard of.
async fn create(
    client: &Client,
    request: &Request,
    object: &Object,
    owner: &str,
) -> kube::Result<Outcome> {
    match look(client, request, object, owner).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        answer => return answer,
    }
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    let body = object.body.to_string().into_bytes();
    let post = request
        .create(&parameters, body)
        .map_err(kube::Error::BuildRequest)?;
    // To apply it would take over one that somebody has just made, unless that contradicts ours in some field.
    match client.request(post).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            look(client, request, object, owner).await
        }
        answer => answer.map(Outcome::Applied),
    }
}

/// What comes of an object that is there though we have not heard of it. It may be ours, and have lost our label.
async fn look(
    client: &Client,
    request: &Request,
    object: &Object,
    owner: &str,
) -> kube::Result<Outcome> {
    let get = request.get(&object.key.name, &GetParams::default());
    let live: Live = client
        .request(get.map_err(kube::Error::BuildRequest)?)
        .await?;
    if live.metadata.deletion_timestamp.is_some() {
        let why = "the one before it is still being deleted";
        Ok(Outcome::Failed(why.into()))
    } else if live.owner() == Some(owner) {
        apply(client, request, object, &live).await
    } else {
        Ok(Outcome::Foreign)
    }
}

/// Says what we have to say about an object. It fails if that is gone, and another one is in its place.
async fn apply(
    client: &Client,
    request: &Request,
    object: &Object,
    live: &Live,
) -> kube::Result<Outcome> {
    let mut body = object.body.clone();
    body["metadata"]["uid"] = live.uid().into();
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let name = &object.key.name;
    let send = || async {
        let patch = request.patch(name, &parameters, &Patch::Apply(&body));
        client
            .request(patch.map_err(kube::Error::BuildRequest)?)
            .await
    };
    if live.is_as_created {
        take_over(client, request, name, takeover::created).await?;
    }
    let live = match send().await {
        Err(kube::Error::Api(status)) if is_about_port_names(&status) => {
            if !take_over(client, request, name, takeover::ports).await? {
                return Err(kube::Error::Api(status));
            }
            send().await
        }
        answer => answer,
    };
    live.map(Outcome::Applied)
}

/// Whether a Service was refused because two of its ports have one name: somebody else has made the other of ours.
fn is_about_port_names(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == DUPLICATE && cause.field.starts_with("spec.ports["))
}

/// Whether a Service was refused because of a `nodePort`: somebody has it, or the cluster has no such one.
fn is_about_node_ports(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .any(|cause| cause.field.starts_with("spec.ports[") && cause.field.ends_with("].nodePort"))
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use http::{Method, Request, Response};
    use kube::{Client, client::Body, core::Status};
    use serde_json::json;
    use tokio::time::{Instant, sleep};

    use super::{
        Action, Outcome, Step, TIMEOUT, carry_out, is_about_node_ports, is_about_port_names,
    };
    use crate::{
        provision::{Kind, Object},
        resources::ObjectKey,
    };

    /// An API server that somebody else is always faster at, and that takes its time for each answer.
    fn slow_api(time: Duration) -> Client {
        let answer = move |request: Request<Body>| async move {
            sleep(time).await;
            let (code, reason) = match *request.method() {
                Method::GET => (404, "NotFound"),
                _ => (409, "AlreadyExists"),
            };
            let status = json!({ "status": "Failure", "code": code, "reason": reason });
            let mut response = Response::new(Body::from(status.to_string().into_bytes()));
            *response.status_mut() = code.try_into().unwrap();
            Ok::<_, Infallible>(response)
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test(start_paused = true)]
    async fn an_action_is_given_up_in_time_however_many_requests_it_takes() {
        let key = ObjectKey::new("shop", "edge-portcullis");
        let action = || {
            let object = Object::new(Kind::Service, key.clone(), json!({ "metadata": {} }));
            Action {
                target: (Kind::Service, key.clone()),
                gateway: ObjectKey::new("shop", "edge"),
                step: Step::Create(object, "uid-1".into()),
            }
        };
        for (time, is_in_time) in [(1, true), (4, false)] {
            let start = Instant::now();
            let (_, outcome) = carry_out(&slow_api(Duration::from_secs(time)), action()).await;
            let Outcome::Failed(why) = outcome else {
                panic!("it was done");
            };
            let is_answered = why != "the API server does not answer";
            assert!(start.elapsed() <= TIMEOUT, "{time}");
            assert_eq!(is_answered, is_in_time, "{time}: {why}");
        }
    }

    /// As Kubernetes 1.36 answers, to a creation and to an apply alike.
    #[test]
    fn refusals_of_services_are_told_apart() {
        let refusal = |field: &str, reason: &str, message: &str| -> Status {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": format!("Service \"edge\" is invalid: {field}: {message}"),
                "reason": "Invalid",
                "details": {
                    "name": "edge", "kind": "Service",
                    "causes": [{ "reason": reason, "message": message, "field": field }],
                },
                "code": 422,
            });
            serde_json::from_value(status).unwrap()
        };
        for message in [
            "Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
            "Invalid value: 30080: provided port is already allocated",
        ] {
            let node_port = refusal("spec.ports[1].nodePort", "FieldValueInvalid", message);
            assert!(is_about_node_ports(&node_port) && !is_about_port_names(&node_port));
        }
        let message = "Duplicate value: \"http-80\"";
        let name = refusal("spec.ports[1].name", "FieldValueDuplicate", message);
        assert!(!is_about_node_ports(&name) && is_about_port_names(&name));
    }
}
