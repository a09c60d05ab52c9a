//! What the GatewayParameters of a class and of a Gateway ask of the Gateway's infrastructure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::LazyLock,
};

use k8s_openapi::{
    api::core::v1::ResourceRequirements,
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use portcullis_crds::{
    GatewayParametersSpec,
    gateway_parameters::{
        HorizontalPodAutoscalerParameters, PodDisruptionBudgetParameters, ServiceParameters,
        WorkloadKind, WorkloadParameters,
    },
};
use regex::Regex;

/// Path below `spec`, and what is wrong there.
pub(crate) type Invalid = (String, String);

/// What the API server takes as a quantity.
static QUANTITY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\+?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$")
        .expect("a valid expression")
});

/// The parameters of all layers together; of each field the last one that sets it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Infrastructure {
    pub(super) service: ServiceParameters,
    pub(super) workload: WorkloadParameters,
    pub(super) budget: Option<PodDisruptionBudgetParameters>,
    pub(super) autoscaler: Option<HorizontalPodAutoscalerParameters>,
}

/// Fields of a later layer go before those of an earlier one.
macro_rules! overlay {
    ($into:expr, $layer:expr, $($field:ident),*) => {
        $(if $layer.$field.is_some() {
            $into.$field.clone_from(&$layer.$field);
        })*
    };
}

impl Infrastructure {
    /// Lays the layers over each other, and checks each field.
    pub(crate) fn merge(layers: &[&GatewayParametersSpec]) -> Result<Self, Invalid> {
        let mut merged = Self::default();
        for layer in layers {
            if let Some(service) = &layer.service {
                check_service(service)?;
                merged.overlay_service(service);
            }
            if let Some(workload) = &layer.workload {
                check_workload(workload)?;
                merged.overlay_workload(workload);
            }
            if let Some(budget) = &layer.pod_disruption_budget {
                check_budget(budget)?;
                let merged = merged.budget.get_or_insert_default();
                // One excludes the other.
                if *budget != PodDisruptionBudgetParameters::default() {
                    merged.clone_from(budget);
                }
            }
            if let Some(autoscaler) = &layer.horizontal_pod_autoscaler {
                let merged = merged.autoscaler.get_or_insert_default();
                overlay!(
                    merged,
                    autoscaler,
                    min_replicas,
                    max_replicas,
                    target_cpu_utilization,
                    metrics,
                    behavior
                );
            }
        }
        Ok(merged)
    }

    fn overlay_service(&mut self, layer: &ServiceParameters) {
        let service = &mut self.service;
        overlay!(
            service,
            layer,
            kind,
            external_traffic_policy,
            load_balancer_class,
            load_balancer_source_ranges,
            node_ports
        );
        overlay_map(&mut service.labels, layer.labels.as_ref());
        overlay_map(&mut service.annotations, layer.annotations.as_ref());
    }

    fn overlay_workload(&mut self, layer: &WorkloadParameters) {
        let workload = &mut self.workload;
        overlay!(
            workload,
            layer,
            kind,
            replicas,
            image,
            image_pull_policy,
            image_pull_secrets,
            resources,
            tolerations,
            affinity,
            topology_spread_constraints,
            priority_class_name,
            log_level
        );
        overlay_map(&mut workload.node_selector, layer.node_selector.as_ref());
    }

    /// Checks what concerns several fields, which may come from different layers.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let Some(autoscaler) = &self.autoscaler else {
            return Ok(());
        };
        if self.workload.kind == Some(WorkloadKind::DaemonSet) {
            return invalid(
                "horizontalPodAutoscaler",
                "a DaemonSet has one pod per node; leave it out, or set workload.kind to Deployment",
            );
        }
        let Some(most) = autoscaler.max_replicas else {
            return invalid("horizontalPodAutoscaler.maxReplicas", "is missing");
        };
        if autoscaler.min_replicas.is_some_and(|least| least > most) {
            let message = format!("is more than maxReplicas, which is {most}");
            return invalid("horizontalPodAutoscaler.minReplicas", message);
        }
        let resources = self.workload.resources.as_ref();
        let cpu = resources.is_some_and(|it| {
            let maps = [&it.requests, &it.limits];
            maps.into_iter()
                .flatten()
                .any(|map| map.contains_key("cpu"))
        });
        if autoscaler.metrics.is_none() && !cpu {
            return invalid(
                "horizontalPodAutoscaler",
                "the CPU in use is measured against what is requested; set workload.resources.requests.cpu, or metrics",
            );
        }
        Ok(())
    }
}

