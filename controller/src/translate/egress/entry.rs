//! One ServiceEntry in, an entry of the allow-list out.
//!
//! What is wrong with it never opens more than what is right of it: a host or endpoint that cannot be served is left out and told,
//! a port is shut, and an entry of which nothing sure is left is refused. Whoever it is for is then refused too, and not left to the
//! entry of somebody else, who would get what the callers send.

use std::collections::BTreeSet;

use ipnet::IpNet;
use portcullis_crds::{
    ServiceEntrySpec,
    service_entry::{Location, Resolution as ResolutionSpec},
};
use portcullis_routing::{
    ClusterTls, RouteOrder, SubjectAltName,
    egress::{Entry, EntryProtocol, EntryTls, ExportedTo, MAX_CLAIMS, Resolution},
    frame::length_of,
    validate::syntax,
};

use super::{
    endpoint::{self, Manner},
    export,
    faults::{Fault, Faults},
    host,
    inward::Inward,
    port::{self, NamedPort},
    quota::MAX_OBJECT,
    range,
};
use crate::{status::reason, translate::field::Field};

/// What a BackendTLSPolicy asks of a port by its name, or why it cannot be carried out; `None` without one.
pub(super) type PortTls<'t> = dyn Fn(&str) -> Option<Result<&'t ClusterTls, &'static str>> + 't;

/// Translates an entry; all of it is shut if it is refused. `None` if not even that can be said of it. `order` has its namespace and
/// age.
pub(super) fn translate(
    spec: &ServiceEntrySpec,
    order: RouteOrder,
    tls: &PortTls<'_>,
    inward: &Inward<'_>,
    faults: &mut Faults,
) -> Option<(Entry, usize)> {
    let root = Field::root("spec");
    let field = |name| root.child(name);
    refuse_unsupported(spec, &root, faults);
    tell_of_location(spec, &field("location"), faults);
    let resolution = resolution(spec, &field("resolution"), faults);
    let exported_to = export::translate(
        &spec.export_to,
        &order.namespace,
        &field("exportTo"),
        faults,
    );
    let hosts = hosts(spec, resolution, &field("hosts"), faults);
    let addresses = addresses(spec, resolution, &field("addresses"), faults);
    let mut ports = port::translate(&spec.ports, &field("ports"), faults);
    let endpoints = endpoint::translate(
        &spec.endpoints,
        &Manner {
            resolution,
            ports: &ports,
            inward,
            namespace: &order.namespace,
        },
        &field("endpoints"),
        faults,
    );
    let names = subject_alt_names(spec, &field("subjectAltNames"), faults);
    let tls = originate_tls(&mut ports, tls, &names, &root, faults);

    refuse_without(hosts.is_empty(), "host", &field("hosts"), faults);
    let lacks_port = ports.iter().all(|named| named.port.shut);
    refuse_without(lacks_port, "port", &field("ports"), faults);
    let needs_endpoint = resolution == Resolution::Static || !spec.endpoints.is_empty();
    let lacks_endpoint = needs_endpoint && endpoints.is_empty();
    refuse_without(lacks_endpoint, "endpoint", &field("endpoints"), faults);
    let entry = Entry {
        hosts,
        addresses,
        ports: ports.into_iter().map(|named| named.port).collect(),
        tls,
        resolution,
        endpoints,
        exported_to,
        order,
    };
    refuse_too_broad(entry.claims(), &root, faults);
    let length = length_of(&entry);
    refuse_too_long(&entry, length, &root, faults);
    if faults.is_refused() {
        let shut = shut(entry)?;
        let length = length_of(&shut);
        Some((shut, length))
    } else {
        Some((entry, length))
    }
}

/// What is left of an entry that is refused. One that is for too many is for its own namespace: what callers of that send is what it
/// answers for. `None` if nothing can be said of whom it is for.
pub(super) fn shut(entry: Entry) -> Option<Entry> {
    let mut shut = entry.shut();
    if shut.claims() > MAX_CLAIMS {
        shut.exported_to = ExportedTo::Namespaces(vec![shut.order.namespace.clone()]);
    }
    let is_good = !shut.hosts.is_empty() && !shut.ports.is_empty();
    (is_good && shut.claims() <= MAX_CLAIMS).then_some(shut)
}

