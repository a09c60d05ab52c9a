//! How many hosts outside may be known at once: in all, of one namespace's entries, and of one entry.
//!
//! Whoever talks to very many hosts at once, slowly, leaves room to others.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use foldhash::fast::RandomState;
use portcullis_routing::EntryKey;
use tokio::time::Instant;

/// Most hosts of which anything is remembered at once.
pub(super) const MAX_HOSTS: usize = 4096;
/// Those of all entries of one namespace.
pub(super) const MAX_OF_NAMESPACE: usize = MAX_HOSTS / 2;
/// Those of one entry.
pub(super) const MAX_OF_ENTRY: usize = MAX_HOSTS / 4;

/// Where few hosts could be forgotten it is not looked for others sooner than this.
const PAUSE: Duration = Duration::from_millis(20);

/// What an entry, a namespace or everybody has of the room.
#[derive(Debug)]
pub(super) struct Share {
    most: usize,
    hosts: Cell<usize>,
    /// There is hardly anything to forget before then.
    is_tight_until: Cell<Option<Instant>>,
}

/// All shares.
#[derive(Debug)]
pub(super) struct Shares {
    all: Rc<Share>,
    /// By entry and by namespace. Keys of entries have a slash.
    of: RefCell<HashMap<Box<str>, Rc<Share>, RandomState>>,
}

/// The place of one host, until it is dropped.
#[derive(Debug)]
pub(super) struct Place([Rc<Share>; 3]);

impl Default for Shares {
    fn default() -> Self {
        Self {
            all: Share::new(MAX_HOSTS),
            of: RefCell::default(),
        }
    }
}

impl Shares {
    /// Whose room a host of `entry` takes, the smallest share first.
    pub(super) fn of(&self, entry: Option<&EntryKey>) -> [Rc<Share>; 3] {
        let namespace = entry.and_then(EntryKey::object);
        let namespace = namespace.map_or("", |(namespace, _)| namespace);
        [
            self.share(entry.map_or("/", EntryKey::as_str), MAX_OF_ENTRY),
            self.share(namespace, MAX_OF_NAMESPACE),
            Rc::clone(&self.all),
        ]
    }

    /// Forgets those who have nothing.
    pub(super) fn sweep(&self) {
        self.of.borrow_mut().retain(|_, it| it.hosts.get() > 0);
    }

    fn share(&self, name: &str, most: usize) -> Rc<Share> {
        let mut of = self.of.borrow_mut();
        if let Some(share) = of.get(name) {
            return Rc::clone(share);
        }
        let share = Share::new(most);
        of.insert(name.into(), Rc::clone(&share));
        share
    }
}

impl Share {
    fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            most,
            hosts: Cell::new(0),
            is_tight_until: Cell::new(None),
        })
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn is_full(&self) -> bool {
        self.hosts.get() >= self.most
    }

    /// As many hosts are forgotten at once, so that it is seldom looked for some.
    pub(super) fn batch(&self) -> usize {
        self.most / 16
    }

    /// Whether there was hardly anything to forget just now.
    pub(super) fn is_tight(&self, now: Instant) -> bool {
        self.is_tight_until.get().is_some_and(|until| until > now)
    }

    /// There is hardly anything to forget.
    pub(super) fn tighten(&self, now: Instant) {
        self.is_tight_until.set(Some(now + PAUSE));
    }
}

impl Place {
    pub(super) fn new(shares: [Rc<Share>; 3]) -> Self {
        for share in &shares {
            share.hosts.set(share.hosts.get() + 1);
        }
        Self(shares)
    }

    pub(super) fn is_of(&self, share: &Rc<Share>) -> bool {
        self.0.iter().any(|it| Rc::ptr_eq(it, share))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for share in &self.0 {
            share.hosts.set(share.hosts.get().saturating_sub(1));
        }
    }
}
