//! Questions to DNS servers: which addresses a name has.
//!
//! Both families are asked for at once and apart from each other, since there are name servers that answer for one and are silent
//! about the other, or fail (RFC 4074). What has been said of one is enough then; what was not said is not taken for nothing.

use std::{
    net::IpAddr,
    pin::pin,
    time::{Duration, Instant},
};

use futures::future::{Either, select};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RecordType},
    },
};
use portcullis_routing::egress::address;
use tokio::time::timeout;

/// Time for one question, all servers and attempts together.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one attempt, so that there is more than one.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the other family is waited for once one has addresses. RFC 8305 3 gives 50 ms to whoever asks anew for every
/// connection; here many requests wait for one answer, and use it for long.
const RESOLUTION_DELAY: Duration = Duration::from_millis(500);
/// An answer without the other family holds for no longer than this.
const MAX_HALF_TTL: Duration = Duration::from_secs(30);
/// How long it holds that there is nothing, where the zone does not say.
pub(crate) const DEFAULT_NEGATIVE_TTL: Duration = Duration::from_secs(5);

const LATE: &str = "no DNS server answered in time";

/// Those who are asked. Nothing of what they say is remembered here.
pub(crate) struct Servers(TokioResolver);

/// What came of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// At least one address, and how long that holds.
    Addresses(Vec<IpAddr>, Duration),
    /// There is no such name, or it has no address: why, and how long that holds.
    Nothing(String, Duration),
    /// The servers did not say, because of this.
    Failed(String),
}

/// Whom the system asks.
pub(crate) fn system() -> Result<(ResolverConfig, ResolverOpts), String> {
    hickory_resolver::system_conf::read_system_conf()
        .map_err(|error| format!("the system's DNS configuration cannot be read: {error}"))
}

impl Servers {
    /// Asks as it is configured, but with several attempts in the time that there is.
    pub(crate) fn new(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, String> {
        // Whoever asks keeps the answer for its TTL.
        options.cache_size = 0;
        options.timeout = options.timeout.min(ATTEMPT_TIMEOUT);
        let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self(resolver))
    }

    /// The IPv4 and IPv6 addresses of a name, in any order. They are not checked in any way.
    pub(crate) async fn ask(&self, name: &str) -> Found {
        // Absolute, or the search list of the proxy's own pod would be tried first.
        let absolute = format!("{}.", name.trim_end_matches('.'));
        // As it is: names have underscores, which the usual reading of a text refuses.
        let name = match Name::from_ascii(absolute) {
            Ok(name) => name,
            Err(error) => return Found::Nothing(error.to_string(), DEFAULT_NEGATIVE_TTL),
        };
        let v4 = pin!(self.family(name.clone(), RecordType::A));
        let v6 = pin!(self.family(name, RecordType::AAAA));
        let (first, other) = match select(v4, v6).await {
            Either::Left(ended) | Either::Right(ended) => ended,
        };
        let other = if first.is_enough() {
            let late = |_| Found::Failed(LATE.to_owned());
            timeout(RESOLUTION_DELAY, other).await.unwrap_or_else(late)
        } else {
            other.await
        };
        first.with(other)
    }

    async fn family(&self, name: Name, records: RecordType) -> Found {
        match timeout(QUESTION_TIMEOUT, self.0.lookup(name, records)).await {
            Err(_) => Found::Failed(LATE.to_owned()),
            Ok(Err(error)) => none(&error),
            Ok(Ok(found)) => {
                let records = found.answers().iter();
                let addresses: Vec<_> = records.filter_map(|it| it.data.ip_addr()).collect();
                let now = Instant::now();
                if addresses.is_empty() {
                    return Found::Nothing("it has no address".to_owned(), DEFAULT_NEGATIVE_TTL);
                }
                let ttl = found.valid_until().saturating_duration_since(now);
                Found::Addresses(addresses, ttl)
            }
        }
    }
}

impl Found {
    /// Whether one family may do without the other. What a DNS64 server makes of an IPv4 address is good for nothing where that
    /// address is asked after.
    fn is_enough(&self) -> bool {
        match self {
            Self::Addresses(addresses, _) => !addresses
                .iter()
                .any(|address| address::nat64(*address).is_some()),
            Self::Nothing(..) | Self::Failed(_) => false,
        }
    }

