//! What is to be done, and what stands in its way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    super::{Object, Plan, Wanted, labels::GATEWAY_CLASS_NAME, object::Kind},
    Obstacles,
    compare::overlap,
    live::{Live, LiveObjects, Target},
    obstruct,
    request::{Action, Outcome, Step},
    unready::unready,
};
use crate::{
    metrics::{Metrics, Provision},
    resources::ObjectKey,
    status::programmed::Unready,
    writer::Queue,
};

/// What is to be done.
pub(super) struct Work {
    live: Arc<LiveObjects>,
    /// Whether any of it is for us to do.
    leads: bool,
    plan: Arc<Plan>,
    /// The Gateway that an object is wanted for, and the object's place among those.
    places: BTreeMap<Target, (ObjectKey, usize)>,
    /// Gateways by UID.
    owners: BTreeMap<String, ObjectKey>,
    queue: Queue<Target>,
    /// What was applied, and what the API server made of it: quantities in another form, or a field that somebody else
    /// insists on. To apply it once more would change nothing.
    settled: BTreeMap<Target, (Value, Value)>,
    /// What was in the way the last time, and the Gateway that it concerns.
    failures: BTreeMap<Target, (ObjectKey, String)>,
}

impl Work {
    pub(super) fn new(live: Arc<LiveObjects>) -> Self {
        Self {
            live,
            leads: false,
            plan: Arc::default(),
            places: BTreeMap::new(),
            owners: BTreeMap::new(),
            queue: Queue::default(),
            settled: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Whether it is for us to do.
    pub(super) fn lead(&mut self, leads: bool) {
        if leads != self.leads {
            self.leads = leads;
            // Whoever led before may have left anything.
            self.look_at_everything();
        }
    }

    /// What is wanted.
    pub(super) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan)
    }

    /// This is wanted now.
    pub(super) fn want(&mut self, plan: Plan) {
        let is_same = *self.plan == plan;
        self.plan = Arc::new(plan);
        if is_same {
            return;
        }
        self.places.clear();
        self.owners.clear();
        for (gateway, wanted) in &self.plan.gateways {
            self.owners.insert(wanted.owner.clone(), gateway.clone());
            let objects = wanted.objects.iter().flat_map(|made| made.objects());
            for (index, object) in objects.enumerate() {
                let target = (object.kind, object.key.clone());
                self.places.insert(target, (gateway.clone(), index));
            }
        }
        let (places, gateways) = (&self.places, &self.plan.gateways);
        self.settled.retain(|target, _| places.contains_key(target));
        self.failures.retain(|target, (gateway, _)| {
            places.contains_key(target) && gateways.contains_key(gateway)
        });
        self.look_at_everything();
    }

    /// These have changed. Who begins to lead looks at everything; nothing is noted before.
    pub(super) fn look_at(&mut self, targets: BTreeSet<Target>) {
        if !self.leads {
            return;
        }
        for target in targets {
            // A new workload may be what the one before it has to wait for.
            if let (Kind::Deployment | Kind::DaemonSet, key) = &target {
                let workloads = [Kind::Deployment, Kind::DaemonSet];
                self.queue.add(workloads.map(|kind| (kind, key.clone())));
            }
            self.queue.add([target]);
        }
    }

    /// Anything may have changed.
    fn look_at_everything(&mut self) {
        if !self.leads {
            return;
        }
        self.queue.add(self.places.keys().cloned());
        self.queue.add(self.live.targets());
    }

    /// Takes the next thing to do.
    pub(super) fn next(&mut self) -> Option<Action> {
        while let Some(target) = self.queue.take_due() {
            if let Some(action) = self.action(&target) {
                self.queue.begin(target);
                return Some(action);
            }
            self.failures.remove(&target);
        }
        None
    }

