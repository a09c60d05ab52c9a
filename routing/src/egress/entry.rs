//! Entries of the allow-list: one ServiceEntry each.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::SubjectAltName, endpoint::EndpointHost, exact, key::CertificateKey, route::RouteOrder,
};

/// Most [claims](Entry::claims) of one entry.
pub const MAX_CLAIMS: usize = 4096;

/// ONE ServiceEntry: hosts outside of the cluster, and the ports of them that may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Hosts in normal form (lower case, A-labels, no final dot): exact, or `*.suffix`, which is one or more labels before
    /// the suffix and never the bare suffix.
    #[serde(deserialize_with = "exact::list")]
    pub hosts: Vec<String>,
    /// Addresses that may be named instead of a host. They open no address that is refused by its range.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub addresses: Vec<IpNet>,
    /// Ports, each number once.
    #[serde(deserialize_with = "exact::list")]
    pub ports: Vec<EntryPort>,
    /// TLS that the proxy begins for requests it can read (`BackendTLSPolicy`, or HTTPS on an HTTPS listener). Ports point here, as
    /// most have the same. Tunnels and TLS that passes through are not touched by it.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub tls: Vec<EntryTls>,
    /// Where connections go.
    #[serde(default)]
    pub resolution: Resolution,
    /// Where the host is, in place of what its own name says. Always there with [`Resolution::Static`].
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub endpoints: Vec<EntryEndpoint>,
    /// Whose workloads may use it.
    #[serde(default, skip_serializing_if = "ExportedTo::is_all")]
    pub exported_to: ExportedTo,
    /// Decides between entries that open the same host and port: the caller's own namespace and the Gateway's go before others; of
    /// these the narrower host, then the caller's own; then the oldest wins, then `namespace/name`. `rule` is 0.
    pub order: RouteOrder,
}

impl Entry {
    /// Hosts and addresses, ports and namespaces, multiplied: what entries are held against one another for. One of them must not make
    /// that costly for all.
    pub fn claims(&self) -> usize {
        let namespaces = match &self.exported_to {
            ExportedTo::All => 1,
            ExportedTo::Namespaces(namespaces) => namespaces.len(),
        };
        let destinations = self.hosts.len() + self.addresses.len();
        let ports = destinations.saturating_mul(self.ports.len());
        ports.saturating_mul(namespaces)
    }
}

/// One port of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EntryPort {
    /// The port that callers name.
    pub number: u16,
    /// What is spoken on it.
    pub protocol: EntryProtocol,
    /// The port that is connected to, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
    /// The place of its TLS in [`Entry::tls`]; `None` if the proxy begins none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<u16>,
    /// It is listed, and cannot be served: whoever would be let through by this entry is refused, and by no other entry led
    /// elsewhere. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shut: bool,
}

impl Entry {
    /// The same callers, hosts and ports, but nothing of it is served: see [`EntryPort::shut`].
    #[must_use]
    pub fn shut(self) -> Self {
        let ports = self.ports.into_iter().map(|port| EntryPort {
            number: port.number,
            protocol: port.protocol,
            target_port: None,
            tls: None,
            shut: true,
        });
        Self {
            ports: ports.collect(),
            tls: Vec::new(),
            resolution: Resolution::None,
            endpoints: Vec::new(),
            ..self
        }
    }

    /// Whether nothing of it is served.
    pub fn is_shut(&self) -> bool {
        self.ports.iter().all(|port| port.shut)
    }

    /// Whether connections to a port of it go elsewhere than to its hosts, at that port.
    pub fn leads_elsewhere(&self, port: &EntryPort) -> bool {
        !self.endpoints.is_empty() || port.target() != port.number
    }

    /// Whether requests to a host through a port of it reach that host and nobody else, whoever wrote it: at that port, and over TLS in
    /// which the host proves its name to the system's CAs.
    pub fn surely_reaches(&self, port: &EntryPort, host: &str) -> bool {
        let is_proven = match self.tls_of(port) {
            Some(tls) => tls.is_for(host) && tls.ca_pem.is_empty(),
            None => port.protocol == EntryProtocol::Https,
        };
        is_proven && !port.shut && !self.leads_elsewhere(port)
    }

    /// The TLS that the proxy begins at one of its ports.
    pub fn tls_of(&self, port: &EntryPort) -> Option<&EntryTls> {
        self.tls.get(usize::from(port.tls?))
    }
}

impl EntryPort {
    /// The port that is connected to.
    pub fn target(&self) -> u16 {
        self.target_port.unwrap_or(self.number)
    }
}

/// What is spoken on a port of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EntryProtocol {
    /// HTTP/1.1 in clear text; requests are read one by one, also inside a tunnel.
    Http,
    /// HTTP/2 in clear text.
    Http2,
    /// gRPC in clear text, which is HTTP/2.
    Grpc,
    /// HTTP over TLS.
    Https,
    /// TLS, whatever is in it.
    Tls,
    /// Anything. A tunnel to it is not looked into.
    Tcp,
}

impl EntryProtocol {
    /// Whether requests can be read without taking TLS off.
    pub const fn is_clear_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }

    /// Whether a client that speaks with the host itself begins with TLS.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

/// TLS towards an entry's host. There is no "do not verify".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct EntryTls {
    /// Sent as SNI, and what the certificate must be valid for without `subject_alt_names`. `None` is the host that the caller
    /// named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Trusted CA certificates ([`ca`](crate::ca)). Empty means the system's trust store.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca_pem: Vec<String>,
    /// If there are any, the certificate must be valid for one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<SubjectAltName>,
    /// Shown to a host that asks for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertificateKey>,
}

impl EntryTls {
    /// Whether it asks for this host, and takes a certificate of it only.
    pub fn is_for(&self, host: &str) -> bool {
        let mut names = self.subject_alt_names.iter();
        let is_host =
            |name: &SubjectAltName| matches!(name, SubjectAltName::Hostname(name) if name == host);
        self.server_name.as_deref().is_none_or(|name| name == host) && names.all(is_host)
    }
}

/// Where the connections for an entry go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Resolution {
    /// To the addresses of the name that was asked for.
    #[default]
    None,
    /// To the entry's endpoints, which are addresses.
    Static,
    /// To the addresses of the entry's endpoints, or of its host if it has none; all of them share the connections.
    Dns,
    /// As [`Self::Dns`], but connections go to the first address that answers, as long as the name has it.
    DnsRoundRobin,
}

/// An endpoint of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EntryEndpoint {
    /// IP address or DNS name.
    pub host: EndpointHost,
    /// Ports that differ from the entry's target ports, by the number that callers name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<(u16, u16)>,
    /// Share of the connections, relative to the sum. Default 1; 0 gets none.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
}

impl EntryEndpoint {
    /// The port of it that is connected to, for this port of its entry.
    pub fn target(&self, port: &EntryPort) -> u16 {
        let mut ports = self.ports.iter();
        let own = ports.find(|(named, _)| *named == port.number);
        own.map_or_else(|| port.target(), |(_, target)| *target)
    }
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// Whose workloads may use an entry (`exportTo`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportedTo {
    /// Everybody, known or not.
    #[default]
    All,
    /// Those of these namespaces, sorted. A caller of unknown identity is none of them.
    Namespaces(Vec<String>),
}

impl ExportedTo {
    /// Whether everybody may use the entry.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// Whether the workloads of a namespace may use the entry.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(namespaces) => namespaces
                .binary_search_by(|one| one.as_str().cmp(namespace))
                .is_ok(),
        }
    }
}