/// Every proxy of every egress Gateway is sent every entry, in one frame with all else.
fn refuse_too_long(entry: &Entry, length: usize, root: &Field<'_>, faults: &mut Faults) {
    if length <= MAX_OBJECT {
        return;
    }
    let parts = [
        ("hosts", length_of(&entry.hosts)),
        ("addresses", length_of(&entry.addresses)),
        ("ports", length_of(&entry.ports)),
        ("endpoints", length_of(&entry.endpoints)),
        ("exportTo", length_of(&entry.exported_to)),
        ("subjectAltNames", length_of(&entry.tls)),
    ];
    let longest = parts.into_iter().max_by_key(|(_, length)| *length);
    let field = longest.map_or("hosts", |(field, _)| field);
    let remedy = if field == "subjectAltNames" {
        "list fewer names, put fewer certificates into the CA bundles of its BackendTLSPolicies, or let one policy be for all ports"
    } else {
        "split it into several"
    };
    let fault = Fault::invalid(
        format!(
            "the entry takes {length} bytes in the table of every egress Gateway or more, what its BackendTLSPolicies say included, and {MAX_OBJECT} are the most of one entry"
        ),
        remedy,
    );
    faults.refuse(&root.child(field), fault);
}

/// Without, there is nothing to serve, whether or not there was something that is left out.
fn refuse_without(is_missing: bool, what: &str, field: &Field<'_>, faults: &mut Faults) {
    if is_missing {
        let fault = Fault::invalid(
            format!("there is no {what} that can be served, so nothing of the entry is"),
            "add one, or correct one that is there",
        );
        faults.refuse(field, fault);
    }
}

/// Entries are held against one another for each host, port and namespace: one object must not make that costly for all.
fn refuse_too_broad(claims: usize, root: &Field<'_>, faults: &mut Faults) {
    if claims > MAX_CLAIMS {
        let fault = Fault::invalid(
            format!(
                "hosts and addresses, ports and namespaces multiply to {claims}, and {MAX_CLAIMS} are the most of one entry"
            ),
            "split it into several, or export it to `*`",
        );
        faults.refuse(&root.child("hosts"), fault);
    }
}

/// What decides where connections go, and is not known here, leaves nothing to serve.
fn refuse_unsupported(spec: &ServiceEntrySpec, root: &Field<'_>, faults: &mut Faults) {
    if spec.workload_selector.is_some() {
        let fault = Fault::unsupported(
            "workloadSelector is not supported: pods of the cluster are not what an egress Gateway leads to",
            "route to a Service of theirs; for hosts beyond the cluster list endpoints, or none",
        );
        faults.refuse(&root.child("workloadSelector"), fault);
    }
}

fn tell_of_location(spec: &ServiceEntrySpec, field: &Field<'_>, faults: &mut Faults) {
    match &spec.location {
        None | Some(Location::MeshExternal) => {}
        Some(Location::MeshInternal) => faults.note(
            "LocationNotUsed",
            field,
            "MESH_INTERNAL has no effect: the hosts are served like any other, and addresses of the cluster are refused",
            "nothing to do if the entry is for a mesh as well",
        ),
        Some(Location::Unknown(other)) => faults.warn(
            reason::UNSUPPORTED_VALUE,
            field,
            format!("{other:?} is not known, and has no effect"),
            "write MESH_EXTERNAL, or leave it out",
        ),
    }
}

