//! Entries that open the same host, or range of addresses, and port to the same callers: the oldest is in force, and what the others say otherwise is
//! told. That callers of a namespace get the entries of that first is no conflict.
//!
//! There may be thousands of them, so each entry is compared with what those before it come to, never with each of them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use portcullis_routing::egress::{Entry, ExportedTo};

use super::claim::{Claim, Meaning, Tally};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::reason,
};

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
    /// What it claims, each for all callers or for one namespace.
    claims: usize,
    /// Claims that are others' and mean something else there.
    lost: usize,
    /// Where it lost.
    losses: Tally<Rival<'a>>,
    /// Where it won, against entries of its own namespace.
    wins: Tally<Rival<'a>>,
}

/// Where two entries are in conflict.
struct Rival<'a> {
    claim: Claim<'a>,
    /// The other entry, if it is of the same namespace. What others call theirs is nobody else's business.
    entry: Option<&'a ObjectKey>,
}

impl fmt::Display for Rival<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claim, entry } = self;
        match entry {
            Some(entry) => write!(f, "{claim} (ServiceEntry {entry})"),
            None => write!(f, "{claim} (an entry of another namespace)"),
        }
    }
}

/// Entries with a claim so far. A namespace is told of its own, of those for everybody and of those that are exported to it. What
/// else there is changes nothing of that: else whoever guesses hosts would be told what is listed for others.
#[derive(Default)]
struct Claimants<'a> {
    /// For the callers of these namespaces, the first of those that stand there.
    own: HashMap<&'a str, usize>,
    /// The first for everybody.
    everybody: Option<usize>,
    /// The first that a namespace exports to another one, by both.
    exports: HashMap<(&'a str, &'a str), usize>,
    /// Those of a namespace that are in force for another one, as far as it knows.
    in_force: HashMap<&'a str, Kept>,
    /// What others export to a namespace by its name: the first of them.
    imports: HashMap<&'a str, Vec<(usize, &'a Entry)>>,
}

/// The first of some entries, and the first that means something else: one of them means something else than any other entry if any
/// of all does.
struct Kept {
    first: usize,
    other: Option<usize>,
}

/// How many entries of others are looked at, and how many namespaces that they are exported to.
const MOST_IMPORTS: usize = 4;
/// See [`MOST_IMPORTS`].
const MOST_NAMESPACES: usize = 16;

