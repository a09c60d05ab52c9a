//! All ServiceEntries: what they become, by name and by host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portcullis_crds::ServiceEntry;
use portcullis_routing::{EntryKey, RouteOrder, egress::Entry};

use super::{
    conflict::{self, Candidate},
    entry,
    faults::Faults,
    inward::Inward,
    policies::Policies,
    precedence,
    quota::Quotas,
};
use crate::{
    finding::ObjectRef,
    resources::ObjectKey,
    status::{ConditionSet, condition::kind},
    translate::{
        BackendTlsPolicies, Context, age::created_at, backend_tls::TargetKind, class::EGRESS_CLASS,
    },
};

/// The kind, and its group.
pub(crate) const KIND: &str = "ServiceEntry";
/// See [`KIND`].
pub(crate) const GROUP: &str = "networking.istio.io";

/// Whether conditions of egress are this controller's to state: not where another one has the class. Where nobody has it any more
/// what was stated before is to be taken back.
pub(super) fn is_ours(ctx: &Context<'_>) -> bool {
    let class = ObjectKey::cluster(EGRESS_CLASS);
    let class = ctx.resources.gateway_classes.get(&class);
    let is_theirs =
        class.is_some_and(|class| class.spec.controller_name != ctx.options.controller_name);
    ctx.options.installed.is_none() || !is_theirs
}

/// Whether an entry is neither of this namespace nor of one of the Gateways.
pub(crate) fn is_far(entry: &ObjectKey, namespace: &str, of_gateways: &BTreeSet<String>) -> bool {
    entry.namespace != namespace && !of_gateways.contains(&entry.namespace)
}

/// All ServiceEntries. Every egress Gateway has all of them.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    by_name: BTreeMap<ObjectKey, EntryState>,
    /// The namespaces of egress Gateways.
    of_gateways: BTreeSet<String>,
    /// Those in tables, by host, oldest first.
    by_host: BTreeMap<String, Vec<ObjectKey>>,
    /// Those that are not looked at, for there is no egress Gateway.
    unused: Vec<ObjectKey>,
}

/// What becomes of an entry.
#[derive(Debug)]
pub(super) struct EntryState {
    generation: Option<i64>,
    /// Shut if nothing of it is served; `None` if not even its hosts are known, or there is no room for them.
    pub(super) entry: Option<Arc<Entry>>,
    /// Bytes of that in a table.
    pub(super) length: usize,
    pub(super) faults: Faults,
}

impl Entries {
    /// Where there is no egress Gateway. Who reads files is told; in a cluster the entries may be a mesh's.
    pub(super) fn unused(ctx: &Context<'_>) -> Self {
        let entries = ctx.resources.service_entries.keys();
        let unused: Vec<_> = entries.filter(|_| is_ours(ctx)).cloned().collect();
        for key in unused.iter().filter(|_| ctx.options.installed.is_none()) {
            ctx.report(ObjectRef::new(KIND, key.clone()).note(
                "EntryNotUsed",
                "spec.hosts",
                "there is no egress Gateway, so the entry opens nothing",
                "nothing to do if it is for a mesh; else add a Gateway of class portcullis-egress",
            ));
        }
        Self {
            unused,
            ..Self::default()
        }
    }

    /// Translates all entries, and refuses what of them and of the policies is more than their namespaces may have.
    pub(super) fn collect(
        ctx: &Context<'_>,
        tls: &BackendTlsPolicies<'_>,
        inward: &Inward<'_>,
        policies: &mut Policies,
    ) -> (Self, Quotas) {
        let entries = ctx.resources.service_entries.iter();
        let mut by_name: BTreeMap<_, _> = entries
            .map(|(key, entry)| (key.clone(), EntryState::new(key, entry, tls, inward)))
            .collect();
        let of_gateways = inward.namespaces();
        let quotas = Quotas::keep(&of_gateways, by_name.iter_mut(), policies.states());
        let mut all = Self {
            by_name,
            of_gateways,
            ..Self::default()
        };
        all.settle();
        (all, quotas)
    }

    /// Reports what is wrong with them.
    pub(super) fn report(&self, ctx: &Context<'_>) {
        for state in self.by_name.values() {
            state.faults.report(ctx);
        }
    }

