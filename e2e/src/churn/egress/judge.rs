//! Whether what a tunnel came to is right by one of the worlds that may have been in force while it lasted.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    backends::Speech,
    exchange::{Asked, Outcome},
    reference::decide,
    world::{Pod, Protocol, Verdict, World},
};

/// What is told of what was allowed and is not any more.
const REVOKED: &str = "revoked";
/// Wrong decisions that are told in words.
const TOLD: usize = 8;

/// What became of the tunnels.
#[derive(Default)]
pub(super) struct Count {
    pub(super) tunnels: u64,
    /// By what was spoken.
    pub(super) served: BTreeMap<Speech, u64>,
    /// By the reason that was told.
    pub(super) refused: BTreeMap<String, u64>,
    /// TLS that greeted another host than the one that was asked for.
    pub(super) alerted: u64,
    /// Granted, and taken back by a change before anybody answered.
    pub(super) cut: u64,
    /// Judged by more than one world.
    pub(super) during_change: u64,
    /// The same, and these do not agree.
    pub(super) disputed: u64,
    /// While nobody published.
    pub(super) while_away: u64,
    pub(super) wrong: u64,
    pub(super) failed: u64,
    /// The first of both, in words.
    pub(super) told: Vec<String>,
    /// The longest of those that were right, in milliseconds.
    pub(super) slowest: f64,
}

impl Count {
    /// Judges a tunnel. `worlds` are those that may have been in force, in their order.
    pub(super) fn judge(&mut self, asked: &Asked, outcome: &Outcome, worlds: &[World]) {
        self.tunnels += 1;
        let right = right(asked, worlds);
        self.during_change += u64::from(worlds.len() > 1);
        self.disputed += u64::from(right.verdicts.len() > 1);
        if let Outcome::Failed(_) = outcome {
            self.failed += 1;
        } else if is_right(asked, outcome, &right) {
            self.note(asked, outcome);
            return;
        } else {
            self.wrong += 1;
        }
        if self.told.len() < TOLD {
            self.told
                .push(words(asked, outcome, worlds, &right.verdicts));
        }
    }

    fn note(&mut self, asked: &Asked, outcome: &Outcome) {
        match outcome {
            Outcome::Served(_) => *self.served.entry(asked.speech).or_default() += 1,
            Outcome::Refused(reason) | Outcome::RefusedInside(reason) => {
                *self.refused.entry(reason.clone()).or_default() += 1;
            }
            Outcome::Alerted => self.alerted += 1,
            Outcome::Cut | Outcome::Failed(_) => self.cut += 1,
        }
    }

    pub(super) fn served(&self) -> u64 {
        self.served.values().sum()
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// All that may be right.
struct Right {
    /// For the CONNECT, and for a request behind it.
    verdicts: Vec<Verdict>,
    /// Whether a tunnel that was granted may be taken back.
    may_end: bool,
}

/// Who calls is settled when the connection begins: by a later world that is the same pod, or nobody. Who was not known then may be
/// known when a request comes, and stays unknown for a tunnel that is open.
fn right(asked: &Asked, worlds: &[World]) -> Right {
    let (mut verdicts, mut of_open) = (Vec::new(), Vec::new());
    let decide = |world, caller| decide(world, caller, &asked.host, asked.port);
    for (number, before) in worlds.iter().enumerate() {
        for now in worlds.iter().skip(number) {
            let caller = now.caller(asked.from).map(|pod| &**pod);
            let verdict = if let Some(known) = before.caller(asked.from) {
                decide(now, caller.filter(|pod| is_same(known, pod)))
            } else {
                of_open.push(decide(now, None));
                decide(now, caller)
            };
            if !verdicts.contains(&verdict) {
                verdicts.push(verdict);
            }
        }
    }
    let changes = |later: &Verdict| verdicts.first() != Some(later);
    let may_end = worlds.len() > 1 && verdicts.iter().chain(&of_open).any(changes);
    Right { verdicts, may_end }
}

fn is_same(one: &Pod, other: &Pod) -> bool {
    (&one.namespace, &one.name, &one.account) == (&other.namespace, &other.name, &other.account)
}

fn is_right(asked: &Asked, outcome: &Outcome, right: &Right) -> bool {
    let Right { verdicts, may_end } = right;
    let is_refused = |reason: &str| {
        let mut verdicts = verdicts.iter();
        verdicts.any(|it| matches!(it, Verdict::Refused(right) if *right == reason))
    };
    let mut opened = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Open { to, protocol } => Some((to, protocol)),
        Verdict::Refused(_) => None,
    });
    match outcome {
        Outcome::Served(by) => asked.greets.is_none() && opened.any(|(to, _)| to == by),
        Outcome::Refused(reason) | Outcome::RefusedInside(reason) if reason == REVOKED => {
            opened.next().is_some() && *may_end
        }
        Outcome::Refused(reason) => is_refused(reason),
        // Requests are asked about once more.
        Outcome::RefusedInside(reason) => {
            opened.any(|(_, protocol)| *protocol == Protocol::Http) && is_refused(reason)
        }
        Outcome::Alerted => {
            let is_changing = asked.speech == Speech::Tls && *may_end;
            opened.next().is_some() && (asked.greets.is_some() || is_changing)
        }
        // A tunnel that has been granted may be taken back by the next world.
        Outcome::Cut => opened.next().is_some() && *may_end,
        Outcome::Failed(_) => false,
    }
}

