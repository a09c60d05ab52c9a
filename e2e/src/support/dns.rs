//! A DNS server whose answers the caller decides while it runs: addresses, aliases, errors, delays and silence. It has no
//! names but those it was told, and speaks UDP only.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use tokio::{net::UdpSocket, task::JoinHandle, time::sleep};

/// The longest question that is read, in bytes.
const LONGEST: usize = 1500;
/// Aliases that one answer follows; there may be more, or a circle.
const MAX_ALIASES: usize = 8;

/// What is said about a name.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// `NXDomain`: there is no such name. `NoError` without a record of the type that is asked for: it has none.
    pub(crate) code: ResponseCode,
    /// Records of all types. A question gets those of its type; a CNAME, and what is said about its target, for any type.
    pub(crate) records: Vec<RData>,
    /// How long a record may be kept, in seconds.
    pub(crate) ttl: u32,
    /// How long the answer takes; `None` for ever.
    pub(crate) delay: Option<Duration>,
}

impl Reply {
    /// These records, at once, to be kept for a minute.
    pub(crate) fn of<R: Into<RData>>(records: impl IntoIterator<Item = R>) -> Self {
        Self {
            code: ResponseCode::NoError,
            records: records.into_iter().map(Into::into).collect(),
            ttl: 60,
            delay: Some(Duration::ZERO),
        }
    }
}

/// A running server. It ends when dropped.
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<Result<()>>,
}

/// All names; others do not exist.
type Zone = HashMap<Name, Entry>;

/// A name.
#[derive(Default)]
struct Entry {
    /// The answers to the first question, the second and so on; the last stays.
    replies: Vec<Reply>,
    /// How often each type was asked for.
    questions: HashMap<RecordType, usize>,
}

impl DnsServer {
    /// Starts a server without names on a free port of `ip`.
    pub(crate) async fn start(ip: IpAddr) -> Result<Self> {
        Self::on(UdpSocket::bind((ip, 0)).await?)
    }

    /// Starts a server without names on a socket.
    pub(crate) fn on(socket: UdpSocket) -> Result<Self> {
        let address = socket.local_addr()?;
        let zone = Arc::<Mutex<Zone>>::default();
        let task = tokio::spawn(serve(socket, Arc::clone(&zone)));
        Ok(Self {
            address,
            zone,
            task,
        })
    }

    /// Ends it. Its address is free afterwards.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        // It was told to end, and says so.
        let _ = (&mut self.task).await;
    }

    /// From now on says `replies` about `name`, one after the other to questions of the same type; the last one stays.
    /// Counting begins anew.
    pub(crate) fn set(&self, name: &str, replies: impl IntoIterator<Item = Reply>) -> Result<()> {
        let entry = Entry {
            replies: replies.into_iter().collect(),
            questions: HashMap::new(),
        };
        lock(&self.zone).insert(absolute(name)?, entry);
        Ok(())
    }

    /// How often `name` was asked for records of `kind`, directly or as an alias' target, since it was set.
    pub(crate) fn questions(&self, name: &str, kind: RecordType) -> Result<usize> {
        let name = absolute(name)?;
        let zone = lock(&self.zone);
        let entry = zone
            .get(&name)
            .with_context(|| format!("the DNS server was told nothing about {name}"))?;
        Ok(entry.questions.get(&kind).copied().unwrap_or(0))
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn absolute(name: &str) -> Result<Name> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    Ok(name)
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) -> Result<()> {
    let socket = Arc::new(socket);
    let mut buffer = [0; LONGEST];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await?;
        let Ok(question) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        let (answer, delay) = answer(question, &mut lock(&zone));
        let (Some(delay), Ok(bytes)) = (delay, answer.to_vec()) else {
            continue;
        };
        // A late answer does not keep others waiting.
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            sleep(delay).await;
            // Who does not wait for it any more does not get it.
            let _ = socket.send_to(&bytes, client).await;
        });
    }
}

/// The answer, and how long it takes: as long as what is said about the name that was asked for.
fn answer(question: Message, zone: &mut Zone) -> (Message, Option<Duration>) {
    let asked = question.queries.first().cloned().unwrap_or_default();
    let mut answer = question.into_response();
    answer.metadata.authoritative = true;
    answer.metadata.recursion_available = true;
    let kind = asked.query_type();
    let mut name = asked.name().clone();
    let mut delay = None;
    for followed in 0..=MAX_ALIASES {
        let Some(reply) = zone.get_mut(&name).and_then(|entry| entry.next(kind)) else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            if followed == 0 {
                delay = Some(Duration::ZERO);
            }
            break;
        };
        if followed == 0 {
            delay = reply.delay;
        }
        answer.metadata.response_code = reply.code;
        let mut alias = None;
        for record in &reply.records {
            let follows = record.record_type() == RecordType::CNAME;
            if follows || record.record_type() == kind {
                answer.add_answer(Record::from_rdata(name.clone(), reply.ttl, record.clone()));
            }
            if let RData::CNAME(target) = record
                && kind != RecordType::CNAME
            {
                alias = Some(target.0.clone());
            }
        }
        match alias {
            Some(target) => name = target,
            None => break,
        }
    }
    (answer, delay)
}

