//! How many hosts outside may be known at once: in all, of one namespace's entries, and of one entry. And how many of them the callers
//! of one namespace may talk to at once.
//!
//! Whoever talks to very many hosts at once, slowly, leaves room to others, of whichever side of an entry they are.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use foldhash::fast::RandomState;
use portcullis_routing::EntryKey;
use tokio::time::Instant;

use crate::{
    shares::{Share, Shares},
    upstream::{UpstreamError, UpstreamErrorKind},
};

/// Most hosts of which anything is remembered at once.
pub(super) const MAX_HOSTS: u32 = 4096;
/// Those of all entries of one namespace.
pub(super) const MAX_OF_NAMESPACE: u32 = MAX_HOSTS / 2;
/// Those of one entry.
pub(super) const MAX_OF_ENTRY: u32 = MAX_HOSTS / 4;

/// Where few hosts could be forgotten it is not looked for others sooner than this.
const PAUSE: Duration = Duration::from_millis(20);

/// What an entry, the entries of a namespace, or all of them have.
#[derive(Debug)]
pub(super) struct Room {
    most: u32,
    hosts: Cell<u32>,
    /// Those of them with requests under way.
    busy: Cell<u32>,
    /// There is hardly anything to forget before then.
    is_tight_until: Cell<Option<Instant>>,
}

/// All rooms.
#[derive(Debug)]
pub(super) struct Rooms {
    all: Rc<Room>,
    /// By entry and by namespace. Keys of entries have a slash.
    of: RefCell<HashMap<Box<str>, Rc<Room>, RandomState>>,
    /// The hosts with requests under way, by the namespace of who calls.
    callers: Rc<RefCell<Shares>>,
}

/// The place of one host, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    rooms: [Rc<Room>; 3],
    callers: Rc<RefCell<Shares>>,
    /// Requests under way.
    requests: Cell<u32>,
    /// Whose the host counts as while there are any: of who called first.
    held: RefCell<Option<Rc<Share>>>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            all: Room::new(MAX_HOSTS),
            of: RefCell::default(),
            callers: Rc::default(),
        }
    }
}

impl Rooms {
    /// Where a host of `entry` has its place, the smallest room first.
    pub(super) fn of(&self, entry: Option<&EntryKey>) -> [Rc<Room>; 3] {
        let namespace = entry.and_then(EntryKey::object);
        let namespace = namespace.map_or("", |(namespace, _)| namespace);
        [
            self.room(entry.map_or("/", EntryKey::as_str), MAX_OF_ENTRY),
            self.room(namespace, MAX_OF_NAMESPACE),
            Rc::clone(&self.all),
        ]
    }

    /// Whether a caller of a namespace may talk to one more host there. Those of whom nothing is known are as one.
    pub(super) fn admit(&self, rooms: &[Rc<Room>; 3], caller: &str) -> Result<(), UpstreamError> {
        let [entry, namespace, all] = rooms;
        let free = entry.free().min(namespace.free()).min(all.free());
        if free == 0 {
            return Err(overloaded());
        }
        if !self.callers.borrow().may_take(caller, free) {
            return Err(UpstreamError::new(
                UpstreamErrorKind::TooManyOfNamespace,
                format_args!("only {free} more hosts may be talked to"),
            ));
        }
        Ok(())
    }

    /// A place for a host.
    pub(super) fn place(&self, rooms: [Rc<Room>; 3]) -> Place {
        for room in &rooms {
            room.hosts.set(room.hosts.get() + 1);
        }
        Place {
            rooms,
            callers: Rc::clone(&self.callers),
            requests: Cell::new(0),
            held: RefCell::default(),
        }
    }

    /// Forgets those in which nothing is.
    pub(super) fn sweep(&self) {
        self.of.borrow_mut().retain(|_, it| it.hosts.get() > 0);
    }

    fn room(&self, name: &str, most: u32) -> Rc<Room> {
        let mut of = self.of.borrow_mut();
        if let Some(room) = of.get(name) {
            return Rc::clone(room);
        }
        let room = Room::new(most);
        of.insert(name.into(), Rc::clone(&room));
        room
    }
}

impl Room {
    fn new(most: u32) -> Rc<Self> {
        Rc::new(Self {
            most,
            hosts: Cell::new(0),
            busy: Cell::new(0),
            is_tight_until: Cell::new(None),
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.hosts.get() >= self.most
    }

    /// Hosts without a request under way that there are, or may be.
    fn free(&self) -> u32 {
        self.most.saturating_sub(self.busy.get())
    }

    /// As many hosts are forgotten at once, so that it is seldom looked for some.
    pub(super) fn batch(&self) -> usize {
        (self.most / 16) as usize
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

/// The failure of a request for which there is no room at all.
pub(super) fn overloaded() -> UpstreamError {
    UpstreamError::new(
        UpstreamErrorKind::Overloaded,
        "as many hosts as may be are being talked to",
    )
}

impl Place {
    pub(super) fn rooms(&self) -> &[Rc<Room>; 3] {
        &self.rooms
    }

    pub(super) fn is_in(&self, room: &Rc<Room>) -> bool {
        self.rooms.iter().any(|it| Rc::ptr_eq(it, room))
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.requests.get() > 0
    }

    /// One more request of a caller of this namespace, until it [leaves](Self::leave).
    pub(super) fn enter(&self, caller: &str) {
        if !self.is_busy() {
            let share = self.callers.borrow_mut().take(caller);
            self.held.replace(Some(share));
            for room in &self.rooms {
                room.busy.set(room.busy.get() + 1);
            }
        }
        self.requests.set(self.requests.get() + 1);
    }

    pub(super) fn leave(&self) {
        self.requests.set(self.requests.get().saturating_sub(1));
        if !self.is_busy()
            && let Some(share) = self.held.take()
        {
            self.callers.borrow_mut().give_back(&share);
            for room in &self.rooms {
                room.busy.set(room.busy.get().saturating_sub(1));
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for room in &self.rooms {
            room.hosts.set(room.hosts.get().saturating_sub(1));
        }
    }
}
