//! From a destination that may be reached to addresses that may be connected to.
//!
//! The name is resolved once and every answer is checked: one bad address refuses all of them, since a name that leads inside
//! at times leads there by intent. What was checked is what is connected to; nobody looks the name up again.

use std::net::{IpAddr, SocketAddr};

use portcullis_routing::{
    EndpointHost, RouteKey,
    egress::{
        CompiledEgress, Destination, EntryEndpoint, Inside, Opened, Question, Resolution,
        address::{self, AddressClass},
    },
};

use super::{
    own::Own,
    resolver::{Answer, NoAnswer, Resolver},
};
use crate::reason::Reason;

/// Addresses of each family that are used of those that a name has, once all of them were checked.
const MAX_USED: usize = 16;
/// Addresses that are used in all: those of endpoints that stand behind are for nobody.
const MAX_ADDRESSES: usize = 256;

/// What checks addresses, for one request or tunnel.
#[derive(Clone, Copy)]
pub(crate) struct Guard<'a> {
    pub(crate) egress: &'a CompiledEgress,
    pub(crate) resolver: &'a Resolver,
    /// What is the proxy's own.
    pub(crate) own: &'a Own,
    /// The address that the caller connected to.
    pub(crate) local: IpAddr,
}

/// A question that was answered with yes, and what opens its destination.
#[derive(Clone, Copy)]
struct Asked<'a> {
    question: &'a Question<'a>,
    opened: Option<Opened<'a>>,
}

/// Addresses that may be connected to, at least one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) addresses: Vec<SocketAddr>,
    /// Each is used only if none before it can be; else they share the connections.
    pub(crate) in_order: bool,
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    #[error("{name} cannot be resolved: {why}")]
    Unresolved { name: Box<str>, why: NoAnswer },
    #[error("{name} leads to {address}, {what}")]
    Refused {
        name: Box<str>,
        address: IpAddr,
        what: Inside,
    },
    #[error("{name} leads to {address}, where the proxy itself listens")]
    Itself { name: Box<str>, address: SocketAddr },
    #[error("the entry has no endpoint that takes connections")]
    NoEndpoint,
}