fn invalid<T>(path: impl Into<String>, message: impl Into<String>) -> Result<T, Invalid> {
    Err((path.into(), message.into()))
}

fn overlay_map(
    into: &mut Option<BTreeMap<String, String>>,
    layer: Option<&BTreeMap<String, String>>,
) {
    if let Some(layer) = layer {
        into.get_or_insert_default().extend(layer.clone());
    }
}

fn check_service(service: &ServiceParameters) -> Result<(), Invalid> {
    for (index, range) in service
        .load_balancer_source_ranges
        .iter()
        .flatten()
        .enumerate()
    {
        if !is_network(range) {
            let path = format!("service.loadBalancerSourceRanges[{index}]");
            return invalid(
                path,
                format!("{range:?} is no network, such as 203.0.113.0/24"),
            );
        }
    }
    let (mut ports, mut node_ports) = (BTreeSet::new(), BTreeSet::new());
    for (index, it) in service.node_ports.iter().flatten().enumerate() {
        let path = format!("service.nodePorts[{index}]");
        if it.port == 0 || it.node_port == 0 {
            return invalid(path, "ports are from 1 to 65535");
        }
        if !ports.insert(it.port) {
            return invalid(path + ".port", format!("{} is there twice", it.port));
        }
        if !node_ports.insert(it.node_port) {
            return invalid(
                path + ".nodePort",
                format!("{} is there twice", it.node_port),
            );
        }
    }
    Ok(())
}

/// Whether it is an address and the length of a prefix of it.
fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.trim().split_once('/') else {
        return false;
    };
    let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u8>()) else {
        return false;
    };
    length <= if address.is_ipv4() { 32 } else { 128 }
}

fn check_workload(workload: &WorkloadParameters) -> Result<(), Invalid> {
    if let Some(image) = &workload.image
        && (image.is_empty() || image.contains(char::is_whitespace))
    {
        return invalid("workload.image", format!("{image:?} is no image"));
    }
    let Some(ResourceRequirements {
        requests, limits, ..
    }) = &workload.resources
    else {
        return Ok(());
    };
    for (kind, quantities) in [("requests", requests), ("limits", limits)] {
        for (name, Quantity(text)) in quantities.iter().flatten() {
            if !QUANTITY.is_match(text) {
                let path = format!("workload.resources.{kind}.{name}");
                return invalid(
                    path,
                    format!("{text:?} is no quantity, such as 500m or 64Mi"),
                );
            }
        }
    }
    Ok(())
}

fn check_budget(budget: &PodDisruptionBudgetParameters) -> Result<(), Invalid> {
    let fields = [
        ("minAvailable", &budget.min_available),
        ("maxUnavailable", &budget.max_unavailable),
    ];
    if fields.iter().all(|(_, value)| value.is_some()) {
        return invalid(
            "podDisruptionBudget",
            "has minAvailable and maxUnavailable; leave one of them out",
        );
    }
    for (name, value) in fields {
        let good = match value {
            None => true,
            Some(IntOrString::Int(number)) => *number >= 0,
            Some(IntOrString::String(text)) => text
                .strip_suffix('%')
                .is_some_and(|number| number.parse::<u8>().is_ok_and(|it| it <= 100)),
        };
        if !good {
            return invalid(
                format!("podDisruptionBudget.{name}"),
                "must be a number from 0 on, or a percentage such as 50%",
            );
        }
    }
    Ok(())
}
