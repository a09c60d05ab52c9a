//! Backends beyond the cluster: ServiceEntries, and hosts that they open, on egress Gateways.

use std::collections::BTreeSet;

use portcullis_routing::{
    Backend, Direction, EntryKey,
    egress::{Entry, host::Host},
};

use super::{Traffic, reference::BackendReference};
use crate::{
    resources::ObjectKey,
    status::reason,
    translate::{
        Context, GrantSubject, GrantTarget,
        egress::{self, Entries},
        field::Field,
        problem::Problem,
    },
};

/// What brings a credential with it.
const CREDENTIAL: Traffic = Traffic::Requests {
    has_credential: true,
};

/// How a backend beyond the cluster is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExternalKind {
    /// By an entry, which may be in another namespace with a ReferenceGrant.
    ServiceEntry,
    /// By a host that an entry opens to the namespace of the route.
    Hostname,
}

impl ExternalKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceEntry => egress::KIND,
            Self::Hostname => "Hostname",
        }
    }
}

/// Which Gateways a route is attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    ingress: bool,
    /// The namespaces of those of egress.
    egress: BTreeSet<String>,
}

impl Reach {
    /// Of all Gateways whose directions and namespaces these are.
    pub(crate) fn of<'g>(gateways: impl Iterator<Item = (Direction, &'g str)>) -> Self {
        let mut reach = Self::default();
        for (direction, namespace) in gateways {
            match direction {
                Direction::Ingress => reach.ingress = true,
                Direction::Egress => {
                    reach.egress.insert(namespace.to_owned());
                }
            }
        }
        reach
    }

    /// Clients of an ingress Gateway may be anybody: they do not get out of the cluster through it.
    pub(super) fn check(&self, kind: ExternalKind, field: &Field<'_>) -> Result<(), Problem> {
        let (what, remedy) = match (self.ingress, self.has_egress()) {
            (false, _) => return Ok(()),
            (true, false) => (
                "the route is attached to a Gateway of ingress",
                "attach the route to a Gateway of class portcullis-egress, or refer to a Service",
            ),
            (true, true) => (
                "the route is attached to a Gateway of ingress too",
                "give the egress Gateway a route of its own, and the other one Services",
            ),
        };
        Err(Problem::reference(
            reason::INVALID_KIND,
            &field.child("kind"),
            format!(
                "a {} can be a backend on egress Gateways only, and {what}",
                kind.as_str()
            ),
            remedy,
        ))
    }

    /// Whether there is one of egress.
    pub(super) fn has_egress(&self) -> bool {
        !self.egress.is_empty()
    }

    /// On egress Gateways a host beyond the cluster needs an entry, by whatever name a Service calls it.
    pub(super) fn check_external_name(&self, field: &Field<'_>) -> Result<(), Problem> {
        if !self.has_egress() {
            return Ok(());
        }
        Err(Problem::reference(
            reason::INVALID_KIND,
            &field.child("name"),
            "the Service is of type ExternalName, and the route is attached to an egress Gateway: what leaves there needs an entry of the allow-list",
            "use a ServiceEntry with this host, and refer to it by kind ServiceEntry or Hostname",
        ))
    }
}

