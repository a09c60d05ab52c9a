//! Which resources get series of their own: a bounded number of slots, shared by listeners, routes, clusters and entries.
//!
//! A key keeps its slot as long as it is in the table. Keys beyond the bound are counted together, under [`OTHER`].

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use portcullis_routing::{ClusterKey, EntryKey, ListenerKey, RouteKey, RoutingTable};

/// Label value of everything that has no series of its own.
pub const OTHER: &str = "_other";
/// Label value of what no entry lists.
pub const NONE: &str = "_none";

/// The kinds of resources that have series of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A listener.
    Listener,
    /// A route object; its rules are counted together.
    Route,
    /// A cluster.
    Cluster,
    /// An entry of the allow-list.
    Entry,
    /// What no entry lists: one slot, under [`NONE`].
    Unlisted,
}

impl Kind {
    /// All kinds; the position of a kind is also the slot of its [`OTHER`].
    pub const ALL: [Self; 5] = [
        Self::Listener,
        Self::Route,
        Self::Cluster,
        Self::Entry,
        Self::Unlisted,
    ];
}

type Slots = HashMap<Box<str>, usize, RandomState>;

/// The slots of one table's resources: part of the snapshot, read by workers.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    by_kind: [Slots; Kind::ALL.len()],
}

impl Labels {
    /// The slot of a listener. A request without one counts under [`OTHER`].
    pub fn listener(&self, key: Option<&ListenerKey>) -> usize {
        self.slot(Kind::Listener, key.map_or("", ListenerKey::as_str))
    }

    /// The slot of the route object that a rule belongs to.
    pub fn route(&self, key: &RouteKey) -> usize {
        self.slot(Kind::Route, route_object(key))
    }

    /// The slot of a cluster.
    pub fn cluster(&self, key: &ClusterKey) -> usize {
        self.slot(Kind::Cluster, key.as_str())
    }

    /// The slot of an entry; without one that of everything that none lists.
    pub fn entry(&self, key: Option<&EntryKey>) -> usize {
        key.map_or(Kind::Unlisted as usize, |key| {
            self.slot(Kind::Entry, key.as_str())
        })
    }

    fn slot(&self, kind: Kind, label: &str) -> usize {
        let slots = self.by_kind.get(kind as usize);
        slots
            .and_then(|slots| slots.get(label))
            .copied()
            .unwrap_or(kind as usize)
    }

    fn of(&mut self, kind: Kind) -> Option<&mut Slots> {
        self.by_kind.get_mut(kind as usize)
    }
}

/// `<kind>/<namespace>/<name>` of the object a rule belongs to.
fn route_object(key: &RouteKey) -> &str {
    key.as_str()
        .rsplit_once('/')
        .map_or(key.as_str(), |(object, _rule)| object)
}

/// A slot's present owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What it is.
    pub kind: Kind,
    /// Its key, or [`OTHER`].
    pub label: Box<str>,
}

/// Hands out slots on the control thread.
#[derive(Debug)]
pub struct LabelAllocator {
    owners: Vec<Option<Owner>>,
}

impl LabelAllocator {
    /// With `slots` slots for labelled resources, besides one [`OTHER`] per kind.
    pub fn new(slots: usize) -> Self {
        let others = Kind::ALL.map(|kind| {
            Some(Owner {
                kind,
                label: match kind {
                    Kind::Unlisted => NONE.into(),
                    _ => OTHER.into(),
                },
            })
        });
        let mut owners = others.to_vec();
        owners.resize(owners.len() + slots, None);
        Self { owners }
    }

    /// The number of slots, those of [`OTHER`] included.
    pub fn slots(&self) -> usize {
        self.owners.len()
    }

    /// The owner of every slot that has one.
    pub fn owners(&self) -> impl Iterator<Item = (usize, &Owner)> {
        self.owners
            .iter()
            .enumerate()
            .filter_map(|(slot, owner)| Some((slot, owner.as_ref()?)))
    }

