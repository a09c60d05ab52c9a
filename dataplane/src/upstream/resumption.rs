//! TLS sessions with backends that can be resumed: those of all configurations of the process in one store, within one bound.
//!
//! The store that rustls gives each configuration takes 15 KB before its first session and keeps 32 servers. There may be a
//! configuration for each of very many hosts, and one for very many of them.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use foldhash::fast::RandomState;
use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue},
};
use rustls_pki_types::ServerName;

/// Most servers of which sessions are kept, once for each configuration that they are met with. They take 85 MB if each shows 4 KB
/// of certificates.
const MAX_SERVERS: usize = 10_240;
/// Most TLS 1.3 tickets of a server: each has a copy of the server's certificates.
const MAX_TICKETS: usize = 2;

/// Sessions for one configuration and its clones. No other sees them: they were begun with whom it trusts and what it shows. (rustls
/// would not resume them elsewhere either, but it would use them up.)
pub(super) fn resumption() -> Resumption {
    static STORE: LazyLock<Arc<Store>> = LazyLock::new(|| Store::new(MAX_SERVERS));
    Resumption::store(Arc::new(Store::part(&STORE)))
}

/// All sessions.
struct Store {
    most: usize,
    parts: AtomicU64,
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    known: HashMap<Arc<Key>, Server, RandomState>,
    /// The first is the one that was added first.
    oldest: VecDeque<Arc<Key>>,
}

/// The number of a part, and a name.
type Key = (u64, ServerName<'static>);

/// What is known of a server.
#[derive(Default)]
struct Server {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// Oldest first.
    tickets: Vec<Tls13ClientSessionValue>,
}

/// What one configuration has of the store.
struct Part {
    number: u64,
    store: Arc<Store>,
}

impl Store {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            parts: AtomicU64::new(0),
            servers: Mutex::default(),
        })
    }

    fn part(self: &Arc<Self>) -> Part {
        Part {
            number: self.parts.fetch_add(1, Ordering::Relaxed),
            store: Arc::clone(self),
        }
    }
}

impl Part {
    fn look<T>(
        &self,
        name: &ServerName<'_>,
        look: impl FnOnce(&mut Server) -> Option<T>,
    ) -> Option<T> {
        let key = (self.number, name.to_owned());
        let servers = self.store.servers.lock();
        let mut servers = servers.unwrap_or_else(PoisonError::into_inner);
        look(servers.known.get_mut(&key)?)
    }

    fn edit(&self, name: ServerName<'static>, edit: impl FnOnce(&mut Server)) {
        let key = (self.number, name);
        let servers = self.store.servers.lock();
        let mut servers = servers.unwrap_or_else(PoisonError::into_inner);
        let Servers { known, oldest } = &mut *servers;
        if let Some(server) = known.get_mut(&key) {
            return edit(server);
        }
        if known.len() >= self.store.most
            && let Some(first) = oldest.pop_front()
        {
            known.remove(&first);
        }
        let key = Arc::new(key);
        oldest.push_back(Arc::clone(&key));
        edit(known.entry(key).or_default());
    }
}