fn words(asked: &Asked, outcome: &Outcome, worlds: &[World], verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    let callers: Vec<_> = worlds
        .iter()
        .map(|world| match world.caller(asked.from) {
            Some(pod) => format!("{}/{} ({})", pod.namespace, pod.account, pod.name),
            None => "nobody who is known".to_owned(),
        })
        .collect();
    let Asked {
        from,
        host,
        port,
        greets,
        speech,
    } = asked;
    // Writing to a String cannot fail.
    let _ = write!(text, "from {from}, by turns {callers:?}, to {host}:{port}");
    if let Some(greets) = greets {
        let _ = write!(text, ", greeting {greets}");
    }
    let _ = write!(
        text,
        " ({}): {outcome:?}; right by {} world(s): {verdicts:?}",
        speech.as_str(),
        worlds.len()
    );
    text
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use super::{
        super::{
            names::Names,
            reference::{HOST_NOT_LISTED, UNKNOWN_CALLER},
            world::{Action, Change, Entry, GATEWAY_NAMESPACE, Policy, Port},
        },
        *,
    };

    const TO: &str = "127.128.0.1:1";

    fn asked() -> Asked {
        Asked {
            from: Ipv4Addr::LOCALHOST,
            host: "s0.g0.open.example".to_owned(),
            port: 80,
            speech: Speech::Http,
            greets: None,
        }
    }

    fn open() -> Verdict {
        Verdict::Open {
            to: TO.parse().unwrap(),
            protocol: Protocol::Http,
        }
    }

    fn of(verdicts: Vec<Verdict>) -> Right {
        Right {
            may_end: verdicts.len() > 1,
            verdicts,
        }
    }

    #[test]
    fn what_is_right_by_no_world_is_wrong() {
        let served = Outcome::Served(TO.parse().unwrap());
        let elsewhere = Outcome::Served("127.128.0.1:2".parse().unwrap());
        let refused = Outcome::Refused(HOST_NOT_LISTED.to_owned());
        let otherwise = Outcome::Refused("denied_by_policy".to_owned());
        let (open, shut) = (open(), Verdict::Refused(HOST_NOT_LISTED));
        let right = |outcome: &Outcome, verdicts: &[Verdict]| {
            is_right(&asked(), outcome, &of(verdicts.to_vec()))
        };
        let opened = [open.clone()];
        assert!(right(&served, &opened));
        for wrong in [&elsewhere, &refused, &Outcome::Cut, &Outcome::Alerted] {
            assert!(!right(wrong, &opened), "{wrong:?}");
        }
        let closed = [shut.clone()];
        assert!(right(&refused, &closed));
        for wrong in [&served, &otherwise, &Outcome::Cut] {
            assert!(!right(wrong, &closed), "{wrong:?}");
        }
        let both = [open, shut];
        for good in [&served, &refused, &Outcome::Cut] {
            assert!(right(good, &both), "{good:?}");
        }
        assert!(!right(&elsewhere, &both) && !right(&otherwise, &both));
    }

    #[test]
    fn a_server_that_answers_another_hosts_greeting_is_wrong() {
        let asked = Asked {
            greets: Some("other.example".to_owned()),
            speech: Speech::Tls,
            ..asked()
        };
        assert!(is_right(&asked, &Outcome::Alerted, &of(vec![open()])));
        let served = Outcome::Served(TO.parse().unwrap());
        assert!(!is_right(&asked, &served, &of(vec![open()])));
    }

    fn pod(name: &str) -> Change {
        Change::Pod(Arc::new(Pod {
            namespace: "a".to_owned(),
            name: name.to_owned(),
            account: "web".to_owned(),
            tier: "front",
            address: Ipv4Addr::LOCALHOST,
        }))
    }

    /// A world where the host is open to those namespaces.
    fn world(exported_to: Option<Vec<String>>) -> World {
        let mut world = World::new(Arc::new(Names::new(1)));
        world.apply(&Change::Entry(Arc::new(Entry {
            namespace: "a".to_owned(),
            name: "entry".to_owned(),
            created: 0,
            hosts: vec![asked().host],
            ports: vec![Port {
                number: 80,
                protocol: Protocol::Http,
                target: 1,
            }],
            endpoint: None,
            exported_to,
        })));
        world.apply(&Change::Policy(Arc::new(Policy {
            namespace: GATEWAY_NAMESPACE.to_owned(),
            name: "open".to_owned(),
            from: None,
            hosts: Vec::new(),
            ports: Vec::new(),
            action: Action::Allow,
            reports: false,
            opens_private: true,
        })));
        world
    }

    #[test]
    fn a_caller_becomes_nobody_before_it_becomes_another() {
        let mut before = world(Some(vec!["a".to_owned()]));
        before.apply(&pod("one"));
        let mut after = before.clone();
        after.apply(&Change::NoPod(("a".to_owned(), "one".to_owned())));
        after.apply(&pod("two"));
        assert_eq!(right(&asked(), &[after.clone()]).verdicts.len(), 1);
        let all = right(&asked(), &[before, after]);
        let nobody = Verdict::Refused(UNKNOWN_CALLER);
        assert!(all.verdicts.contains(&nobody) && all.may_end);
    }

    #[test]
    fn an_open_tunnel_of_nobody_stays_that_of_nobody() {
        let before = world(None);
        let mut after = world(Some(vec!["a".to_owned()]));
        after.apply(&pod("one"));
        // Open to whoever asks, and none of that for who had it before.
        let both = right(&asked(), &[before.clone(), after]);
        assert_eq!(both.verdicts.len(), 1);
        assert!(is_right(&asked(), &Outcome::Cut, &both));
        let unchanged = right(&asked(), &[before.clone(), before]);
        assert!(!is_right(&asked(), &Outcome::Cut, &unchanged));
    }
}
