//! Runs the ambiguity table: raw sockets in front of the proxy and behind it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    recorder::{ANSWER_END, Record, Recorder},
    vectors,
};
use crate::support::{
    client::{Client, Target},
    report::{Table, Tally},
};

/// How long a proxy may take to answer and close. Longer than the header timeout of the table it runs with.
const PATIENCE: Duration = Duration::from_secs(4);
/// Asked for behind every vector: when its answer is there, the vector has been dealt with.
const SENTINEL: &str = "/sentinel";

/// What became of a vector.
struct Outcome {
    /// Status codes in the order of the answers.
    statuses: Vec<u16>,
    closed: bool,
    forwarded: Vec<Record>,
}

/// Sends every vector to the proxy at `address`, which must forward to `recorder`.
pub(crate) async fn run(address: SocketAddr, recorder: &Recorder, tally: &mut Tally) -> Result<()> {
    let mut table = Table::new(
        "Ambiguous requests",
        &["vector", "answer", "closed", "forwarded", "verdict"],
    );
    let mut judge = |name: &str, outcome: &Outcome, good: bool| {
        let verdict = if good { "PASS" } else { "LOSS" };
        let [answer, closed, forwarded] = outcome.cells();
        tally.check(good, || {
            format!("{name}: answer {answer}, closed {closed}, forwarded {forwarded}")
        });
        table.row([name, &answer, &closed, &forwarded, verdict]);
    };
    for vector in vectors::all()? {
        let forwardable = vector.answers == [200];
        let enough = forwardable.then_some(ANSWER_END);
        let outcome = attempt(address, recorder, &vector.bytes, enough).await?;
        let answered = matches!(outcome.statuses.as_slice(), [one] if vector.answers.contains(one));
        let good = answered
            && if forwardable {
                matches!(outcome.forwarded.as_slice(), [record] if record.whole)
            } else {
                outcome.closed && outcome.forwarded.is_empty()
            };
        judge(vector.name, &outcome, good);
    }
    let bytes = vectors::UPGRADE_WITH_PIPELINED_REQUEST;
    let outcome = attempt(address, recorder, bytes, None).await?;
    let second = outcome
        .forwarded
        .iter()
        .any(|record| record.asks_for("/second"));
    let good = outcome.statuses.len() == 1 && outcome.closed && !second;
    judge("Upgrade with a pipelined request", &outcome, good);
    println!("{table}");
    Ok(())
}

impl Outcome {
    fn cells(&self) -> [String; 3] {
        let answer = match self.statuses.as_slice() {
            [] => "none".to_owned(),
            statuses => statuses
                .iter()
                .map(u16::to_string)
                .collect::<Vec<_>>()
                .join(" + "),
        };
        let forwarded = match self.forwarded.iter().map(|record| record.whole).max() {
            None => "no",
            Some(false) => "in part",
            Some(true) => "yes",
        };
        [
            answer,
            if self.closed { "yes" } else { "no" }.to_owned(),
            forwarded.to_owned(),
        ]
    }
}

/// Sends `bytes` and reads until the proxy closes, or until the answer ends with `enough`.
async fn attempt(
    address: SocketAddr,
    recorder: &Recorder,
    bytes: &[u8],
    enough: Option<&[u8]>,
) -> Result<Outcome> {
    recorder.take();
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    let closed = timeout(PATIENCE, read(&mut stream, &mut answer, enough))
        .await
        .unwrap_or(false);
    drop(stream);

    let mut client = Client::connect(&Target::clear(address, "a.example")).await?;
    let sentinel = client
        .get(SENTINEL)
        .await
        .context("the proxy does not answer any more")?;
    ensure!(
        sentinel.status() == 200,
        "the proxy answers {} to a plain request",
        sentinel.status()
    );
    let mut forwarded = recorder.take();
    forwarded.retain(|record| !record.asks_for(SENTINEL));
    Ok(Outcome {
        statuses: statuses(&answer),
        closed,
        forwarded,
    })
}

/// Whether the other side has closed; a reset closes, too.
async fn read(stream: &mut TcpStream, answer: &mut Vec<u8>, enough: Option<&[u8]>) -> bool {
    let mut buffer = [0; 4096];
    while !enough.is_some_and(|end| answer.ends_with(end)) {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else {
            return true;
        };
        answer.extend_from_slice(&buffer[..count]);
    }
    false
}

/// The codes of all status lines in `answer`, but for interim ones.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    text.split("HTTP/1.1 ")
        .skip(1)
        .filter_map(|rest| rest.get(..3)?.parse().ok())
        .filter(|status| *status >= 200 || *status == 101)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_answer_is_seen() {
        let answer =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nxHTTP/1.1 404 Not Found\r\n\r\n";
        assert_eq!(super::statuses(answer), [200, 404]);
    }
}
