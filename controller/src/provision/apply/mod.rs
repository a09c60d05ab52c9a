//! Makes what is at the API server what is wanted for each Gateway, on the one replica that leads.
//!
//! What is there is compared first. What is not there is created, which fails if somebody else is faster. All that we say
//! afterwards is said by server-side apply, so that what others say about the object stays. One that was not made for the
//! Gateway is never touched, whatever its name.

mod compare;
mod live;
mod request;
mod takeover;
mod unready;
mod work;

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, stream::FuturesUnordered};
use kube::Client;
use portcullis_routing::{GatewayKey, RoutingTable};
use tokio::{sync::watch, task::JoinSet};

use self::{live::LiveObjects, request::carry_out, work::Work};
use super::{Plan, ProvisionOptions, wanted};
use crate::{
    metrics::Metrics,
    resources::{ObjectKey, Resources},
    status::programmed::Unready,
    translate::{ParametersInForce, Ports},
    writer::wait_until,
};

/// Requests under way at once.
const MAX_REQUESTS: usize = 8;

/// What a plan is made of.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) resources: Arc<Resources>,
    pub(crate) tables: Arc<BTreeMap<GatewayKey, Arc<RoutingTable>>>,
    pub(crate) ports: Arc<Ports>,
    pub(crate) parameters: Arc<ParametersInForce>,
}

/// What is in the way of the infrastructure of Gateways, in words for their statuses.
pub(crate) type Obstacles = BTreeMap<ObjectKey, String>;

/// Notes something that is in the way of a Gateway.
pub(crate) fn obstruct(obstacles: &mut Obstacles, gateway: &ObjectKey, why: &str) {
    let told = obstacles.entry(gateway.clone()).or_default();
    if !told.is_empty() {
        told.push_str("; ");
    }
    told.push_str(why);
}

/// Makes infrastructure.
pub(crate) struct Provisioner {
    pub(crate) client: Client,
    pub(crate) controller_name: String,
    pub(crate) options: ProvisionOptions,
    /// `None` before the first translation.
    pub(crate) input: watch::Receiver<Option<Input>>,
    /// Whether it is for us to make it.
    pub(crate) leads: watch::Receiver<bool>,
    pub(crate) obstacles: watch::Sender<Obstacles>,
    /// Gateways without a ready proxy.
    pub(crate) unready: watch::Sender<BTreeMap<ObjectKey, Unready>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Provisioner {
    /// Works for ever.
    pub(crate) async fn run(mut self) {
        let mut watches = JoinSet::new();
        let client = self.client.clone();
        let live = LiveObjects::watch(&client, &self.metrics, &mut watches);
        let mut work = Work::new(Arc::clone(&live));
        let mut requests = FuturesUnordered::new();
        let mut looks_anew = true;
        loop {
            let leads = *self.leads.borrow_and_update();
            work.lead(leads);
            let known = live.known();
            let acts = leads && known;
            while acts
                && requests.len() < MAX_REQUESTS
                && let Some(action) = work.next()
            {
                requests.push(carry_out(&client, action));
            }
            tell(&self.obstacles, work.obstacles());
            // By every replica, so that the first statuses of a new leader are right.
            if looks_anew && known {
                tell(&self.unready, work.unready());
            }
            looks_anew = true;
            let due = work.due().filter(|_| acts && requests.len() < MAX_REQUESTS);
            let (input, leading) = (&mut self.input, &mut self.leads);
            tokio::select! {
                Some((action, outcome)) = requests.next() => {
                    work.done(&action, outcome, &self.metrics);
                    // What became of it is heard of from the watch.
                    looks_anew = false;
                }
                changed = input.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let Some(plan) = self.plan(work.plan()).await else {
                        return;
                    };
                    work.want(plan);
                }
                () = live.changed() => work.look_at(live.take_touched()),
                changed = leading.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = wait_until(due) => looks_anew = false,
            }
        }
    }

    /// Plans on a thread where it holds nobody up. `None` if that has failed.
    async fn plan(&mut self, before: Arc<Plan>) -> Option<Plan> {
        let Some(input) = self.input.borrow_and_update().clone() else {
            return Some(Plan::default());
        };
        let (name, options) = (self.controller_name.clone(), self.options.clone());
        let plan = move || {
            let Input {
                resources,
                tables,
                ports,
                parameters,
            } = input;
            wanted(
                &before,
                &resources,
                &tables,
                &ports,
                &parameters,
                &name,
                &options,
            )
        };
        tokio::task::spawn_blocking(plan).await.ok()
    }
}

fn tell<T: PartialEq>(to: &watch::Sender<T>, what: T) {
    to.send_if_modified(|told| {
        let changed = *told != what;
        *told = what;
        changed
    });
}
