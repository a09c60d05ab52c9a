//! What happens in the cluster: what is there in the beginning, and what changes then. The same seed makes the same.

use std::{net::Ipv4Addr, sync::Arc};

use fastrand::Rng;

use super::{
    backends::Speech,
    history::Recent,
    names::{CLUB, GROUPS, Names, OPEN, group, numbered},
    policies::Policies,
    world::{Change, Entry, GATEWAY_NAMESPACE, Pod, Port, Protocol},
};

/// Namespaces of pods.
pub(super) const NAMESPACES: usize = 40;
/// Service accounts in each of them.
pub(super) const ACCOUNTS: usize = 4;
pub(super) const TIERS: [&str; 2] = ["front", "back"];
/// Pods, and entries, that each step changes.
const PODS_PER_STEP: usize = 8;
const ENTRIES_PER_STEP: usize = 3;
/// Of all entries one in so many is for a whole group, and one in so many is for a host that another has as well.
const GROUP_SHARE: usize = 400;
const RIVAL_SHARE: usize = 10;
/// When the first entry was made, in seconds of Unix time.
const FIRST: i64 = 1_700_000_000;

/// Makes changes.
pub(super) struct Editor {
    rng: Rng,
    names: Arc<Names>,
    targets: Vec<(Speech, [u16; 2])>,
    entries: Vec<Option<Arc<Entry>>>,
    /// The pods of each address.
    pods: Vec<Vec<Arc<Pod>>>,
    policies: Policies,
    serial: u32,
    steps: usize,
}

/// What happens at once.
#[derive(Default)]
pub(super) struct Step {
    pub(super) changes: Vec<Change>,
    /// Whom it is about.
    pub(super) recent: Vec<Recent>,
}

/// Sites that so many entries are for.
pub(super) fn sites(entries: usize) -> usize {
    (entries - entries / RIVAL_SHARE - entries / GROUP_SHARE).max(1)
}

/// Addresses that so many pods have by turns.
pub(super) fn addresses(pods: usize) -> usize {
    pods + pods.div_ceil(10)
}

/// An address that pods have.
pub(super) fn address(number: usize) -> Ipv4Addr {
    numbered(1, u32::try_from(number).unwrap_or(0) + 1)
}

pub(super) fn namespace(number: usize) -> String {
    format!("team-{number}")
}

pub(super) fn account(number: usize) -> String {
    format!("account-{number}")
}