/// The backend that a reference leads to.
pub(super) fn resolve(
    ctx: &Context<'_>,
    entries: &Entries,
    (kind, reference): (ExternalKind, &BackendReference),
    (from, traffic, reach): (GrantSubject<'_>, Traffic, &Reach),
    field: &Field<'_>,
) -> Result<Backend, Problem> {
    match kind {
        ExternalKind::ServiceEntry => by_entry(ctx, entries, reference, from, field),
        ExternalKind::Hostname => by_host(entries, reference, (from, traffic, reach), field),
    }
}

fn by_entry(
    ctx: &Context<'_>,
    entries: &Entries,
    reference: &BackendReference,
    from: GrantSubject<'_>,
    field: &Field<'_>,
) -> Result<Backend, Problem> {
    let BackendReference {
        name, namespace, ..
    } = reference;
    let namespace = namespace.as_deref().unwrap_or(from.namespace);
    let to = GrantTarget {
        group: egress::GROUP,
        kind: egress::KIND,
        namespace,
        name,
    };
    if !ctx.grants.permits(from, to) {
        return Err(Problem::reference(
            reason::REF_NOT_PERMITTED,
            &field.child("namespace"),
            format!(
                "no ReferenceGrant in namespace {namespace:?} lets {}s of namespace {:?} use the ServiceEntry {name:?}",
                from.kind, from.namespace
            ),
            format!(
                "create a ReferenceGrant in namespace {namespace:?}, or refer to the host by kind Hostname"
            ),
        ));
    }
    let key = ObjectKey::new(namespace, name);
    let Some(entry) = entries.get(&key).filter(|entry| !entry.is_shut()) else {
        let is_there = ctx.resources.service_entries.contains_key(&key);
        let (message, remedy) = if is_there {
            (
                format!("nothing of ServiceEntry {key} is served"),
                "the finding of the ServiceEntry says why",
            )
        } else {
            (
                format!("there is no ServiceEntry {name:?} in namespace {namespace:?}"),
                "create it, or correct the name or namespace",
            )
        };
        return Err(not_found(&field.child("name"), message, remedy));
    };
    let port = reference.port(field)?;
    if !has_port(entry, port) {
        let ports = (namespace == from.namespace).then_some(entry);
        return Err(no_port(&key, ports, port, field));
    }
    Ok(Backend::External {
        entry: entry_key(&key),
        host: only_host(entry),
        port,
    })
}

/// The host of an entry that can mean no other.
fn only_host(entry: &Entry) -> Option<String> {
    match entry.hosts.as_slice() {
        [host] if !host.starts_with("*.") => Some(host.clone()),
        _ => None,
    }
}

fn by_host(
    entries: &Entries,
    reference: &BackendReference,
    (from, traffic, reach): (GrantSubject<'_>, Traffic, &Reach),
    field: &Field<'_>,
) -> Result<Backend, Problem> {
    let name = &reference.name;
    if reference.namespace.is_some() {
        let message =
            "a Hostname is of no namespace: exportTo of the ServiceEntry says who may use it";
        return Err(not_found(
            &field.child("namespace"),
            message.to_owned(),
            "remove it",
        ));
    }
    let field_of_name = field.child("name");
    let Ok(Host::Name(host)) = Host::parse(name) else {
        let message = format!("{name:?} is no name of a host");
        return Err(not_found(
            &field_of_name,
            message,
            "write the name of a host, such as api.example.com",
        ));
    };
    let port = reference.port(field)?;
    let of_host = entries.of_host(&host, from.namespace, &reach.egress);
    let is_meant = |key: &ObjectKey, entry: &Entry| {
        traffic != CREDENTIAL
            || !egress::is_far(key, from.namespace, &reach.egress)
            || surely_reaches(entry, &host, port)
    };
    // The proxy stops at the first too: whoever comes next is not who was meant.
    let mut with_port = of_host.iter().filter(|(_, entry)| lists(entry, port));
    let is_there = with_port.clone().next().is_some();
    if let Some((key, entry)) = with_port.find(|(key, entry)| is_meant(key, entry)) {
        if !has_port(entry, port) {
            return Err(is_shut(key, from, port, &field_of_name));
        }
        return Ok(Backend::External {
            entry: entry_key(key),
            host: Some(host.to_string()),
            port,
        });
    }
    if is_there {
        return Err(not_for_credentials(
            &host,
            port,
            from,
            reach,
            &field_of_name,
        ));
    }
    let mut own = of_host.iter();
    let own = own.find(|(key, _)| key.namespace == from.namespace);
    Err(match (own, of_host.is_empty()) {
        (Some((key, entry)), _) => no_port(key, Some(entry), port, field),
        (None, false) => not_found(
            &field.child("port"),
            format!(
                "no ServiceEntry opens port {port} of the host {host:?} to namespace {:?}",
                from.namespace
            ),
            "write a port that is open, or create a ServiceEntry with this host and port",
        ),
        (None, true) => not_found(
            &field_of_name,
            format!(
                "no ServiceEntry opens the host {host:?} to namespace {:?}",
                from.namespace
            ),
            "create a ServiceEntry with this host, or export the one that there is to this namespace",
        ),
    })
}

/// TLS does not pass through to a port that is listed for HTTP in clear text.
pub(super) fn no_tls(port: u16, field: &Field<'_>) -> Problem {
    Problem::reference(
        reason::UNSUPPORTED_PROTOCOL,
        &field.child("port"),
        format!(
            "the ServiceEntry lists port {port} for HTTP in clear text, so no TLS passes through to it"
        ),
        "write a port with protocol TLS, HTTPS or TCP, or use an HTTPRoute",
    )
}

/// Whether requests to a host through an entry reach that host, whoever wrote the entry.
fn surely_reaches(entry: &Entry, host: &str, number: u16) -> bool {
    let mut ports = entry.ports.iter();
    ports.any(|port| port.number == number && entry.surely_reaches(port, host))
}

/// Whoever writes an entry for a host, more exact than others or when theirs are gone for a moment, would get the credentials.
fn not_for_credentials(
    host: &str,
    port: u16,
    from: GrantSubject<'_>,
    reach: &Reach,
    field: &Field<'_>,
) -> Problem {
    let of_gateways = reach.egress.iter().map(String::as_str);
    let near: Vec<_> = std::iter::once(from.namespace)
        .chain(of_gateways.filter(|it| *it != from.namespace))
        .map(|namespace| format!("{namespace:?}"))
        .collect();
    let near = near.join(" or ");
    not_found(
        field,
        format!(
            "port {port} of the host {host:?} is opened by other namespaces than {near} only, whose entries could lead the rule's credential elsewhere"
        ),
        &format!(
            "create a ServiceEntry with this host in namespace {near}, or refer to that of another namespace by kind ServiceEntry, with a ReferenceGrant there"
        ),
    )
}

fn entry_key(key: &ObjectKey) -> EntryKey {
    EntryKey::of(&key.namespace, &key.name)
}

fn lists(entry: &Entry, number: u16) -> bool {
    entry.ports.iter().any(|port| port.number == number)
}

fn has_port(entry: &Entry, number: u16) -> bool {
    let mut ports = entry.ports.iter();
    ports.any(|port| port.number == number && !port.shut)
}

/// The entry that would be asked cannot be served. That of another namespace is not named.
fn is_shut(key: &ObjectKey, from: GrantSubject<'_>, port: u16, field: &Field<'_>) -> Problem {
    let (which, remedy) = if key.namespace == from.namespace {
        (
            format!("ServiceEntry {key}"),
            "the finding of the ServiceEntry says why; no other entry takes its place",
        )
    } else {
        (
            "an entry of another namespace".to_owned(),
            "ask whoever runs the egress Gateway, or create a ServiceEntry with this host in this namespace",
        )
    };
    not_found(
        field,
        format!("port {port} of the host is listed by {which}, which cannot be served"),
        remedy,
    )
}

/// `entry`: the entry, if what it has is for the route's namespace to know.
fn no_port(key: &ObjectKey, entry: Option<&Entry>, port: u16, field: &Field<'_>) -> Problem {
    let served = entry.iter().flat_map(|entry| &entry.ports);
    let served: Vec<_> = served
        .filter(|port| !port.shut)
        .map(|port| port.number.to_string())
        .collect();
    let others = match served.as_slice() {
        [] => String::new(),
        served => format!(" (it has {})", served.join(", ")),
    };
    not_found(
        &field.child("port"),
        format!("ServiceEntry {key} has no port {port} that is served{others}"),
        "write the number of one of its ports, or add this port to the ServiceEntry",
    )
}

fn not_found(field: &Field<'_>, message: String, remedy: &str) -> Problem {
    Problem::reference(reason::BACKEND_NOT_FOUND, field, message, remedy)
}
