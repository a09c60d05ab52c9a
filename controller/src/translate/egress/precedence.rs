//! Entries that go before one of the Gateway's namespace for callers of their own, and say otherwise: that is no conflict, but
//! whoever runs the Gateway has to know that what his entry adds (TLS, other ports, endpoints) is not for them.

use std::collections::HashMap;

use super::{
    claim::{Claim, Meaning, Tally},
    conflict::Candidate,
};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
};

/// What is told of entries of the Gateways' namespaces and of those that go before them, each of which comes oldest first.
pub(super) fn find(
    of_gateways: &[Candidate<'_>],
    others: &[Candidate<'_>],
) -> Vec<(ObjectKey, Finding)> {
    let all: Vec<_> = of_gateways.iter().chain(others).copied().collect();
    let meanings = Meaning::of_all(&all);
    let mut by_claim = HashMap::<Claim<'_>, Vec<usize>>::new();
    for (index, candidate) in of_gateways.iter().enumerate() {
        for claim in Claim::all(candidate.entry) {
            by_claim.entry(claim).or_default().push(index);
        }
    }
    let mut tallies: Vec<Tally<Claim<'_>>> = all.iter().map(|_| Tally::default()).collect();
    for (index, candidate) in all.iter().enumerate().skip(of_gateways.len()) {
        let home = candidate.key.namespace.as_str();
        if !candidate.entry.exported_to.contains(home) {
            continue;
        }
        for claim in Claim::all(candidate.entry) {
            let there = by_claim.get(&claim).into_iter().flatten();
            // The others behind it are in force for nobody of this namespace.
            let mut behind = there.filter(|there| all[**there].entry.exported_to.contains(home));
            let Some(&behind) = behind.next() else {
                continue;
            };
            if meanings[behind].at(claim.port) != meanings[index].at(claim.port) {
                tallies[index].add(claim);
                tallies[behind].add(claim);
            }
        }
    }
    let told = all.iter().zip(&tallies).enumerate();
    told.filter_map(|(index, (candidate, tally))| {
        let finding = finding(candidate.key, tally, index < of_gateways.len())?;
        Some((candidate.key.clone(), finding))
    })
    .collect()
}

/// Neither names the objects of the other.
fn finding(key: &ObjectKey, tally: &Tally<Claim<'_>>, is_of_gateway: bool) -> Option<Finding> {
    let object = ObjectRef::new("ServiceEntry", key.clone());
    let field = tally.first()?.field();
    Some(if is_of_gateway {
        object.note(
            "Overridden",
            field,
            format!("callers of other namespaces have entries of their own that go before it and say otherwise: {tally}"),
            "nothing to do if they may; whom an EgressPolicy here allows this host by its name is not led elsewhere by them",
        )
    } else {
        object.note(
            "OverridesGateway",
            field,
            format!(
                "for callers of namespace {:?} it goes before an entry of the Gateway's namespace that says otherwise: {tally}",
                key.namespace
            ),
            "nothing to do if that is meant; else remove it, or export it to other namespaces only",
        )
    })
}