    /// When there may be something to do again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.queue.due()
    }

    fn action(&self, target: &Target) -> Option<Action> {
        let live = self.live.get(target);
        // What is being deleted has to be gone first; that is heard of.
        let going = live
            .as_ref()
            .is_some_and(|it| it.metadata.deletion_timestamp.is_some());
        if going {
            return None;
        }
        let (gateway, step) = if let Some((gateway, wanted, object)) = self.wanted(target) {
            let object = object.clone();
            let step = match live {
                Some(live) if live.owner() == Some(&wanted.owner) => {
                    if self.in_force(&object, &live) {
                        return None;
                    }
                    Step::Apply(object, live)
                }
                // It may be there without our label, or as somebody else's.
                _ => Step::Create(object, wanted.owner.clone()),
            };
            (gateway, step)
        } else {
            let live = live?;
            let gateway = self.not_wanted(target, &live)?;
            (gateway, Step::Delete(live.uid().to_owned()))
        };
        Some(Action {
            target: target.clone(),
            gateway: gateway.clone(),
            step,
        })
    }

    fn wanted(&self, target: &Target) -> Option<(&ObjectKey, &Wanted, &Object)> {
        let (gateway, index) = self.places.get(target)?;
        let wanted = self.plan.gateways.get(gateway)?;
        let object = wanted.objects.as_ref().ok()?.objects().get(*index)?;
        Some((gateway, wanted, object))
    }

    /// Whether everything that we say about an object holds.
    fn in_force(&self, object: &Object, live: &Live) -> bool {
        let said = said(object);
        let found = overlap(&said, &live.body);
        let settled = self.settled.get(&(object.kind, object.key.clone()));
        found == said
            || settled.is_some_and(|(hash, before)| hash == object.hash() && *before == found)
    }

    /// The Gateway that an object was made for, if it is not wanted any more.
    fn not_wanted(&self, (kind, _): &Target, live: &Live) -> Option<&ObjectKey> {
        let labels = live.metadata.labels.as_ref()?;
        if !self.plan.classes.contains(labels.get(GATEWAY_CLASS_NAME)?) {
            return None;
        }
        let gateway = self.owners.get(live.owner()?)?;
        let wanted = self.plan.gateways.get(gateway)?;
        let objects = wanted.objects.as_ref().ok()?;
        if is_workload(*kind) && !self.is_replaced(objects.objects()) {
            return None;
        }
        Some(gateway)
    }

    /// Whether the workload that is wanted takes traffic, so that the one before it may go.
    fn is_replaced(&self, objects: &[Object]) -> bool {
        let Some(workload) = objects.iter().find(|it| is_workload(it.kind)) else {
            return true;
        };
        let live = self.live.get(&(workload.kind, workload.key.clone()));
        let available = live.is_some_and(|live| {
            let status = &live.body["status"];
            let mut counts = ["availableReplicas", "numberAvailable"]
                .into_iter()
                .filter_map(|name| status[name].as_u64());
            counts.any(|count| count > 0)
        });
        available || workload.body["spec"]["replicas"] == 0
    }

    /// A request was answered.
    pub(super) fn done(&mut self, action: &Action, outcome: Outcome, metrics: &Metrics) {
        let Action {
            target, gateway, ..
        } = action;
        let (kind, key) = target;
        match outcome {
            Outcome::Applied(live) => {
                tracing::info!(%kind, object = %key, %gateway, "applied");
                metrics.provisioned(*kind, Provision::Applied);
                self.queue.written(target);
                self.failures.remove(target);
                if let Step::Apply(object, _) | Step::Create(object, _) = &action.step {
                    let found = overlap(&said(object), &live.body);
                    self.settled
                        .insert(target.clone(), (object.hash().clone(), found));
                }
                self.live.record(target, *live);
            }
            Outcome::Deleted => {
                tracing::info!(%kind, object = %key, %gateway, "deleted, since it is not wanted any more");
                metrics.provisioned(*kind, Provision::Deleted);
                self.queue.written(target);
                self.failures.remove(target);
            }
            Outcome::Foreign => {
                let why = format!(
                    "{kind} {key} exists and was not made for this Gateway, so it is left alone; delete or rename it, or \
                     rename the Gateway"
                );
                metrics.provisioned(*kind, Provision::Foreign);
                self.fail(target, gateway, why);
            }
            Outcome::NoNodePort(error) => {
                metrics.provisioned(*kind, Provision::Failed);
                let fixed_by = self.plan.gateways.get(gateway);
                let fixed_by = fixed_by.and_then(|it| it.node_ports_of.as_ref());
                let why = no_node_port(*kind, key, fixed_by, &error);
                self.fail(target, gateway, why);
            }
            Outcome::Failed(error) => {
                metrics.provisioned(*kind, Provision::Failed);
                let what = match action.step {
                    Step::Delete(_) => "deleted",
                    _ => "applied",
                };
                self.fail(
                    target,
                    gateway,
                    format!("{kind} {key} cannot be {what}: {error}"),
                );
            }
        }
    }

    /// Tells of a failure, and tries again later.
    fn fail(&mut self, target: &Target, gateway: &ObjectKey, why: String) {
        let before = self.failures.get(target);
        if before.is_none_or(|(_, before)| *before != why) {
            tracing::warn!(%gateway, "{why}; trying again");
        }
        self.failures.insert(target.clone(), (gateway.clone(), why));
        self.queue.failed(target);
    }

    /// What is in the way of each Gateway's infrastructure, as far as that is ours to make.
    pub(super) fn obstacles(&self) -> Obstacles {
        let mut obstacles = Obstacles::new();
        if !self.leads {
            return obstacles;
        }
        for (gateway, wanted) in &self.plan.gateways {
            if let Err(why) = &wanted.objects {
                obstacles.insert(
                    gateway.clone(),
                    format!("what there is stays as it is: {why}"),
                );
            }
        }
        for (gateway, why) in self.failures.values() {
            obstruct(&mut obstacles, gateway, why);
        }
        obstacles
    }

    /// The Gateways without a ready proxy.
    pub(super) fn unready(&self) -> BTreeMap<ObjectKey, Unready> {
        let gateways = self.plan.gateways.iter();
        gateways
            .filter_map(|(gateway, wanted)| {
                let workload = match &wanted.objects {
                    Ok(made) => Some(made.objects().iter().find(|it| is_workload(it.kind))?),
                    // What there is stays as it is, and may go.
                    Err(_) => None,
                };
                let key = ObjectKey::new(&gateway.namespace, &wanted.name);
                let live: Vec<_> = [Kind::Deployment, Kind::DaemonSet]
                    .into_iter()
                    .filter_map(|kind| self.live.get(&(kind, key.clone())))
                    .filter(|live| live.owner() == Some(&wanted.owner))
                    .collect();
                Some((gateway.clone(), unready(gateway, workload, &live)?))
            })
            .collect()
    }
}

