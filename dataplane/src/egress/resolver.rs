//! DNS names of the outside world, as one worker knows them: cached within bounds, and asked once for all who wait.
//!
//! What is known is given out without a word to anybody. What is not, or no more, is asked for, and whoever wants it waits for
//! the one question that is under way. If the servers fail, or take their time, the last answer is given out for a while longer.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    mem,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError},
    proto::{op::ResponseCode, rr::Name as DnsName},
};
use portcullis_routing::egress::address::AddressClass;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::spawn_local,
    time::{Instant, timeout},
};

use crate::{
    telemetry::{DnsResult, WorkerMetrics},
    upstream::dns,
};

/// Names that are known at once: half of them used since the others were.
const MAX_NAMES: usize = 10_000;
/// An answer holds for no less than this, whatever its TTL.
const MIN_TTL: Duration = Duration::from_secs(1);
/// And for no longer than this.
const MAX_TTL: Duration = Duration::from_mins(5);
/// That there is nothing is believed for no longer than this.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// Where the zone does not say how long that holds.
const DEFAULT_NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// How long an answer is given out beyond its time while the servers fail.
const MAX_STALE: Duration = Duration::from_hours(1);
/// After a failure the servers are left alone for this long.
const PAUSE: Duration = Duration::from_secs(2);
/// Whoever can be given an answer beyond its time does not wait for a fresh one for longer (RFC 8767 5, client response timer).
const PATIENCE: Duration = Duration::from_millis(1800);
/// Time for one question, all servers and attempts together.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions that are under way at once.
const MAX_QUESTIONS: usize = 256;
/// How long a question waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(1);
/// Addresses that a name may have. All of them are checked with every request.
const MAX_ADDRESSES: usize = 128;

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Every address, with what it is for. At least one.
    pub(crate) addresses: Box<[(IpAddr, AddressClass)]>,
}

/// Why a name stands for nothing, in words.
pub(crate) type NoAnswer = Rc<str>;

/// The names of one worker.
pub(crate) struct Resolver {
    metrics: Arc<WorkerMetrics>,
    servers: RefCell<Rc<Servers>>,
    names: RefCell<Names>,
    /// Leave for questions.
    questions: Arc<Semaphore>,
}

/// Who is asked: made when the first name is.
#[derive(Default)]
struct Servers {
    /// Empty means those of the system.
    addresses: Vec<SocketAddr>,
    client: std::cell::OnceCell<Result<TokioResolver, String>>,
}

/// Two generations: what is used goes to the younger one, and when that is full the elder one is forgotten.
#[derive(Default)]
struct Names {
    young: HashMap<Box<str>, Rc<Name>, RandomState>,
    old: HashMap<Box<str>, Rc<Name>, RandomState>,
}

/// One name.
#[derive(Default)]
struct Name {
    known: RefCell<Known>,
    is_asked: Cell<bool>,
    /// Told when a question is over.
    over: Notify,
}

/// What is known of a name.
#[derive(Clone, Debug, Default)]
enum Known {
    /// Nothing.
    #[default]
    Nothing,
    Answer {
        answer: Rc<Answer>,
        until: Instant,
        /// The last question failed, and the next may be asked then.
        stale: Option<Instant>,
    },
    /// There is no address, or none was to be had.
    NoAnswer { why: NoAnswer, until: Instant },
}

/// What is to be done for somebody who wants a name.
enum Step {
    Done(Result<Rc<Answer>, NoAnswer>, DnsResult),
    /// To be asked again, although there is something to give out meanwhile.
    Refresh(Rc<Answer>),
    Ask,
}

