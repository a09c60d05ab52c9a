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
        op::{Message, ResponseCode},
        rr::{Name, RData, Record, RecordType, rdata::CNAME},
    },
};
use tokio::{net::UdpSocket, task::AbortHandle};

/// Stops when dropped.
pub(crate) struct FakeDns {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Reply>>,
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

impl FakeDns {
    pub(crate) async fn start(addresses: &[IpAddr], ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
        let address = socket.local_addr().expect("address");
        let questions = Arc::new(AtomicUsize::new(0));
        let answers = Arc::new(Mutex::new(Reply::Addresses(addresses.to_vec())));
        let (known, asked) = (answers.clone(), questions.clone());
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).expect("query");
                asked.fetch_add(1, Ordering::Relaxed);
                let reply = known.lock().expect("lock").clone();
                let answer = answer(query, &reply, ttl).to_vec().expect("answer");
                socket.send_to(&answer, client).await.expect("sent");
            }
        });
        Self {
            address,
            answer: answers,
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

    /// How often it was asked.
    pub(crate) fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }

    /// A resolver's configuration that asks this server only.
    pub(crate) fn config(&self) -> ResolverConfig {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.address.port();
        let server = NameServerConfig::new(self.address.ip(), true, vec![connection]);
        ResolverConfig::from_parts(None, Vec::new(), vec![server])
    }
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
