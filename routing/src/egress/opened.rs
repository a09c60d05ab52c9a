//! An entry that opens a host and port to somebody: where it leads what is sent there.

use std::sync::Arc;

use super::{
    decide::{Destination, Question, Seen},
    entry::{Entry, EntryPort, EntryProtocol, EntryTls},
};
use crate::{cluster::SubjectAltName, key::EntryKey};

/// Where servers speak HTTP.
const HTTP: u16 = 80;
/// Where servers speak HTTP over TLS.
const HTTPS: u16 = 443;

/// An entry, and the port of it that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'t> {
    /// Its key.
    pub key: &'t EntryKey,
    /// The entry.
    pub entry: &'t Arc<Entry>,
    /// The port.
    pub port: &'t EntryPort,
}

impl<'t> Opened<'t> {
    /// The ports that are connected to: each endpoint's, or the one of the host that is asked for.
    pub fn targets(self) -> impl Iterator<Item = u16> + use<'t> {
        let Self { entry, port, .. } = self;
        let own = entry.endpoints.is_empty().then(|| port.target());
        let endpoints = entry.endpoints.iter();
        own.into_iter()
            .chain(endpoints.map(|endpoint| endpoint.target(port)))
    }

    /// Whether it leads elsewhere than to the host and port that the caller names, or to another site of the same servers.
    pub fn leads_elsewhere(&self, question: &Question<'_>) -> bool {
        self.entry.leads_elsewhere(self.port) || self.asks_another(question)
    }

    /// Whether the TLS that the proxy begins asks for another name than the host's, or takes a certificate of another one. Who is
    /// asked for by an address may have any name of the entry.
    pub(super) fn asks_another(&self, question: &Question<'_>) -> bool {
        let is_for_host = |tls: &EntryTls| match question.destination {
            Destination::Name(name) => tls.is_for(name),
            Destination::Address(_) => self.entry.hosts.iter().any(|host| tls.is_for(host)),
        };
        self.tls(question).is_some_and(|tls| !is_for_host(tls))
    }

    /// The names, or `*.suffix`, that this TLS asks for or takes in place of the host's.
    pub(super) fn asked_names(
        &self,
        question: &Question<'_>,
    ) -> impl Iterator<Item = &'t str> + use<'t> {
        let tls = self.tls(question);
        let sent = tls.and_then(|tls| tls.server_name.as_deref());
        let taken = tls.into_iter().flat_map(|tls| &tls.subject_alt_names);
        let taken = taken.filter_map(|name| match name {
            SubjectAltName::Hostname(name) => Some(name.as_str()),
            SubjectAltName::Uri(_) => None,
        });
        sent.into_iter().chain(taken)
    }

    /// The TLS that the proxy begins as the entry says: for requests only.
    fn tls(&self, question: &Question<'_>) -> Option<&'t EntryTls> {
        let is_request = matches!(question.seen, Seen::Request { .. });
        let entry: &'t Entry = self.entry;
        is_request.then(|| entry.tls_of(self.port)).flatten()
    }

    /// Whether the same becomes of it as of what no entry lists and passes all the same: requests go to the host itself, over TLS that
    /// everybody trusts to port 443 and in clear HTTP/1.1 to others. Tunnels may then be anything; that they are what is usual on
    /// these two ports is no change.
    pub(super) fn changes_nothing(&self, question: &Question<'_>) -> bool {
        let Self { entry, port, .. } = self;
        if port.shut || self.leads_elsewhere(question) {
            return false;
        }
        match question.seen {
            Seen::Request { encrypted, .. } if port.number == HTTPS => match entry.tls_of(port) {
                Some(tls) => tls.ca_pem.is_empty(),
                None => encrypted && port.protocol == EntryProtocol::Https,
            },
            Seen::Request { .. } => port.protocol == EntryProtocol::Http && port.tls.is_none(),
            Seen::Tunnel => match port.protocol {
                EntryProtocol::Http => port.number == HTTP,
                EntryProtocol::Https | EntryProtocol::Tls => port.number == HTTPS,
                EntryProtocol::Tcp => true,
                EntryProtocol::Http2 | EntryProtocol::Grpc => false,
            },
            Seen::Tls => port.protocol.is_tls() || port.protocol == EntryProtocol::Tcp,
        }
    }
}
