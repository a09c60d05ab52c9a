//! Entries that open the same host and port to the same callers: the oldest is in force, and what the others say otherwise is
//! told. That callers of a namespace get the entries of that first is no conflict.
//!
//! There may be thousands of them, so each entry is compared with what those before it come to, never with each of them.

use std::collections::{BTreeMap, HashMap};

use portcullis_routing::egress::{
    Entry, EntryEndpoint, EntryPort, EntryTls, ExportedTo, Resolution,
};

use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::reason,
};

/// Conflicts that a message names; how many more there are is a number.
const NAMED: usize = 3;

/// Most that are kept of what is in force: without two of one meaning and one of a namespace there is one left.
const MOST_IN_FORCE: usize = 4;

/// An entry among those that it may be in conflict with.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) entry: &'a Entry,
}

/// What an entry comes to beside the others.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What is told of it.
    pub(super) finding: Finding,
    pub(super) standing: Standing,
}

/// Whose word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its own, and others' does not.
    First,
    /// Others' for some or all of what it says.
    Second,
}

/// What a candidate has lost and won so far.
#[derive(Default)]
struct Score<'a> {
    /// Hosts and ports that it opens, each for all callers or for one namespace.
    claims: usize,
    /// Claims that are others' and mean something else there.
    lost: usize,
    /// Where it lost: host, port and to whom.
    losses: Tally<(&'a str, u16, &'a ObjectKey)>,
    /// Where it won.
    wins: Tally<(&'a str, u16, &'a ObjectKey)>,
}

/// The first few of many.
struct Tally<T> {
    first: Vec<T>,
    count: usize,
}

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self {
            first: Vec::new(),
            count: 0,
        }
    }
}

impl<T> Tally<T> {
    fn add(&mut self, one: T) {
        if self.first.len() < NAMED {
            self.first.push(one);
        }
        self.count += 1;
    }
}

/// What opens a host and port, of the entries so far.
#[derive(Default)]
struct Claim<'a> {
    /// For the callers of these namespaces, of the entries that stand there.
    own: HashMap<&'a str, usize>,
    /// For everybody who is not in `namespaces`.
    everybody: Option<usize>,
    /// For these namespaces, of the entries that stand elsewhere.
    namespaces: HashMap<&'a str, usize>,
    /// Some of `namespaces`, and `everybody`: of each meaning two at most. Without those of one meaning and that for one namespace,
    /// there is one left of them if there is one of all.
    in_force: Vec<(Option<&'a str>, usize)>,
}

/// The outcome for every candidate that is in a conflict. They come oldest first, as the proxy asks them.
pub(super) fn find(candidates: &[Candidate<'_>]) -> BTreeMap<ObjectKey, Outcome> {
    let meanings = Meaning::of_all(candidates);
    let mut scores: Vec<Score<'_>> = candidates.iter().map(|_| Score::default()).collect();
    let mut claims = HashMap::<(&str, u16), Claim<'_>>::new();
    for (index, candidate) in candidates.iter().enumerate() {
        for host in &candidate.entry.hosts {
            for port in &candidate.entry.ports {
                let claim = claims.entry((host, port.number)).or_default();
                let same = |one: usize, other: usize| {
                    meanings[one].at(port.number) == meanings[other].at(port.number)
                };
                let loss = claim.add(index, candidate.entry, same);
                let score = &mut scores[index];
                score.claims += loss.claims;
                score.lost += loss.lost;
                if let Some(winner) = loss.winner {
                    score
                        .losses
                        .add((host, port.number, candidates[winner].key));
                    scores[winner].wins.add((host, port.number, candidate.key));
                }
            }
        }
    }
    let outcomes = candidates.iter().zip(&scores);
    outcomes
        .filter_map(|(candidate, score)| {
            Some((candidate.key.clone(), outcome(candidate.key, score)?))
        })
        .collect()
}

/// Everything of an entry that decides what becomes of a connection to it, as numbers: what is equal has the same one. So it is
/// looked at once, however many hosts and ports it is asked about.
struct Meaning {
    /// Where connections go.
    way: usize,
    ports: HashMap<u16, usize>,
}

impl Meaning {
    fn of_all<'a>(candidates: &[Candidate<'a>]) -> Vec<Self> {
        let mut ways = HashMap::<(Resolution, &[EntryEndpoint]), usize>::new();
        let mut tls = HashMap::<&EntryTls, usize>::new();
        let mut ports = HashMap::<(EntryPort, Option<usize>), usize>::new();
        let meaning = |candidate: &Candidate<'a>| {
            let Entry {
                resolution,
                endpoints,
                ports: own,
                tls: own_tls,
                ..
            } = candidate.entry;
            let next = ways.len();
            let way = *ways.entry((*resolution, endpoints)).or_insert(next);
            let own_tls: Vec<_> = own_tls
                .iter()
                .map(|one| {
                    let next = tls.len();
                    *tls.entry(one).or_insert(next)
                })
                .collect();
            let own = own.iter().map(|port| {
                let tls = port.tls.and_then(|place| own_tls.get(usize::from(place)));
                let alone = EntryPort {
                    tls: None,
                    ..port.clone()
                };
                let next = ports.len();
                let number = *ports.entry((alone, tls.copied())).or_insert(next);
                (port.number, number)
            });
            Self {
                way,
                ports: own.collect(),
            }
        };
        candidates.iter().map(meaning).collect()
    }

    /// What a connection to this port means.
    fn at(&self, port: u16) -> (usize, Option<usize>) {
        (self.way, self.ports.get(&port).copied())
    }
}

