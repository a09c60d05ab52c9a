//! The pods of the proxies: whatever a namespace that enforces the Pod Security Standard "restricted" takes.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction,
        PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
        SecretVolumeSource, SecurityContext, Sysctl, TopologySpreadConstraint, Volume, VolumeMount,
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString,
    },
};
use portcullis_crds::gateway_parameters::{ImagePullPolicy, LogLevel, WorkloadKind};

use super::Blueprint;
use crate::provision::identity_secret_name;

/// The container of a proxy.
pub const CONTAINER: &str = "proxy";

/// Neither root nor anybody else on the node.
const USER: i64 = 65532;

/// The admin port, unless a listener has it.
const ADMIN_PORT: u16 = 9901;
const ADMIN: &str = "admin";

const IDENTITY: &str = "identity";
const IDENTITY_DIRECTORY: &str = "/etc/portcullis/identity";
/// Only owner and group may read keys.
const IDENTITY_MODE: i32 = 0o440;

const TABLE: &str = "table";
const TABLE_DIRECTORY: &str = "/var/lib/portcullis";
/// Room for two of the longest tables: one is written beside the other.
const TABLE_SIZE: &str = "128Mi";

/// How long the proxy still serves everybody when its pod is to end: until then nodes and load balancers know that nothing
/// new should come.
const DRAIN_DELAY: Duration = Duration::from_secs(5);
/// What ending takes beside the drain timeout.
const MARGIN: Duration = Duration::from_secs(5);

/// What the libraries have to say is for whoever debugs them.
const LIBRARIES: &str = "pingora_core=off,h2=warn,rustls=warn,hyper=warn";

/// The template of the pods. It does not depend on the listeners' ports: a new listener restarts nothing.
pub(super) fn template(blueprint: &Blueprint) -> PodTemplateSpec {
    let parameters = &blueprint.infrastructure().workload;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(blueprint.labels()),
            annotations: Some(blueprint.annotations()).filter(|it| !it.is_empty()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(blueprint.name()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(pod_security()),
            termination_grace_period_seconds: Some(grace_period(blueprint)),
            containers: vec![container(blueprint)],
            volumes: Some(volumes(blueprint)),
            image_pull_secrets: parameters.image_pull_secrets.clone(),
            node_selector: parameters.node_selector.clone(),
            tolerations: parameters.tolerations.clone(),
            affinity: parameters.affinity.clone(),
            topology_spread_constraints: spread(blueprint),
            priority_class_name: parameters.priority_class_name.clone(),
            ..PodSpec::default()
        }),
    }
}

