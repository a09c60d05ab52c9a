//! The corpus of tricks: requests, tunnels and greetings that want to get past the allow-list, each with its good twin, which is of
//! the same shape without the trick. Every trick is refused and reaches nobody; every twin is served by the allowed server.
//!
//! A case is one line of a table in `cases`:
//!
//! ```text
//! "name" Form "what is sent" [dns "what DNS says"] => "answer" Refusal reason, twin "what is sent" [dns "what DNS says"];
//! ```
//!
//! `speech` says how the text of each form is sent and what the words of an answer are, `zone` how DNS is written, `world` what is
//! listed.

/// Writes a table of cases, as `CASES`.
macro_rules! table {
    ($($name:literal $form:ident $trick:literal $(dns $trick_dns:literal)? => $answer:literal $refusal:ident $reason:ident,
       twin $twin:literal $(dns $twin_dns:literal)?;)*) => {
        pub(super) const CASES: &[crate::egress::corpus::Case] = &[$(crate::egress::corpus::Case {
            name: $name,
            form: crate::egress::corpus::Form::$form,
            trick: crate::egress::corpus::Sent { text: $trick, dns: concat!("" $(, $trick_dns)?) },
            answer: $answer,
            refusal: crate::egress::corpus::Refusal::$refusal(stringify!($reason)),
            twin: crate::egress::corpus::Sent { text: $twin, dns: concat!("" $(, $twin_dns)?) },
        },)*];
    };
}

mod cases;
mod greeting;
mod http2;
mod speech;
mod world;
mod zone;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use serde_json::Value;

use self::{speech::Answer, world::World};

/// A trick and its good twin.
struct Case {
    /// Unique; also a label of the hosts whose addresses the case is about.
    name: &'static str,
    form: Form,
    trick: Sent,
    /// Everything that comes back for the trick, in the words of [`Answer`].
    answer: &'static str,
    refusal: Refusal,
    twin: Sent,
}

/// How a destination is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// A GET in absolute form: the URL. `Host` repeats its authority, as clients do.
    Absolute,
    /// A GET that is routed by `Host`: the value of that.
    Host,
    /// A CONNECT: the authority, and the greeting in its tunnel (without one, that of the authority's host).
    Connect,
    /// TLS that passes through: the greeting.
    Sni,
    /// Whatever begins on a connection to the proxy, line by line; `\n` stands for CRLF.
    Lines,
    /// The same, as it stands there.
    Raw,
    /// Lines over TLS with the proxy itself.
    Tls,
    /// Requests of HTTP/2, `:authority` and CONNECT.
    Http2,
}

/// What one client says, and what DNS says when the proxy asks for the host `{dns}`.
struct Sent {
    text: &'static str,
    dns: &'static str,
}

