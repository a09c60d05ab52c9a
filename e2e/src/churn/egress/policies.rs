//! The policies that come, change and go.

use std::sync::Arc;

use fastrand::Rng;

use super::{
    backends::Speech,
    edits::{ACCOUNTS, NAMESPACES, TIERS, account, namespace},
    names::{CLUB, GROUPS, OPEN, group},
    world::{Action, Callers, Change, GATEWAY_NAMESPACE, Policy},
};

/// Steps for which some namespaces are narrowed by an Allow, and for which none is: while one is, a caller that is not known
/// reaches nothing at all.
const PHASE: usize = 15;

/// What a policy is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Of the Gateway: lets some namespaces reach what is not open to all.
    Club,
    /// Denies some callers some hosts.
    Deny,
    /// The same, and tells only.
    Report,
    /// Narrows its own namespace.
    Narrow,
}

/// Every policy that there may be: its role, and the number of its namespace, if it is not the Gateway's.
const SLOTS: &[(Role, Option<usize>)] = &[
    (Role::Club, None),
    (Role::Club, None),
    (Role::Club, None),
    (Role::Deny, None),
    (Role::Deny, None),
    (Role::Deny, None),
    (Role::Deny, None),
    (Role::Report, None),
    (Role::Deny, Some(0)),
    (Role::Deny, Some(1)),
    (Role::Deny, Some(2)),
    (Role::Deny, Some(3)),
    (Role::Report, Some(4)),
    (Role::Report, Some(5)),
    (Role::Narrow, Some(1)),
    (Role::Narrow, Some(6)),
    (Role::Narrow, Some(7)),
    (Role::Narrow, Some(8)),
];

/// Which of them are there.
#[derive(Default)]
pub(super) struct Policies {
    present: Vec<bool>,
}

impl Policies {
    /// All but those that narrow, and the one that opens hosts to everybody. That one stays.
    pub(super) fn begin(&mut self, rng: &mut Rng) -> Vec<Change> {
        let open = Policy {
            namespace: GATEWAY_NAMESPACE.to_owned(),
            name: "open".to_owned(),
            from: None,
            hosts: vec![format!("*.{OPEN}")],
            ports: Vec::new(),
            action: Action::Allow,
            reports: false,
            opens_private: true,
        };
        self.present = vec![false; SLOTS.len()];
        let mut changes = vec![Change::Policy(Arc::new(open))];
        for (slot, (role, _)) in SLOTS.iter().enumerate() {
            if *role != Role::Narrow {
                changes.push(self.put(slot, rng));
            }
        }
        changes
    }

    /// What becomes of them in that step.
    pub(super) fn step(&mut self, step: usize, rng: &mut Rng) -> Vec<Change> {
        let is_narrow = (step / PHASE) % 2 == 1;
        if step.is_multiple_of(PHASE) {
            let narrowing = |slot: &usize| SLOTS[*slot].0 == Role::Narrow;
            let slots: Vec<_> = (0..SLOTS.len()).filter(narrowing).collect();
            let slots = slots.into_iter();
            return slots
                .filter_map(|slot| match (is_narrow, self.present[slot]) {
                    (true, _) => Some(self.put(slot, rng)),
                    (false, true) => Some(self.remove(slot)),
                    (false, false) => None,
                })
                .collect();
        }
        let slot = rng.usize(..SLOTS.len());
        if rng.bool() || (SLOTS[slot].0 == Role::Narrow && !is_narrow) {
            return Vec::new();
        }
        let goes = self.present[slot] && rng.usize(..3) == 0;
        vec![if goes {
            self.remove(slot)
        } else {
            self.put(slot, rng)
        }]
    }

    fn put(&mut self, slot: usize, rng: &mut Rng) -> Change {
        self.present[slot] = true;
        Change::Policy(Arc::new(policy(slot, rng)))
    }

    fn remove(&mut self, slot: usize) -> Change {
        self.present[slot] = false;
        Change::NoPolicy(key(slot))
    }
}

fn key(slot: usize) -> (String, String) {
    let (_, number) = SLOTS[slot];
    let namespace = number.map_or_else(|| GATEWAY_NAMESPACE.to_owned(), namespace);
    (namespace, format!("policy-{slot}"))
}

fn policy(slot: usize, rng: &mut Rng) -> Policy {
    let (role, number) = SLOTS[slot];
    let (namespace, name) = key(slot);
    let (hosts, ports) = match role {
        Role::Club if rng.bool() => (vec![format!("*.{CLUB}")], Vec::new()),
        Role::Club => (groups(GROUPS / 2, CLUB, rng), Vec::new()),
        Role::Deny | Role::Report => (groups(GROUPS / 4, any_suffix(rng), rng), some_port(rng)),
        Role::Narrow => {
            let mut hosts = groups(GROUPS / 3, OPEN, rng);
            hosts.extend(groups(GROUPS / 3, CLUB, rng));
            (hosts, Vec::new())
        }
    };
    Policy {
        from: match role {
            Role::Club => Some(Callers {
                namespaces: namespaces(NAMESPACES / 3, rng),
                ..Callers::default()
            }),
            Role::Deny | Role::Report | Role::Narrow => from(number, rng),
        },
        namespace,
        name,
        hosts,
        ports,
        action: match role {
            Role::Club | Role::Narrow => Action::Allow,
            Role::Deny | Role::Report => Action::Deny,
        },
        reports: role == Role::Report,
        opens_private: role == Role::Club,
    }
}

/// Some callers: of the namespace of that number, or of any.
fn from(number: Option<usize>, rng: &mut Rng) -> Option<Callers> {
    let mut from = Callers::default();
    let kind = rng.usize(..4);
    match (kind, number) {
        (0, Some(_)) => return None,
        (0..3, None) => from.namespaces = namespaces(NAMESPACES / 2, rng),
        (1, Some(_)) => {}
        _ => {
            let number = number.unwrap_or_else(|| rng.usize(..NAMESPACES));
            from.accounts = vec![(namespace(number), account(rng.usize(..ACCOUNTS)))];
        }
    }
    if kind == 1 || kind == 2 {
        from.tier = Some(TIERS[rng.usize(..TIERS.len())]);
    }
    Some(from)
}

fn namespaces(count: usize, rng: &mut Rng) -> Vec<String> {
    let numbers = rng.choose_multiple(0..NAMESPACES, count);
    numbers.into_iter().map(namespace).collect()
}

fn groups(count: usize, suffix: &str, rng: &mut Rng) -> Vec<String> {
    let numbers = rng.choose_multiple(0..GROUPS, count);
    let numbers = numbers.into_iter();
    numbers
        .map(|number| format!("*.{}", group(number, suffix)))
        .collect()
}

fn any_suffix(rng: &mut Rng) -> &'static str {
    if rng.bool() { OPEN } else { CLUB }
}

fn some_port(rng: &mut Rng) -> Vec<u16> {
    if rng.bool() {
        return Vec::new();
    }
    vec![Speech::ALL[rng.usize(..Speech::ALL.len())].port()]
}