    /// Brings those that are served in the order in which the proxy asks them, and settles their conflicts.
    fn settle(&mut self) {
        let served = self.by_name.iter();
        let mut served: Vec<_> = served
            .filter_map(|(key, state)| {
                Some(Candidate {
                    key,
                    entry: state.entry.as_deref()?,
                })
            })
            .collect();
        served.sort_by_key(|candidate| (candidate.entry.order.created_at, candidate.key));
        for Candidate { key, entry } in &served {
            for host in &entry.hosts {
                let of_host = self.by_host.entry(host.clone()).or_default();
                of_host.push(ObjectKey::clone(key));
            }
        }
        // Which of the two kinds goes first is no conflict, but told.
        let (of_gateways, others): (Vec<_>, Vec<_>) = served
            .into_iter()
            .partition(|candidate| self.of_gateways.contains(&candidate.key.namespace));
        let outcomes = conflict::find(&of_gateways);
        let outcomes = outcomes.into_iter().chain(conflict::find(&others));
        let outcomes: Vec<_> = outcomes.collect();
        let overrides = precedence::find(&of_gateways, &others);
        for (key, outcome) in outcomes {
            // One that is refused has better reasons to tell.
            if let Some(state) = self.by_name.get_mut(&key)
                && !state.faults.is_refused()
            {
                state.faults.conflict(outcome);
            }
        }
        for (key, finding) in overrides {
            if let Some(state) = self.by_name.get_mut(&key) {
                state.faults.tell(finding);
            }
        }
    }

    /// The entry of this name, if anything is known of whom it is for. It may be shut.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Entry> {
        self.by_name.get(key)?.entry.as_deref()
    }

    /// The entry that tables call `key`, if anything of it is served.
    pub(crate) fn of_key(&self, key: &EntryKey) -> Option<&Entry> {
        let (namespace, name) = key.object()?;
        self.get(&ObjectKey::new(namespace, name))
    }

    /// The entries that open a host to a namespace, in the order in which proxies of Gateways of the namespaces `of_gateways` ask
    /// them. Those of that namespace and of Gateways' go before others; of both those that name it come before those that name a
    /// suffix of it, long ones first; and of those that name the same those of the namespace come first. Gateways that do not serve
    /// the caller put nobody's entries first.
    pub(crate) fn of_host(
        &self,
        host: &str,
        namespace: &str,
        of_gateways: &BTreeSet<String>,
    ) -> Vec<(&ObjectKey, &Entry)> {
        let dots = host.match_indices('.');
        let wildcards = dots.map(|(dot, _)| format!("*{}", &host[dot..]));
        let patterns = std::iter::once(host.to_owned()).chain(wildcards);
        let of_pattern = |pattern| self.by_host.get(&pattern).into_iter().flatten();
        let keys = patterns.enumerate().flat_map(|(width, pattern)| {
            let keys = of_pattern(pattern);
            keys.map(move |key| (width, key))
        });
        let entries = keys.filter_map(|(width, key)| Some((width, key, self.get(key)?)));
        let exported = entries.filter(|(.., entry)| entry.exported_to.contains(namespace));
        let mut entries: Vec<_> = exported.collect();
        entries.sort_by_key(|(width, key, _)| {
            let is_own = key.namespace == namespace;
            (is_far(key, namespace, of_gateways), *width, !is_own)
        });
        let entries = entries.into_iter();
        entries.map(|(_, key, entry)| (key, entry)).collect()
    }

    /// All of which anything is known; they may be shut.
    pub(super) fn known(&self) -> impl Iterator<Item = &Entry> {
        let states = self.by_name.values();
        states.filter_map(|state| state.entry.as_deref())
    }

    /// What a table has of them.
    pub(super) fn table(&self) -> BTreeMap<EntryKey, Arc<Entry>> {
        let served = self.by_name.iter().filter_map(|(key, state)| {
            let entry = Arc::clone(state.entry.as_ref()?);
            Some((EntryKey::of(&key.namespace, &key.name), entry))
        });
        served.collect()
    }

    /// Their conditions, but for what is for the data planes to say. Those that are not looked at have none.
    pub(super) fn conditions(&self) -> BTreeMap<ObjectKey, ConditionSet> {
        let conditions = |state: &EntryState| {
            let accepted = kind::SERVICE_ENTRY_ACCEPTED;
            state.faults.conditions(accepted, state.generation)
        };
        let all = self.by_name.iter();
        let all = all.map(|(key, state)| (key.clone(), conditions(state)));
        let unused = self.unused.iter().cloned();
        all.chain(unused.map(|key| (key, ConditionSet::default())))
            .collect()
    }
}

impl EntryState {
    fn new(
        key: &ObjectKey,
        object: &ServiceEntry,
        tls: &BackendTlsPolicies<'_>,
        inward: &Inward<'_>,
    ) -> Self {
        let mut faults = Faults::new(ObjectRef::new(KIND, key.clone()));
        let order = RouteOrder {
            created_at: created_at(&object.metadata),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            rule: 0,
        };
        let tls = |port: &str| tls.of(TargetKind::ServiceEntry, key, Some(port));
        let entry = entry::translate(&object.spec, order, &tls, inward, &mut faults);
        let (entry, length) = entry.unzip();
        Self {
            generation: object.metadata.generation,
            entry: entry.map(Arc::new),
            length: length.unwrap_or_default(),
            faults,
        }
    }
}
