//! What namespaces may have in the tables of egress Gateways. Each of them has every ServiceEntry and most EgressPolicies, in one frame
//! with all else, so no tenant may fill it, nor may all together: where they want too much, those that want the most have less.
//!
//! Namespaces with egress Gateways go before tenants, for their policies govern every caller: nobody else may crowd them out.
//!
//! Older objects go first. What is refused is not forgotten where that would open something: an entry is shut, and a policy holds against
//! whomever it selects. That takes from a reserve, beyond which policies hold against everybody that their namespace can speak of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portcullis_routing::{
    RouteOrder,
    egress::{Policy, PolicyAction, PolicyMode},
    frame::length_of,
};

use super::{
    entries::EntryState,
    entry,
    faults::{Fault, Faults},
    policies::PolicyState,
    policy::Translated,
};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::reason,
    translate::field::Field,
};

/// Longest object in a table, in bytes. Room for all CAs that browsers trust, and too little for a namespace to fill what it may have
/// with a few objects.
pub(super) const MAX_OBJECT: usize = 256 << 10;
/// What the objects of a namespace may take.
const MAX_NAMESPACE: Amount = Amount {
    bytes: 4 << 20,
    terms: 16_384,
};
/// What the objects of all namespaces may take together, in bytes. With what the refused ones take besides it leaves a frame room for pods,
/// routes and backends.
const MAX_ALL: usize = 40 << 20;
/// Up to so much the objects of namespaces with egress Gateways go before those of others: who may make such a Gateway must not take all.
const MAX_FIRST: usize = MAX_ALL / 2;
/// What the refused ones of a namespace may take besides: this part of what it may have.
const RESERVE: usize = 4;
/// What a namespace may have differs by no less than one part in so many, or half of them.
const STEPS: usize = 16;
/// Bytes in a table beside an object and its name, or more.
const KEY: usize = 32;
/// More namespaces than this are not named in the condition of a Gateway.
const NAMED: usize = 5;

/// Bytes in a table, and terms of policies that requests are held against one by one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amount {
    bytes: usize,
    terms: usize,
}

impl Amount {
    /// Of an entry of this length.
    const fn of_entry(bytes: usize) -> Self {
        Self { bytes, terms: 0 }
    }

    /// With the name of the object, which the table has besides.
    fn named(self, key: &ObjectKey) -> Self {
        Self {
            bytes: self.bytes + key.namespace.len() + key.name.len() + KEY,
            ..self
        }
    }

    /// Of a policy of a Gateway's namespace the callers do not count: whom its selectors find, others have made.
    fn of_policy(policy: &Translated) -> Self {
        let forms = || policy.of_gateway.iter().chain(&policy.of_namespace);
        let of_gateway = policy.of_gateway.as_ref();
        let of_gateway = of_gateway.map(|it| length_of(it).saturating_sub(length_of(&it.from)));
        let of_namespace = policy.of_namespace.as_ref().map(length_of);
        Self {
            bytes: of_gateway.max(of_namespace).unwrap_or_default(),
            terms: forms().map(|it| it.terms()).max().unwrap_or_default(),
        }
    }

    /// Takes from what is left, if that is enough.
    fn spend(&mut self, other: Self) -> bool {
        let bytes = self.bytes.checked_sub(other.bytes);
        let left = bytes.zip(self.terms.checked_sub(other.terms));
        if let Some((bytes, terms)) = left {
            *self = Self { bytes, terms };
        }
        left.is_some()
    }
}

/// Finds out what a policy takes, and refuses one that is longer than one object may be.
pub(super) fn measure(policy: &mut Translated, root: &Field<'_>, faults: &mut Faults) {
    policy.amount = Amount::of_policy(policy);
    let length = policy.amount.bytes;
    if length <= MAX_OBJECT {
        return;
    }
    // Of a Gateway's own policies the callers do not count.
    let counted = policy.of_namespace.as_ref();
    let from = counted.map_or(0, |it| length_of(&it.from));
    let to = policy.form().map_or(0, |it| length_of(&it.to));
    let (field, remedy) = if from > to {
        let remedy = "name fewer callers, or select namespaces by what fewer of them have";
        ("from", remedy)
    } else {
        ("to", "split it into several")
    };
    let fault = Fault::invalid(
        format!(
            "the policy takes {length} bytes in tables, and {MAX_OBJECT} are the most of one{}",
            consequence(policy)
        ),
        remedy,
    );
    faults.refuse(&root.child(field), fault);
    against_its_callers(policy);
    policy.amount = Amount::of_policy(policy);
    if policy.amount.bytes > MAX_OBJECT {
        against_everybody(policy);
        policy.amount = Amount::of_policy(policy);
    }
}