impl Resolver {
    /// Without any name. Names are asked for on the worker's own runtime, where local tasks can be spawned.
    pub(crate) fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            metrics,
            servers: RefCell::default(),
            names: RefCell::default(),
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
        }
    }

    /// Asks these servers from now on; none are those of the system. Who gave another answer is forgotten with it.
    pub(crate) fn use_servers(&self, addresses: &[SocketAddr]) {
        if self.servers.borrow().addresses != addresses {
            self.servers.replace(Rc::new(Servers {
                addresses: addresses.to_vec(),
                client: std::cell::OnceCell::new(),
            }));
            self.names.take();
        }
    }

    /// The addresses of `name`, which is in normal form.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Rc<Answer>, NoAnswer> {
        let entry = self.names.borrow_mut().entry(name);
        let (mut has_waited, mut leave) = (false, None);
        loop {
            let over = entry.over.notified();
            match entry.step(Instant::now(), has_waited) {
                Step::Done(result, counted) => {
                    if !has_waited {
                        self.metrics.egress_dns(counted);
                    }
                    return result;
                }
                Step::Refresh(answer) => {
                    self.metrics.egress_dns(DnsResult::Stale);
                    // Without leave whoever wants it next asks.
                    if let Ok(leave) = Arc::clone(&self.questions).try_acquire_owned() {
                        self.ask(&entry, name, leave);
                    }
                    return Ok(answer);
                }
                Step::Ask if entry.is_asked.get() => drop(leave.take()),
                Step::Ask => {
                    let Some(granted) = leave.take() else {
                        tokio::select! {
                            () = over => has_waited = true,
                            granted = self.leave() => leave = Some(granted?),
                        }
                        continue;
                    };
                    self.ask(&entry, name, granted);
                }
            }
            let Some(answer) = entry.outdated(Instant::now()) else {
                over.await;
                has_waited = true;
                continue;
            };
            has_waited = timeout(PATIENCE, over).await.is_ok();
            if !has_waited {
                // The question goes on. Until it is over nobody else waits.
                entry.outdate(Instant::now());
                self.metrics.egress_dns(DnsResult::Stale);
                return Ok(answer);
            }
        }
    }

    /// Leave for a question, once there are not too many.
    async fn leave(&self) -> Result<OwnedSemaphorePermit, NoAnswer> {
        let leave = Arc::clone(&self.questions).acquire_owned();
        if let Ok(Ok(leave)) = timeout(TURN_TIMEOUT, leave).await {
            return Ok(leave);
        }
        self.metrics.egress_dns(DnsResult::Failed);
        Err("too many names are being looked up".into())
    }

    /// Asks, unless somebody has already. In a task of its own: whoever gives up does not spoil it for the others.
    fn ask(&self, entry: &Rc<Name>, name: &str, leave: OwnedSemaphorePermit) {
        if entry.is_asked.replace(true) {
            return;
        }
        let servers = Rc::clone(&self.servers.borrow());
        let (entry, metrics) = (Rc::clone(entry), Arc::clone(&self.metrics));
        // Absolute, or the search list of the proxy's own pod would be tried first.
        let absolute = format!("{name}.");
        spawn_local(async move {
            let found = servers.ask(&absolute).await;
            metrics.egress_dns(found.result());
            entry.learn(found, Instant::now());
            entry.is_asked.set(false);
            entry.over.notify_waiters();
            drop(leave);
        });
    }
}

impl Names {
    fn entry(&mut self, name: &str) -> Rc<Name> {
        if let Some(known) = self.young.get(name) {
            return Rc::clone(known);
        }
        if self.young.len() >= MAX_NAMES / 2 {
            self.old = mem::take(&mut self.young);
        }
        let entry = self.old.remove(name).unwrap_or_default();
        self.young.insert(name.into(), Rc::clone(&entry));
        entry
    }
}

impl Name {
    /// `has_waited`: a question has just been answered, so that whatever came of it is what there is.
    fn step(&self, now: Instant, has_waited: bool) -> Step {
        match &*self.known.borrow() {
            Known::Answer {
                answer,
                until,
                stale,
            } => match stale {
                _ if *until > now => Step::Done(Ok(Rc::clone(answer)), DnsResult::Cached),
                Some(_) if *until + MAX_STALE <= now => Step::Ask,
                Some(again) if *again <= now => Step::Refresh(Rc::clone(answer)),
                Some(_) => Step::Done(Ok(Rc::clone(answer)), DnsResult::Stale),
                None => Step::Ask,
            },
            Known::NoAnswer { why, until } if has_waited || *until > now => {
                Step::Done(Err(Rc::clone(why)), DnsResult::Cached)
            }
            Known::Nothing | Known::NoAnswer { .. } => Step::Ask,
        }
    }