/// The outcome for every candidate that is in a conflict. They come oldest first, as the proxy asks them.
pub(super) fn find(candidates: &[Candidate<'_>]) -> BTreeMap<ObjectKey, Outcome> {
    let meanings = Meaning::of_all(candidates);
    let mut scores: Vec<Score<'_>> = candidates.iter().map(|_| Score::default()).collect();
    let mut claims = HashMap::<Claim<'_>, Claimants<'_>>::new();
    for (index, candidate) in candidates.iter().enumerate() {
        for claim in Claim::all(candidate.entry) {
            let same = |one: usize, other: usize| {
                meanings[one].at(claim.port) == meanings[other].at(claim.port)
            };
            let claimants = claims.entry(claim).or_default();
            let loss = claimants.add(index, candidate.entry, same);
            let score = &mut scores[index];
            score.claims += loss.claims;
            score.lost += loss.lost;
            let Some(winner) = loss.winner else {
                continue;
            };
            let other = &candidates[winner];
            let is_near = other.key.namespace == candidate.key.namespace;
            let entry = is_near.then_some(other.key);
            score.losses.add(Rival { claim, entry });
            if is_near {
                let entry = Some(candidate.key);
                scores[winner].wins.add(Rival { claim, entry });
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

/// What an entry did not get of a claim.
#[derive(Default)]
struct Loss {
    claims: usize,
    lost: usize,
    /// To whom, if that means something else.
    winner: Option<usize>,
}

impl<'a> Claimants<'a> {
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
                let other = self.abroad(home).find(|other| !same(*other, index));
                loss.winner = loss.winner.or(other);
                self.everybody.get_or_insert(index);
            }
            ExportedTo::Namespaces(namespaces) => {
                for namespace in namespaces {
                    if namespace == home {
                        self.add_at_home(index, home, &same, &mut loss);
                    } else {
                        self.add_abroad(index, (home, namespace), &same, &mut loss);
                        let imports = self.imports.entry(namespace).or_default();
                        if imports.len() < MOST_IMPORTS {
                            imports.push((index, entry));
                        }
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
        (home, namespace): (&'a str, &'a str),
        same: impl Fn(usize, usize) -> bool,
        loss: &mut Loss,
    ) {
        loss.claims += 1;
        match self.first(home, namespace) {
            Some(first) if same(first, index) => {}
            Some(first) => {
                loss.lost += 1;
                loss.winner.get_or_insert(first);
            }
            None => {
                let kept = self.in_force.entry(home);
                let kept = kept.or_insert(Kept {
                    first: index,
                    other: None,
                });
                if kept.other.is_none() && !same(kept.first, index) {
                    kept.other = Some(index);
                }
            }
        }
        self.exports.entry((home, namespace)).or_insert(index);
    }

    /// What is in force for the callers of `namespace`, as far as `home` knows. What stands there is for them alone.
    fn first(&self, home: &str, namespace: &str) -> Option<usize> {
        let imports = self.imports.get(home).into_iter().flatten();
        let mut imports = imports.filter(|(_, entry)| {
            entry.order.namespace != namespace && entry.exported_to.contains(namespace)
        });
        let import = imports.next().map(|(index, _)| *index);
        let own = self.exports.get(&(home, namespace)).copied();
        [own, import, self.everybody].into_iter().flatten().min()
    }

    /// What is in force for callers of whichever other namespace, as far as `home` knows.
    fn abroad(&self, home: &'a str) -> impl Iterator<Item = usize> {
        let own = self.in_force.get(home).into_iter();
        let own = own.flat_map(|kept| std::iter::once(kept.first).chain(kept.other));
        let imports = self.imports.get(home).into_iter().flatten();
        let imports = imports.filter_map(move |(index, entry)| {
            let ExportedTo::Namespaces(namespaces) = &entry.exported_to else {
                return None;
            };
            let others = namespaces.iter().take(MOST_NAMESPACES);
            let mut others = others.filter(|it| **it != *home && **it != entry.order.namespace);
            let is_first = others.any(|it| self.first(home, it) == Some(*index));
            is_first.then_some(*index)
        });
        self.everybody.into_iter().chain(own).chain(imports)
    }
}

/// Whoever wins is told of entries of its own namespace only: what others open, however late they come, changes nothing for it.
fn outcome(key: &ObjectKey, score: &Score<'_>) -> Option<Outcome> {
    let object = ObjectRef::new("ServiceEntry", key.clone());
    if let Some(first) = score.losses.first() {
        let mut message = format!(
            "older entries open the same and say otherwise, so they are the ones in force: {}",
            score.losses
        );
        // It is in tables all the same: routes lead through it, and it takes over when the others are gone.
        if score.lost == score.claims {
            message += ". That is all of it: nobody is led by it but routes that name it";
        }
        let remedy =
            "make the entries alike, remove one of them, or export them to different namespaces";
        let field = first.claim.field();
        return Some(Outcome {
            finding: object.error(reason::CONFLICTED, field, message, remedy),
            standing: Standing::Second,
        });
    }
    score.wins.first().map(|first| {
        let message = format!(
            "younger entries open the same and say otherwise; this one is in force: {}",
            score.wins
        );
        let remedy = "nothing to do for this entry; make the others like it, or remove one of them";
        let field = first.claim.field();
        Outcome {
            finding: object.warning(reason::CONFLICTED, field, message, remedy),
            standing: Standing::First,
        }
    })
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{
        RouteOrder,
        egress::{EntryPort, EntryProtocol, Resolution},
    };

    use super::*;

    /// Callers that can be told apart; the last one is of no namespace that any entry names.
    const CALLERS: [&str; 4] = ["a", "b", "elsewhere", "others"];

    fn entry(home: &str, exported_to: &ExportedTo, target: u16) -> Entry {
        Entry {
            hosts: vec!["api.example".into()],
            addresses: vec!["192.0.2.0/24".parse().unwrap()],
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

    /// Whether some caller of an entry would get another one that means something else if there were only those that the entry's
    /// namespace may know of. Callers of a namespace get the entries of that first, and whoever else is hidden by these has not lost
    /// for that.
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
        let home = &entry.order.namespace;
        let is_known =
            |other: &Entry| other.order.namespace == *home || other.exported_to.contains(home);
        let callers = CALLERS.iter().filter(|caller| reaches(entry, caller));
        callers
            .filter_map(|caller| {
                let mut others = entries.iter().filter(|other| is_known(other));
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
        let mut lost = 0;
        for number in 0..kinds.len().pow(4) {
            let digit = |place: u32| number / kinds.len().pow(place) % kinds.len();
            let entries: Vec<_> = (0..4).map(|place| kinds[digit(place)].clone()).collect();
            let all = entries.iter().enumerate();
            let keys: Vec<_> = all
                .map(|(index, entry)| ObjectKey::new(&entry.order.namespace, index.to_string()))
                .collect();
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
