//! What entries claim: hosts and ranges of addresses with their ports, and what becomes of a connection there.

use std::{collections::HashMap, fmt};

use ipnet::IpNet;
use portcullis_routing::egress::{Entry, EntryEndpoint, EntryPort, EntryTls, Resolution};

use super::conflict::Candidate;

/// A host or range of addresses with a port, as an entry lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Claim<'a> {
    pub(super) destination: Destination<'a>,
    pub(super) port: u16,
}

/// What callers name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Destination<'a> {
    /// A host, or `*.suffix`.
    Host(&'a str),
    /// Addresses.
    Range(IpNet),
}

impl<'a> Claim<'a> {
    /// All that an entry claims.
    pub(super) fn all(entry: &'a Entry) -> impl Iterator<Item = Self> {
        let hosts = entry.hosts.iter().map(|host| Destination::Host(host));
        let ranges = entry.addresses.iter().copied().map(Destination::Range);
        hosts.chain(ranges).flat_map(|destination| {
            let ports = entry.ports.iter();
            ports.map(move |port| Self {
                destination,
                port: port.number,
            })
        })
    }

    /// The field of a ServiceEntry that makes it.
    pub(super) const fn field(&self) -> &'static str {
        match self.destination {
            Destination::Host(_) => "spec.hosts",
            Destination::Range(_) => "spec.addresses",
        }
    }
}

impl fmt::Display for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destination, port } = self;
        match destination {
            Destination::Host(host) => write!(f, "{host}:{port}"),
            Destination::Range(range) => write!(f, "port {port} of {range}"),
        }
    }
}

/// Everything of an entry that decides what becomes of a connection to it, as numbers: what is equal has the same one. So it is
/// looked at once, however many hosts and ports it is asked about.
pub(super) struct Meaning {
    /// Where connections go.
    way: usize,
    ports: HashMap<u16, usize>,
}

impl Meaning {
    /// Those of all candidates, in their order.
    pub(super) fn of_all<'a>(candidates: &[Candidate<'a>]) -> Vec<Self> {
        let mut ways = HashMap::<(Resolution, &[EntryEndpoint]), usize>::new();
        let mut tls = HashMap::<&EntryTls, usize>::new();
        let mut ports = HashMap::<(EntryPort, Option<usize>), usize>::new();
        let meaning = |candidate: &Candidate<'a>| {
            let Entry {
                resolution,
                endpoints,
                ports: own,
                tls: own_tls,
                ..
            } = candidate.entry;
            let next = ways.len();
            let way = *ways.entry((*resolution, endpoints)).or_insert(next);
            let own_tls: Vec<_> = own_tls
                .iter()
                .map(|one| {
                    let next = tls.len();
                    *tls.entry(one).or_insert(next)
                })
                .collect();
            let own = own.iter().map(|port| {
                let tls = port.tls.and_then(|place| own_tls.get(usize::from(place)));
                let alone = EntryPort {
                    tls: None,
                    ..port.clone()
                };
                let next = ports.len();
                let number = *ports.entry((alone, tls.copied())).or_insert(next);
                (port.number, number)
            });
            Self {
                way,
                ports: own.collect(),
            }
        };
        candidates.iter().map(meaning).collect()
    }

    /// What a connection to this port means.
    pub(super) fn at(&self, port: u16) -> (usize, Option<usize>) {
        (self.way, self.ports.get(&port).copied())
    }
}

/// The first few of many.
pub(super) struct Tally<T> {
    first: Vec<T>,
    count: usize,
}

/// Things that a message names; how many more there are is a number.
const NAMED: usize = 3;

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self {
            first: Vec::new(),
            count: 0,
        }
    }
}

impl<T> Tally<T> {
    /// One more.
    pub(super) fn add(&mut self, one: T) {
        if self.first.len() < NAMED {
            self.first.push(one);
        }
        self.count += 1;
    }

    /// The first one.
    pub(super) fn first(&self) -> Option<&T> {
        self.first.first()
    }
}

impl<T: fmt::Display> fmt::Display for Tally<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.first.iter().map(ToString::to_string).collect();
        f.write_str(&named.join(", "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