/// Where connections go. One that is not known refuses the entry.
fn resolution(spec: &ServiceEntrySpec, field: &Field<'_>, faults: &mut Faults) -> Resolution {
    let endpoints = spec.endpoints.len();
    let resolution = match spec.resolution.as_ref().unwrap_or(&ResolutionSpec::None) {
        ResolutionSpec::None => Resolution::None,
        ResolutionSpec::Static => Resolution::Static,
        ResolutionSpec::Dns => Resolution::Dns,
        ResolutionSpec::DnsRoundRobin => Resolution::DnsRoundRobin,
        ResolutionSpec::DynamicDns => {
            let fault = Fault::unsupported(
                "resolution \"DYNAMIC_DNS\" is not supported, so nothing of the entry is served",
                "use NONE, which looks up the name that the caller asks for",
            );
            faults.refuse(field, fault);
            return Resolution::None;
        }
        ResolutionSpec::Unknown(other) => {
            let fault = Fault::unsupported(
                format!("resolution {other:?} is not known, so nothing of the entry is served"),
                "use NONE, STATIC, DNS or DNS_ROUND_ROBIN",
            );
            faults.refuse(field, fault);
            return Resolution::None;
        }
    };
    let contradiction = match resolution {
        Resolution::None if endpoints > 0 => Some((
            "endpoints are listed, but with this resolution connections go to the name that the caller asks for",
            "remove the endpoints, or use resolution STATIC or DNS",
        )),
        Resolution::DnsRoundRobin if endpoints > 1 => Some((
            "DNS_ROUND_ROBIN takes one endpoint at most",
            "leave one endpoint, or use resolution DNS",
        )),
        _ => None,
    };
    if let Some((message, remedy)) = contradiction {
        faults.refuse(field, Fault::invalid(message, remedy));
    }
    resolution
}

fn hosts(
    spec: &ServiceEntrySpec,
    resolution: Resolution,
    field: &Field<'_>,
    faults: &mut Faults,
) -> Vec<String> {
    let by_name = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    let looked_up = by_name && spec.endpoints.is_empty();
    let hosts = faults.keep_each(field, &spec.hosts, |text| {
        let host = host::name(text)?;
        if looked_up && host.starts_with("*.") {
            return Err(Fault::invalid(
                format!("DNS has no address of {host:?} as such; it is left out"),
                "use resolution NONE, which looks up the name that the caller asks for, or list endpoints",
            ));
        }
        Ok(host)
    });
    let hosts: BTreeSet<_> = hosts.into_iter().collect();
    hosts.into_iter().collect()
}

fn addresses(
    spec: &ServiceEntrySpec,
    resolution: Resolution,
    field: &Field<'_>,
    faults: &mut Faults,
) -> Vec<IpNet> {
    let by_name = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    let addresses = faults.keep_each(field, &spec.addresses, |text| {
        let range = range(text)?;
        let is_single = range.prefix_len() == range.max_prefix_len();
        if by_name && !is_single {
            return Err(Fault::invalid(
                format!("the range {range} cannot stand for a host that is looked up in DNS; it is left out"),
                "use resolution NONE or STATIC, or list single addresses",
            ));
        }
        Ok(range)
    });
    let addresses: BTreeSet<_> = addresses.into_iter().collect();
    addresses.into_iter().collect()
}

/// An address, or a range of them.
fn range(text: &str) -> Result<IpNet, Fault> {
    let range = range::parse(text).ok_or_else(|| {
        Fault::invalid(
            format!("{text:?} is no IP address and no range of addresses; it is left out"),
            "write an address such as 192.0.2.1, or a range such as 192.0.2.0/24",
        )
    })?;
    if range.prefix_len() == 0 {
        return Err(Fault::unsupported(
            format!("{text:?} would be every address there is; it is left out"),
            "list the addresses that the hosts have",
        ));
    }
    Ok(range)
}

/// The names that certificates must have; if there are some and none is good, the entry is refused, for nothing would be
/// verified then.
fn subject_alt_names(
    spec: &ServiceEntrySpec,
    field: &Field<'_>,
    faults: &mut Faults,
) -> Vec<SubjectAltName> {
    let names = faults.keep_each(field, &spec.subject_alt_names, |name| {
        subject_alt_name(name)
    });
    if names.is_empty() && !spec.subject_alt_names.is_empty() {
        let fault = Fault::invalid(
            "none of the names is good, and without them any certificate of the host would do",
            "correct one of them",
        );
        faults.refuse(field, fault);
    }
    names
}

