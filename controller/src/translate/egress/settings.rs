//! Settings of an egress Gateway: what its parameters say, and the addresses of the cluster.

use std::net::IpAddr;

use portcullis_crds::gateway_parameters::{DecisionLogMode, EgressMode};
use portcullis_routing::egress::{DecisionLog, EgressSettings, PolicyMode};

use super::{
    TokenIssuer,
    protected::{Protected, merged},
};
use crate::translate::settings::EgressOptions;

/// The settings of a Gateway with these options, and `own` addresses of its Services, in a cluster with these addresses, whose tokens
/// are of this issuer.
pub(super) fn settings(
    options: &EgressOptions,
    own: &[IpAddr],
    cluster: &Protected,
    issuer: Option<&TokenIssuer>,
) -> EgressSettings {
    let EgressOptions {
        mode,
        dns_servers,
        token_audience,
        trust_domain,
        tunnel_idle_timeout,
        tunnel_max_duration,
        decision_log,
        protected,
        overruled: _,
    } = options;
    EgressSettings {
        mode: match mode {
            EgressMode::Enforce => PolicyMode::Enforce,
            EgressMode::Report => PolicyMode::Report,
        },
        protected: merged(protected.iter().chain(&cluster.inside)),
        external: cluster.external.clone(),
        own: own.to_vec(),
        dns_servers: dns_servers.clone(),
        tunnel_idle_timeout: *tunnel_idle_timeout,
        tunnel_max_duration: *tunnel_max_duration,
        tokens: issuer.map(|issuer| issuer.settings(token_audience)),
        decision_log: match decision_log {
            DecisionLogMode::Never => DecisionLog::Off,
            DecisionLogMode::Refused => DecisionLog::Refused,
            DecisionLogMode::Always => DecisionLog::On,
        },
        trust_domain: trust_domain.clone(),
        ..EgressSettings::default()
    }
}