    /// What two families have together.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Addresses(mut all, ttl), Self::Addresses(more, its)) => {
                all.extend(more);
                Self::Addresses(all, ttl.min(its))
            }
            (Self::Addresses(half, ttl), Self::Failed(_))
            | (Self::Failed(_), Self::Addresses(half, ttl)) => {
                Self::Addresses(half, ttl.min(MAX_HALF_TTL))
            }
            (found @ Self::Addresses(..), Self::Nothing(..))
            | (Self::Nothing(..), found @ Self::Addresses(..)) => found,
            (failed @ Self::Failed(_), _) | (_, failed @ Self::Failed(_)) => failed,
            (Self::Nothing(why, ttl), Self::Nothing(_, its)) => Self::Nothing(why, ttl.min(its)),
        }
    }
}

/// Tells that there is nothing (RFC 2308) from that nobody knows.
fn none(error: &NetError) -> Found {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
        return Found::Failed(error.to_string());
    };
    let why = match none.response_code {
        ResponseCode::NXDomain => "there is no such name",
        ResponseCode::NoError => "it has no address",
        code => return Found::Failed(format!("the DNS server says {code}")),
    };
    let ttl = none.negative_ttl.map_or(DEFAULT_NEGATIVE_TTL, |seconds| {
        Duration::from_secs(seconds.into())
    });
    Found::Nothing(why.to_owned(), ttl)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use hickory_resolver::config::NameServerConfig;
    use tokio::net::UdpSocket;

    use super::*;
    use crate::upstream::testing::dns::{FakeDns, name_server};

    const V4: &str = "203.0.113.7";
    const V6: &str = "2001:db8::7";
    const LONG: Duration = Duration::from_mins(1);

    fn servers(addresses: &[SocketAddr]) -> Servers {
        let servers: Vec<NameServerConfig> = addresses.iter().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        Servers::new(config, ResolverOpts::default()).unwrap()
    }

    /// Answers with these addresses, but of the family `broken` it says this code or nothing.
    async fn asked(addresses: &[&str], broken: RecordType, code: Option<ResponseCode>) -> Found {
        let addresses: Vec<_> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        let server = FakeDns::start(&addresses, 300).await;
        match broken {
            RecordType::A => server.except(|query| query.query_type() == RecordType::A, code),
            _ => server.except(|query| query.query_type() == RecordType::AAAA, code),
        }
        servers(&[server.address]).ask("up.example.com").await
    }

    #[tokio::test]
    async fn a_family_that_is_not_told_of_does_not_hold_the_other_up() {
        for (half, broken) in [(V4, RecordType::AAAA), (V6, RecordType::A)] {
            for code in [None, Some(ResponseCode::ServFail)] {
                let asked = asked(&[V4, V6], broken, code).await;
                let half = vec![half.parse().unwrap()];
                assert_eq!(asked, Found::Addresses(half, MAX_HALF_TTL), "{code:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_family_that_is_not_told_of_is_not_nothing() {
        let code = Some(ResponseCode::ServFail);
        for (only, broken) in [(V6, RecordType::AAAA), (V4, RecordType::A)] {
            let asked = asked(&[only], broken, code).await;
            assert!(matches!(asked, Found::Failed(_)), "{asked:?}");
        }
        // Some servers say this of a name that has only addresses of the other family (RFC 4074 4.2).
        let code = Some(ResponseCode::NXDomain);
        let asked = asked(&[V4], RecordType::AAAA, code).await;
        let Found::Addresses(addresses, ttl) = asked else {
            panic!("{asked:?}");
        };
        assert_eq!(addresses, [V4.parse::<IpAddr>().unwrap()]);
        assert!(ttl > MAX_HALF_TTL);
    }

    #[test]
    fn what_dns64_made_waits_for_what_it_was_made_of() {
        let found = |address: &str| Found::Addresses(vec![address.parse().unwrap()], LONG);
        assert!(found(V4).is_enough() && found(V6).is_enough());
        assert!(!found("64:ff9b::203.0.113.7").is_enough());
        assert!(!Found::Nothing(String::new(), LONG).is_enough());
    }

    #[tokio::test]
    async fn servers_that_are_gone_leave_time_for_one_that_is_not() {
        let address = V4.parse().unwrap();
        let good = FakeDns::start(&[address], 60).await;
        let silent = || UdpSocket::bind("127.0.0.2:0");
        let others = [silent().await.unwrap(), silent().await.unwrap()];
        let [one, other] = others.each_ref().map(|it| it.local_addr().unwrap());
        let asked = servers(&[one, other, good.address])
            .ask("up.example.com")
            .await;
        assert!(
            matches!(&asked, Found::Addresses(all, _) if *all == [address]),
            "{asked:?}"
        );
    }
}
