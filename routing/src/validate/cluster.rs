//! Clusters.

use std::net::IpAddr;

use super::{Check, certificate::is_certificate, ensure, syntax};
use crate::cluster::{Cluster, ClusterTls};

pub(crate) fn check(cluster: &Cluster) -> Check {
    ensure(cluster.connect_timeout.0 > 0, || {
        "the connect timeout is 0".to_owned()
    })?;
    ensure(cluster.max_connections > 0, || {
        "the number of connections is limited to 0".to_owned()
    })?;
    cluster.tls.as_ref().map_or(Ok(()), check_tls)
}

fn check_tls(tls: &ClusterTls) -> Check {
    if tls.server_name.parse::<IpAddr>().is_err() {
        syntax::hostname(&tls.server_name)?;
    }
    ensure(tls.ca_pem.iter().all(|pem| is_certificate(pem)), || {
        "a CA holds no PEM certificate".to_owned()
    })
}