impl Entry {
    /// What is said to the next question for `kind`.
    fn next(&mut self, kind: RecordType) -> Option<Reply> {
        let count = self.questions.entry(kind).or_default();
        let reply = self.replies.get(*count).or(self.replies.last()).cloned();
        *count += 1;
        reply
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, Ipv6Addr},
        time::Duration,
    };

    use hickory_resolver::proto::{
        op::{Message, Query, ResponseCode},
        rr::{RData, RecordType, rdata::CNAME},
    };
    use tokio::net::UdpSocket;

    use super::{DnsServer, LONGEST, Reply, absolute};

    const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    /// A server, and a client of it.
    struct Pair {
        server: DnsServer,
        client: UdpSocket,
    }

    impl Pair {
        async fn new() -> Self {
            let localhost = Ipv4Addr::LOCALHOST;
            let server = DnsServer::start(localhost.into()).await.unwrap();
            let client = UdpSocket::bind((localhost, 0)).await.unwrap();
            client.connect(server.address).await.unwrap();
            Self { server, client }
        }

        fn alias(&self, name: &str, target: &str) {
            let cname = RData::CNAME(CNAME(absolute(target).unwrap()));
            self.server.set(name, [Reply::of([cname])]).unwrap();
        }

        async fn send(&self, name: &str, kind: RecordType) {
            let mut message = Message::query();
            message.add_query(Query::query(absolute(name).unwrap(), kind));
            self.client.send(&message.to_vec().unwrap()).await.unwrap();
        }

        async fn receive(&self) -> Message {
            let mut buffer = [0; LONGEST];
            let length = self.client.recv(&mut buffer).await.unwrap();
            Message::from_vec(&buffer[..length]).unwrap()
        }

        async fn ask(&self, name: &str, kind: RecordType) -> (ResponseCode, Vec<RData>) {
            self.send(name, kind).await;
            let answer = self.receive().await;
            let records = answer.answers.iter().map(|record| record.data.clone());
            (answer.metadata.response_code, records.collect())
        }
    }

    #[tokio::test]
    async fn a_question_gets_the_records_of_its_type() {
        let pair = Pair::new().await;
        let both = [RData::from(FIRST), RData::from(Ipv6Addr::LOCALHOST)];
        pair.server.set("a.example", [Reply::of(both)]).unwrap();
        let (code, records) = pair.ask("A.Example", RecordType::A).await;
        assert_eq!(
            (code, records),
            (ResponseCode::NoError, vec![FIRST.into()]),
            "names have no case"
        );
        let (_, records) = pair.ask("a.example", RecordType::AAAA).await;
        assert_eq!(records, [RData::from(Ipv6Addr::LOCALHOST)]);
        let (code, records) = pair.ask("a.example", RecordType::TXT).await;
        assert_eq!((code, records), (ResponseCode::NoError, vec![]));
        let (code, _) = pair.ask("b.example", RecordType::A).await;
        assert_eq!(code, ResponseCode::NXDomain);
    }

    #[tokio::test]
    async fn answers_change_with_each_question_and_when_they_are_set() {
        let pair = Pair::new().await;
        let replies = [Reply::of([FIRST]), Reply::of([SECOND])];
        pair.server.set("a.example", replies).unwrap();
        for expected in [FIRST, SECOND, SECOND] {
            let (_, records) = pair.ask("a.example", RecordType::A).await;
            assert_eq!(records, [expected.into()]);
        }
        let asked = pair.server.questions("a.example", RecordType::A).unwrap();
        assert_eq!(asked, 3);
        pair.server.set("a.example", [Reply::of([FIRST])]).unwrap();
        let (_, records) = pair.ask("a.example", RecordType::A).await;
        assert_eq!(records, [FIRST.into()]);
    }

    #[tokio::test]
    async fn aliases_are_followed_and_a_circle_ends() {
        let pair = Pair::new().await;
        pair.alias("a.example", "b.example");
        pair.server.set("b.example", [Reply::of([FIRST])]).unwrap();
        let (code, records) = pair.ask("a.example", RecordType::A).await;
        assert_eq!((code, records.len()), (ResponseCode::NoError, 2));
        assert_eq!(records[1], FIRST.into());

        pair.alias("b.example", "nowhere.example");
        let (code, _) = pair.ask("a.example", RecordType::A).await;
        assert_eq!(code, ResponseCode::NXDomain);

        pair.alias("b.example", "a.example");
        let (_, records) = pair.ask("a.example", RecordType::A).await;
        assert!(records.len() > 2, "a circle is told as far as it goes");
    }

    #[tokio::test]
    async fn late_answers_come_later_and_silence_lasts() {
        let pair = Pair::new().await;
        let delays = [
            ("silent.example", None),
            ("late.example", Some(Duration::from_millis(50))),
            ("prompt.example", Some(Duration::ZERO)),
        ];
        for (name, delay) in delays {
            let reply = Reply {
                delay,
                ..Reply::of([FIRST])
            };
            pair.server.set(name, [reply]).unwrap();
            pair.send(name, RecordType::A).await;
        }
        for name in ["prompt.example", "late.example"] {
            let answer = pair.receive().await;
            assert_eq!(answer.queries[0].name(), &absolute(name).unwrap());
        }
        let asked = pair
            .server
            .questions("silent.example", RecordType::A)
            .unwrap();
        assert_eq!(asked, 1, "it heard, and said nothing");
    }
}
