//! The ServiceEntry that would open what none opens.

use portcullis_routing::{
    EntryKey, RouteOrder, RoutingTable,
    egress::{
        Destination, Entry, EntryPort, EntryProtocol, ExportedTo, Question, Resolution, Seen,
    },
};

use super::{
    Case,
    remedy::{Remedy, Way, names, own_namespace},
};
use crate::egress::manifest::{Names, Spoken, name_of, port_name, service_entry, yaml};

/// An entry as it would be.
pub(super) struct Opening {
    pub(super) key: EntryKey,
    pub(super) entry: Entry,
    /// What makes it so.
    pub(super) remedy: Remedy,
}

impl Opening {
    /// `None` for what no name stands for.
    pub(super) fn of(
        question: &Question<'_>,
        way: Way<'_>,
        table: &RoutingTable,
        case: &Case<'_>,
    ) -> anyhow::Result<Option<Self>> {
        if let Way::Through(key) = way {
            return Ok(Self::by_export(question, key, table));
        }
        let Destination::Name(host) = question.destination else {
            return Ok(None);
        };
        Ok(Some(match Self::by_port(question, host, table) {
            Some(opening) => opening,
            None => Self::by_entry(question, host, case)?,
        }))
    }

    /// The entry of a route, exported to the caller.
    fn by_export(question: &Question<'_>, key: &EntryKey, table: &RoutingTable) -> Option<Self> {
        let namespace = question.caller?.namespace;
        let mut entry = Entry::clone(table.entries.get(key)?);
        if let ExportedTo::Namespaces(namespaces) = &mut entry.exported_to {
            namespaces.push(namespace.to_owned());
            namespaces.sort();
        }
        Some(Self {
            key: key.clone(),
            entry,
            remedy: format!("export {key} to namespace {namespace}").into(),
        })
    }

    /// One that is for the caller's namespace and this host alone, with the port as well. A second one would be as good, and one more
    /// to look after.
    fn by_port(question: &Question<'_>, host: &str, table: &RoutingTable) -> Option<Self> {
        let namespace = home(question, table);
        let exported_to = exported_to(question);
        let mut entries = table.entries.iter();
        let (key, entry) = entries.find(|(_, entry)| {
            entry.order.namespace == namespace
                && matches!(&entry.hosts[..], [only] if only == host)
                && entry.addresses.is_empty()
                && !entry.is_shut()
                && entry.ports.iter().all(|port| port.number != question.port)
                && entry.exported_to == exported_to
        })?;
        let (number, spoken) = (question.port, spoken(question));
        let mut entry = Entry::clone(entry);
        entry.ports.push(port_of(number, spoken));
        let name = port_name(number, spoken);
        let words = format!(
            "add to {key}, spec.ports: - {{number: {number}, name: {name}, protocol: {spoken}}}"
        );
        Some(Self {
            key: key.clone(),
            entry,
            remedy: words.into(),
        })
    }

    /// One of its own, under a name that none has, nor another remedy gives.
    fn by_entry(question: &Question<'_>, host: &str, case: &Case<'_>) -> anyhow::Result<Self> {
        let namespace = home(question, case.table);
        let exported_to = exported_to(question);
        let export = if exported_to.is_all() { "*" } else { "." };
        let taken = names(case.resources.service_entries.keys(), namespace);
        let port = (question.port, spoken(question));
        let port_name = port_name(port.0, port.1);
        let name = Names::beside(taken).name(
            &format!("{}-{port_name}", name_of(host)),
            &format!("{host} {port_name} {export}"),
        );
        let manifest = service_entry((namespace, &name), [host], [port], export);
        let words = if exported_to.is_all() {
            "apply this ServiceEntry, which opens it to every namespace (name the caller with --from for less)"
        } else {
            "apply this ServiceEntry"
        };
        Ok(Self {
            key: EntryKey::of(namespace, &name),
            entry: Entry {
                hosts: vec![host.to_owned()],
                addresses: Vec::new(),
                ports: vec![port_of(port.0, port.1)],
                tls: Vec::new(),
                resolution: Resolution::Dns,
                endpoints: Vec::new(),
                exported_to,
                order: RouteOrder {
                    created_at: RouteOrder::NEVER,
                    namespace: namespace.to_owned(),
                    name,
                    rule: 0,
                },
            },
            remedy: Remedy {
                words: Some(words.to_owned()),
                apply: Some(yaml(&manifest)?),
            },
        })
    }
}

/// Where an entry for the caller belongs.
fn home<'a>(question: &Question<'a>, table: &'a RoutingTable) -> &'a str {
    match question.caller {
        Some(caller) => caller.namespace,
        None => own_namespace(table),
    }
}

/// Nobody else but the caller's namespace, if that is known.
fn exported_to(question: &Question<'_>) -> ExportedTo {
    match question.caller {
        Some(caller) => ExportedTo::Namespaces(vec![caller.namespace.to_owned()]),
        None => ExportedTo::All,
    }
}

fn spoken(question: &Question<'_>) -> Spoken {
    match (&question.seen, question.port) {
        (Seen::Request { .. }, _) | (Seen::Tunnel, 80) => Spoken::Http,
        (Seen::Tunnel | Seen::Tls, _) => Spoken::Tls,
    }
}

/// As the table would have it.
fn port_of(number: u16, spoken: Spoken) -> EntryPort {
    EntryPort {
        number,
        protocol: match spoken {
            Spoken::Http => EntryProtocol::Http,
            Spoken::Tls => EntryProtocol::Tls,
            Spoken::Tcp => EntryProtocol::Tcp,
        },
        target_port: None,
        tls: None,
        shut: false,
    }
}
