//! TLS towards clients: which certificate is shown, which one is asked for, and the handshake.

pub(crate) mod accept;
pub(crate) mod alert;
pub mod client;
mod resolver;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use portcullis_routing::{
    Listener, ListenerKey, ListenerTls, Rejection, ResourceKind, RoutingTable,
    listener::{ClientValidation, TlsVersion},
};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, ProducesTickets},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use self::{client::ClientAuthentication, resolver::CertificateResolver};
use crate::state::Certificates;

/// The TLS side of a table's listeners. Made with the table, on the control thread; connections made before keep theirs.
#[derive(Clone, Debug, Default)]
pub struct TlsListeners(BTreeMap<ListenerKey, TlsListener>);

/// What is asked of clients, by the validation that it was made from.
type Clients = HashMap<ClientValidation, Arc<ClientAuthentication>>;

/// One listener, with what it was made from, to recognise an unchanged one.
#[derive(Clone, Debug)]
struct TlsListener {
    listener: Arc<Listener>,
    certificates: Vec<Arc<CertifiedKey>>,
    /// `None` asks for no client certificate.
    client: Option<Arc<ClientAuthentication>>,
    config: Arc<ServerConfig>,
}

impl TlsListeners {
    /// Makes the configuration of every HTTPS listener that has a usable certificate, and says which listeners cannot verify
    /// their clients: these are not served. Unchanged ones are shared with `previous`.
    pub fn build(
        previous: &Self,
        table: &RoutingTable,
        certificates: &Certificates,
    ) -> (Self, Vec<Rejection>) {
        let mut clients = previous.clients();
        let mut result = Self::default();
        let mut rejections = Vec::new();
        for (key, listener) in &table.listeners {
            let Some(tls) = &listener.tls else { continue };
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
                Some(known) => Ok(Some(known.clone())),
                None => TlsListener::new(listener, tls, usable, &mut clients),
            };
            match made {
                Ok(made) => result.0.extend(made.map(|made| (key.clone(), made))),
                Err(message) => rejections.push(Rejection {
                    kind: ResourceKind::Listener,
                    key: key.to_string(),
                    message,
                }),
            }
        }
        (result, rejections)
    }

    /// The configuration of a listener; `None` if it has no usable certificate or cannot verify its clients.
    pub fn config(&self, listener: &ListenerKey) -> Option<&Arc<ServerConfig>> {
        self.0.get(listener).map(|listener| &listener.config)
    }

    /// What every client of a listener must have shown; `None` if nothing, or if the listener cannot verify it.
    pub fn identity(&self, listener: &ListenerKey) -> Option<&Arc<ClientAuthentication>> {
        let client = self.0.get(listener)?.client.as_ref();
        client.filter(|client| client.is_mandatory())
    }

    fn clients(&self) -> Clients {
        let made = self.0.values().filter_map(|made| {
            let wanted = made.listener.tls.as_ref()?.client_validation.as_ref()?;
            Some((wanted.clone(), Arc::clone(made.client.as_ref()?)))
        });
        made.collect()
    }
}

impl TlsListener {
    /// `None` without certificates; an error says why clients could not be verified. Equal validations are shared through
    /// `clients`.
    fn new(
        listener: &Arc<Listener>,
        tls: &ListenerTls,
        certificates: Vec<Arc<CertifiedKey>>,
        clients: &mut Clients,
    ) -> Result<Option<Self>, String> {
        let wanted = tls.client_validation.as_ref();
        let client = wanted.map(|wanted| shared(clients, wanted)).transpose()?;
        let config = config(&certificates, client.as_deref(), tls.min_version);
        Ok(config.map(|config| Self {
            listener: Arc::clone(listener),
            certificates,
            client,
            config,
        }))
    }

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

fn shared(
    clients: &mut Clients,
    wanted: &ClientValidation,
) -> Result<Arc<ClientAuthentication>, String> {
    if let Some(known) = clients.get(wanted) {
        return Ok(Arc::clone(known));
    }
    let made = Arc::new(ClientAuthentication::new(wanted)?);
    clients.insert(wanted.clone(), Arc::clone(&made));
    Ok(made)
}

/// `None` without certificates, or if the system has no randomness for the tickets' keys.
fn config(
    certificates: &[Arc<CertifiedKey>],
    client: Option<&ClientAuthentication>,
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
    let builder = match client {
        Some(client) => builder.with_client_cert_verifier(client.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions are resumed by ticket alone: nothing to store, and any worker can resume what another began.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // A ticket of one listener would be taken by every other one of the same name: past the client certificate.
    if client.is_none()
        && let Some(tickets) = tickets()
    {
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