/// What we say about an object, without what it is: a list does not repeat that for each entry.
fn said(object: &Object) -> Value {
    let mut said = object.body.clone();
    if let Some(fields) = said.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    said
}

/// What to do about a node port that cannot be had, given the GatewayParameters that ask for it.
fn no_node_port(kind: Kind, key: &ObjectKey, fixed_by: Option<&ObjectKey>, error: &str) -> String {
    let remedy = fixed_by.map_or_else(String::new, |fixed_by| {
        format!(
            "; choose another nodePort in spec.service.nodePorts of GatewayParameters {fixed_by}: a free one of the range that \
             the cluster has for them, by default 30000-32767"
        )
    });
    format!("{kind} {key} cannot be applied: {error}{remedy}")
}

fn is_workload(kind: Kind) -> bool {
    matches!(kind, Kind::Deployment | Kind::DaemonSet)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        Action, Arc, Kind, LiveObjects, ObjectKey, Plan, Step, Unready, Work, no_node_port,
    };
    use crate::{
        CONTROLLER_NAME, Options,
        manifests::Loaded,
        provision::{ProvisionOptions, wanted},
        translate::translate,
    };

    const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop, uid: uid-1}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, port: 80, protocol: HTTP}]";

    /// A Gateway whose infrastructure would have the same name.
    const NAMESAKE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: a-portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge-a, namespace: shop, uid: uid-2}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, port: 80, protocol: HTTP}]";

    fn plan(manifests: &str) -> Plan {
        let mut loaded = Loaded::accepted();
        loaded.read_text("all.yaml", manifests);
        let translation = translate(&loaded.resources, &Options::default());
        let options = ProvisionOptions {
            image: "registry.example/portcullis-proxy:1.0".into(),
            controller_url: "https://portcullis.portcullis-system.svc:9443".into(),
        };
        wanted(
            &Plan::default(),
            &loaded.resources,
            &translation.tables,
            &translation.ports,
            &translation.parameters,
            CONTROLLER_NAME,
            &options,
        )
    }

    /// Whoever waits for years to lead would note the name of every object that ever was.
    #[test]
    fn who_does_not_lead_notes_nothing_and_then_looks_at_everything() {
        let mut work = Work::new(Arc::default());
        work.want(plan(GATEWAY));
        let gone = (Kind::Service, ObjectKey::new("shop", "gone"));
        work.look_at([gone].into());
        assert!(work.next().is_none());
        work.lead(true);
        let created: Vec<_> = std::iter::from_fn(|| work.next())
            .map(|Action { target, step, .. }| match step {
                Step::Create(..) => target.0,
                _ => panic!("{target:?}"),
            })
            .collect();
        assert_eq!(
            created,
            [Kind::ServiceAccount, Kind::Service, Kind::Deployment]
        );
    }

    /// The proxies that it had before may go, and nobody makes others.
    #[test]
    fn a_gateway_whose_infrastructure_is_left_as_it_is_is_missed_with_its_proxies() {
        let edge = GATEWAY.replace(
            "gatewayClassName: portcullis",
            "gatewayClassName: a-portcullis",
        );
        let plan = plan(&(edge + NAMESAKE));
        let namesake = ObjectKey::new("shop", "edge-a");
        assert!(plan.gateways[&namesake].objects.is_err());
        let missed = |owner: Option<(&str, u32)>| {
            let live = LiveObjects::default();
            if let Some((owner, ready)) = owner {
                let deployment = json!({
                    "metadata": {
                        "name": "edge-a-portcullis", "namespace": "shop", "uid": "uid-3",
                        "ownerReferences": [{
                            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                            "name": "edge", "uid": owner, "controller": true,
                        }],
                    },
                    "spec": { "replicas": 1 },
                    "status": { "observedGeneration": 1, "readyReplicas": ready },
                });
                live.add(
                    Kind::Deployment,
                    serde_json::from_value(deployment).unwrap(),
                );
            }
            let mut work = Work::new(Arc::new(live));
            work.want(plan.clone());
            work.unready().remove(&namesake)
        };
        assert_eq!(missed(None), Some(Unready::Untold));
        assert_eq!(missed(Some(("uid-1", 1))), Some(Unready::Untold));
        assert_eq!(missed(Some(("uid-2", 1))), None);
        let told = missed(Some(("uid-2", 0)));
        assert!(matches!(told, Some(Unready::Told(_))), "{told:?}");
    }

    #[test]
    fn who_asks_for_a_node_port_that_cannot_be_had_is_named() {
        let service = ObjectKey::new("shop", "edge-portcullis");
        let error = "Service \"edge-portcullis\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is \
                     already allocated";
        let own = ObjectKey::new("shop", "own");
        let told = |fixed_by| no_node_port(Kind::Service, &service, fixed_by, error);
        let named = told(Some(&own));
        assert!(
            named.contains(error)
                && named.contains("spec.service.nodePorts of GatewayParameters shop/own"),
            "{named}"
        );
        assert!(!told(None).contains("GatewayParameters"));
    }
}