    /// An answer beyond its time that may still be given out.
    fn outdated(&self, now: Instant) -> Option<Rc<Answer>> {
        match &*self.known.borrow() {
            Known::Answer { answer, until, .. } if *until + MAX_STALE > now => {
                Some(Rc::clone(answer))
            }
            _ => None,
        }
    }

    /// Gives out the answer that there is until another comes, as after a failure.
    fn outdate(&self, now: Instant) {
        if let Known::Answer { stale, .. } = &mut *self.known.borrow_mut() {
            *stale = Some(now + PAUSE);
        }
    }

    /// Takes the end of a question in.
    fn learn(&self, found: Found, now: Instant) {
        let mut known = self.known.borrow_mut();
        let failed = match found {
            Found::Answer(answer, ttl) => {
                *known = Known::Answer {
                    answer: Rc::new(answer),
                    until: now + ttl,
                    stale: None,
                };
                return;
            }
            Found::Nothing(why, ttl) => {
                *known = Known::NoAnswer {
                    why: why.into(),
                    until: now + ttl,
                };
                return;
            }
            Found::Failed(why) => why,
        };
        match &mut *known {
            Known::Answer { until, stale, .. } if *until + MAX_STALE > now => {
                *stale = Some(now + PAUSE);
            }
            known => {
                *known = Known::NoAnswer {
                    why: failed.into(),
                    until: now + PAUSE,
                };
            }
        }
    }
}

/// What came of a question.
enum Found {
    Answer(Answer, Duration),
    /// There is no such name, or it has no address.
    Nothing(String, Duration),
    /// The servers did not say.
    Failed(String),
}

impl Found {
    fn addresses(found: impl Iterator<Item = IpAddr>, ttl: Duration) -> Self {
        let mut addresses: Vec<_> = found.take(MAX_ADDRESSES + 1).collect();
        if addresses.len() > MAX_ADDRESSES {
            let why = format!("it has more than {MAX_ADDRESSES} addresses");
            return Self::Nothing(why, DEFAULT_NEGATIVE_TTL);
        }
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Self::Nothing("it has no address".to_owned(), DEFAULT_NEGATIVE_TTL);
        }
        let classed = addresses.into_iter().map(|it| (it, AddressClass::of(it)));
        let answer = Answer {
            addresses: classed.collect(),
        };
        Self::Answer(answer, ttl.clamp(MIN_TTL, MAX_TTL))
    }

    fn result(&self) -> DnsResult {
        match self {
            Self::Answer(..) => DnsResult::Answered,
            Self::Nothing(..) => DnsResult::Negative,
            Self::Failed(_) => DnsResult::Failed,
        }
    }
}

impl Servers {
    async fn ask(&self, name: &str) -> Found {
        let client = self.client.get_or_init(|| client(&self.addresses));
        let client = match client {
            Ok(client) => client,
            Err(why) => return Found::Failed(why.clone()),
        };
        // As it is: names have underscores, which the usual reading of a text refuses.
        let name = match DnsName::from_ascii(name) {
            Ok(name) => name,
            Err(error) => return Found::Nothing(error.to_string(), DEFAULT_NEGATIVE_TTL),
        };
        match timeout(QUESTION_TIMEOUT, client.lookup_ip(name)).await {
            Err(_) => Found::Failed("no DNS server answered in time".to_owned()),
            Ok(Err(error)) => none(&error),
            Ok(Ok(found)) => {
                let now = std::time::Instant::now();
                let ttl = found.valid_until().saturating_duration_since(now);
                Found::addresses(found.iter(), ttl)
            }
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
        Duration::from_secs(seconds.into()).clamp(MIN_TTL, MAX_NEGATIVE_TTL)
    });
    Found::Nothing(why.to_owned(), ttl)
}

fn client(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let (config, mut options) = if servers.is_empty() {
        dns::system()?
    } else {
        let servers = servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        (config, ResolverOpts::default())
    };
    // What stands there is about the proxy's pod, not about the world.
    options.use_hosts_file = ResolveHosts::Never;
    dns::build(config, options)
}

/// UDP, and TCP for what does not fit (RFC 7766).
fn server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

#[cfg(test)]
mod tests;
