//! Gateways that nobody can connect to because none of their proxies is ready, and what to do about it.

use std::sync::Arc;

use super::{
    super::{Object, label_value, labels::GATEWAY_NAME, object::Kind},
    live::Live,
};
use crate::{resources::ObjectKey, status::programmed::Unready};

/// What Kubernetes says of a Gateway's proxies, unless one of them is ready. `workload` is what is wanted, if anything can be
/// made; `live` what there is of it: two while one of another kind replaces it.
///
/// What Kubernetes has not looked at yet says nothing.
pub(super) fn unready(
    gateway: &ObjectKey,
    workload: Option<&Object>,
    live: &[Arc<Live>],
) -> Option<Unready> {
    let mut known = live
        .iter()
        .map(|live| &live.body)
        .filter(|it| it["status"]["observedGeneration"].is_u64())
        .peekable();
    if known.peek().is_none() {
        return Some(Unready::Untold);
    }
    let (mut ready, mut asked, mut refused) = (0, 0, false);
    for body in known {
        let status = &body["status"];
        let count = |name: &str| status[name].as_u64().unwrap_or(0);
        ready += count("readyReplicas") + count("numberReady");
        let of_nodes = status["desiredNumberScheduled"].as_u64();
        asked += of_nodes.or(body["spec"]["replicas"].as_u64()).unwrap_or(1);
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        refused |= conditions.any(|it| it["type"] == "ReplicaFailure" && it["status"] == "True");
    }
    if ready > 0 {
        return None;
    }
    if asked == 0 {
        let told = workload.map_or_else(|| "what runs it asks for no proxy".into(), nobody_asked);
        return Some(Unready::Told(told));
    }
    // Where the pods are refused there are none to describe.
    let what = if refused { "replicaset" } else { "pod" };
    let (namespace, name) = (&gateway.namespace, label_value(&gateway.name));
    Some(Unready::Told(format!(
        "0 of {asked} proxies are ready; kubectl -n {namespace} describe {what} -l {GATEWAY_NAME}={name} says why"
    )))
}

/// Of a workload that is to have no pod at all.
fn nobody_asked(workload: &Object) -> String {
    let Object { kind, key, body } = workload;
    let (namespace, name) = (&key.namespace, &key.name);
    let remedy = if *kind == Kind::DaemonSet {
        "no node takes one; see to workload.nodeSelector and workload.tolerations in the GatewayParameters".into()
    } else if body["spec"]["replicas"].is_u64() {
        "raise workload.replicas in the GatewayParameters".into()
    } else {
        format!("kubectl -n {namespace} scale deployment {name} --replicas=1 starts one")
    };
    format!("{kind} {key} asks for no proxy: {remedy}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is said of `shop/edge`, whose workload is this, with these to be found.
    fn told(kind: Kind, spec: &Value, live: &[Value]) -> Option<Unready> {
        let key = ObjectKey::new("shop", "edge-portcullis");
        let workload = Object::new(kind, key, json!({ "spec": spec }));
        let live: Vec<_> = live
            .iter()
            .map(|body| {
                let mut body = body.clone();
                body["metadata"] = json!({});
                Arc::new(serde_json::from_value(body).unwrap())
            })
            .collect();
        unready(&ObjectKey::new("shop", "edge"), Some(&workload), &live)
    }

    fn deployment(replicas: u32, ready: u32) -> Value {
        let status = json!({ "observedGeneration": 3, "readyReplicas": ready });
        json!({ "spec": { "replicas": replicas }, "status": status })
    }

    fn daemon_set(nodes: u32, ready: u32) -> Value {
        json!({
            "spec": {},
            "status": { "observedGeneration": 1, "desiredNumberScheduled": nodes, "numberReady": ready },
        })
    }

    #[test]
    fn one_ready_proxy_is_enough_and_what_is_not_known_says_nothing() {
        let told = |live: &[Value]| told(Kind::Deployment, &json!({}), live);
        assert_eq!(told(&[]), Some(Unready::Untold));
        let new = json!({ "spec": { "replicas": 1 } });
        assert_eq!(told(&[new]), Some(Unready::Untold));
        assert_eq!(told(&[deployment(3, 1)]), None);
        assert_eq!(told(&[daemon_set(3, 1)]), None);
        // One replaces the other.
        assert_eq!(told(&[deployment(3, 3), daemon_set(2, 0)]), None);
        assert_eq!(told(&[deployment(0, 0), daemon_set(2, 2)]), None);
        let new = json!({ "spec": { "replicas": 1 } });
        assert_eq!(told(&[new, daemon_set(2, 2)]), None);
    }

    #[test]
    fn none_is_told_with_the_remedy() {
        let told = |kind, spec, live| match told(kind, &spec, &[live]) {
            Some(Unready::Told(why)) => why,
            other => panic!("{other:?}"),
        };
        let say = |count: u32, what: &str| {
            format!(
                "0 of {count} proxies are ready; kubectl -n shop describe {what} -l \
                 gateway.networking.k8s.io/gateway-name=edge says why"
            )
        };
        let (one, every) = (Kind::Deployment, Kind::DaemonSet);
        assert_eq!(told(one, json!({}), deployment(2, 0)), say(2, "pod"));
        assert_eq!(told(every, json!({}), daemon_set(3, 0)), say(3, "pod"));
        let mut refused = deployment(2, 0);
        refused["status"]["conditions"] = json!([{ "type": "ReplicaFailure", "status": "True" }]);
        assert_eq!(told(one, json!({}), refused), say(2, "replicaset"));
        let nobody = told(one, json!({}), deployment(0, 0));
        let command = "kubectl -n shop scale deployment edge-portcullis --replicas=1";
        assert!(nobody.contains(command), "{nobody}");
        let nobody = told(one, json!({ "replicas": 0 }), deployment(0, 0));
        assert!(nobody.contains("raise workload.replicas"), "{nobody}");
        let nobody = told(every, json!({}), daemon_set(0, 0));
        assert!(nobody.contains("workload.nodeSelector"), "{nobody}");
    }
}