impl Guard<'_> {
    /// Where a question that was answered with yes leads. `opened` is the entry that opens it; without one (a host that is only
    /// reported) it is the host itself.
    pub(crate) async fn check(
        &self,
        question: &Question<'_>,
        opened: Option<Opened<'_>>,
    ) -> Result<Checked, Obstacle> {
        let mut addresses = Vec::new();
        let asked = Asked { question, opened };
        let Some(opened @ Opened { entry, port, .. }) = opened else {
            self.requested(&asked, question.port, &mut addresses)
                .await?;
            return Ok(Checked::shared(addresses));
        };
        let by_name = matches!(
            entry.resolution,
            Resolution::None | Resolution::Dns | Resolution::DnsRoundRobin
        );
        if by_name && entry.endpoints.is_empty() {
            self.requested(&asked, port.target(), &mut addresses)
                .await?;
            return Ok(Checked {
                addresses,
                in_order: entry.resolution == Resolution::DnsRoundRobin,
            });
        }
        let (endpoints, drawn) = in_turn(&entry.endpoints);
        let mut refused = None;
        for endpoint in endpoints {
            if addresses.len() >= MAX_ADDRESSES {
                break;
            }
            let port = endpoint.target(port);
            match &endpoint.host {
                // Unlike answers of DNS these were written one by one: the others are as good as they were.
                EndpointHost::Ip(ip) if entry.resolution == Resolution::Static => {
                    let address = SocketAddr::new(*ip, port);
                    match self.allow_listed(question, opened, address) {
                        Ok(()) => addresses.push(address),
                        Err(obstacle) => refused = Some(obstacle),
                    }
                }
                EndpointHost::Ip(ip) => {
                    let address = SocketAddr::new(*ip, port);
                    self.allow(&asked, None, address, AddressClass::of(*ip))?;
                    addresses.push(address);
                }
                EndpointHost::Name(name) => {
                    self.named(&asked, name, port, &mut addresses).await?;
                }
            }
        }
        if addresses.is_empty() {
            return Err(refused.unwrap_or(Obstacle::NoEndpoint));
        }
        Ok(Checked {
            addresses,
            in_order: drawn || entry.resolution == Resolution::DnsRoundRobin,
        })
    }

    /// Whether a route may lead to an endpoint of a Service there.
    pub(crate) fn admits_backend(
        &self,
        question: &Question<'_>,
        route: &RouteKey,
        address: SocketAddr,
    ) -> bool {
        let by_gateway = self.egress.is_of_gateway(route.namespace());
        admits_backend(
            self.egress,
            question,
            by_gateway,
            address,
            (self.own, self.local),
        )
    }

    /// Whether an address that was connected to may stay so, by what the table says now.
    pub(crate) fn may_stay(
        &self,
        question: &Question<'_>,
        opened: Option<Opened<'_>>,
        address: SocketAddr,
    ) -> bool {
        if let Some(opened @ Opened { entry, .. }) = opened
            && entry.resolution == Resolution::Static
        {
            let ip = EndpointHost::Ip(address.ip());
            let mut endpoints = entry.endpoints.iter();
            let is_listed = endpoints.any(|endpoint| endpoint.host == ip);
            return is_listed && self.allow_listed(question, opened, address).is_ok();
        }
        let class = AddressClass::of(address.ip());
        let asked = Asked { question, opened };
        self.allow(&asked, None, address, class).is_ok()
    }

    /// The addresses of the host that was asked for.
    async fn requested(
        &self,
        asked: &Asked<'_>,
        port: u16,
        addresses: &mut Vec<SocketAddr>,
    ) -> Result<(), Obstacle> {
        match asked.question.destination {
            Destination::Name(name) => self.named(asked, name, port, addresses).await,
            Destination::Address(ip) => {
                let address = SocketAddr::new(ip, port);
                self.allow(asked, None, address, AddressClass::of(ip))?;
                addresses.push(address);
                Ok(())
            }
        }
    }

    /// The addresses of a name.
    async fn named(
        &self,
        asked: &Asked<'_>,
        name: &str,
        port: u16,
        addresses: &mut Vec<SocketAddr>,
    ) -> Result<(), Obstacle> {
        let namespace = asked.question.caller.map_or("", |caller| caller.namespace);
        let answer = self.resolver.resolve(name, namespace).await;
        let answer = answer.map_err(|why| Obstacle::Unresolved {
            name: name.into(),
            why,
        })?;
        addresses.reserve(answer.addresses.len().min(2 * MAX_USED));
        let (mut v4, mut v6) = (0, 0);
        for (ip, class) in &answer.addresses {
            let address = SocketAddr::new(*ip, port);
            match self.allow(asked, Some(name), address, *class) {
                Ok(()) => {}
                Err(_) if is_translated(*ip, &answer) => continue,
                Err(refused) => return Err(refused),
            }
            let used = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
            if *used < MAX_USED {
                *used += 1;
                addresses.push(address);
            }
        }
        Ok(())
    }

    /// An address that a name leads to, or that a caller names.
    fn allow(
        &self,
        asked: &Asked<'_>,
        name: Option<&str>,
        address: SocketAddr,
        class: AddressClass,
    ) -> Result<(), Obstacle> {
        let Asked { question, opened } = *asked;
        let is_own = |address| self.own.has(address, self.local);
        let asked_of = (address.ip(), class);
        let inside = self.egress.refuses(question, opened, asked_of, is_own);
        self.judged(inside, name, address)
    }

    /// An address that an entry lists as an endpoint.
    fn allow_listed(
        &self,
        question: &Question<'_>,
        opened: Opened<'_>,
        address: SocketAddr,
    ) -> Result<(), Obstacle> {
        let is_own = |address| self.own.has(address, self.local);
        let egress = self.egress;
        let inside = egress.refuses_endpoint(question, opened, address.ip(), is_own);
        self.judged(inside, None, address)
    }

    /// `inside` is why the table refuses an address. What it opens is refused all the same where the proxy would meet itself.
    fn judged(
        &self,
        inside: Option<Inside>,
        name: Option<&str>,
        address: SocketAddr,
    ) -> Result<(), Obstacle> {
        let named = || name.map_or_else(|| address.ip().to_string().into(), Into::into);
        match inside {
            Some(what) => Err(Obstacle::Refused {
                name: named(),
                address: address.ip(),
                what,
            }),
            None if self.own.listens_at(address) => Err(Obstacle::Itself {
                name: named(),
                address,
            }),
            None => Ok(()),
        }
    }
}

