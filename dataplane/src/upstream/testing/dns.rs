//! A DNS server on loopback that gives every name the same addresses.

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
        op::Message,
        rr::{RData, Record, RecordType},
    },
};
use tokio::{net::UdpSocket, task::AbortHandle};

/// Stops when dropped.
pub(crate) struct FakeDns {
    address: SocketAddr,
    answer: Arc<Mutex<Vec<IpAddr>>>,
    questions: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl FakeDns {
    pub(crate) async fn start(addresses: &[IpAddr], ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
        let address = socket.local_addr().expect("address");
        let questions = Arc::new(AtomicUsize::new(0));
        let answers = Arc::new(Mutex::new(addresses.to_vec()));
        let (known, asked) = (answers.clone(), questions.clone());
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).expect("query");
                asked.fetch_add(1, Ordering::Relaxed);
                let addresses = known.lock().expect("lock").clone();
                let answer = answer(query, &addresses, ttl).to_vec().expect("answer");
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
        *self.answer.lock().expect("lock") = addresses.to_vec();
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

fn answer(query: Message, addresses: &[IpAddr], ttl: u32) -> Message {
    let asked = query.queries.first().cloned().expect("a question");
    let mut answer = query.into_response();
    for &address in addresses {
        let wanted = if address.is_ipv4() {
            RecordType::A
        } else {
            RecordType::AAAA
        };
        if asked.query_type() == wanted {
            answer.add_answer(Record::from_rdata(
                asked.name().clone(),
                ttl,
                RData::from(address),
            ));
        }
    }
    answer
}