/// What an entry did not get of a host and port.
#[derive(Default)]
struct Loss {
    claims: usize,
    lost: usize,
    /// To whom, if that means something else.
    winner: Option<usize>,
}

impl<'a> Claim<'a> {
    /// Adds an entry that comes after all others so far.
    fn add(&mut self, index: usize, entry: &'a Entry, same: impl Fn(usize, usize) -> bool) -> Loss {
        let mut loss = Loss::default();
        let home = entry.order.namespace.as_str();
        match &entry.exported_to {
            ExportedTo::All => {
                self.add_at_home(index, home, &same, &mut loss);
                loss.claims += 1;
                if self.everybody.is_some_and(|first| !same(first, index)) {
                    loss.lost += 1;
                }
                let abroad = self.in_force.iter();
                let mut abroad = abroad.filter(|(audience, _)| *audience != Some(home));
                let other = abroad.find(|(_, other)| !same(*other, index));
                loss.winner = loss.winner.or(other.map(|(_, other)| *other));
                if self.everybody.is_none() {
                    self.everybody = Some(index);
                    self.put_in_force(None, index, same);
                }
            }
            ExportedTo::Namespaces(namespaces) => {
                for namespace in namespaces {
                    if namespace == home {
                        self.add_at_home(index, home, &same, &mut loss);
                    } else {
                        self.add_abroad(index, namespace, &same, &mut loss);
                    }
                }
            }
        }
        loss
    }

    /// For the callers of its own namespace, who get the entries of that first.
    fn add_at_home(
        &mut self,
        index: usize,
        home: &'a str,
        same: impl Fn(usize, usize) -> bool,
        loss: &mut Loss,
    ) {
        loss.claims += 1;
        let first = *self.own.entry(home).or_insert(index);
        if !same(first, index) {
            loss.lost += 1;
            loss.winner.get_or_insert(first);
        }
    }

    /// For the callers of another namespace.
    fn add_abroad(
        &mut self,
        index: usize,
        namespace: &'a str,
        same: impl Fn(usize, usize) -> bool,
        loss: &mut Loss,
    ) {
        loss.claims += 1;
        let first = self.namespaces.get(namespace).copied();
        match first.or(self.everybody) {
            Some(first) if same(first, index) => {}
            Some(first) => {
                loss.lost += 1;
                loss.winner.get_or_insert(first);
            }
            None => {
                self.namespaces.insert(namespace, index);
                self.put_in_force(Some(namespace), index, same);
            }
        }
    }

    fn put_in_force(
        &mut self,
        audience: Option<&'a str>,
        index: usize,
        same: impl Fn(usize, usize) -> bool,
    ) {
        let kept = self.in_force.iter();
        let alike = kept.filter(|(_, other)| same(*other, index)).count();
        if alike < 2 && self.in_force.len() < MOST_IN_FORCE {
            self.in_force.push((audience, index));
        }
    }
}

