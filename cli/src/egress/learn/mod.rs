//! `portcullis egress learn`: ServiceEntries and EgressPolicies for what was seen.
//!
//! What is not certain is left to the reader: it stands in a comment and allows nothing.

mod names;
mod obstacle;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    process::ExitCode,
};

use jiff::Timestamp;
use portcullis_routing::egress::Verdict;

use super::{
    denied::tell_beside,
    logs,
    manifest::Spoken,
    record::{Caller, Record},
    tally::{Count, Tally},
};
use crate::{
    args::LearnArgs,
    output::{show, tell},
};

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Wish {
    caller: Caller,
    host: Box<str>,
    port: Option<u16>,
    spoken: Spoken,
    standing: Standing,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Standing {
    /// A ServiceEntry opens it to the caller, and nothing is against it.
    Open,
    /// No ServiceEntry opens it to the caller.
    Unlisted,
    /// It was refused for another reason: its code, and the policy that decided.
    Refused(Box<str>, Option<Box<str>>),
}

/// A destination of a caller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    caller: Caller,
    host: Box<str>,
    port: Option<u16>,
}

/// What is known of a [`Place`].
#[derive(Debug)]
struct Seen {
    count: Count,
    /// How often it was spoken to in which way.
    spoken: BTreeMap<Spoken, u64>,
    /// When it last found no ServiceEntry that opens it.
    unlisted: Option<Timestamp>,
    /// When it last found one, or another account of its namespace did.
    open: Option<Timestamp>,
    /// Why it is not allowed.
    against: BTreeSet<String>,
}

/// Destinations by host and port.
type Places = BTreeMap<(Box<str>, u16), Seen>;

/// What was learned.
#[derive(Debug, Default)]
struct Lesson {
    /// What may be allowed, by the namespace and account of its callers, host and port.
    allowed: BTreeMap<(Box<str>, Box<str>), Places>,
    /// What may not.
    refused: BTreeMap<Place, Seen>,
    /// Decisions about what is not kept.
    forgotten: u64,
}

/// Prints manifests for what was seen.
pub(super) fn learn(args: &LearnArgs) -> anyhow::Result<ExitCode> {
    let mut tally = Tally::default();
    let read = logs::read(&args.decisions, |record| {
        let namespace = args.namespace.as_deref();
        if namespace.is_none_or(|namespace| record.caller.is_of(namespace, None)) {
            let time = record.time;
            tally.add(Wish::of(record), time);
        }
    })?;
    let lesson = Lesson::new(tally, args.min_count);
    show(&write::text(&lesson, &read)?);
    tell_beside(&read);
    if lesson.stranger().is_some() {
        tell(
            "note: nothing is written for callers that are not known; a comment says how they come to be\n",
        );
    }
    Ok(ExitCode::SUCCESS)
}

impl Wish {
    fn of(record: Record) -> Self {
        Self {
            spoken: spoken(&record),
            standing: Standing::of(&record),
            caller: record.caller,
            host: record.host,
            port: record.port,
        }
    }
}

/// What is spoken there, as far as it was seen. What was refused as a tunnel has not begun; to the usual ports it is taken for
/// the usual.
fn spoken(record: &Record) -> Spoken {
    let is_request = matches!(&*record.form, "absolute" | "host");
    match record.port {
        _ if is_request => Spoken::Http,
        _ if record.has_sni || &*record.form == "sni" => Spoken::Tls,
        Some(80) => Spoken::Http,
        Some(443) if record.verdict == Verdict::Refuse => Spoken::Tls,
        _ => Spoken::Tcp,
    }
}

impl Standing {
    fn of(record: &Record) -> Self {
        let code = match &record.error {
            Some(error) if obstacle::is_telling(error) => error,
            _ => &record.reason,
        };
        match &**code {
            "allowed" => Self::Open,
            "host_not_listed" | "port_not_listed" | "not_exported" => Self::Unlisted,
            _ => Self::Refused(code.clone(), record.policy.clone()),
        }
    }
}

impl Seen {
    fn of(wish: &Wish, count: Count) -> Self {
        let against = match &wish.standing {
            Standing::Refused(code, policy) => Some(obstacle::refusal(code, policy.as_deref())),
            Standing::Open | Standing::Unlisted => None,
        };
        Self {
            count,
            spoken: BTreeMap::from([(wish.spoken, count.times)]),
            unlisted: (wish.standing == Standing::Unlisted).then_some(count.last),
            open: (wish.standing == Standing::Open).then_some(count.last),
            against: against.into_iter().collect(),
        }
    }

