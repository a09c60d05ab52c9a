//! A DNS server that says of each name what the case of that name has it say, and counts what it is asked.
//!
//! What it says is written as words: an address; `>name`, of which all that follows is the record (CNAME); `nxdomain`, `servfail`; and `|`,
//! behind which stands what it says when it is asked once more.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::CNAME},
};
use tokio::{net::UdpSocket, task::AbortHandle};

use super::world::{ALLOWED, BAIT};

/// How names end that are nothing but aliases. `outside.test` is at the allowed server, `inside.test` is not, and `loop.test` is an
/// alias of itself.
const ALIASES: &str = ".test.";

/// Stops when dropped.
pub(super) struct Zone {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Asked>>,
    task: AbortHandle,
}

/// How often it was asked for what.
type Asked = BTreeMap<(String, RecordType), usize>;

impl Zone {
    /// Starts with what it is to say of these names. Other names of `wild.example` are at the allowed server; everything else, to
    /// which nobody should ever be led, is at the bait.
    pub(super) async fn start(script: BTreeMap<String, &'static str>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Asked::new()));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let answer = answer(query, &script, &count).to_vec().unwrap();
                socket.send_to(&answer, client).await.unwrap();
            }
        });
        Self {
            address,
            asked,
            task: task.abort_handle(),
        }
    }

    /// What nobody should have asked: a host that is not listed, or one of a case once more, which is how it is rebound.
    pub(super) fn faults(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let is_wrong = |name: &str, times| match name {
            // What they say is that of the name that was asked for.
            _ if name.ends_with(ALIASES) => false,
            _ if name.ends_with(".wild.example.") => false,
            _ => times > 1 || !name.ends_with(".dns.example."),
        };
        let wrong = asked
            .iter()
            .filter(|((name, _), times)| is_wrong(name, **times));
        wrong
            .map(|((name, kind), times)| {
                format!("DNS was asked {times} times for {kind} of {name}")
            })
            .collect()
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(
    query: Message,
    script: &BTreeMap<String, &'static str>,
    count: &Mutex<Asked>,
) -> Message {
    let asked = query.queries.first().cloned().unwrap();
    let (name, kind) = (
        asked.name().to_ascii().to_ascii_lowercase(),
        asked.query_type(),
    );
    let times = {
        let mut count = count.lock().unwrap();
        let times = count.entry((name.clone(), kind)).or_default();
        *times += 1;
        *times
    };
    let usual = match &*name {
        "outside.test." => ALLOWED.to_string(),
        "inside.test." => "10.0.0.1".to_owned(),
        "loop.test." => ">loop.test".to_owned(),
        _ if name.ends_with(".wild.example.") => ALLOWED.to_string(),
        _ => BAIT.to_string(),
    };
    let text = script.get(&name).map_or(usual, |text| (*text).to_owned());
    let steps: Vec<_> = text.split('|').collect();
    let said = steps[(times - 1).min(steps.len() - 1)];
    let mut answer = query.into_response();
    let mut owner = asked.name().clone();
    for word in said.split_whitespace() {
        if let Some(alias) = word.strip_prefix('>') {
            let alias = Name::from_ascii(alias).unwrap();
            answer.add_answer(Record::from_rdata(
                owner,
                60,
                RData::CNAME(CNAME(alias.clone())),
            ));
            owner = alias;
        } else if word == "nxdomain" {
            answer.metadata.response_code = ResponseCode::NXDomain;
        } else if word == "servfail" {
            answer.metadata.response_code = ResponseCode::ServFail;
        } else {
            let address: IpAddr = word.parse().unwrap();
            let its = if address.is_ipv4() {
                RecordType::A
            } else {
                RecordType::AAAA
            };
            if kind == its {
                answer.add_answer(Record::from_rdata(owner.clone(), 60, RData::from(address)));
            }
        }
    }
    answer
}
