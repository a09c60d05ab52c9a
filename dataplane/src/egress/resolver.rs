//! DNS names of the outside world, as one worker knows them: cached within bounds, and asked once for all who wait.
//!
//! What is known is given out without a word to anybody. What is not, or no more, is asked for, and whoever wants it waits for
//! the one question that is under way. If the servers fail, or take their time, or too much is asked of them, the last answer is
//! given out for a while longer.

mod names;
mod turns;

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use portcullis_routing::egress::address::AddressClass;
use tokio::{
    sync::Notify,
    task::spawn_local,
    time::{Instant, timeout},
};

use self::{
    names::Names,
    turns::{Turn, Turns},
};
use crate::{
    dns::{self, DEFAULT_NEGATIVE_TTL},
    telemetry::{DnsResult, WorkerMetrics},
};

/// An answer holds for no less than this, whatever its TTL.
const MIN_TTL: Duration = Duration::from_secs(1);
/// And for no longer than this.
const MAX_TTL: Duration = Duration::from_mins(5);
/// That there is nothing is believed for no longer than this.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// How long an answer is given out beyond its time while the servers fail.
const MAX_STALE: Duration = Duration::from_hours(1);
/// After a failure the servers are left alone for this long.
const PAUSE: Duration = Duration::from_secs(2);
/// Whoever can be given an answer beyond its time does not wait for a fresh one for longer (RFC 8767 5, client response timer).
const PATIENCE: Duration = Duration::from_millis(1800);
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
    turns: Turns,
}

/// Who is asked: made when the first name is.
#[derive(Default)]
struct Servers {
    /// Empty means those of the system.
    addresses: Vec<SocketAddr>,
    client: std::cell::OnceCell<Result<dns::Servers, String>>,
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
            turns: Turns::default(),
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

    /// The addresses of `name`, which is in normal form, for somebody in `namespace`. Those of whom nothing is known are as one.
    pub(crate) async fn resolve(
        &self,
        name: &str,
        namespace: &str,
    ) -> Result<Rc<Answer>, NoAnswer> {
        let entry = self.names.borrow_mut().entry(name, namespace);
        let (mut has_waited, mut turn) = (false, None);
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
                    // Without a turn whoever wants it next asks.
                    if let Some(turn) = self.turns.try_take(namespace) {
                        self.ask(&entry, name, turn);
                    }
                    return Ok(answer);
                }
                Step::Ask if entry.is_asked.get() => drop(turn.take()),
                Step::Ask => {
                    let Some(turn) = turn.take() else {
                        let is_known = entry.outdated(Instant::now()).is_some();
                        tokio::select! {
                            () = over => has_waited = true,
                            taken = self.turns.take(namespace, is_known) => match taken {
                                Some(taken) => turn = Some(taken),
                                None => return self.unasked(&entry),
                            },
                        }
                        continue;
                    };
                    self.ask(&entry, name, turn);
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
                return Ok(self.outdated(&entry, answer));
            }
        }
    }

    /// What there is of a name whose turn has not come.
    fn unasked(&self, entry: &Name) -> Result<Rc<Answer>, NoAnswer> {
        if let Some(answer) = entry.outdated(Instant::now()) {
            return Ok(self.outdated(entry, answer));
        }
        self.metrics.egress_dns(DnsResult::Failed);
        Err("too many names are being looked up".into())
    }

    /// Gives an old answer out, to others as well for a while.
    fn outdated(&self, entry: &Name, answer: Rc<Answer>) -> Rc<Answer> {
        entry.outdate(Instant::now());
        self.metrics.egress_dns(DnsResult::Stale);
        answer
    }

    /// Asks, unless somebody has already. In a task of its own: whoever gives up does not spoil it for the others.
    fn ask(&self, entry: &Rc<Name>, name: &str, turn: Turn) {
        if entry.is_asked.replace(true) {
            return;
        }
        let servers = Rc::clone(&self.servers.borrow());
        let (entry, metrics) = (Rc::clone(entry), Arc::clone(&self.metrics));
        let name = name.to_owned();
        spawn_local(async move {
            let found = servers.ask(&name).await;
            metrics.egress_dns(found.result());
            entry.learn(found, Instant::now());
            entry.is_asked.set(false);
            entry.over.notify_waiters();
            drop(turn);
        });
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
    fn addresses(mut addresses: Vec<IpAddr>, ttl: Duration) -> Self {
        if addresses.len() > MAX_ADDRESSES {
            let why = format!("it has more than {MAX_ADDRESSES} addresses");
            return Self::Nothing(why, DEFAULT_NEGATIVE_TTL);
        }
        addresses.sort_unstable();
        addresses.dedup();
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
        match client.ask(name).await {
            dns::Found::Addresses(addresses, ttl) => Found::addresses(addresses, ttl),
            dns::Found::Nothing(why, ttl) => {
                Found::Nothing(why, ttl.clamp(MIN_TTL, MAX_NEGATIVE_TTL))
            }
            dns::Found::Failed(why) => Found::Failed(why),
        }
    }
}

fn client(servers: &[SocketAddr]) -> Result<dns::Servers, String> {
    let (config, mut options) = if servers.is_empty() {
        dns::system()?
    } else {
        let servers = servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        (config, ResolverOpts::default())
    };
    // What stands there is about the proxy's pod, not about the world.
    options.use_hosts_file = ResolveHosts::Never;
    dns::Servers::new(config, options)
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