fn outcome(key: &ObjectKey, score: &Score<'_>) -> Option<Outcome> {
    let object = ObjectRef::new("ServiceEntry", key.clone());
    let field = "spec.hosts";
    if score.losses.count > 0 {
        let mut message = format!(
            "older entries open the same and say otherwise, so they are the ones in force: {}",
            list(&score.losses)
        );
        // It is in tables all the same: routes lead through it, and it takes over when the others are gone.
        if score.lost == score.claims {
            message += ". That is all of it: nobody is led by it but routes that name it";
        }
        let remedy =
            "make the entries alike, remove one of them, or export them to different namespaces";
        return Some(Outcome {
            finding: object.error(reason::CONFLICTED, field, message, remedy),
            standing: Standing::Second,
        });
    }
    (score.wins.count > 0).then(|| {
        let message = format!(
            "younger entries open the same and say otherwise; this one is in force: {}",
            list(&score.wins)
        );
        let remedy = "nothing to do for this entry; make the others like it, or remove one of them";
        Outcome {
            finding: object.warning(reason::CONFLICTED, field, message, remedy),
            standing: Standing::First,
        }
    })
}

fn list(tally: &Tally<(&str, u16, &ObjectKey)>) -> String {
    let first = tally.first.iter();
    let named: Vec<_> = first
        .map(|(host, port, other)| format!("{host}:{port} (ServiceEntry {other})"))
        .collect();
    match tally.count - tally.first.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{
        RouteOrder,
        egress::{EntryProtocol, Resolution},
    };

    use super::*;

    /// Callers that can be told apart; the last one is of no namespace that any entry names.
    const CALLERS: [&str; 4] = ["a", "b", "elsewhere", "others"];

    fn entry(home: &str, exported_to: &ExportedTo, target: u16) -> Entry {
        Entry {
            hosts: vec!["api.example".into()],
            addresses: Vec::new(),
            ports: vec![EntryPort {
                number: 443,
                protocol: EntryProtocol::Https,
                target_port: Some(target),
                tls: None,
                shut: false,
            }],
            tls: Vec::new(),
            resolution: Resolution::None,
            endpoints: Vec::new(),
            exported_to: exported_to.clone(),
            order: RouteOrder {
                created_at: 0,
                namespace: home.to_owned(),
                name: String::new(),
                rule: 0,
            },
        }
    }

    fn reaches(entry: &Entry, caller: &str) -> bool {
        match &entry.exported_to {
            ExportedTo::All => true,
            ExportedTo::Namespaces(names) => names.iter().any(|name| name == caller),
        }
    }

    /// Whether some caller of an entry gets another one that means something else. Callers of a namespace get the entries of that
    /// first, and whoever else is hidden by these has not lost for that.
    fn loses(entries: &[Entry], index: usize) -> bool {
        let entry = &entries[index];
        let stands = |entry: &Entry, caller: &str| entry.order.namespace == caller;
        let competes = |other: &Entry, caller: &str| {
            let other_is_own = stands(other, caller);
            if stands(entry, caller) {
                other_is_own
            } else {
                !other_is_own || other.exported_to.is_all()
            }
        };
        let callers = CALLERS.iter().filter(|caller| reaches(entry, caller));
        callers
            .filter_map(|caller| {
                let mut others = entries.iter();
                others.find(|first| reaches(first, caller) && competes(first, caller))
            })
            .any(|first| first.ports != entry.ports)
    }

    #[test]
    fn an_entry_loses_where_a_caller_of_it_gets_another() {
        let names = |names: &[&str]| {
            ExportedTo::Namespaces(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let exports = [
            ExportedTo::All,
            names(&["a"]),
            names(&["b"]),
            names(&["a", "b"]),
        ];
        let homes = ["a", "elsewhere"];
        let targets = 1_u16..=2;
        let ways = exports
            .iter()
            .flat_map(|export| homes.map(|home| (home, export)));
        let kinds: Vec<_> = ways
            .flat_map(|(home, export)| {
                let targets = targets.clone();
                targets.map(move |target| entry(home, export, target))
            })
            .collect();
        let keys: Vec<_> = (0..4)
            .map(|name| ObjectKey::new("ns", name.to_string()))
            .collect();
        let mut lost = 0;
        for number in 0..kinds.len().pow(4) {
            let digit = |place: u32| number / kinds.len().pow(place) % kinds.len();
            let entries: Vec<_> = (0..4).map(|place| kinds[digit(place)].clone()).collect();
            let candidates: Vec<_> = keys
                .iter()
                .zip(&entries)
                .map(|(key, entry)| Candidate { key, entry })
                .collect();
            let outcomes = find(&candidates);
            for (index, key) in keys.iter().enumerate() {
                let outcome = outcomes.get(key);
                let is_told = outcome.is_some_and(|it| it.standing != Standing::First);
                assert_eq!(
                    is_told,
                    loses(&entries, index),
                    "entry {index} of {entries:?}"
                );
                lost += usize::from(is_told);
            }
        }
        assert!(lost > 0);
    }
}
