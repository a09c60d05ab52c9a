//! Hosts outside: each with the connections of one entry, host and port, which nobody else shares.
//!
//! Such a host has no endpoints that are known beforehand: every request brings the addresses that were found good for it just
//! now, and gets a connection to one of these, be it new or pooled.

mod rooms;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt::Write as _,
    rc::Rc,
    sync::Arc,
};

use foldhash::fast::RandomState;
use portcullis_routing::{Cluster, ClusterKey, ClusterProtocol, EntryKey, egress::Entry};
use tokio::time::Instant;

use self::rooms::{Place, Room, Rooms, overloaded};
use super::{
    LINGER, OpenRequest, Shared, Upstream, UpstreamError,
    cluster::{ClusterResources, ClusterState},
    open,
    tls::{self, MadeConfigs, TlsPolicy},
};

/// Whose connections are wanted, and how it is talked to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExternalHost<'a> {
    /// The entry that opens the host, as the table has it; `None` for a host that no entry lists.
    pub(crate) entry: Option<(&'a EntryKey, &'a Arc<Entry>)>,
    /// The host, in normal form.
    pub(crate) host: &'a str,
    /// The port, as it is named.
    pub(crate) port: u16,
    /// HTTP/2 is spoken: by prior knowledge in clear text, by ALPN over TLS.
    pub(crate) http2: bool,
    /// TLS; `None` is clear text.
    pub(crate) tls: Option<HostTls<'a>>,
}

/// How TLS is spoken with a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostTls<'a> {
    /// Sent as SNI and verified; `None` is the host itself.
    pub(crate) server_name: Option<&'a str>,
    /// What was made with the table.
    pub(crate) configs: &'a MadeConfigs,
}

/// The connections of one host, for a request that is under way until this is dropped.
pub(crate) struct External(Rc<Host>);

struct Host {
    state: Rc<ClusterState>,
    place: Place,
}

impl External {
    fn new(host: &Rc<Host>, caller: &str) -> Self {
        host.place.enter(caller);
        Self(Rc::clone(host))
    }

    /// What it is called in logs.
    pub(crate) fn key(&self) -> &ClusterKey {
        &self.0.state.key
    }

    /// A session with one of the addresses that the request [may have](OpenRequest::within). Cancel-safe.
    pub(crate) async fn open(&self, request: OpenRequest<'_>) -> Result<Upstream, UpstreamError> {
        let addresses = request.within.map(|within| within.addresses);
        self.0.state.meet(addresses.unwrap_or_default());
        open::open(&self.0.state, request).await
    }
}

impl Drop for External {
    fn drop(&mut self) {
        self.0.place.leave();
    }
}

/// The hosts of one worker.
#[derive(Default)]
pub(super) struct Externals {
    known: RefCell<Hosts>,
    rooms: Rooms,
    /// Where names are put together for a look.
    name: RefCell<String>,
}

type Hosts = HashMap<Box<str>, Known, RandomState>;

struct Known {
    host: Rc<Host>,
    entry: Option<Arc<Entry>>,
    tls: Option<MadeConfigs>,
    used: Cell<Instant>,
}

impl Known {
    /// Whether this is how the host is talked to, by what the table says now.
    fn fits(&self, host: &ExternalHost<'_>) -> bool {
        let entry = host.entry.map(|(_, entry)| entry);
        let configs = host.tls.map(|tls| tls.configs);
        is_same(self.entry.as_ref(), entry) && tls::same(self.tls.as_ref(), configs)
    }
}

