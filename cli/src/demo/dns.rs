//! The demo's DNS server: it knows the names of the manifests, so that the proxy looks them up as it does any name.

use std::net::Ipv4Addr;

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use tokio::net::UdpSocket;

/// Seconds for which an answer holds.
const TTL: u32 = 5;
/// Longest question, bytes (RFC 1035 4.2.1).
const MAX_QUESTION: usize = 512;

/// A host that a ServiceEntry lists, and that is on this machine.
pub(crate) const ALLOWED: &str = "allowed.example";
/// A host that is there just the same, and that nothing lists.
pub(crate) const REFUSED: &str = "refused.example";
/// A host that is listed, and leads to where clouds hand out the credentials of an instance.
pub(crate) const INSIDE: &str = "inside.example";
/// All of them, with their addresses.
const NAMES: [(&str, Ipv4Addr); 3] = [
    (ALLOWED, Ipv4Addr::LOCALHOST),
    (REFUSED, Ipv4Addr::LOCALHOST),
    (INSIDE, Ipv4Addr::new(169, 254, 169, 254)),
];

/// Binds a port that the system chooses, on the loopback address.
pub(crate) async fn bind() -> std::io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await
}

/// Serves until the task is dropped.
pub(crate) async fn serve(socket: UdpSocket) {
    let mut buffer = [0; MAX_QUESTION];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let question = buffer.get(..length).unwrap_or_default();
        let answer = Message::from_vec(question).ok().and_then(answer);
        if let Some(answer) = answer {
            // Whoever got no answer asks again.
            socket.send_to(&answer, client).await.ok();
        }
    }
}

/// `None` for what is no question.
fn answer(message: Message) -> Option<Vec<u8>> {
    let asked = message.queries.first()?.clone();
    let name = asked.name().to_ascii().to_lowercase();
    let name = name.trim_end_matches('.');
    let known = NAMES.iter().find(|(known, _)| *known == name);
    let mut answer = message.into_response();
    match known {
        Some((_, address)) if asked.query_type() == RecordType::A => {
            let data = RData::from(std::net::IpAddr::from(*address));
            answer.add_answer(Record::from_rdata(asked.name().clone(), TTL, data));
        }
        Some(_) => {}
        None => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::{
        op::Query,
        rr::{Name, rdata::A},
    };

    use super::*;

    fn told(name: &str, kind: RecordType) -> Message {
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        Message::from_vec(&answer(question).unwrap()).unwrap()
    }

    #[test]
    fn it_knows_its_names_and_no_other() {
        let known = told("Inside.Example.", RecordType::A);
        let data: Vec<_> = known.answers.iter().map(|record| &record.data).collect();
        let metadata = A::from(Ipv4Addr::new(169, 254, 169, 254));
        assert_eq!(data, [&RData::A(metadata)]);
        let other = told(ALLOWED, RecordType::AAAA);
        assert!(other.answers.is_empty());
        assert_eq!(other.metadata.response_code, ResponseCode::NoError);
        let unknown = told("shop.example", RecordType::A);
        assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
        assert!(answer(Message::query()).is_none());
    }
}
