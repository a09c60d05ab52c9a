//! Why pods are not ready, in their own words, and where to look further.

use kube::api::DynamicObject;
use serde_json::Value;

use super::{Item, State};
use crate::status::condition_of;

/// What a container waits for when it only needs time.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// What it waits for when it has no image.
const WITHOUT_IMAGE: [&str; 5] = [
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
];

/// What keeps a pod from being ready.
struct Obstacle<'a> {
    state: State,
    /// Such as `ImagePullBackOff`.
    reason: &'a str,
    message: String,
    look: Look<'a>,
}

/// Where more is to be seen.
enum Look<'a> {
    /// At the events of the pod.
    Describe,
    /// At the name of this image first.
    Image(&'a str),
    /// At the log of this container.
    Log(&'a str),
    /// At its log from before it was started again.
    Previous(&'a str),
}

/// Of all pods that have the same obstacle one is named.
pub(super) fn items(pods: &[&DynamicObject]) -> Vec<Item> {
    let mut seen: Vec<(&DynamicObject, Obstacle<'_>, usize)> = Vec::new();
    for pod in pods {
        let Some(obstacle) = obstacle(pod) else {
            continue;
        };
        let same = |(_, it, _): &&mut (_, Obstacle<'_>, _)| it.reason == obstacle.reason;
        match seen.iter_mut().find(same) {
            Some((_, _, others)) => *others += 1,
            None => seen.push((pod, obstacle, 0)),
        }
    }
    seen.iter()
        .map(|(pod, obstacle, others)| item(pod, obstacle, *others))
        .collect()
}

fn item(pod: &DynamicObject, obstacle: &Obstacle<'_>, others: usize) -> Item {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let what = match others {
        0 => format!("Pod {namespace}/{name}"),
        more => format!("Pod {namespace}/{name} and {more} more"),
    };
    let found = match obstacle.message.as_str() {
        "" => obstacle.reason.to_owned(),
        message => format!("{}: {message}", obstacle.reason),
    };
    let kubectl = format!("kubectl -n {namespace}");
    let remedy = match obstacle.look {
        Look::Describe => format!("{kubectl} describe pod {name}"),
        Look::Image(image) => format!(
            "see that the nodes can get the image {image}: docs/install.md, \"Images\", says how; {kubectl} describe pod {name}"
        ),
        Look::Log(container) => format!("{kubectl} logs {name} -c {container}"),
        Look::Previous(container) => format!("{kubectl} logs {name} -c {container} --previous"),
    };
    match obstacle.state {
        State::Fault => Item::fault(what, found, &remedy),
        _ => Item::concern(what, found, &remedy),
    }
}

/// What keeps a pod from being ready, unless it is, or is ending.
fn obstacle(pod: &DynamicObject) -> Option<Obstacle<'_>> {
    let status = &pod.data["status"];
    let is_over = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
    if is_over || pod.metadata.deletion_timestamp.is_some() || is(status, "Ready", "True").is_some()
    {
        return None;
    }
    if let Some(unscheduled) = is(status, "PodScheduled", "False") {
        return Some(Obstacle {
            state: State::Warning,
            reason: word(unscheduled, "reason"),
            message: word(unscheduled, "message").to_owned(),
            look: Look::Describe,
        });
    }
    let containers = ["initContainerStatuses", "containerStatuses"];
    let containers = containers.iter().flat_map(|list| array(&status[list]));
    let mut obstacles: Vec<_> = containers.filter_map(of_container).collect();
    // A container that only waits for another one says least.
    obstacles.sort_by_key(|it| it.state != State::Fault);
    obstacles
        .into_iter()
        .next()
        .or_else(|| Some(of_pod(status)))
}

/// What is no container's doing. When a node is silent, its pods are not ready any more, and no reason is given.
fn of_pod(status: &Value) -> Obstacle<'_> {
    let has_containers = array(&status["containerStatuses"]).next().is_some();
    let ready = condition_of(&status["conditions"], "Ready").filter(|_| has_containers);
    let (reason, message) = match ready {
        None => ("Pending", "its node has not begun to start it"),
        Some(it) if word(it, "reason").is_empty() => {
            ("NotReady", "its node may be gone (kubectl get nodes)")
        }
        Some(it) => (word(it, "reason"), word(it, "message")),
    };
    Obstacle {
        state: State::Warning,
        reason,
        message: message.to_owned(),
        look: Look::Describe,
    }
}

fn of_container(status: &Value) -> Option<Obstacle<'_>> {
    let (name, state) = (word(status, "name"), &status["state"]);
    if status["ready"] == true {
        return None;
    }
    if let Some(waiting) = state.get("waiting") {
        let reason = word(waiting, "reason");
        if STARTING.contains(&reason) {
            return Some(Obstacle {
                state: State::Warning,
                reason,
                message: String::new(),
                look: Look::Describe,
            });
        }
        let last = &status["lastState"]["terminated"];
        return Some(Obstacle {
            state: State::Fault,
            reason,
            message: match ending(last) {
                Some(ending) => format!("{ending}; {}", word(waiting, "message")),
                None => word(waiting, "message").to_owned(),
            },
            look: if WITHOUT_IMAGE.contains(&reason) {
                Look::Image(word(status, "image"))
            } else if last.is_object() {
                Look::Previous(name)
            } else {
                Look::Describe
            },
        });
    }
    if let Some(terminated) = state.get("terminated") {
        return Some(Obstacle {
            state: State::Fault,
            reason: "Terminated",
            message: ending(terminated).unwrap_or_default(),
            look: Look::Log(name),
        });
    }
    Some(Obstacle {
        state: State::Warning,
        reason: "NotReady",
        message: format!("container {name} runs, but does not say that it is ready"),
        look: Look::Log(name),
    })
}