/// Whether a route may lead to an endpoint of a Service there. `own` is what is the proxy's, and its address as the caller has it.
pub(crate) fn admits_backend(
    egress: &CompiledEgress,
    question: &Question<'_>,
    by_gateway: bool,
    address: SocketAddr,
    (own, local): (&Own, IpAddr),
) -> bool {
    let is_own = |address| own.has(address, local);
    egress.admits_backend(question, by_gateway, address.ip(), is_own) && !own.listens_at(address)
}

impl Obstacle {
    /// What it is called.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Unresolved { .. } => Reason::DnsFailed,
            Self::Refused { .. } => Reason::AddressRefused,
            Self::Itself { .. } => Reason::LeadsToProxy,
            Self::NoEndpoint => Reason::NoEndpoint,
        }
    }

    /// Whether somebody decided so. Else what was allowed goes wrong.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Itself { .. })
    }
}

/// Whether an address is what a DNS64 server (RFC 6147) makes of a public one that the name has as well: then that is used, and
/// this is nobody's trick.
fn is_translated(address: IpAddr, answer: &Answer) -> bool {
    address::nat64(address).is_some_and(|plain| {
        let is_public = AddressClass::of(plain.into()).is_public();
        is_public && answer.addresses.iter().any(|(ip, _)| *ip == plain)
    })
}

impl Checked {
    fn shared(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            in_order: false,
        }
    }
}