fn container(blueprint: &Blueprint) -> Container {
    let parameters = &blueprint.infrastructure().workload;
    let options = &blueprint.options;
    let admin = admin_port(|port| blueprint.ports.contains_key(&port));
    let every = if blueprint.prefers_ipv6 {
        "[::]"
    } else {
        "0.0.0.0"
    };
    let pull = parameters.image_pull_policy.map(|policy| {
        match policy {
            ImagePullPolicy::Always => "Always",
            ImagePullPolicy::IfNotPresent => "IfNotPresent",
            ImagePullPolicy::Never => "Never",
        }
        .into()
    });
    Container {
        name: CONTAINER.into(),
        image: Some(parameters.image.as_ref().unwrap_or(&options.image).clone()),
        image_pull_policy: pull,
        args: Some(vec![
            format!("--admin={every}:{admin}"),
            "--log-format=json".into(),
        ]),
        env: Some(environment(blueprint)),
        ports: Some(vec![ContainerPort {
            name: Some(ADMIN.into()),
            container_port: admin.into(),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        startup_probe: Some(probe("/livez", 1, 60)),
        // `Programmed` waits for it.
        readiness_probe: Some(probe("/readyz", 1, 4)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        resources: Some(parameters.resources.clone().unwrap_or_else(resources)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                add: None,
                drop: Some(vec!["ALL".into()]),
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            VolumeMount {
                name: IDENTITY.into(),
                mount_path: IDENTITY_DIRECTORY.into(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
            VolumeMount {
                name: TABLE.into(),
                mount_path: TABLE_DIRECTORY.into(),
                ..VolumeMount::default()
            },
        ]),
        ..Container::default()
    }
}

fn environment(blueprint: &Blueprint) -> Vec<EnvVar> {
    let key = &blueprint.key;
    let level = blueprint.infrastructure().workload.log_level.map(|level| {
        let level = match level {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        };
        ("PORTCULLIS_LOG", format!("{level},{LIBRARIES}"))
    });
    [
        (
            "PORTCULLIS_CONTROLLER",
            blueprint.options.controller_url.clone(),
        ),
        ("PORTCULLIS_GATEWAY", key.to_string()),
        ("PORTCULLIS_IDENTITY", IDENTITY_DIRECTORY.to_owned()),
        ("PORTCULLIS_TABLE_CACHE", format!("{TABLE_DIRECTORY}/table")),
        ("PORTCULLIS_DRAIN_DELAY", seconds(DRAIN_DELAY).to_string()),
    ]
    .into_iter()
    .chain(level)
    .map(|(name, value)| EnvVar {
        name: name.into(),
        value: Some(value),
        value_from: None,
    })
    .collect()
}

/// The admin port of proxies whose listeners have some ports: the first from the usual one on that none has.
pub fn admin_port(is_taken: impl Fn(u16) -> bool) -> u16 {
    let free = |port: &u16| !is_taken(*port);
    (ADMIN_PORT..=u16::MAX).find(free).unwrap_or(ADMIN_PORT)
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(ADMIN.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// No limits: a proxy without CPU, or one that is killed, is worse than one that takes its share.
fn resources() -> ResourceRequirements {
    let requests = [("cpu", "10m"), ("memory", "32Mi")];
    ResourceRequirements {
        requests: Some(
            requests
                .map(|(name, quantity)| (name.to_owned(), Quantity(quantity.into())))
                .into(),
        ),
        ..ResourceRequirements::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        }),
        // Ports below 1024 without any capability: one of the sysctls that count as safe, and the pod's own.
        sysctls: Some(vec![Sysctl {
            name: "net.ipv4.ip_unprivileged_port_start".into(),
            value: "0".into(),
        }]),
        ..PodSecurityContext::default()
    }
}

fn volumes(blueprint: &Blueprint) -> Vec<Volume> {
    vec![
        Volume {
            name: IDENTITY.into(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(identity_secret_name(&blueprint.key.name, blueprint.class())),
                default_mode: Some(IDENTITY_MODE),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: TABLE.into(),
            // It holds private keys, and those belong on no disk.
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".into()),
                size_limit: Some(Quantity(TABLE_SIZE.into())),
            }),
            ..Volume::default()
        },
    ]
}

/// What is asked for, each constraint about the Gateway's own pods unless it says otherwise; else evenly over nodes.
fn spread(blueprint: &Blueprint) -> Option<Vec<TopologySpreadConstraint>> {
    let parameters = &blueprint.infrastructure().workload;
    let nodes = || TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        ..TopologySpreadConstraint::default()
    };
    let mut constraints = match (&parameters.topology_spread_constraints, parameters.kind) {
        (Some(asked), _) => asked.clone(),
        (None, Some(WorkloadKind::DaemonSet)) => return None,
        (None, _) => vec![nodes()],
    };
    for constraint in &mut constraints {
        let own = || blueprint.label_selector();
        constraint.label_selector.get_or_insert_with(own);
    }
    Some(constraints)
}

fn grace_period(blueprint: &Blueprint) -> i64 {
    let drain = blueprint.parameters.settings.drain_timeout.0.duration();
    // Rounded up.
    seconds(DRAIN_DELAY + drain + MARGIN) + i64::from(drain.subsec_nanos() > 0)
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