/// How a container has ended.
fn ending(terminated: &Value) -> Option<String> {
    let code = terminated["exitCode"].as_i64()?;
    let reason = word(terminated, "reason");
    Some(format!("it has ended with exit code {code} ({reason})"))
}

fn is<'a>(status: &'a Value, condition: &str, wanted: &str) -> Option<&'a Value> {
    condition_of(&status["conditions"], condition).filter(|it| it["status"] == wanted)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `shop/edge-NUMBER`.
    fn pod(number: usize, status: &Value) -> DynamicObject {
        let metadata = json!({ "namespace": "shop", "name": format!("edge-{number}") });
        serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap()
    }

    /// State, what was found, and the remedy.
    fn judge(status: &Value) -> Option<(State, String, String)> {
        let mut items = items(&[&pod(1, status)]);
        assert!(items.len() < 2, "{items:?}");
        let item = items.pop()?;
        assert_eq!(item.what, "Pod shop/edge-1");
        Some((item.state, item.found, item.remedy?))
    }

    fn waiting(reason: &str, message: &str) -> Value {
        json!({
            "phase": "Pending",
            "containerStatuses": [{
                "name": "proxy", "image": "registry.example/portcullis-proxy:1", "ready": false,
                "state": { "waiting": { "reason": reason, "message": message } },
            }],
        })
    }

    #[test]
    fn pods_that_are_ready_or_over_have_no_obstacle() {
        let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        assert_eq!(judge(&ready), None);
        assert_eq!(
            judge(&json!({ "phase": "Failed", "reason": "Evicted" })),
            None
        );
        let mut ending = pod(1, &waiting("ContainerCreating", ""));
        ending.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(items(&[&ending]).is_empty());
    }

    #[test]
    fn a_container_that_waits_says_for_what() {
        for (reason, message, remedy) in [
            (
                "ImagePullBackOff",
                "Back-off pulling image",
                "see that the nodes can get the image registry.example/portcullis-proxy:1: docs/install.md, \"Images\", says \
                 how; kubectl -n shop describe pod edge-1",
            ),
            (
                "CreateContainerConfigError",
                "secret \"edge\" not found",
                "kubectl -n shop describe pod edge-1",
            ),
        ] {
            let told = judge(&waiting(reason, message)).unwrap();
            let found = format!("{reason}: {message}");
            assert_eq!(told, (State::Fault, found, remedy.to_owned()));
        }
        let told = judge(&waiting("ContainerCreating", "")).unwrap();
        let remedy = "kubectl -n shop describe pod edge-1".to_owned();
        assert_eq!(told, (State::Warning, "ContainerCreating".into(), remedy));
    }

    #[test]
    fn one_that_ends_again_and_again_says_how_and_where_its_log_is() {
        let mut status = waiting("CrashLoopBackOff", "back-off 40s");
        status["containerStatuses"][0]["lastState"] =
            json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
        let (state, found, remedy) = judge(&status).unwrap();
        assert_eq!(state, State::Fault);
        assert_eq!(
            found,
            "CrashLoopBackOff: it has ended with exit code 137 (OOMKilled); back-off 40s"
        );
        assert_eq!(remedy, "kubectl -n shop logs edge-1 -c proxy --previous");

        status["containerStatuses"][0]["state"] =
            json!({ "terminated": { "exitCode": 1, "reason": "Error" } });
        let (state, found, remedy) = judge(&status).unwrap();
        assert_eq!(state, State::Fault);
        assert_eq!(found, "Terminated: it has ended with exit code 1 (Error)");
        assert_eq!(remedy, "kubectl -n shop logs edge-1 -c proxy");

        status["containerStatuses"][0]["state"] = json!({ "running": {} });
        let (state, found, _) = judge(&status).unwrap();
        assert_eq!(state, State::Warning);
        assert_eq!(
            found,
            "NotReady: container proxy runs, but does not say that it is ready"
        );
    }

    #[test]
    fn a_pod_without_a_node_has_the_words_of_the_scheduler() {
        let message = "0/1 nodes are available: 1 Insufficient cpu.";
        let unscheduled = json!({
            "phase": "Pending",
            "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            }],
        });
        let (state, found, remedy) = judge(&unscheduled).unwrap();
        assert_eq!(state, State::Warning);
        assert_eq!(found, format!("Unschedulable: {message}"));
        assert_eq!(remedy, "kubectl -n shop describe pod edge-1");
        let pending = "Pending: its node has not begun to start it";
        assert_eq!(judge(&json!({})).unwrap().1, pending);
        let gated = json!({
            "containerStatuses": [{ "name": "proxy", "ready": true, "state": { "running": {} } }],
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": "target is not healthy",
            }],
        });
        let gate = "ReadinessGatesNotReady: target is not healthy";
        assert_eq!(judge(&gated).unwrap().1, gate);
    }

    /// What becomes of a condition when a node does not answer any more.
    #[test]
    fn a_pod_whose_node_is_gone_has_run() {
        let status = |ready: &Value| {
            let running = json!({ "name": "proxy", "ready": true, "state": { "running": {} } });
            json!({ "phase": "Running", "containerStatuses": [running], "conditions": [ready] })
        };
        let silent = status(&json!({ "type": "Ready", "status": "False" }));
        let (state, found, _) = judge(&silent).unwrap();
        assert_eq!(state, State::Warning);
        let gone = "NotReady: its node may be gone (kubectl get nodes)";
        assert_eq!(found, gone);
        let unknown = status(&json!({ "type": "Ready", "status": "Unknown" }));
        assert_eq!(judge(&unknown).unwrap().1, gone);
        let told =
            status(&json!({ "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown" }));
        assert_eq!(judge(&told).unwrap().1, "NodeStatusUnknown");
    }

    #[test]
    fn what_is_broken_goes_before_what_waits_for_it() {
        let mut status = waiting("CreateContainerError", "");
        status["initContainerStatuses"] = json!([
            { "name": "done", "ready": true, "state": { "terminated": { "exitCode": 0 } } },
            { "name": "sidecar", "ready": false, "state": { "waiting": { "reason": "PodInitializing" } } },
        ]);
        assert_eq!(judge(&status).unwrap().1, "CreateContainerError");
    }

    #[test]
    fn pods_with_the_same_obstacle_are_told_once() {
        let (pulls, starts) = (
            waiting("ErrImagePull", "no such host"),
            waiting("ContainerCreating", ""),
        );
        let pods = [&pulls, &starts, &pulls, &pulls];
        let pods: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(at, it)| pod(at, it))
            .collect();
        let items = items(&pods.iter().collect::<Vec<_>>());
        let told: Vec<_> = items.iter().map(|it| it.what.as_str()).collect();
        assert_eq!(told, ["Pod shop/edge-0 and 2 more", "Pod shop/edge-1"]);
    }
}
