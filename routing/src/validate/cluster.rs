//! Clusters.

use std::collections::BTreeSet;

use super::{Check, certificate::is_certificate, ensure, syntax};
use crate::{
    cluster::{Cluster, ClusterTls, SubjectAltName},
    resource::{Rejection, ResourceKind},
    table::RoutingTable,
};

pub(crate) fn check(cluster: &Cluster) -> Check {
    ensure(cluster.connect_timeout.0 > 0, || {
        "the connect timeout is 0".to_owned()
    })?;
    ensure(cluster.max_connections > 0, || {
        "the number of connections is limited to 0".to_owned()
    })?;
    cluster.tls.as_ref().map_or(Ok(()), check_tls)
}

/// Client certificates that clusters name and the table does not hold. The clusters are used without, or with an earlier one.
pub(crate) fn missing_certificates(table: &RoutingTable) -> impl Iterator<Item = Rejection> {
    let named = table
        .clusters
        .values()
        .filter_map(|cluster| cluster.tls.as_ref()?.client_certificate.as_ref());
    let missing: BTreeSet<_> = named
        .filter(|key| !table.certificates.contains_key(*key))
        .collect();
    missing.into_iter().map(|key| Rejection {
        kind: ResourceKind::Certificate,
        key: key.to_string(),
        message: "it is to be shown to backends, but the table does not hold it".to_owned(),
    })
}

fn check_tls(tls: &ClusterTls) -> Check {
    syntax::server_name(&tls.server_name)?;
    check_trust(&tls.subject_alt_names, &tls.ca_pem)
}

/// What backends and hosts outside are verified with.
pub(super) fn check_trust(names: &[SubjectAltName], ca_pem: &[String]) -> Check {
    names.iter().try_for_each(|name| match name {
        SubjectAltName::Hostname(name) => syntax::certificate_host(name),
        SubjectAltName::Uri(uri) => syntax::uri(uri),
    })?;
    ensure(ca_pem.iter().all(|pem| is_certificate(pem)), || {
        "a CA holds no PEM certificate".to_owned()
    })
}