/// What follows from it that a policy is refused as a whole.
fn consequence(policy: &Translated) -> &'static str {
    match policy.form().map(|it| (it.action, it.mode)) {
        None | Some((_, PolicyMode::Report)) => "",
        Some((PolicyAction::Allow, PolicyMode::Enforce)) => {
            ": until that is mended it allows its callers nothing"
        }
        Some((PolicyAction::Deny, PolicyMode::Enforce)) => {
            ": until that is mended it denies its callers everything"
        }
    }
}

/// It stands in for what cannot be served: nothing that it might forbid passes.
fn against_its_callers(policy: &mut Translated) {
    change(policy, |policy| {
        policy.to = (policy.action == PolicyAction::Allow).then(Vec::new);
        policy.allow_private = Vec::new();
    });
}

/// The same, whoever its callers are.
fn against_everybody(policy: &mut Translated) {
    change(policy, |policy| policy.from = None);
}

/// Changes what is enforced; what is only reported is left out.
fn change(policy: &mut Translated, change: impl Fn(&mut Policy)) {
    for form in [&mut policy.of_gateway, &mut policy.of_namespace] {
        *form = form.take().filter(|it| it.mode == PolicyMode::Enforce);
        if let Some(form) = form {
            change(Arc::make_mut(form));
        }
    }
}

/// An object that takes from what its namespace may have.
enum Object<'a> {
    Entry(&'a mut EntryState),
    Policy(&'a mut PolicyState),
}

/// How many objects of each kind are refused.
#[derive(Clone, Copy, Debug, Default)]
struct Refused {
    entries: usize,
    policies: usize,
}

/// The namespaces that have more than they may.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    shares: Shares,
    refused: BTreeMap<String, Refused>,
}

impl Quotas {
    /// Refuses what is too much. `of_gateways` are the namespaces of egress Gateways.
    pub(super) fn keep<'a>(
        of_gateways: &BTreeSet<String>,
        entries: impl Iterator<Item = (&'a ObjectKey, &'a mut EntryState)>,
        policies: impl Iterator<Item = (&'a ObjectKey, &'a mut PolicyState)>,
    ) -> Self {
        let entries = entries.map(|(key, state)| (key, Object::Entry(state)));
        let policies = policies.map(|(key, state)| (key, Object::Policy(state)));
        let mut namespaces: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (key, object) in policies.chain(entries) {
            let of_namespace = namespaces.entry(&key.namespace).or_default();
            of_namespace.push((object.created_at(), key, object));
        }
        let (mut first, mut others) = (Vec::new(), Vec::new());
        for (namespace, objects) in &namespaces {
            let amounts = objects.iter().map(|(_, key, object)| object.amount(key));
            let wanted = amounts.map(|amount| amount.bytes).sum();
            if of_gateways.contains(*namespace) {
                first.push(wanted);
            } else {
                others.push(wanted);
            }
        }
        let shares = Shares::of(&first, &others);
        let mut all = Self {
            shares,
            refused: BTreeMap::new(),
        };
        for (namespace, mut objects) in namespaces {
            objects.sort_by(|(a_created, a, _), (b_created, b, _)| {
                (a_created, a).cmp(&(b_created, b))
            });
            let mut left = Left::new(if of_gateways.contains(namespace) {
                shares.of_gateways
            } else {
                shares.of_others
            });
            for (_, key, object) in objects {
                let amount = object.amount(key);
                match object {
                    Object::Entry(state) => left.take_entry(key, amount, state),
                    Object::Policy(state) => left.take_policy(key, amount, state),
                }
            }
            if left.refused.entries + left.refused.policies > 0 {
                all.refused.insert(namespace.to_owned(), left.refused);
            }
        }
        all
    }

    /// What whoever runs a Gateway is told.
    pub(super) fn finding(&self, gateway: &ObjectRef) -> Option<Finding> {
        let named = self.refused.iter().take(NAMED);
        let mut named: Vec<_> = named
            .map(|(namespace, refused)| {
                let Refused { entries, policies } = refused;
                format!("{namespace} ({entries} ServiceEntries, {policies} EgressPolicies)")
            })
            .collect();
        let others = self.refused.len().checked_sub(NAMED);
        let others = others.filter(|others| *others > 0);
        named.extend(others.map(|others| format!("{others} others")));
        let Shares {
            of_gateways,
            of_others,
        } = self.shares;
        let shared = if of_gateways.min(of_others) < MAX_NAMESPACE.bytes {
            format!(
                ". All namespaces together may have {MAX_ALL} bytes, so that each with egress Gateways may have {of_gateways}, and any other {of_others}"
            )
        } else {
            String::new()
        };
        (!named.is_empty()).then(|| {
            gateway.warning(
                reason::QUOTA_EXCEEDED,
                "spec.listeners",
                format!(
                    "namespaces have more ServiceEntries and EgressPolicies than they may, and the youngest are refused: {}{shared}",
                    named.join(", ")
                ),
                "ask whoever writes them to list less; the conditions of the objects say how much it is",
            )
        })
    }
}