/// How a refusal is told.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// By one decision event with this reason for each request that is refused.
    Told(&'static str),
    /// By the answer, and by one decision event, with this reason: it names no destination that could be decided on. `none`: by a
    /// stream or connection that is broken off, without either.
    Malformed(&'static str),
    /// By one event of what was allowed and went wrong, with this error.
    Failed(&'static str),
}

/// Fewest cases that the corpus may have.
const LEAST: usize = 150;

/// Where the client of a trick and the one of a twin call from, so that events tell which case they are of.
fn clients(number: usize) -> [Ipv4Addr; 2] {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    [10, 20].map(|side| Ipv4Addr::new(127, side, high, low))
}

#[test]
fn the_corpus_is_large_and_every_trick_has_its_twin() {
    let cases: Vec<_> = cases::all().collect();
    assert!(cases.len() >= LEAST, "{} cases", cases.len());
    let names: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "names are unique");
    let forms: BTreeSet<_> = cases.iter().map(|case| case.form).collect();
    assert_eq!(forms.len(), 8, "{forms:?}");
    for case in cases {
        let is_label =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(
            case.name.len() < 58 && case.name.bytes().all(is_label),
            "{}",
            case.name
        );
        assert!(!case.twin.text.is_empty(), "{} has no twin", case.name);
        let differs = (case.trick.text, case.trick.dns) != (case.twin.text, case.twin.dns);
        assert!(differs, "{} and its twin are the same", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trick_is_refused_and_reaches_nobody_and_every_twin_is_served() {
    let cases: Vec<_> = cases::all().collect();
    let world = World::start(&cases).await;
    let mut answers = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let [trick, twin] = clients(number);
        let tricked = world.hear(case, false, trick).await;
        answers.push([tricked, world.hear(case, true, twin).await]);
    }
    let (events, mut faults) = world.end().await;
    let (mut refused, mut served) = (0, 0);
    for (number, (case, [tricked, twin])) in cases.iter().zip(&answers).enumerate() {
        let told = clients(number).map(|client| events_of(&events, client));
        let wrong = case.faults_of_trick(tricked, &told[0]);
        refused += usize::from(wrong.is_empty());
        faults.extend(wrong.iter().map(|fault| format!("{}: {fault}", case.name)));
        let wrong = faults_of_twin(twin, &told[1]);
        served += usize::from(wrong.is_empty());
        faults.extend(
            wrong
                .iter()
                .map(|fault| format!("twin of {}: {fault}", case.name)),
        );
    }
    println!(
        "{refused} cases refused, {served} twins served, of {} cases",
        cases.len()
    );
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert_eq!((refused, served), (cases.len(), cases.len()));
}

fn events_of(events: &BTreeMap<String, Vec<Value>>, client: Ipv4Addr) -> Vec<&Value> {
    events
        .get(&client.to_string())
        .into_iter()
        .flatten()
        .collect()
}

impl Case {
    /// What is wrong with what became of the trick.
    fn faults_of_trick(&self, heard: &Answer, events: &[&Value]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |what: &str, found: String, wanted: String| {
            if found != wanted {
                faults.push(format!("{what} {found:?}, not {wanted:?}"));
            }
        };
        expect("answer", heard.words.join(" "), self.answer.to_owned());
        // What stands on the same connection and is good gets there all the same.
        let good = self
            .answer
            .split(' ')
            .filter(|word| ["200", "302"].contains(word))
            .count();
        expect(
            "requests that arrived",
            heard.arrived.to_string(),
            good.to_string(),
        );
        expect(
            "connections to others",
            heard.strayed.to_string(),
            "0".to_owned(),
        );
        let mut wanted = vec!["allow allowed".to_owned(); good];
        let refused = self
            .answer
            .split(' ')
            .filter(|word| *word == "403")
            .count()
            .max(1);
        match self.refusal {
            Refusal::Told(reason) => wanted.extend(vec![format!("refuse {reason}"); refused]),
            Refusal::Failed(error) => wanted.push(format!("allow {error}")),
            Refusal::Malformed(reason) => {
                expect("reason", heard.reason.clone(), reason.to_owned());
                wanted.extend((reason != "none").then(|| format!("refuse {reason}")));
            }
        }
        wanted.sort();
        let mut found: Vec<_> = events.iter().map(|event| outcome(event)).collect();
        found.sort();
        expect("events", found.join(", "), wanted.join(", "));
        faults
    }
}

/// What is wrong with what became of a twin.
fn faults_of_twin(heard: &Answer, events: &[&Value]) -> Vec<String> {
    let mut faults = Vec::new();
    let is_good = |word: &String| ["200", "open", "echo"].contains(&word.as_str());
    let is_served =
        heard.words.iter().all(is_good) && heard.words.last().is_some_and(|last| last != "open");
    if !is_served || heard.arrived == 0 {
        let words = heard.words.join(" ");
        faults.push(format!(
            "answer {words:?} {:?}, {} arrived",
            heard.reason, heard.arrived
        ));
    }
    if heard.strayed > 0 {
        faults.push(format!("{} connections to others", heard.strayed));
    }
    let told: Vec<_> = events.iter().map(|event| outcome(event)).collect();
    if told.is_empty() || told.iter().any(|told| told != "allow allowed") {
        faults.push(format!("events {told:?}"));
    }
    faults
}

/// Verdict of an event, and its error or else its reason.
fn outcome(event: &Value) -> String {
    let text = |field: &str| event[field].as_str();
    let why = text("error").or_else(|| text("reason"));
    format!(
        "{} {}",
        text("verdict").unwrap_or_default(),
        why.unwrap_or_default()
    )
}
