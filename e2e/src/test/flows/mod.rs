//! What the tutorials of Kubernetes' gateways let their readers do.

mod expose;

use futures::FutureExt;

use super::{Company, Scenario};

pub(super) fn all() -> Vec<Scenario> {
    vec![Scenario::new(
        "load-balancer",
        "a Gateway and a route serve at a LoadBalancer's address",
        Company::Others,
        |bed| expose::load_balancer(bed).boxed_local(),
    )]
}