impl ClientSessionStore for Part {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.edit(name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.look(name, |server| server.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.edit(name, |server| server.tls12 = Some(session));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.look(name, |server| server.tls12.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.look(name, |server| server.tls12.take());
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.edit(name, |server| {
            if server.tickets.len() >= MAX_TICKETS {
                server.tickets.remove(0);
            }
            server.tickets.push(ticket);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.look(name, |server| server.tickets.pop())
    }
}

impl fmt::Debug for Part {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{EntryKey, GatewayKey, RoutingTable, egress::Entry};
    use rcgen::{CertificateParams, KeyPair};
    use rustls::{
        ClientConfig, ClientConnection,
        HandshakeKind::{self, Full, Resumed},
        ServerConfig, ServerConnection, SupportedProtocolVersion,
        crypto::aws_lc_rs,
        version::{TLS12, TLS13},
    };
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;
    use crate::{state::Certificates, upstream::TlsPolicies};

    #[test]
    fn what_came_first_makes_room_and_parts_are_apart() {
        let store = Store::new(3);
        let (one, other) = (store.part(), store.part());
        let name = |name| ServerName::try_from(name).unwrap();
        one.set_kx_hint(name("a"), NamedGroup::X25519);
        other.set_kx_hint(name("a"), NamedGroup::secp256r1);
        one.set_kx_hint(name("b"), NamedGroup::X25519);
        assert_eq!(one.kx_hint(&name("a")), Some(NamedGroup::X25519));
        assert_eq!(other.kx_hint(&name("a")), Some(NamedGroup::secp256r1));
        assert_eq!(other.kx_hint(&name("b")), None);
        other.set_kx_hint(name("a"), NamedGroup::secp384r1);
        other.set_kx_hint(name("b"), NamedGroup::secp256r1);
        assert_eq!(one.kx_hint(&name("a")), None);
        assert_eq!(other.kx_hint(&name("a")), Some(NamedGroup::secp384r1));
        let servers = store.servers.lock().unwrap();
        assert_eq!((servers.known.len(), servers.oldest.len()), (3, 3));
    }

    /// A server for the names below `up.internal`, and its certificate.
    fn server(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["*.up.internal".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(100_000);
        config.send_tls13_tickets = 4;
        (Arc::new(config), certificate.pem())
    }

    /// What is made for two entries that trust `ca` and ask for another name of the certificate each.
    fn clients(ca: &str) -> [Arc<ClientConfig>; 2] {
        let mut table = RoutingTable::new(GatewayKey::of("ns", "gw"));
        let keys = ["one", "other"].map(|name| EntryKey::of("ns", name));
        for (key, name) in keys.iter().zip(["a.up.internal", "b.up.internal"]) {
            let names = serde_json::json!([{"Hostname": name}]);
            let entry = serde_json::json!({
                "hosts": ["*.up.internal"], "ports": [],
                "tls": [{"ca_pem": [ca], "subject_alt_names": names}],
                "order": {"namespace": "ns", "name": "e", "rule": 0},
            });
            let entry: Entry = serde_json::from_value(entry).unwrap();
            table.entries.insert(key.clone(), Arc::new(entry));
        }
        let none = (TlsPolicies::default(), Certificates::default());
        let (policies, _) = TlsPolicies::build(&none.0, &table, &none.1);
        keys.map(|key| Arc::clone(&policies.of_entry(&key, 0).as_ref().unwrap().http1))
    }

    fn begin(client: &Arc<ClientConfig>, name: &str) -> ClientConnection {
        let name = name.to_owned().try_into().unwrap();
        ClientConnection::new(Arc::clone(client), name).unwrap()
    }

    /// The rest of a handshake, and of which kind it was.
    fn finish(mut client: ClientConnection, server: &Arc<ServerConfig>) -> HandshakeKind {
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut bytes = &*bytes;
            while !bytes.is_empty() {
                server.read_tls(&mut bytes).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut bytes = &*bytes;
            while !bytes.is_empty() {
                client.read_tls(&mut bytes).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        client.handshake_kind().unwrap()
    }

    #[test]
    fn a_session_outlasts_those_with_very_many_other_hosts_of_its_entry() {
        for version in [&TLS13, &TLS12] {
            let (server, ca) = server(version);
            let [client, _] = clients(&ca);
            for number in 0..200 {
                let name = format!("{number}.up.internal");
                let kind = finish(begin(&client, &name), &server);
                assert_eq!(kind, Full);
            }
            let again = finish(begin(&client, "0.up.internal"), &server);
            assert_eq!(again, Resumed);
        }
    }

    #[test]
    fn what_was_verified_in_one_way_is_not_resumed_in_another() {
        for version in [&TLS13, &TLS12] {
            let (server, ca) = server(version);
            let [one, other] = clients(&ca);
            let kinds = [&one, &other, &one, &other];
            let kinds = kinds.map(|client| finish(begin(client, "c.up.internal"), &server));
            assert_eq!(kinds, [Full, Full, Resumed, Resumed]);
        }
    }

    #[test]
    fn few_of_a_servers_tickets_are_kept() {
        let (server, ca) = server(&TLS13);
        let [client, _] = clients(&ca);
        finish(begin(&client, "a.up.internal"), &server);
        let at_once = [(); 3].map(|()| begin(&client, "a.up.internal"));
        let kinds = at_once.map(|client| finish(client, &server));
        assert_eq!(kinds, [Resumed, Resumed, Full]);
    }
}
