//! EndpointSlices: the addresses behind a Service port.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::{
    core::v1::ServicePort,
    discovery::v1::{EndpointConditions, EndpointPort, EndpointSlice},
};
use portcullis_routing::{
    ClusterEndpoints, Endpoint, EndpointHost, EndpointState,
    egress::host::{Host, HostError},
};

use super::service::is_tcp;
use crate::{
    finding::{Finding, ObjectRef},
    resources::{ObjectKey, Objects},
    translate::hostname,
};

/// The label that says which Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// All EndpointSlices, by their Service.
#[derive(Debug)]
pub(super) struct EndpointSlices<'a> {
    by_service: BTreeMap<(&'a str, &'a str), Vec<(&'a ObjectKey, &'a EndpointSlice)>>,
}

impl<'a> EndpointSlices<'a> {
    pub(super) fn new(slices: &'a Objects<EndpointSlice>) -> Self {
        let mut by_service = BTreeMap::<_, Vec<_>>::new();
        for (key, slice) in slices {
            if let Some(service) = slice
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(SERVICE_NAME))
            {
                by_service
                    .entry((key.namespace.as_str(), service.as_str()))
                    .or_default()
                    .push((key, &**slice));
            }
        }
        Self { by_service }
    }

    /// The endpoints of a port of `service`, sorted and once each. Slices and Service agree on the port by its name, which
    /// is empty for the only port. What is wrong with the slices is told.
    pub(super) fn endpoints(
        &self,
        service: &ObjectKey,
        port: &ServicePort,
        mut tell: impl FnMut(Finding),
    ) -> ClusterEndpoints {
        let slices = self
            .by_service
            .get(&(service.namespace.as_str(), service.name.as_str()));
        let slices = slices.map(Vec::as_slice).unwrap_or_default();
        let port_name = port.name.as_deref().unwrap_or_default();
        let mut states = BTreeMap::new();
        for (key, slice) in slices {
            let object = ObjectRef::new("EndpointSlice", (*key).clone());
            let Some(number) = port_number(slice, port_name) else {
                continue;
            };
            for (host, state) in usable_endpoints(slice, &object, &mut tell) {
                // One address may stand in two slices while it moves: the better state counts.
                let known = states.entry((host, number)).or_insert(state);
                *known = state.min(*known);
            }
        }
        if states.is_empty() {
            tell(no_endpoints(service, port, slices));
        }
        let endpoints = states
            .into_iter()
            .map(|((host, port), state)| Endpoint { host, port, state })
            .collect();
        ClusterEndpoints { endpoints }
    }
}

fn ports(slice: &EndpointSlice) -> impl Iterator<Item = &EndpointPort> {
    slice
        .ports
        .as_deref()
        .unwrap_or_default()
        .iter()
        .filter(|port| is_tcp(port.protocol.as_deref()))
}

fn port_number(slice: &EndpointSlice, name: &str) -> Option<u16> {
    let port = ports(slice).find(|port| port.name.as_deref().unwrap_or_default() == name)?;
    u16::try_from(port.port?).ok().filter(|&port| port > 0)
}

fn usable_endpoints(
    slice: &EndpointSlice,
    object: &ObjectRef,
    tell: &mut impl FnMut(Finding),
) -> Vec<(EndpointHost, EndpointState)> {
    let mut usable = Vec::with_capacity(slice.endpoints.len());
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let Some(state) = state(endpoint.conditions.as_ref()) else {
            continue;
        };
        // Several addresses of one endpoint mean the same; the API says to take the first.
        let address = endpoint
            .addresses
            .first()
            .map(String::as_str)
            .unwrap_or_default();
        match host(&slice.address_type, address) {
            Some(host) => usable.push((host, state)),
            None => tell(object.warning(
                "InvalidAddress",
                format!("endpoints[{index}].addresses[0]"),
                format!(
                    "{address:?} is not an address of type {:?}; this endpoint is left out",
                    slice.address_type
                ),
                "correct the address, or the slice's `addressType` if it is the other of IPv4 and IPv6; FQDN takes names, but no address \
                 in the guise of one",
            )),
        }
    }
    usable
}

/// `ready` unknown means ready, `serving` unknown means as ready (discovery.k8s.io/v1).
fn state(conditions: Option<&EndpointConditions>) -> Option<EndpointState> {
    let Some(conditions) = conditions else {
        return Some(EndpointState::Ready);
    };
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    let terminating = conditions.terminating.unwrap_or(false);
    match (ready, serving, terminating) {
        (true, ..) => Some(EndpointState::Ready),
        (false, true, true) => Some(EndpointState::Draining),
        _ => None,
    }
}

fn host(address_type: &str, address: &str) -> Option<EndpointHost> {
    let ip = address.parse::<IpAddr>().ok();
    match (address_type, ip) {
        ("IPv4", Some(ip @ IpAddr::V4(_))) | ("IPv6", Some(ip @ IpAddr::V6(_))) => {
            Some(EndpointHost::Ip(ip))
        }
        ("FQDN", None) => name(address),
        _ => None,
    }
}

/// A DNS name as an endpoint's host. An address in the guise of one is none: what looks names up would take it as it stands, and
/// nobody would have looked where it leads.
pub(super) fn name(name: &str) -> Option<EndpointHost> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let name = Some(name).filter(|name| !is_address(name));
    name.and_then(hostname::precise).map(EndpointHost::Name)
}

/// Whether a text is an IP address to some reader, in whatever spelling.
pub(super) fn is_address(text: &str) -> bool {
    matches!(
        Host::parse(text),
        Ok(Host::Address(_)) | Err(HostError::AmbiguousAddress { .. } | HostError::BadAddress)
    )
}

fn no_endpoints(
    service: &ObjectKey,
    port: &ServicePort,
    slices: &[(&ObjectKey, &EndpointSlice)],
) -> Finding {
    let port_name = port.name.as_deref().unwrap_or_default();
    let (why, remedy) = if slices.is_empty() {
        let remedy = format!(
            "start pods that its selector finds, or add an EndpointSlice with the label `{SERVICE_NAME}: {}`",
            service.name
        );
        ("there is no EndpointSlice for it".to_owned(), remedy)
    } else if slices
        .iter()
        .any(|(_, slice)| port_number(slice, port_name).is_some())
    {
        (
            "none of its endpoints is ready".to_owned(),
            "look at the readiness of its pods".to_owned(),
        )
    } else {
        let names: BTreeSet<&str> = slices
            .iter()
            .flat_map(|(_, slice)| ports(slice))
            .map(|port| port.name.as_deref().unwrap_or_default())
            .collect();
        let why =
            format!("its EndpointSlices have no port named {port_name:?} (they have {names:?})");
        (
            why,
            "give the port the same name in the Service and in its EndpointSlices".to_owned(),
        )
    };
    ObjectRef::new("Service", service.clone()).warning(
        "NoReadyEndpoints",
        "spec.ports",
        format!(
            "port {} leads nowhere, so requests to it get 503: {why}",
            port.port
        ),
        remedy,
    )
}
