//! TLS towards clients: which certificate is shown, and the handshake.

pub(crate) mod accept;
mod resolver;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use portcullis_routing::{Listener, ListenerKey, RoutingTable, listener::TlsVersion};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, ProducesTickets},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use self::resolver::CertificateResolver;
use crate::state::Certificates;

/// The TLS side of a table's listeners. Made with the table, on the control thread; connections made before keep theirs.
#[derive(Clone, Debug, Default)]
pub struct TlsListeners(BTreeMap<ListenerKey, TlsListener>);

/// One listener, with what it was made from, to recognise an unchanged one.
#[derive(Clone, Debug)]
struct TlsListener {
    listener: Arc<Listener>,
    certificates: Vec<Arc<CertifiedKey>>,
    config: Arc<ServerConfig>,
}

impl TlsListeners {
    /// Makes the configuration of every HTTPS listener that has a usable certificate. Unchanged ones are shared with
    /// `previous`.
    pub fn build(previous: &Self, table: &RoutingTable, certificates: &Certificates) -> Self {
        let listeners = table.listeners.iter().filter_map(|(key, listener)| {
            let tls = listener.tls.as_ref()?;
            let usable: Vec<_> = tls
                .certificates
                .iter()
                .filter_map(|key| certificates.get(key).cloned())
                .collect();
            let known = previous
                .0
                .get(key)
                .filter(|known| known.is_made_from(listener, &usable));
            let made = match known {
                Some(known) => known.clone(),
                None => TlsListener {
                    listener: Arc::clone(listener),
                    config: config(&usable, tls.min_version)?,
                    certificates: usable,
                },
            };
            Some((key.clone(), made))
        });
        Self(listeners.collect())
    }

    /// The configuration of a listener; `None` if it has no usable certificate.
    pub fn config(&self, listener: &ListenerKey) -> Option<&Arc<ServerConfig>> {
        self.0.get(listener).map(|listener| &listener.config)
    }
}

impl TlsListener {
    fn is_made_from(&self, listener: &Listener, certificates: &[Arc<CertifiedKey>]) -> bool {
        self.listener.tls == listener.tls
            && self.certificates.len() == certificates.len()
            && self
                .certificates
                .iter()
                .zip(certificates)
                .all(|(mine, theirs)| Arc::ptr_eq(mine, theirs))
    }
}

/// `None` without certificates, or if the system has no randomness for the tickets' keys.
fn config(
    certificates: &[Arc<CertifiedKey>],
    min_version: TlsVersion,
) -> Option<Arc<ServerConfig>> {
    let resolver = CertificateResolver::new(certificates)?;
    let versions: &[&SupportedProtocolVersion] = match min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .inspect_err(|error| tracing::error!(%error, "TLS cannot be configured"))
        .ok()?;
    let mut config = builder
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions are resumed by ticket alone: nothing to store, and any worker can resume what another began.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if let Some(tickets) = tickets() {
        config.ticketer = Arc::clone(tickets);
    }
    Some(Arc::new(config))
}

/// The one source of session tickets in this process; its keys rotate by themselves.
fn tickets() -> Option<&'static Arc<dyn ProducesTickets>> {
    static TICKETS: OnceLock<Option<Arc<dyn ProducesTickets>>> = OnceLock::new();
    TICKETS
        .get_or_init(|| {
            aws_lc_rs::Ticketer::new()
                .inspect_err(|error| tracing::error!(%error, "TLS sessions will not be resumed"))
                .ok()
        })
        .as_ref()
}

#[cfg(test)]
mod tests;
