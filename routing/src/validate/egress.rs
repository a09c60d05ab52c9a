//! What egress consists of: entries, policies, workloads, settings.

use std::{collections::HashSet, net::IpAddr};

use super::{Check, cluster::check_trust, ensure, syntax};
use crate::{
    egress::{
        DestinationMatch, EgressSettings, Entry, EntryPort, EntryTls, ExportedTo, MAX_CLAIMS,
        Policy, PolicyAction, PolicyScope, Resolution, Workload,
    },
    endpoint::EndpointHost,
    key::WorkloadKey,
    matches::PathMatch,
};

pub(crate) fn entry(entry: &Entry) -> Check {
    ensure(!entry.hosts.is_empty(), || "it lists no host".to_owned())?;
    entry
        .hosts
        .iter()
        .try_for_each(|host| syntax::outside_host_or_wildcard(host))?;
    ensure(!entry.ports.is_empty(), || "it lists no port".to_owned())?;
    let mut numbers = HashSet::new();
    for port in &entry.ports {
        entry_port(entry, port)?;
        ensure(numbers.insert(port.number), || {
            format!("port {} stands twice", port.number)
        })?;
    }
    entry.tls.iter().try_for_each(tls)?;
    ensure(entry.claims() <= MAX_CLAIMS, || {
        format!(
            "its hosts and addresses, ports and namespaces multiply to {}, and {MAX_CLAIMS} are the most",
            entry.claims()
        )
    })?;
    endpoints(entry)?;
    if let ExportedTo::Namespaces(namespaces) = &entry.exported_to {
        // They are searched by halves.
        ensure(namespaces.is_sorted(), || {
            "the namespaces that it is exported to are not sorted".to_owned()
        })?;
    }
    Ok(())
}

fn entry_port(entry: &Entry, port: &EntryPort) -> Check {
    ensure(port.number != 0 && port.target() != 0, || {
        "a port is 0".to_owned()
    })?;
    // Without, the port would be one of clear text.
    let is_there = port.tls.is_none() || entry.tls_of(port).is_some();
    ensure(is_there, || {
        format!("the TLS of port {} is not there", port.number)
    })
}

fn tls(tls: &EntryTls) -> Check {
    let name = tls.server_name.as_deref();
    name.map_or(Ok(()), syntax::server_name)?;
    check_trust(&tls.subject_alt_names, &tls.ca_pem)
}

fn endpoints(entry: &Entry) -> Check {
    let is_static = entry.resolution == Resolution::Static;
    ensure(!is_static || !entry.endpoints.is_empty(), || {
        "its resolution is Static, but it has no endpoint".to_owned()
    })?;
    ensure(
        entry.resolution != Resolution::None || entry.endpoints.is_empty(),
        || "its resolution is None, but it has endpoints".to_owned(),
    )?;
    let is_wildcard = entry.hosts.iter().any(|host| host.starts_with("*."));
    let by_name = matches!(
        entry.resolution,
        Resolution::Dns | Resolution::DnsRoundRobin
    );
    ensure(
        !(by_name && is_wildcard && entry.endpoints.is_empty()),
        || "its resolution is by DNS, but a host is a wildcard and there is no endpoint".to_owned(),
    )?;
    for endpoint in &entry.endpoints {
        match &endpoint.host {
            EndpointHost::Ip(_) => {}
            EndpointHost::Name(name) if is_static => {
                return Err(format!("the endpoint {name:?} is no address"));
            }
            EndpointHost::Name(name) => syntax::outside_host(name)?,
        }
        ensure(endpoint.ports.iter().all(|(_, to)| *to != 0), || {
            "a port of an endpoint is 0".to_owned()
        })?;
    }
    Ok(())
}

pub(crate) fn policy(policy: &Policy) -> Check {
    let opens = !policy.allow_private.is_empty();
    let may_open = policy.scope == PolicyScope::Gateway && policy.action == PolicyAction::Allow;
    ensure(!opens || may_open, || {
        "only an Allow of the Gateway's namespace may open private ranges".to_owned()
    })?;
    let from = policy.from.iter().flatten();
    let mut namespaces = from.filter_map(|from| from.namespaces.as_ref());
    // They are searched by halves.
    ensure(namespaces.all(|it| it.is_sorted()), || {
        "the namespaces of a caller are not sorted".to_owned()
    })?;
    policy.to.iter().flatten().try_for_each(destination)
}

fn destination(to: &DestinationMatch) -> Check {
    for host in &to.hosts {
        if host.parse::<IpAddr>().is_err() {
            syntax::outside_host_or_wildcard(host)?;
        }
    }
    to.methods.iter().try_for_each(|it| syntax::method(it))?;
    to.paths.iter().try_for_each(|path| match path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => syntax::path(path),
        PathMatch::Regex(_) => Err("a policy has a path by expression".to_owned()),
    })
}

pub(crate) fn workload(key: &WorkloadKey, workload: &Workload) -> Check {
    let is_canonical = |address: IpAddr| WorkloadKey::of(address) == *key;
    ensure(key.as_str().parse().is_ok_and(is_canonical), || {
        "the key is no address in its usual form".to_owned()
    })?;
    ensure(!workload.namespace.is_empty(), || {
        "it has no namespace".to_owned()
    })
}

pub(crate) fn settings(settings: &EgressSettings) -> Check {
    let limits = [
        ("tunnelIdleTimeout", Some(settings.tunnel_idle_timeout)),
        ("tunnelMaxDuration", settings.tunnel_max_duration),
    ];
    let mut zero = limits
        .iter()
        .filter(|(_, limit)| limit.is_some_and(|it| it.0 == 0));
    zero.next()
        .map_or(Ok(()), |(name, _)| Err(format!("the limit {name} is 0")))?;
    let mut servers = settings.dns_servers.iter();
    ensure(servers.all(|server| server.port() != 0), || {
        "the port of a DNS server is 0".to_owned()
    })
}
