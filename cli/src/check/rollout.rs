//! Whether a Deployment or DaemonSet has all its pods, ready and of the latest version.

use serde_json::Value;

use super::{Item, fleet::Workload};
use crate::status::condition_of;

/// That the status is about an earlier version.
const NOT_SEEN: &str = "the latest change has not been seen yet";

/// What its status counts.
struct Progress {
    wanted: i64,
    ready: i64,
    available: i64,
    /// Pods of the latest version.
    updated: i64,
    /// Pods of earlier versions. What a DaemonSet has of them is among those that are not updated.
    earlier: i64,
    /// Whether the status is about the latest version at all.
    is_seen: bool,
}

impl Progress {
    fn of(workload: &Workload) -> Self {
        let status = |name: &str| {
            let number = workload.object.data.pointer(&format!("/status/{name}"));
            number.and_then(Value::as_i64).unwrap_or(0)
        };
        let generation = workload.object.metadata.generation;
        let is_seen = generation.is_none_or(|it| status("observedGeneration") >= it);
        if workload.is_daemon_set() {
            return Self {
                wanted: status("desiredNumberScheduled"),
                ready: status("numberReady"),
                available: status("numberAvailable"),
                updated: status("updatedNumberScheduled"),
                earlier: 0,
                is_seen,
            };
        }
        let replicas = workload.object.data.pointer("/spec/replicas");
        let updated = status("updatedReplicas");
        Self {
            wanted: replicas.and_then(Value::as_i64).unwrap_or(1),
            ready: status("readyReplicas"),
            available: status("availableReplicas"),
            updated,
            earlier: status("replicas") - updated,
            is_seen,
        }
    }

    /// What keeps it from its end, as far as numbers say.
    fn left(&self) -> Option<String> {
        let Self {
            wanted,
            ready,
            available,
            updated,
            earlier,
            ..
        } = self;
        if !self.is_seen {
            Some(NOT_SEEN.into())
        } else if updated < wanted {
            Some(format!("{updated} of {wanted} are of the latest version"))
        } else if *earlier > 0 {
            Some(format!("{earlier} of an earlier version still run"))
        } else if available < ready {
            // They have to be ready for a while (minReadySeconds).
            Some(format!("{available} of {wanted} are available"))
        } else {
            None
        }
    }
}

/// How the rollout is.
pub(super) fn item(workload: &Workload) -> Item {
    let progress = Progress::of(workload);
    let Progress { wanted, ready, .. } = progress;
    if wanted == 0 {
        // The nodes of a DaemonSet have to be counted first.
        return if workload.is_daemon_set() && !progress.is_seen {
            Item::concern(workload.title(), NOT_SEEN, &remedy(workload))
        } else {
            nobody_asked(workload)
        };
    }
    let refused = condition(workload, "ReplicaFailure", "True");
    let stuck = condition(workload, "Progressing", "False");
    let failed = refused.is_some() || stuck.is_some();

    let mut found = vec![format!("{ready} of {wanted} replicas are ready")];
    found.extend(progress.left());
    found.extend(refused.map(|why| format!("pods are refused: {why}")));
    found.extend(stuck.map(|why| format!("the rollout is stuck: {why}")));
    let is_whole = found.len() == 1 && ready >= wanted;
    let found = found.join("; ");
    if is_whole {
        Item::ok(workload.title(), found)
    } else if failed || ready == 0 {
        Item::fault(workload.title(), found, &remedy(workload))
    } else {
        Item::concern(workload.title(), found, &remedy(workload))
    }
}

/// Reason and message of a condition that has this status.
fn condition(workload: &Workload, kind: &str, status: &str) -> Option<String> {
    let conditions = workload.object.data.pointer("/status/conditions")?;
    let found = condition_of(conditions, kind).filter(|it| it["status"] == status)?;
    let word = |name: &str| found[name].as_str().unwrap_or_default();
    Some(format!("{} ({})", word("message"), word("reason")))
}

/// Of pods that are refused there is none to describe: then its `ReplicaSet` tells.
fn remedy(workload: &Workload) -> String {
    let namespace = workload.namespace();
    let what = if condition(workload, "ReplicaFailure", "True").is_some() {
        "replicasets"
    } else {
        "pods"
    };
    format!(
        "kubectl -n {namespace} describe {what} -l {}, and kubectl -n {namespace} logs {}",
        workload.selector(),
        workload.argument()
    )
}

