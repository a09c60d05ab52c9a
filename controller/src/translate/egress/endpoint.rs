//! Endpoints of an entry: where its hosts are in place of what their names say.

use portcullis_crds::service_entry::WorkloadEntry;
use portcullis_routing::{
    EndpointHost,
    egress::{EntryEndpoint, Resolution, host::Host},
};

use super::{
    faults::{Fault, Faults},
    inward::Inward,
    port::{self, NamedPort},
};
use crate::{status::reason, translate::field::Field};

/// What of an entry decides which endpoints it may have.
pub(super) struct Manner<'a> {
    pub(super) resolution: Resolution,
    pub(super) ports: &'a [NamedPort<'a>],
    pub(super) inward: &'a Inward<'a>,
    /// The entry's own namespace.
    pub(super) namespace: &'a str,
}

/// The endpoints that are good.
pub(super) fn translate(
    specs: &[WorkloadEntry],
    manner: &Manner<'_>,
    field: &Field<'_>,
    faults: &mut Faults,
) -> Vec<EntryEndpoint> {
    tell_what_has_no_effect(specs, field, faults);
    let mut endpoints = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let field = field.at(index);
        let address = spec.address.as_deref().unwrap_or_default();
        let host = faults.keep(&field.child("address"), host(address, manner));
        let ports = endpoint_ports(spec, manner.ports, &field.child("ports"), faults);
        if let (Some(host), Some(ports)) = (host, ports) {
            endpoints.push(EntryEndpoint {
                host,
                ports,
                weight: weight(spec),
            });
        }
    }
    endpoints
}

/// Istio counts a weight of 0 as one that is not given.
fn weight(spec: &WorkloadEntry) -> u32 {
    spec.weight.filter(|weight| *weight != 0).unwrap_or(1)
}

fn host(address: &str, manner: &Manner<'_>) -> Result<EndpointHost, Fault> {
    let resolution = manner.resolution;
    if address.starts_with("unix:") {
        return Err(Fault::unsupported(
            format!(
                "{address:?} is a socket of a file system, which the proxy does not share; the endpoint is left out"
            ),
            "write an IP address, or with resolution DNS a name",
        ));
    }
    if address.is_empty() {
        return Err(Fault::unsupported(
            "an endpoint without address is left out: networks of a mesh are not known here",
            "write an IP address, or with resolution DNS a name",
        ));
    }
    match Host::parse(address) {
        Ok(Host::Address(address)) if resolution == Resolution::Static => {
            manner.inward.check(address, manner.namespace)?;
            Ok(EndpointHost::Ip(address))
        }
        Ok(Host::Address(address)) => Ok(EndpointHost::Ip(address)),
        Ok(Host::Name(name)) if resolution == Resolution::Static => Err(Fault::invalid(
            format!(
                "{:?} is a name, and with resolution STATIC endpoints are addresses; it is left out",
                &*name
            ),
            "write an IP address, or resolution DNS",
        )),
        Ok(Host::Name(name)) => Ok(EndpointHost::Name(name.into())),
        Err(why) => Err(Fault::invalid(
            format!("{address:?} is no host: {why}; the endpoint is left out"),
            "write an IP address, or with resolution DNS a name",
        )),
    }
}

/// By the number that callers name; `None` if one of them is wrong: connections must not go to another port instead.
fn endpoint_ports(
    spec: &WorkloadEntry,
    known: &[NamedPort<'_>],
    field: &Field<'_>,
    faults: &mut Faults,
) -> Option<Vec<(u16, u16)>> {
    let mut ports = Vec::new();
    let mut is_good = true;
    for (name, target) in &spec.ports {
        let field = field.child(name);
        let Some(port) = known
            .iter()
            .find(|port| port.name == name)
            .map(|known| &known.port)
        else {
            faults.warn(
                reason::UNSUPPORTED_VALUE,
                &field,
                format!(
                    "the entry has no port named {name:?} that is served, so this has no effect"
                ),
                "write the name of one of its ports",
            );
            continue;
        };
        match faults.keep(&field, port::number(*target)) {
            Some(target) if target != port.target() => ports.push((port.number, target)),
            Some(_) => {}
            None => is_good = false,
        }
    }
    ports.sort_unstable();
    is_good.then_some(ports)
}

/// Fields that a mesh has a use for. They are named once, however many endpoints have them.
fn tell_what_has_no_effect(specs: &[WorkloadEntry], field: &Field<'_>, faults: &mut Faults) {
    type IsSet = fn(&WorkloadEntry) -> bool;
    let fields: [(&str, IsSet); 4] = [
        ("labels", |spec| !spec.labels.is_empty()),
        ("network", |spec| spec.network.is_some()),
        ("locality", |spec| spec.locality.is_some()),
        ("serviceAccount", |spec| spec.service_account.is_some()),
    ];
    let set = fields.iter().filter(|(_, is_set)| specs.iter().any(is_set));
    let names: Vec<_> = set.map(|(name, _)| *name).collect();
    if !names.is_empty() {
        faults.note(
            reason::UNSUPPORTED_VALUE,
            field,
            format!("of no effect here: {}", names.join(", ")),
            "nothing to do if they are for a mesh; shares of the connections are set by weight",
        );
    }
}
