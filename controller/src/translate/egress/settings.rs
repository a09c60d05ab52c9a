//! Settings of an egress Gateway: what its parameters say, and the addresses of the cluster.

use ipnet::IpNet;
use portcullis_crds::gateway_parameters::{DecisionLogMode, EgressMode};
use portcullis_routing::egress::{DecisionLog, EgressSettings, PolicyMode};

use super::protected;
use crate::translate::settings::EgressOptions;

/// The settings of a Gateway with these options, in a cluster with these addresses.
pub(super) fn settings(options: &EgressOptions, cluster: &[IpNet]) -> EgressSettings {
    let EgressOptions {
        mode,
        dns_servers,
        // Without the keys of the API server no token can be checked.
        token_audience: _,
        tunnel_idle_timeout,
        tunnel_max_duration,
        decision_log,
        protected,
    } = options;
    EgressSettings {
        mode: match mode {
            EgressMode::Enforce => PolicyMode::Enforce,
            EgressMode::Report => PolicyMode::Report,
        },
        protected: protected::merged(protected.iter().chain(cluster)),
        dns_servers: dns_servers.clone(),
        tunnel_idle_timeout: *tunnel_idle_timeout,
        tunnel_max_duration: *tunnel_max_duration,
        decision_log: match decision_log {
            DecisionLogMode::Off => DecisionLog::Off,
            DecisionLogMode::Refused => DecisionLog::Refused,
            DecisionLogMode::On => DecisionLog::On,
        },
        ..EgressSettings::default()
    }
}