/// Of a workload that is to have no pod at all.
fn nobody_asked(workload: &Workload) -> Item {
    let remedy = if workload.is_daemon_set() {
        "no node takes one: see to workload.nodeSelector and workload.tolerations in the GatewayParameters".into()
    } else {
        format!(
            "kubectl -n {} scale {} --replicas=1 starts one; how many there are to be, a value of the chart says \
             (replicaCount), and for proxies GatewayParameters (workload.replicas)",
            workload.namespace(),
            workload.argument()
        )
    };
    Item::fault(workload.title(), "it is to have no replicas", &remedy)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::State, *};
    use crate::cluster::Kind;

    const WAITS: &str = "kubectl -n shop describe pods -l app=edge, and kubectl -n shop logs";

    fn judge(kind: &'static Kind, spec: Value, status: Value) -> (State, String, String) {
        let mut object = json!({
            "metadata": { "namespace": "shop", "name": "edge", "generation": 2 },
            "spec": { "selector": { "matchLabels": { "app": "edge" } } },
            "status": { "observedGeneration": 2 },
        });
        for (part, more) in [("spec", spec), ("status", status)] {
            let part = object[part].as_object_mut().unwrap();
            part.extend(more.as_object().unwrap().clone());
        }
        let item = item(&Workload::new(
            kind,
            serde_json::from_value(object).unwrap(),
        ));
        assert_eq!(item.what, format!("{} shop/edge", kind.name));
        (item.state, item.found, item.remedy.unwrap_or_default())
    }

    /// Of two replicas.
    fn deployment(status: Value) -> (State, String, String) {
        judge(&Kind::DEPLOYMENT, json!({ "replicas": 2 }), status)
    }

    #[test]
    fn a_rollout_is_well_only_when_it_is_over() {
        let numbers = |all: u8, updated: u8, ready: u8, available: u8| {
            json!({
                "replicas": all, "updatedReplicas": updated, "readyReplicas": ready,
                "availableReplicas": available,
            })
        };
        let mut behind = numbers(2, 2, 2, 2);
        behind["observedGeneration"] = json!(1);
        for (status, state, found) in [
            (numbers(2, 2, 2, 2), State::Ok, "2 of 2 replicas are ready"),
            (
                numbers(3, 1, 2, 2),
                State::Warning,
                "2 of 2 replicas are ready; 1 of 2 are of the latest version",
            ),
            (
                numbers(3, 2, 2, 2),
                State::Warning,
                "2 of 2 replicas are ready; 1 of an earlier version still run",
            ),
            (
                numbers(2, 2, 1, 1),
                State::Warning,
                "1 of 2 replicas are ready",
            ),
            (
                numbers(2, 2, 2, 1),
                State::Warning,
                "2 of 2 replicas are ready; 1 of 2 are available",
            ),
            (
                behind,
                State::Warning,
                "2 of 2 replicas are ready; the latest change has not been seen yet",
            ),
            (
                numbers(2, 2, 0, 0),
                State::Fault,
                "0 of 2 replicas are ready",
            ),
        ] {
            let (is, told, remedy) = deployment(status.clone());
            assert_eq!((is, told.as_str()), (state, found), "{status}");
            let expected = if state == State::Ok { "" } else { WAITS };
            assert!(remedy.starts_with(expected), "{remedy}");
        }
    }

    #[test]
    fn one_that_is_stuck_is_a_fault_though_the_old_pods_serve() {
        let mut status = json!({
            "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2,
            "conditions": [
                { "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": "" },
                {
                    "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                    "message": "ReplicaSet \"edge-2\" has timed out progressing.",
                },
            ],
        });
        let (state, found, remedy) = deployment(status.clone());
        assert_eq!(state, State::Fault);
        assert_eq!(
            found,
            "2 of 2 replicas are ready; 1 of 2 are of the latest version; the rollout is stuck: ReplicaSet \"edge-2\" has \
             timed out progressing. (ProgressDeadlineExceeded)"
        );
        assert!(
            remedy.ends_with("kubectl -n shop logs deployment/edge"),
            "{remedy}"
        );

        status["conditions"] = json!([{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small",
        }]);
        let (state, found, remedy) = deployment(status);
        assert_eq!(state, State::Fault);
        assert!(
            found.ends_with("pods are refused: exceeded quota: small (FailedCreate)"),
            "{found}"
        );
        assert!(
            remedy.starts_with("kubectl -n shop describe replicasets -l app=edge"),
            "{remedy}"
        );
    }

    #[test]
    fn a_daemon_set_is_counted_by_nodes() {
        let judge = |wanted: u8, updated: u8, ready: u8| {
            let status = json!({
                "desiredNumberScheduled": wanted, "updatedNumberScheduled": updated, "numberReady": ready,
                "numberAvailable": ready,
            });
            judge(&Kind::DAEMON_SET, json!({}), status)
        };
        assert_eq!(judge(3, 3, 3).0, State::Ok);
        let (state, found, remedy) = judge(3, 1, 3);
        assert_eq!(state, State::Warning);
        assert_eq!(
            found,
            "3 of 3 replicas are ready; 1 of 3 are of the latest version"
        );
        assert!(remedy.ends_with("logs daemonset/edge"), "{remedy}");
        assert_eq!(judge(3, 3, 0).0, State::Fault);
        let (state, found, remedy) = judge(0, 0, 0);
        assert_eq!(
            (state, found.as_str()),
            (State::Fault, "it is to have no replicas")
        );
        assert!(remedy.contains("workload.nodeSelector"), "{remedy}");
    }

    #[test]
    fn a_daemon_set_that_nobody_has_seen_may_have_nodes() {
        let status = json!({ "observedGeneration": 1 });
        let (state, found, remedy) = judge(&Kind::DAEMON_SET, json!({}), status);
        assert_eq!(
            (state, found.as_str()),
            (State::Warning, "the latest change has not been seen yet")
        );
        assert!(remedy.starts_with(WAITS), "{remedy}");
    }

    #[test]
    fn one_without_replicas_says_how_to_start_one() {
        let (state, _, remedy) = judge(&Kind::DEPLOYMENT, json!({ "replicas": 0 }), json!({}));
        assert_eq!(state, State::Fault);
        let command = "kubectl -n shop scale deployment/edge --replicas=1";
        assert!(remedy.starts_with(command), "{remedy}");
    }
}
