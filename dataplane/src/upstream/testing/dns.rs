//! A DNS server on loopback that says the same of every name.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    proto::{
        op::{Message, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType, rdata::CNAME},
    },
};
use tokio::{net::UdpSocket, task::AbortHandle};

/// Stops when dropped.
pub(crate) struct FakeDns {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Reply>>,
    exception: Arc<Mutex<Option<Exception>>>,
    questions: Arc<AtomicUsize>,
    task: AbortHandle,
}

/// What it says.
#[derive(Clone)]
enum Reply {
    Addresses(Vec<IpAddr>),
    /// These, of another name.
    Alias(&'static str, Vec<IpAddr>),
    Code(ResponseCode),
}

/// Questions that it answers with a code only, or not at all.
type Exception = (fn(&Query) -> bool, Option<ResponseCode>);

impl FakeDns {
    pub(crate) async fn start(addresses: &[IpAddr], ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
        let address = socket.local_addr().expect("address");
        let questions = Arc::new(AtomicUsize::new(0));
        let answers = Arc::new(Mutex::new(Reply::Addresses(addresses.to_vec())));
        let (known, asked) = (answers.clone(), questions.clone());
        let exception = Arc::new(Mutex::new(None::<Exception>));
        let excepted = exception.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).expect("query");
                asked.fetch_add(1, Ordering::Relaxed);
                let mut reply = known.lock().expect("lock").clone();
                let exception = *excepted.lock().expect("lock");
                let question = query.queries.first().expect("a question");
                match exception.filter(|(is_excepted, _)| is_excepted(question)) {
                    Some((_, None)) => continue,
                    Some((_, Some(code))) => reply = Reply::Code(code),
                    None => {}
                }
                let answer = answer(query, &reply, ttl).to_vec().expect("answer");
                socket.send_to(&answer, client).await.expect("sent");
            }
        });
        Self {
            address,
            answer: answers,
            exception,
            questions,
            task: task.abort_handle(),
        }
    }

    /// Answers with these addresses from now on.
    pub(crate) fn change(&self, addresses: &[IpAddr]) {
        *self.answer.lock().expect("lock") = Reply::Addresses(addresses.to_vec());
    }

    /// Says from now on that every name is another one, which has these addresses.
    pub(crate) fn alias(&self, name: &'static str, addresses: &[IpAddr]) {
        *self.answer.lock().expect("lock") = Reply::Alias(name, addresses.to_vec());
    }

    /// Answers with this code, and nothing else, from now on.
    pub(crate) fn fail(&self, code: ResponseCode) {
        *self.answer.lock().expect("lock") = Reply::Code(code);
    }

    /// Says this code, or nothing at all, to such questions from now on.
    pub(crate) fn except(&self, which: fn(&Query) -> bool, code: Option<ResponseCode>) {
        *self.exception.lock().expect("lock") = Some((which, code));
    }

    /// How often it was asked.
    pub(crate) fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }

    /// A resolver's configuration that asks this server only.
    pub(crate) fn config(&self) -> ResolverConfig {
        ResolverConfig::from_parts(None, Vec::new(), vec![name_server(&self.address)])
    }
}

/// A server that is asked over UDP only.
pub(crate) fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut connection = ConnectionConfig::udp();
    connection.port = address.port();
    NameServerConfig::new(address.ip(), true, vec![connection])
}

impl Drop for FakeDns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(query: Message, reply: &Reply, ttl: u32) -> Message {
    let asked = query.queries.first().cloned().expect("a question");
    let mut answer = query.into_response();
    let mut name = asked.name().clone();
    let addresses = match reply {
        Reply::Addresses(addresses) => addresses,
        Reply::Alias(alias, addresses) => {
            let alias = Name::from_ascii(alias).expect("a name");
            let rdata = RData::CNAME(CNAME(alias.clone()));
            answer.add_answer(Record::from_rdata(name, ttl, rdata));
            name = alias;
            addresses
        }
        Reply::Code(code) => {
            answer.metadata.response_code = *code;
            return answer;
        }
    };
    for &address in addresses {
        let wanted = if address.is_ipv4() {
            RecordType::A
        } else {
            RecordType::AAAA
        };
        if asked.query_type() == wanted {
            let rdata = RData::from(address);
            answer.add_answer(Record::from_rdata(name.clone(), ttl, rdata));
        }
    }
    answer
}