fn subject_alt_name(text: &str) -> Result<SubjectAltName, Fault> {
    let (name, checked) = if text.contains("://") {
        (SubjectAltName::Uri(text.to_owned()), syntax::uri(text))
    } else {
        let name = text.to_ascii_lowercase();
        let checked = syntax::certificate_host(&name);
        (SubjectAltName::Hostname(name), checked)
    };
    checked.map(|()| name).map_err(|why| {
        Fault::invalid(
            format!("{why}; it is left out"),
            "write a DNS name or a URI as it stands in the certificate",
        )
    })
}

/// The TLS that the proxy begins itself, each once, and at which ports. A port whose policy cannot be carried out is shut: neither clear text nor a connection that nobody verifies will do.
fn originate_tls(
    ports: &mut [NamedPort<'_>],
    tls: &PortTls<'_>,
    names: &[SubjectAltName],
    root: &Field<'_>,
    faults: &mut Faults,
) -> Vec<EntryTls> {
    let field = root.child("ports");
    let mut made = Origination::new(names);
    for NamedPort { name, port } in ports.iter_mut().filter(|named| !named.port.shut) {
        port.tls = match tls(name) {
            Some(Ok(policy)) => made.place(Some(policy)),
            Some(Err(_)) => {
                let fault = Fault::invalid(
                    format!(
                        "port {name:?} is not opened, as the BackendTLSPolicy for it cannot be carried out"
                    ),
                    "the finding of the BackendTLSPolicy says why",
                );
                faults.drop(&field, fault);
                port.shut = true;
                None
            }
            None => {
                let verifies = port.protocol == EntryProtocol::Https && !names.is_empty();
                verifies.then(|| made.place(None)).flatten()
            }
        };
    }
    if !names.is_empty() && ports.iter().all(|named| named.port.tls.is_none()) {
        faults.warn(
            reason::UNSUPPORTED_VALUE,
            &root.child("subjectAltNames"),
            "the gateway itself speaks TLS on none of the ports, so nobody compares these names",
            "remove them, or let the gateway begin TLS: protocol HTTPS, or a BackendTLSPolicy for the port",
        );
    }
    made.all
}

/// The TLS of an entry's ports, most of which have the same.
struct Origination<'p> {
    /// What the certificates have to be valid for where a policy does not say it.
    names: &'p [SubjectAltName],
    /// The policy that each of `all` is from.
    policies: Vec<Option<&'p ClusterTls>>,
    all: Vec<EntryTls>,
    /// Bytes of all.
    length: usize,
}

impl<'p> Origination<'p> {
    const fn new(names: &'p [SubjectAltName]) -> Self {
        Self {
            names,
            policies: Vec::new(),
            all: Vec::new(),
            length: 0,
        }
    }

    /// The place of what a policy asks for, or the names alone. What comes after all that an entry may have is not made: such an
    /// entry is refused.
    fn place(&mut self, policy: Option<&'p ClusterTls>) -> Option<u16> {
        let mut known = self.policies.iter().copied();
        let same = |known: Option<&ClusterTls>| match (known, policy) {
            (Some(known), Some(policy)) => std::ptr::eq(known, policy),
            (known, policy) => known.is_none() && policy.is_none(),
        };
        let place = known.position(same).unwrap_or_else(|| {
            if self.length <= MAX_OBJECT {
                let tls = entry_tls(policy, self.names);
                self.length += length_of(&tls);
                self.all.push(tls);
                self.policies.push(policy);
            }
            self.all.len().saturating_sub(1)
        });
        u16::try_from(place).ok()
    }
}

/// The names of a policy go before those of the entry.
fn entry_tls(policy: Option<&ClusterTls>, names: &[SubjectAltName]) -> EntryTls {
    let Some(policy) = policy else {
        return EntryTls {
            subject_alt_names: names.to_vec(),
            ..EntryTls::default()
        };
    };
    let ClusterTls {
        server_name,
        ca_pem,
        subject_alt_names,
        client_certificate: _,
    } = policy;
    let names = if subject_alt_names.is_empty() {
        names
    } else {
        subject_alt_names
    };
    EntryTls {
        server_name: Some(server_name.clone()),
        ca_pem: ca_pem.clone(),
        subject_alt_names: names.to_vec(),
        client_certificate: None,
    }
}
