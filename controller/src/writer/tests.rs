//! Statuses of kinds of which others write the same field.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::{client::Body, core::ObjectMeta};
use tokio::sync::mpsc;

use super::*;
use crate::{
    resources::ObjectKey,
    status::{ConditionSet, ConditionStatus, condition::kind},
    watch::{AtVersion, Version},
};

/// Method, path and body of a request.
type Asked = (String, String, Value);

/// An API server that gives these answers, one after the other, and tells what it was asked.
fn api(answers: Vec<(u16, Value)>) -> (Client, mpsc::Receiver<Asked>) {
    let (asked, requests) = mpsc::channel(8);
    let answers = Arc::new(std::sync::Mutex::new(answers.into_iter()));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (asked, answers) = (asked.clone(), Arc::clone(&answers));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let path = head.uri.path().to_owned();
            asked
                .send((head.method.to_string(), path, body))
                .await
                .unwrap();
            let (code, answer) = answers.lock().unwrap().next().unwrap();
            let answer = Body::from(answer.to_string().into_bytes());
            let answer = Response::builder().status(code).body(answer).unwrap();
            Ok::<_, Infallible>(answer)
        }
    });
    (Client::new(service, "default"), requests)
}

fn entry(version: &str, conditions: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "ServiceEntry",
        "metadata": { "name": "api", "namespace": "shop", "resourceVersion": version },
        "spec": { "hosts": ["api.example"] },
        "status": { "conditions": conditions, "addresses": [{ "value": "240.240.0.1" }] },
    })
}

/// Istio writes into the same list: what it has there stays, also what it wrote while we did.
#[tokio::test(start_paused = true)]
async fn conditions_of_a_service_entry_stand_beside_those_of_istio() {
    let of_istio = json!({ "type": "Reconciled", "status": "True", "observedGeneration": "7" });
    let added = json!({ "type": "Accepted", "status": "Unknown", "future": [1.50] });
    let conflict = json!({ "kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "" });
    let (client, mut requests) = api(vec![
        (409, conflict),
        (200, entry("8", &json!([of_istio, added]))),
        (200, entry("9", &json!([]))),
    ]);
    let key = ObjectKey::new("shop", "api");
    let target = StatusTarget {
        kind: "ServiceEntry",
        key: key.clone(),
    };
    let seen = SeenStatus {
        version: Version::of(&ObjectMeta {
            resource_version: Some("7".into()),
            ..ObjectMeta::default()
        }),
        status: json!({ "conditions": [of_istio] }).to_string().into(),
    };
    let store = ResourceStore::with_status(target, seen, AtVersion(Some("v1beta1")));
    let mut conditions = ConditionSet::new(Some(3));
    let (accepted, is_true) = (kind::SERVICE_ENTRY_ACCEPTED, ConditionStatus::True);
    conditions.set(accepted, is_true, "Accepted", "");
    let statuses = Statuses {
        service_entries: [(key, conditions)].into(),
        ..Statuses::default()
    };
    let (stated, desired) = watch::channel(None);
    let (_leads, leading) = watch::channel(true);
    let writer = StatusWriter {
        client,
        controller_name: "ours".into(),
        store: Arc::new(store),
        desired,
        leads: leading,
        let_stand: Duration::ZERO,
        metrics: Arc::new(Metrics::new().unwrap()),
    };
    let writer = tokio::spawn(writer.run());
    stated.send_replace(Some(Arc::new(statuses)));
    let path = "/apis/networking.istio.io/v1beta1/namespaces/shop/serviceentries/api";
    let mut next = async |expected: &str| {
        let (method, asked, mut body) = requests.recv().await.unwrap();
        assert_eq!(format!("{method} {asked}"), expected);
        let conditions = body["status"]["conditions"].take();
        assert!(body["status"].as_object().is_none_or(|it| it.len() == 1));
        (body["metadata"]["resourceVersion"].take(), conditions)
    };
    let (version, first) = next(&format!("PATCH {path}/status")).await;
    assert_eq!((version, &first[0]), (json!("7"), &of_istio));
    next(&format!("GET {path}")).await;
    let (version, second) = next(&format!("PATCH {path}/status")).await;
    assert_eq!(version, json!("8"));
    assert_eq!((&second[0], &second[1]), (&of_istio, &added));
    let own = &second[2];
    assert_eq!(
        (&own["type"], &own["status"]),
        (&json!(accepted), &json!("True"))
    );
    assert_eq!(own["observedGeneration"], 3);
    writer.abort();
}