/// What each namespace may have, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shares {
    /// With egress Gateways.
    of_gateways: usize,
    /// Any other.
    of_others: usize,
}

impl Shares {
    /// Those with Gateways have as much as if nobody else had anything, of so much as goes first, or what all have if that is more.
    fn of(first: &[usize], others: &[usize]) -> Self {
        let all: Vec<_> = first.iter().chain(others).copied().collect();
        let of_gateways = share(MAX_ALL, &all).max(share(MAX_FIRST, first));
        let taken: usize = first.iter().map(|wanted| *wanted.min(&of_gateways)).sum();
        Self {
            of_gateways,
            of_others: share(MAX_ALL.saturating_sub(taken), others),
        }
    }
}

/// What each of several namespaces may have, of which this is wanted, if all may have `left`: as much for all, unless they want less, as
/// there is. Those that want less than others lose nothing. It goes by steps, so that what one of them adds or takes away hardly ever
/// changes what others may have, nor tells them of it.
fn share(mut left: usize, wanted: &[usize]) -> usize {
    let wanted = wanted.iter().map(|it| *it.min(&MAX_NAMESPACE.bytes));
    let mut wanted: Vec<_> = wanted.collect();
    wanted.sort_unstable();
    for (wanted, others) in wanted.iter().zip((1..=wanted.len()).rev()) {
        let share = left / others;
        if *wanted > share {
            let step = (share / STEPS).next_power_of_two();
            return share - share % step;
        }
        left -= wanted;
    }
    MAX_NAMESPACE.bytes
}

impl Object<'_> {
    /// What it takes.
    fn amount(&self, key: &ObjectKey) -> Amount {
        match self {
            // Of which nothing is known that could be in a table.
            Self::Entry(state) if state.entry.is_none() => Amount::default(),
            Self::Entry(state) => Amount::of_entry(state.length).named(key),
            Self::Policy(state) => state.translated.amount.named(key),
        }
    }

    fn created_at(&self) -> i64 {
        match self {
            Self::Entry(state) => {
                let entry = state.entry.as_ref();
                entry.map_or(RouteOrder::NEVER, |entry| entry.order.created_at)
            }
            Self::Policy(state) => state.created_at,
        }
    }
}

/// What a namespace may still have.
struct Left {
    /// What it might have at first, in bytes.
    share: usize,
    objects: Amount,
    reserve: Amount,
    refused: Refused,
    /// Which policies hold against everybody: one more of the same kind changes nothing.
    against_everybody: BTreeSet<(Option<bool>, BTreeSet<String>, bool)>,
}

impl Left {
    fn new(share: usize) -> Self {
        Self {
            share,
            objects: Amount {
                bytes: share,
                terms: MAX_NAMESPACE.terms,
            },
            reserve: Amount {
                bytes: share / RESERVE,
                terms: MAX_NAMESPACE.terms / RESERVE,
            },
            refused: Refused::default(),
            against_everybody: BTreeSet::new(),
        }
    }

