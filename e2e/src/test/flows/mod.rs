//! What the tutorials of Kubernetes' gateways let their readers do.

mod command;
mod endpoints;
mod expose;
mod foreign;
mod grant;
mod lifecycle;
mod load;
mod provision;
mod release;
mod tls;
mod traffic;

use futures::FutureExt;

use super::{
    Company::{Alone, Others},
    Scenario,
};

/// A Gateway `edge`, and a route to the Service `app`.
const EDGE: &str = include_str!("../manifests/edge.yaml");

pub(super) fn all() -> Vec<Scenario> {
    [exposed(), released(), on_the_way(), kept_up()]
        .into_iter()
        .flatten()
        .collect()
}

fn exposed() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "load-balancer",
            "a Gateway and a route serve at a LoadBalancer's address",
            Others,
            |bed| expose::load_balancer(bed).boxed_local(),
        ),
        Scenario::new(
            "node-port",
            "a Gateway serves at the node port that its GatewayParameters name, and moves to another",
            Others,
            |bed| expose::node_port(bed).boxed_local(),
        ),
        Scenario::new(
            "two-gateways",
            "two Gateways with the same port have an address and routes of their own each",
            Others,
            |bed| expose::two_gateways(bed).boxed_local(),
        ),
        Scenario::new(
            "https",
            "HTTPS is served with the certificate of a Secret, and HTTP leads there by 301",
            Others,
            |bed| tls::https(bed).boxed_local(),
        ),
        Scenario::new(
            "certificate-rotation",
            "a Secret's new certificate is shown to new connections, and kept connections lose no request",
            Others,
            |bed| tls::rotation(bed).boxed_local(),
        ),
    ]
}

fn released() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "dark-launch",
            "requests with `user: test` get the new version, all others the old one (v1beta1)",
            Others,
            |bed| release::dark_launch(bed).boxed_local(),
        ),
        Scenario::new(
            "weights",
            "a new version gets 10 %, 50 %, then 100 % of the requests",
            Others,
            |bed| release::weights(bed).boxed_local(),
        ),
        Scenario::new(
            "paths",
            "prefixes match whole elements, exact paths win, all else is 404",
            Others,
            |bed| release::paths(bed).boxed_local(),
        ),
    ]
}

fn on_the_way() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "mirror",
            "a mirror's pod gets every request once, clients get the main answer, with or without it",
            Others,
            |bed| traffic::mirror(bed).boxed_local(),
        ),
        Scenario::new(
            "timeout",
            "a backend that is slower than the route allows is answered for by 504",
            Others,
            |bed| traffic::timeout(bed).boxed_local(),
        ),
        Scenario::new(
            "retry",
            "a backend that fails is asked again, as often as the route says",
            Others,
            |bed| traffic::retry(bed).boxed_local(),
        ),
        Scenario::new(
            "rewrite",
            "path, host and headers are changed as the filters say",
            Others,
            |bed| traffic::rewrite(bed).boxed_local(),
        ),
    ]
}

fn kept_up() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "deletion",
            "without its route a Gateway answers 404, without itself nothing of it is left, and it can come again",
            Others,
            |bed| lifecycle::deletion(bed).boxed_local(),
        ),
        Scenario::new(
            "foreign-status",
            "what other controllers write into the status of a route and a Gateway stays as it is",
            Others,
            |bed| foreign::status(bed).boxed_local(),
        ),
        Scenario::new(
            "reference-grant",
            "a Service of another namespace is used with a ReferenceGrant only; without, the status names the remedy",
            Others,
            |bed| grant::reference(bed).boxed_local(),
        ),
        Scenario::new(
            "endpoints",
            "a backend goes from 1 pod to 5 and back at 200 requests/s: all serve, no request fails",
            Others,
            |bed| endpoints::scale(bed).boxed_local(),
        ),
        Scenario::new(
            "autoscaler",
            "HorizontalPodAutoscaler and PodDisruptionBudget come and go with the GatewayParameters",
            Others,
            |bed| provision::autoscaler(bed).boxed_local(),
        ),
        Scenario::new(
            "daemon-set",
            "a DaemonSet serves, and a Deployment takes over without a failed request",
            Others,
            |bed| provision::daemon_set(bed).boxed_local(),
        ),
        Scenario::new(
            "drift",
            "what somebody edits or deletes of a Gateway's Deployment and Service is put back",
            Others,
            |bed| provision::drift(bed).boxed_local(),
        ),
        Scenario::new(
            "foreign-service",
            "a Service of somebody else is left alone, and the Gateway's status names it",
            Others,
            |bed| provision::foreign_service(bed).boxed_local(),
        ),
        Scenario::new(
            "command",
            "`portcullis status`, `check` and `explain` tell what is so in the cluster",
            // `check` looks at all namespaces.
            Alone,
            |bed| command::portcullis(bed).boxed_local(),
        ),
    ]
}