/// Unchanged resources stay the same instance from table to table.
fn is_same(one: Option<&Arc<Entry>>, other: Option<&Arc<Entry>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

impl Externals {
    pub(super) fn get(
        &self,
        host: &ExternalHost<'_>,
        caller: &str,
        shared: &Rc<Shared>,
    ) -> Result<External, UpstreamError> {
        let mut name = self.name.borrow_mut();
        write_name(&mut name, host);
        let mut known = self.known.borrow_mut();
        if let Some(found) = known.get(name.as_str()).filter(|found| found.fits(host)) {
            if !found.host.place.is_busy() {
                self.rooms.admit(found.host.place.rooms(), caller)?;
            }
            found.used.set(Instant::now());
            return Ok(External::new(&found.host, caller));
        }
        if let Some(outdated) = known.remove(name.as_str()) {
            outdated.host.state.close();
        }
        let rooms = self.rooms.of(host.entry.map(|(key, _)| key));
        // First, so that whoever may not have one drops nobody else's.
        self.rooms.admit(&rooms, caller)?;
        for room in &rooms {
            make_room(&mut known, room)?;
        }
        let made = Rc::new(Host {
            state: state(host, shared),
            place: self.rooms.place(rooms),
        });
        let external = External::new(&made, caller);
        let fresh = Known {
            host: made,
            entry: host.entry.map(|(_, entry)| Arc::clone(entry)),
            tls: host.tls.map(|tls| tls.configs.clone()),
            used: Cell::new(Instant::now()),
        };
        known.insert(name.as_str().into(), fresh);
        Ok(external)
    }

    /// Closes idle connections and forgets hosts, coarsely.
    pub(super) fn sweep(&self, now: Instant) {
        self.known.borrow_mut().retain(|_, known| {
            let state = &known.host.state;
            state.sweep(now);
            known.used.get() + LINGER > now || !state.is_unused()
        });
        self.rooms.sweep();
    }
}

/// Everything that keeps connections apart. No part of it has a space.
fn write_name(name: &mut String, host: &ExternalHost<'_>) {
    let ExternalHost {
        entry, port, http2, ..
    } = host;
    name.clear();
    let entry = entry.map_or("", |(key, _)| key.as_str());
    // Writing to a string does not fail.
    _ = write!(name, "{entry} {} {port} {http2}", host.host);
}

/// Forgets hosts where there is no room left: those that were not asked for for longest, among those without a request under way.
fn make_room(known: &mut Hosts, room: &Rc<Room>) -> Result<(), UpstreamError> {
    let now = Instant::now();
    if !room.is_full() {
        return Ok(());
    }
    let is_idle = |it: &Known| it.host.place.is_in(room) && !it.host.place.is_busy();
    let mut idle = Vec::new();
    if !room.is_tight(now) {
        let found = known.values().filter(|it| is_idle(it));
        idle.extend(found.map(|it| it.used.get()));
    }
    let batch = idle.len().min(room.batch());
    if batch < room.batch() {
        room.tighten(now);
    }
    let Some(last) = batch.checked_sub(1) else {
        return Err(overloaded());
    };
    let (_, &mut last, _) = idle.select_nth_unstable(last);
    known.retain(|_, it| {
        let stays = it.used.get() > last || !is_idle(it);
        if !stays {
            it.host.state.close();
        }
        stays
    });
    Ok(())
}

fn state(host: &ExternalHost<'_>, shared: &Rc<Shared>) -> Rc<ClusterState> {
    let cluster = Arc::new(Cluster {
        protocol: if host.http2 {
            ClusterProtocol::Http2
        } else {
            ClusterProtocol::Http1
        },
        ..Cluster::default()
    });
    let policy = host.tls.map(|tls| {
        let name = tls.server_name.unwrap_or_else(|| bare(host.host));
        let policy = TlsPolicy::new(name, tls.configs.clone()?);
        policy.map(Arc::new)
    });
    let resources = ClusterResources {
        cluster: &cluster,
        endpoints: Arc::default(),
        tls: policy.as_ref(),
    };
    let key = ClusterKey::external(host.host, host.port);
    ClusterState::external(&key, shared, resources)
}

/// A host as certificates have it: the brackets of an IPv6 address belong to the URI.
fn bare(host: &str) -> &str {
    let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    address.unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{
        RouteOrder,
        egress::{ExportedTo, Resolution},
    };
    use tokio::task::LocalSet;

    use super::{
        rooms::{MAX_HOSTS, MAX_OF_ENTRY, MAX_OF_NAMESPACE},
        *,
    };
    use crate::{
        telemetry::{Metrics, MetricsOptions},
        upstream::{UpstreamErrorKind, Upstreams},
    };

    fn entry() -> Arc<Entry> {
        let order = RouteOrder {
            created_at: 0,
            namespace: "ns".into(),
            name: "entry".into(),
            rule: 0,
        };
        Arc::new(Entry {
            hosts: vec!["*.example.com".into()],
            addresses: vec![],
            ports: vec![],
            tls: vec![],
            resolution: Resolution::default(),
            endpoints: vec![],
            exported_to: ExportedTo::default(),
            order,
        })
    }

    #[tokio::test]
    async fn hosts_are_kept_apart_and_within_the_bound() {
        let (one, other) = (EntryKey::of("ns", "one"), EntryKey::of("ns", "other"));
        let (before, after) = (entry(), entry());
        let run = async {
            let metrics = Metrics::new(MetricsOptions::default());
            let upstreams = Upstreams::new(metrics.worker());
            let get = |key, entry, host: &str, port| {
                let host = ExternalHost {
                    entry: Some((key, entry)),
                    host,
                    port,
                    http2: false,
                    tls: None,
                };
                Rc::clone(&upstreams.external(&host, "ns").unwrap().0)
            };
            let first = get(&one, &before, "a.example.com", 80);
            let again = get(&one, &before, "a.example.com", 80);
            assert!(Rc::ptr_eq(&first, &again));
            for different in [
                get(&other, &before, "a.example.com", 80),
                get(&one, &before, "b.example.com", 80),
                get(&one, &before, "a.example.com", 81),
            ] {
                assert!(!Rc::ptr_eq(&first, &different));
            }
            // The entry has changed.
            let renewed = get(&one, &after, "a.example.com", 80);
            assert!(!Rc::ptr_eq(&first, &renewed));

            for number in 0..MAX_HOSTS {
                get(&one, &after, &format!("{number}.example.com"), 80);
                let kept = get(&one, &after, "a.example.com", 80);
                assert!(Rc::ptr_eq(&renewed, &kept), "{number}");
                let known = upstreams.externals.known.borrow().len();
                assert!(known <= MAX_OF_ENTRY as usize + 1, "{known}");
            }
        };
        LocalSet::new().run_until(run).await;
    }

    /// A worker's hosts outside, of entries that have all hosts of `example.com`.
    struct World {
        upstreams: Upstreams,
        entry: Arc<Entry>,
    }

    impl World {
        fn new() -> Self {
            let metrics = Metrics::new(MetricsOptions::default());
            Self {
                upstreams: Upstreams::new(metrics.worker()),
                entry: entry(),
            }
        }

        fn get(
            &self,
            (namespace, name): (&str, &str),
            number: u32,
            caller: &str,
        ) -> Result<External, UpstreamErrorKind> {
            let key = EntryKey::of(namespace, name);
            let host = ExternalHost {
                entry: Some((&key, &self.entry)),
                host: &format!("{number}.example.com"),
                port: 80,
                http2: false,
                tls: None,
            };
            let got = self.upstreams.external(&host, caller);
            got.map_err(|error| error.kind)
        }

        /// As many as there may be, each with a request under way; and why there are no more.
        fn fill<C: AsRef<str>>(
            &self,
            entry: (&str, &str),
            caller: impl Fn(u32) -> C,
        ) -> (Vec<External>, UpstreamErrorKind) {
            let mut busy = Vec::new();
            loop {
                let number = u32::try_from(busy.len()).unwrap();
                let caller = caller(number);
                match self.get(entry, number, caller.as_ref()) {
                    Ok(external) => busy.push(external),
                    Err(why) => return (busy, why),
                }
            }
        }
    }

    #[tokio::test]
    async fn an_entry_that_has_very_many_slow_hosts_leaves_room_to_others() {
        let run = async {
            let world = World::new();
            // Nobody calls twice.
            let fill = |entry| {
                let (busy, why) = world.fill(entry, |number| format!("{entry:?}{number}"));
                assert_eq!(why, UpstreamErrorKind::Overloaded);
                busy
            };
            let one = fill(("greedy", "one"));
            assert_eq!(one.len(), MAX_OF_ENTRY as usize);
            let two = fill(("greedy", "two"));
            assert_eq!(two.len(), (MAX_OF_NAMESPACE - MAX_OF_ENTRY) as usize);
            assert!(fill(("greedy", "three")).is_empty());
            // Others come and go as before.
            for number in 0..2 * MAX_OF_ENTRY {
                world.get(("modest", "one"), number, "a").unwrap();
            }
            // What is over gives its room back, and is forgotten for others.
            drop((one, two));
            assert_eq!(fill(("greedy", "three")).len(), MAX_OF_ENTRY as usize);
        };
        LocalSet::new().run_until(run).await;
    }

    #[tokio::test]
    async fn callers_of_one_namespace_leave_the_hosts_of_an_entry_to_all_others() {
        let run = async {
            let world = World::new();
            let platform = ["one", "two", "three"].map(|name| ("platform", name));
            let fill = |entry, caller: &str| {
                let (busy, why) = world.fill(entry, |_| caller);
                assert_eq!(why, UpstreamErrorKind::TooManyOfNamespace);
                busy
            };
            // No more than three times what is left, of one entry and of all of its namespace.
            let of_a = platform.map(|entry| fill(entry, "a"));
            assert_eq!(of_a.each_ref().map(Vec::len), [768, 576, 192]);
            for entry in platform {
                assert!(world.get(entry, MAX_HOSTS, "a").is_err());
                world.get(entry, MAX_HOSTS, "b").unwrap();
            }
            // Whoever joins others takes nothing of what is left.
            assert_eq!(fill(platform[0], "").len(), 768 + 192);
            // What is over gives its room back, and what is asked for again takes it as anything else.
            drop(of_a);
            for number in 0..MAX_OF_ENTRY {
                world.get(platform[0], number, "b").unwrap();
            }
            assert_eq!(fill(platform[0], "a").len(), 768);
        };
        LocalSet::new().run_until(run).await;
    }

    #[test]
    fn the_server_name_of_an_address_has_no_brackets() {
        for (host, name) in [("[2001:db8::1]", "2001:db8::1"), ("192.0.2.1", "192.0.2.1")] {
            assert_eq!(bare(host), name);
            assert!(rustls_pki_types::ServerName::try_from(name).is_ok());
        }
    }
}