    fn take_entry(&mut self, key: &ObjectKey, amount: Amount, state: &mut EntryState) {
        let Some(entry) = &state.entry else {
            return;
        };
        if self.objects.spend(amount) {
            return;
        }
        self.refused.entries += 1;
        let shut = entry::shut(entry.as_ref().clone());
        let shut = shut.filter(|shut| {
            let amount = Amount::of_entry(length_of(shut));
            self.reserve.spend(amount.named(key))
        });
        let follows = if shut.is_some() {
            ": it is shut"
        } else {
            ": it is as good as none"
        };
        self.tell(&mut state.faults, amount, follows);
        state.entry = shut.map(Arc::new);
    }

    fn take_policy(&mut self, key: &ObjectKey, amount: Amount, state: &mut PolicyState) {
        let policy = &mut state.translated;
        if self.objects.spend(amount) {
            return;
        }
        self.refused.policies += 1;
        self.tell(&mut state.faults, amount, consequence(policy));
        against_its_callers(policy);
        if self.reserve.spend(Amount::of_policy(policy).named(key)) {
            return;
        }
        against_everybody(policy);
        let action = policy.form().map(|it| it.action == PolicyAction::Deny);
        let reaches_others = policy.of_namespace.is_some();
        let kind = (action, policy.own_gateways.clone(), reaches_others);
        if !self.against_everybody.insert(kind) {
            policy.of_gateway = None;
            policy.of_namespace = None;
        }
    }

    /// Says that an object is more than what is left.
    fn tell(&self, faults: &mut Faults, amount: Amount, follows: &str) {
        let Amount { bytes, terms } = self.objects;
        // Of the others nobody is told more.
        let why = if self.share < MAX_NAMESPACE.bytes {
            ", which is what all namespaces leave it of what they may have together,"
        } else {
            ""
        };
        let fault = Fault::beyond_quota(
            format!(
                "it takes {} bytes in the tables of egress Gateways and has {} terms, and older ServiceEntries and EgressPolicies of the namespace leave {bytes} bytes of {}{why} and {terms} terms of {}{follows}",
                amount.bytes, amount.terms, self.share, MAX_NAMESPACE.terms
            ),
            "remove some of them, or list less",
        );
        faults.refuse(&Field::root("spec"), fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn each(wanted: &[(usize, usize)]) -> Vec<usize> {
        let each = wanted.iter();
        let each = each.flat_map(|(number, bytes)| std::iter::repeat_n(*bytes, *number));
        each.collect()
    }

    #[test]
    fn who_wants_less_loses_nothing_and_the_others_have_the_same() {
        for (wanted, may_have) in [
            (&[][..], 4 * MIB),
            (&[(10, 9 * MIB)], 4 * MIB),
            (&[(20, 9 * MIB)], 2 * MIB),
            // One byte more: a step less.
            (&[(20, 9 * MIB), (1, 1)], 2 * MIB - MIB / 8),
            (&[(20, 9 * MIB), (1, 100)], 2 * MIB - MIB / 8),
            (&[(20, 2 * MIB)], 4 * MIB),
            (&[(10, MIB), (10, 9 * MIB)], 3 * MIB),
            (&[(10, 2 * MIB), (5, 9 * MIB)], 4 * MIB),
            (&[(40_000, 1000), (1, 9 * MIB)], 0x1c_0000),
            (&[(100_000, MIB)], 416),
        ] {
            assert_eq!(share(MAX_ALL, &each(wanted)), may_have, "{wanted:?}");
        }
    }

    #[test]
    fn namespaces_of_gateways_go_first_up_to_a_bound() {
        for (first, others, may_have) in [
            // Whatever tenants want.
            (
                &[(1, 3 * MIB)][..],
                &[(40, 9 * MIB)][..],
                (4 * MIB, 0xe_0000),
            ),
            (&[(1, 3 * MIB)], &[(400, 9 * MIB)], (4 * MIB, 0x1_6000)),
            (&[(1, 3 * MIB)], &[(9, 4 * MIB)], (4 * MIB, 4 * MIB)),
            // Half is the most that goes before tenants, as long as these want the rest.
            (&[(10, 9 * MIB)], &[(40, 9 * MIB)], (2 * MIB, MIB / 2)),
            (&[(10, 9 * MIB)], &[], (4 * MIB, 4 * MIB)),
            (&[(10, 9 * MIB)], &[(1, MIB)], (4 * MIB - MIB / 4, 4 * MIB)),
        ] {
            let shares = Shares::of(&each(first), &each(others));
            let found = (shares.of_gateways, shares.of_others);
            assert_eq!(found, may_have, "{first:?} {others:?}");
        }
    }
}