impl Editor {
    pub(super) fn new(
        seed: u64,
        names: Arc<Names>,
        targets: Vec<(Speech, [u16; 2])>,
        (entries, pods): (usize, usize),
    ) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            names,
            targets,
            entries: vec![None; entries],
            pods: vec![Vec::new(); addresses(pods)],
            policies: Policies::default(),
            serial: 0,
            steps: 0,
        }
    }

    /// What is there in the beginning: all entries, and a pod at each address but one of eleven.
    pub(super) fn begin(&mut self) -> Vec<Change> {
        let mut step = Step::default();
        for slot in 0..self.entries.len() {
            self.make_entry(slot, &mut step);
        }
        for number in 0..self.pods.len() {
            if number % 11 != 10 {
                self.add_pod(number, &mut step);
            }
        }
        step.changes.extend(self.policies.begin(&mut self.rng));
        step.changes
    }

    /// The next changes. No two tables are the same: each step has a pod of a new name.
    pub(super) fn step(&mut self) -> Step {
        let mut step = Step::default();
        self.steps += 1;
        self.move_address(&mut step);
        for _ in 1..PODS_PER_STEP {
            self.edit_pod(&mut step);
        }
        for _ in 0..ENTRIES_PER_STEP {
            self.edit_entry(&mut step);
        }
        let policies = self.policies.step(self.steps, &mut self.rng);
        step.changes.extend(policies);
        step
    }

    /// How many tables are published before the first of them is waited for.
    pub(super) fn burst(&mut self) -> usize {
        self.rng.usize(1..=3)
    }

    /// One pod of a new name in whatever namespace.
    fn add_pod(&mut self, number: usize, step: &mut Step) {
        self.serial += 1;
        let pod = Arc::new(Pod {
            namespace: namespace(self.rng.usize(..NAMESPACES)),
            name: format!("pod-{}", self.serial),
            account: account(self.rng.usize(..ACCOUNTS)),
            tier: TIERS[self.rng.usize(..TIERS.len())],
            address: address(number),
        });
        self.pods[number].push(Arc::clone(&pod));
        step.changes.push(Change::Pod(pod));
        step.recent.push(Recent::Caller(number));
    }

    fn clear(&mut self, number: usize, step: &mut Step) {
        for pod in self.pods[number].drain(..) {
            let key = (pod.namespace.clone(), pod.name.clone());
            step.changes.push(Change::NoPod(key));
        }
        step.recent.push(Recent::Caller(number));
    }

    /// An address goes from whoever has it to another pod.
    fn move_address(&mut self, step: &mut Step) {
        let number = self.rng.usize(..self.pods.len());
        self.clear(number, step);
        self.add_pod(number, step);
    }

    fn edit_pod(&mut self, step: &mut Step) {
        let number = self.rng.usize(..self.pods.len());
        match (self.rng.usize(..10), self.pods[number].last().cloned()) {
            (0..2, Some(_)) => self.clear(number, step),
            // At times two pods claim one address.
            (_, None) | (2, Some(_)) => self.add_pod(number, step),
            (3..5, Some(pod)) => {
                let labelled = Arc::new(Pod {
                    tier: if pod.tier == TIERS[0] {
                        TIERS[1]
                    } else {
                        TIERS[0]
                    },
                    ..Pod::clone(&pod)
                });
                self.pods[number].pop();
                self.pods[number].push(Arc::clone(&labelled));
                step.changes.push(Change::Pod(labelled));
                step.recent.push(Recent::Caller(number));
            }
            _ => {
                self.clear(number, step);
                self.add_pod(number, step);
            }
        }
    }

    fn edit_entry(&mut self, step: &mut Step) {
        // What is gone comes back sooner or later.
        let gone = self.entries.iter().position(Option::is_none);
        if let Some(gone) = gone.filter(|_| self.rng.bool()) {
            return self.make_entry(gone, step);
        }
        let slot = self.rng.usize(..self.entries.len());
        match self.entries[slot].clone() {
            None => self.make_entry(slot, step),
            Some(entry) if self.rng.usize(..3) == 0 => {
                let key = (entry.namespace.clone(), entry.name.clone());
                self.entries[slot] = None;
                step.changes.push(Change::NoEntry(key));
                step.recent.push(Recent::Site(self.site_of(slot)));
            }
            Some(entry) => {
                let mut changed = Entry::clone(&entry);
                if self.rng.bool() {
                    changed.ports = self.ports();
                } else {
                    changed.exported_to = self.exported_to(&entry.namespace);
                }
                self.put_entry(slot, changed, step);
            }
        }
    }

    fn make_entry(&mut self, slot: usize, step: &mut Step) {
        self.serial += 1;
        let namespace = if self.rng.bool() {
            GATEWAY_NAMESPACE.to_owned()
        } else {
            namespace(self.rng.usize(..NAMESPACES))
        };
        let host = match self.group_of(slot) {
            Some(group) => format!("*.{group}"),
            None => self.names.site(self.site_of(slot)).listed.clone(),
        };
        // Only the Gateway's own may lead a name elsewhere for everybody whom its policies allow the name.
        let is_led = namespace == GATEWAY_NAMESPACE && self.rng.usize(..8) == 0;
        let endpoint = is_led.then(|| numbered(144, u32::try_from(slot).unwrap_or(0) + 1));
        let entry = Entry {
            name: format!("entry-{slot}"),
            created: FIRST + i64::from(self.serial),
            hosts: vec![host],
            ports: self.ports(),
            endpoint,
            exported_to: self.exported_to(&namespace),
            namespace,
        };
        self.put_entry(slot, entry, step);
    }

    fn put_entry(&mut self, slot: usize, entry: Entry, step: &mut Step) {
        let entry = Arc::new(entry);
        self.entries[slot] = Some(Arc::clone(&entry));
        step.changes.push(Change::Entry(entry));
        step.recent.push(Recent::Site(self.site_of(slot)));
    }

    /// The site that an entry is for, or one of those that it is for as well.
    fn site_of(&self, slot: usize) -> usize {
        let sites = self.names.len();
        if slot < sites {
            slot
        } else {
            (slot - sites) * (RIVAL_SHARE - 1) % sites
        }
    }

    /// The group that an entry is for: that is what the last ones are for.
    fn group_of(&self, slot: usize) -> Option<String> {
        let count = self.entries.len() / GROUP_SHARE;
        let number = self.entries.len() - slot;
        let suffix = if number % 4 == 3 { CLUB } else { OPEN };
        (number <= count).then(|| group(self.site_of(slot) % GROUPS, suffix))
    }

    fn ports(&mut self) -> Vec<Port> {
        let mut ports = Vec::new();
        for (speech, targets) in &self.targets {
            if self.rng.usize(..5) < 3 {
                ports.push(Port {
                    number: speech.port(),
                    protocol: match speech {
                        Speech::Http => Protocol::Http,
                        Speech::Tls if self.rng.bool() => Protocol::Tls,
                        Speech::Tls if self.rng.bool() => Protocol::Https,
                        Speech::Line | Speech::Banner | Speech::Tls => Protocol::Tcp,
                    },
                    target: targets[self.rng.usize(..targets.len())],
                });
            }
        }
        if ports.is_empty() {
            return self.ports();
        }
        ports
    }

    fn exported_to(&mut self, own: &str) -> Option<Vec<String>> {
        match self.rng.usize(..4) {
            0 if own != GATEWAY_NAMESPACE => Some(vec![own.to_owned()]),
            0 | 1 => {
                let count = self.rng.usize(1..=8);
                let some = (0..count).map(|_| namespace(self.rng.usize(..NAMESPACES)));
                Some(some.collect())
            }
            _ => None,
        }
    }
}