/// The endpoints that get connections. If their shares differ one is drawn and comes first, which is told.
fn in_turn(endpoints: &[EntryEndpoint]) -> (Vec<&EntryEndpoint>, bool) {
    let mut taking: Vec<_> = endpoints.iter().filter(|it| it.weight > 0).collect();
    let first = taking.first().map(|it| it.weight);
    let differ = taking.iter().any(|it| Some(it.weight) != first);
    if differ {
        let sum = taking.iter().map(|it| u64::from(it.weight)).sum();
        let draw = fastrand::u64(0..sum);
        let mut upto = 0;
        let drawn = taking.iter().position(|it| {
            upto += u64::from(it.weight);
            draw < upto
        });
        taking.swap(0, drawn.unwrap_or_default());
    }
    (taking, differ)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_routing::{
        CompiledTable, EntryKey, PolicyKey, RoutingTable, compile, egress::Seen,
    };
    use serde_json::json;
    use tokio::task::LocalSet;

    use super::*;
    use crate::{
        telemetry::{Metrics, MetricsOptions},
        upstream::testing::dns::FakeDns,
    };

    /// For the host of every entry here.
    const ASKED: Question<'_> = Question {
        destination: Destination::Name("a.example"),
        port: 80,
        caller: None,
        seen: Seen::Tunnel,
    };

    /// A Gateway in `system` with an entry of `namespace` that leads to `endpoint`.
    fn table(namespace: &str, endpoint: &str, open: &[&str]) -> CompiledTable<()> {
        let mut table: RoutingTable = serde_json::from_value(json!({
            "schema": 1, "gateway": "system/egress",
            "settings": {"egress": {"protected": ["192.168.77.0/24"]}},
        }))
        .unwrap();
        let entry = json!({
            "hosts": ["a.example"], "resolution": "Static",
            "ports": [{"number": 80, "protocol": "HTTP"}], "endpoints": [{"host": endpoint}],
            "order": {"namespace": namespace, "name": "a", "rule": 0},
        });
        let policy = json!({"scope": "Gateway", "action": "Allow", "allow_private": open});
        let key = EntryKey::of(namespace, "a");
        let entry = serde_json::from_value(entry).unwrap();
        table.entries.insert(key, Arc::new(entry));
        let policy = serde_json::from_value(policy).unwrap();
        let key = PolicyKey::of("system", "open");
        table.policies.insert(key, Arc::new(policy));
        let (compiled, rejections) = compile(None, Arc::new(table), |_, _| Ok(()));
        assert_eq!(rejections, []);
        compiled
    }

    /// Whether the guard lets a request to the entry's host through, and lets a tunnel there stay.
    async fn passes(table: &CompiledTable<()>, endpoint: &str) -> bool {
        let metrics = Metrics::new(MetricsOptions::default());
        let egress = table.egress().unwrap();
        let guard = Guard {
            egress,
            resolver: &Resolver::new(metrics.worker()),
            own: &Own::at(&["10.9.9.9".parse().unwrap()]),
            local: "10.9.9.10".parse().unwrap(),
        };
        let opened = egress.decide(&ASKED).opened;
        assert!(opened.is_some());
        let checked = guard.check(&ASKED, opened).await.is_ok();
        let at = SocketAddr::new(endpoint.parse().unwrap(), 80);
        let stays = guard.may_stay(&ASKED, opened, at);
        assert_eq!(checked, stays, "{endpoint}");
        checked
    }

    #[tokio::test]
    async fn where_an_entry_may_lead_depends_on_who_wrote_it_and_on_what_is_opened() {
        let everything = &["0.0.0.0/0", "::/0"][..];
        // By an entry of a team, of the Gateway's namespace, and with everything opened.
        for (endpoint, wanted) in [
            ("93.184.216.34", [true, true, true]),
            ("10.1.2.3", [true, true, true]),
            ("100.64.0.1", [true, true, true]),
            ("fd00::1", [true, true, true]),
            ("64:ff9b::10.1.2.3", [true, true, true]),
            ("169.254.169.254", [false, true, true]),
            ("fe80::1", [false, true, true]),
            ("192.168.77.1", [false, true, true]),
            ("::ffff:192.168.77.1", [false, true, true]),
            ("127.0.0.1", [false, false, true]),
            ("::ffff:127.0.0.1", [false, false, true]),
            ("0.0.0.0", [false, false, true]),
            ("224.0.0.1", [false, false, true]),
            ("255.255.255.255", [false, false, true]),
            ("240.0.0.1", [false, false, true]),
            ("10.9.9.9", [false, false, false]),
            ("::ffff:10.9.9.9", [false, false, false]),
            ("10.9.9.10", [false, false, false]),
        ] {
            let found = [
                passes(&table("team", endpoint, &[]), endpoint).await,
                passes(&table("system", endpoint, &[]), endpoint).await,
                passes(&table("team", endpoint, everything), endpoint).await,
            ];
            assert_eq!(found, wanted, "{endpoint}");
        }
    }

    #[tokio::test]
    async fn nothing_leads_to_where_the_proxy_listens_but_its_neighbours_are_open_as_they_are() {
        let here: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let own = Own::default();
        own.opened(3128, here);
        let metrics = Metrics::new(MetricsOptions::default());
        for (endpoint, wanted) in [("127.0.0.1", false), ("127.0.0.2", true)] {
            let table = table("system", endpoint, &["127.0.0.0/8"]);
            let egress = table.egress().unwrap();
            let guard = Guard {
                egress,
                resolver: &Resolver::new(metrics.worker()),
                own: &own,
                local: here.ip(),
            };
            let opened = egress.decide(&ASKED).opened;
            let to = SocketAddr::new(endpoint.parse().unwrap(), 80);
            let checked = guard.check(&ASKED, opened).await;
            assert_eq!(checked.is_ok(), wanted, "{checked:?}");
            assert_eq!(guard.may_stay(&ASKED, opened, to), wanted);
            let admitted = admits_backend(egress, &ASKED, true, to, (&own, here.ip()));
            assert_eq!(admitted, wanted);
        }
    }

    /// Where a name leads that has these addresses, as text; or why nowhere.
    async fn leads(addresses: &[&str]) -> Result<Vec<String>, String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        let entry = json!({
            "hosts": ["a.example"], "ports": [{"number": 80, "protocol": "HTTP"}],
            "order": {"namespace": "team", "name": "a", "rule": 0},
        });
        let mut table: RoutingTable = serde_json::from_value(json!({
            "schema": 1, "gateway": "system/egress", "settings": {"egress": {}},
        }))
        .unwrap();
        let entry = serde_json::from_value(entry).unwrap();
        let key = EntryKey::of("team", "a");
        table.entries.insert(key, Arc::new(entry));
        let (table, _) = compile(None, Arc::new(table), |_, _| Ok::<(), _>(()));
        let metrics = Metrics::new(MetricsOptions::default());
        let resolver = Resolver::new(metrics.worker());
        let egress = table.egress().unwrap();
        let checking = async {
            let dns = FakeDns::start(&addresses, 60).await;
            resolver.use_servers(&[dns.address]);
            let guard = Guard {
                egress,
                resolver: &resolver,
                own: &Own::default(),
                local: "10.9.9.10".parse().unwrap(),
            };
            let opened = egress.decide(&ASKED).opened;
            let checked = guard.check(&ASKED, opened).await;
            checked.map_err(|obstacle| obstacle.to_string())
        };
        let checked = LocalSet::new().run_until(checking).await?;
        let addresses = checked.addresses.iter().map(|it| it.ip().to_string());
        Ok(addresses.collect())
    }

    #[tokio::test]
    async fn what_dns64_made_of_an_address_of_the_name_is_left_out_and_nothing_else() {
        let public = "93.184.216.34";
        let led = leads(&[public, "64:ff9b::93.184.216.34"]).await;
        assert_eq!(led, Ok(vec![public.to_owned()]));
        for bad in [
            // Of another address, of one inside, and in another wrapping.
            &[public, "64:ff9b::93.184.216.35"][..],
            &["64:ff9b::93.184.216.34"],
            &[public, "64:ff9b::10.0.0.1"],
            &["10.0.0.1", "64:ff9b::10.0.0.1"],
            &[public, "::ffff:93.184.216.34"],
            &[public, "2002:5db8:d822::1"],
        ] {
            assert!(leads(bad).await.is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn all_addresses_are_checked_and_some_of_them_used() {
        let mut many: Vec<_> = (1..=40).map(|n| format!("93.184.216.{n}")).collect();
        many.extend((1..=20).map(|n| format!("2606:4700::{n}")));
        let led = leads_of(&many).await.unwrap();
        let v4 = led.iter().filter(|it| it.contains('.')).count();
        assert_eq!((v4, led.len()), (MAX_USED, 2 * MAX_USED));
        many.push("93.184.216.41".to_owned());
        many.push("224.0.0.1".to_owned());
        assert!(leads_of(&many).await.is_err());
    }

    async fn leads_of(addresses: &[String]) -> Result<Vec<String>, String> {
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        leads(&addresses).await
    }

    #[tokio::test]
    async fn an_endpoint_that_is_refused_takes_no_other_with_it() {
        let mut table = RoutingTable::clone(table("team", "93.184.216.34", &[]).table());
        let entry = table.entries.values_mut().next().unwrap();
        let bad = EntryEndpoint {
            host: EndpointHost::Ip([127, 0, 0, 1].into()),
            ports: Vec::new(),
            weight: 1,
        };
        Arc::make_mut(entry).endpoints.insert(0, bad);
        let (table, _) = compile(None, Arc::new(table), |_, _| Ok::<(), _>(()));
        assert!(passes(&table, "93.184.216.34").await);
        let egress = table.egress().unwrap();
        let metrics = Metrics::new(MetricsOptions::default());
        let guard = Guard {
            egress,
            resolver: &Resolver::new(metrics.worker()),
            own: &Own::default(),
            local: [10, 9, 9, 10].into(),
        };
        let opened = egress.decide(&ASKED).opened;
        let checked = guard.check(&ASKED, opened).await.unwrap();
        assert_eq!(checked.addresses, [([93, 184, 216, 34], 80).into()]);
        // What is listed no longer is left, public or not.
        assert!(!guard.may_stay(&ASKED, opened, ([93, 184, 216, 35], 80).into()));
    }

    #[test]
    fn weights_are_shares_and_whoever_is_drawn_comes_first() {
        fastrand::seed(7);
        let endpoint = |last: u8, weight| EntryEndpoint {
            host: EndpointHost::Ip([192, 0, 2, last].into()),
            ports: Vec::new(),
            weight,
        };
        let endpoints = [endpoint(1, 0), endpoint(2, 1), endpoint(3, 9)];
        let mut first = 0;
        for _ in 0..10_000 {
            let (taking, drawn) = in_turn(&endpoints);
            assert!(drawn && taking.len() == 2);
            first += u32::from(taking[0] == &endpoints[2]);
        }
        assert!((8_800..9_200).contains(&first), "{first}");
        let equal = [endpoint(1, 2), endpoint(2, 2)];
        assert_eq!(in_turn(&equal), (equal.iter().collect(), false));
        assert_eq!(in_turn(&endpoints[..1]), (vec![], false));
    }
}