    /// Gives slots to the resources of `table`, frees those of resources that are gone, and returns the slots that got
    /// a new owner.
    pub fn assign(&mut self, table: &RoutingTable) -> (Arc<Labels>, Vec<usize>) {
        let listeners: Vec<&str> = table.listeners.keys().map(ListenerKey::as_str).collect();
        let clusters: Vec<&str> = table.clusters.keys().map(ClusterKey::as_str).collect();
        let entries: Vec<&str> = table.entries.keys().map(EntryKey::as_str).collect();
        let mut routes: Vec<&str> = table.routes.keys().map(route_object).collect();
        routes.sort_unstable();
        routes.dedup();

        let mut labels = Labels::default();
        self.keep(Kind::Listener, &listeners, &mut labels);
        self.keep(Kind::Cluster, &clusters, &mut labels);
        self.keep(Kind::Entry, &entries, &mut labels);
        self.keep(Kind::Route, &routes, &mut labels);

        // Listeners, clusters and entries may not crowd out routes, which take what is left.
        let slots = self.owners.len() - Kind::ALL.len();
        let mut fresh = Vec::new();
        self.fill(
            Kind::Listener,
            &listeners,
            slots / 4,
            &mut labels,
            &mut fresh,
        );
        self.fill(
            Kind::Cluster,
            &clusters,
            slots * 3 / 8,
            &mut labels,
            &mut fresh,
        );
        self.fill(
            Kind::Entry,
            &entries,
            slots * 3 / 8,
            &mut labels,
            &mut fresh,
        );
        self.fill(Kind::Route, &routes, slots, &mut labels, &mut fresh);
        (Arc::new(labels), fresh)
    }

    /// Enters the keys that have a slot already, and frees the slots of keys that are gone. `keys` is sorted.
    fn keep(&mut self, kind: Kind, keys: &[&str], labels: &mut Labels) {
        for (slot, entry) in self.owners.iter_mut().enumerate().skip(Kind::ALL.len()) {
            let Some(owner) = entry.as_ref().filter(|owner| owner.kind == kind) else {
                continue;
            };
            if keys.binary_search(&owner.label.as_ref()).is_err() {
                *entry = None;
            } else if let Some(slots) = labels.of(kind) {
                slots.insert(owner.label.clone(), slot);
            }
        }
    }

    /// Gives free slots to keys without one, in order, until `kind` has `limit`.
    fn fill(
        &mut self,
        kind: Kind,
        keys: &[&str],
        limit: usize,
        labels: &mut Labels,
        fresh: &mut Vec<usize>,
    ) {
        let Some(slots) = labels.of(kind) else { return };
        let mut free = self
            .owners
            .iter_mut()
            .enumerate()
            .filter(|(_, owner)| owner.is_none());
        for &key in keys {
            if slots.len() >= limit {
                return;
            }
            if slots.contains_key(key) {
                continue;
            }
            let Some((slot, owner)) = free.next() else {
                return;
            };
            *owner = Some(Owner {
                kind,
                label: key.into(),
            });
            slots.insert(key.into(), slot);
            fresh.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{Cluster, GatewayKey};

    use super::*;

    fn table(clusters: &[&str]) -> RoutingTable {
        let mut table = RoutingTable::new(GatewayKey::of("ns", "gw"));
        for name in clusters {
            table
                .clusters
                .insert(ClusterKey::new(*name), Arc::new(Cluster::default()));
        }
        table
    }

    #[test]
    fn keys_keep_their_slots_and_freed_ones_are_given_away_again() {
        let mut allocator = LabelAllocator::new(8); // three of them for clusters
        let (before, _) = allocator.assign(&table(&["a", "b", "c", "d"]));
        let slot = |labels: &Labels, name: &str| labels.cluster(&ClusterKey::new(name));
        assert_eq!(
            slot(&before, "d"),
            Kind::Cluster as usize,
            "a fourth cluster is counted with the others"
        );

        let (after, fresh) = allocator.assign(&table(&["b", "c", "d"]));
        assert_eq!(slot(&after, "b"), slot(&before, "b"));
        assert_eq!(slot(&after, "c"), slot(&before, "c"));
        assert_eq!(slot(&after, "d"), slot(&before, "a"));
        assert_eq!(fresh, [slot(&before, "a")]);
        assert_eq!(slot(&after, "a"), Kind::Cluster as usize);
    }

    #[test]
    fn the_rules_of_one_route_object_share_a_slot() {
        let key = RouteKey::of("HTTPRoute", "shop", "cart", 12);
        assert_eq!(route_object(&key), "httproute/shop/cart");
    }
}