    fn add(&mut self, other: Self) {
        self.count = self.count.and(other.count);
        for (spoken, count) in other.spoken {
            *self.spoken.entry(spoken).or_default() += count;
        }
        self.unlisted = self.unlisted.max(other.unlisted);
        self.open = self.open.max(other.open);
        self.against.extend(other.against);
    }

    /// Whether it needs a ServiceEntry. One that was applied since may have been mended: none is to stand beside it.
    fn is_unlisted(&self) -> bool {
        self.unlisted.is_some() && self.unlisted >= self.open
    }
}

impl Place {
    /// The same for whatever account of the namespace.
    fn of_namespace(&self) -> Option<(Box<str>, Box<str>, Option<u16>)> {
        match &self.caller {
            Caller::Account { namespace, .. } => {
                Some((namespace.clone(), self.host.clone(), self.port))
            }
            Caller::Unknown(_) => None,
        }
    }
}

impl Lesson {
    fn new(tally: Tally<Wish>, min_count: u64) -> Self {
        let (wishes, forgotten) = tally.sorted();
        let inward: BTreeSet<Box<str>> =
            wishes.iter().filter_map(|(wish, _)| inward(wish)).collect();
        let mut places: BTreeMap<Place, Seen> = BTreeMap::new();
        for (wish, count) in wishes {
            let seen = Seen::of(&wish, count);
            let place = Place {
                caller: wish.caller,
                host: wish.host,
                port: wish.port,
            };
            match places.get_mut(&place) {
                Some(known) => known.add(seen),
                None => {
                    places.insert(place, seen);
                }
            }
        }
        open_to_namespaces(&mut places);
        let mut lesson = Self {
            forgotten,
            ..Self::default()
        };
        for (place, mut seen) in places {
            let why = obstacle::of_place(&place);
            // What was refused for it says so already, with the policy.
            let is_told = |why: &String| seen.against.iter().any(|it| it.starts_with(why));
            let why = why.filter(|why| !is_told(why));
            seen.against.extend(why);
            if inward.contains(&place.host) {
                seen.against
                    .insert(obstacle::refusal("address_refused", None));
            }
            if seen.count.times < min_count {
                seen.against
                    .insert(format!("seen less than {min_count} times"));
            }
            lesson.add(place, seen);
        }
        lesson
    }

    /// How many decisions it was learned from, and when they were.
    fn period(&self) -> Option<Count> {
        let allowed = self.allowed.values().flat_map(BTreeMap::values);
        let all = allowed.chain(self.refused.values());
        all.map(|seen| seen.count).reduce(Count::and)
    }

    /// An address that somebody called from who is not known.
    fn stranger(&self) -> Option<IpAddr> {
        self.refused.keys().find_map(|place| match place.caller {
            Caller::Unknown(address) => Some(address),
            Caller::Account { .. } => None,
        })
    }

    fn add(&mut self, place: Place, seen: Seen) {
        match (place.caller, place.port) {
            (
                Caller::Account {
                    namespace,
                    service_account,
                },
                Some(port),
            ) if seen.against.is_empty() => {
                let places = self
                    .allowed
                    .entry((namespace, service_account))
                    .or_default();
                places.insert((place.host, port), seen);
            }
            (caller, port) => {
                let place = Place {
                    caller,
                    host: place.host,
                    port,
                };
                self.refused.insert(place, seen);
            }
        }
    }
}

/// What a ServiceEntry opens to one account it opens to all of the namespace.
fn open_to_namespaces(places: &mut BTreeMap<Place, Seen>) {
    let mut open: BTreeMap<_, Timestamp> = BTreeMap::new();
    for (place, seen) in &*places {
        if let (Some(of), Some(time)) = (place.of_namespace(), seen.open) {
            let last = open.entry(of).or_insert(time);
            *last = time.max(*last);
        }
    }
    for (place, seen) in places {
        let of_others = place.of_namespace().and_then(|of| open.get(&of));
        seen.open = seen.open.max(of_others.copied());
    }
}

/// The host, if it leads where nobody outside is, whoever asks for it.
fn inward(wish: &Wish) -> Option<Box<str>> {
    match &wish.standing {
        Standing::Refused(code, _) if &**code == "address_refused" => Some(wish.host.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
