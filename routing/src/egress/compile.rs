//! From the resources of a table to what answers questions. Whatever did not change is shared with the table before.

use std::sync::Arc;

use super::{
    decide::CompiledEgress, index::EntryIndex, policies::PolicyIndex, ranges::Ranges,
    workloads::WorkloadIndex,
};
use crate::{
    delta::unchanged,
    resource::{Rejection, ResourceKind},
    table::RoutingTable,
};

/// Compiles what of `table` is not among `rejections`, which are sorted; `None` if it is not one of egress.
pub(crate) fn compile(
    previous: Option<(&RoutingTable, &[Rejection], &CompiledEgress)>,
    table: &RoutingTable,
    rejections: &[Rejection],
) -> Option<CompiledEgress> {
    let settings = table.settings.egress.clone()?;
    let before = |kind| {
        // Resources that were left out then may be good now, and the other way round.
        previous.filter(|(_, known, _)| of_kind(known, kind).eq(of_kind(rejections, kind)))
    };
    let served = |kind, key: &str| !of_kind(rejections, kind).any(|rejection| rejection.key == key);
    let entries = before(ResourceKind::Entry)
        .filter(|(before, ..)| unchanged(&before.entries, &table.entries))
        .map(|(.., compiled)| Arc::clone(&compiled.entries));
    let policies = before(ResourceKind::Policy)
        .filter(|(before, ..)| unchanged(&before.policies, &table.policies))
        .map(|(.., compiled)| Arc::clone(&compiled.policies));
    let workloads = before(ResourceKind::Workload)
        .filter(|(before, ..)| unchanged(&before.workloads, &table.workloads))
        .map(|(.., compiled)| Arc::clone(&compiled.workloads));
    let protected = previous
        .filter(|(.., compiled)| compiled.settings.protected == settings.protected)
        .map(|(.., compiled)| Arc::clone(&compiled.protected));
    let external = previous
        .filter(|(.., compiled)| compiled.settings.external == settings.external)
        .map(|(.., compiled)| Arc::clone(&compiled.external));
    Some(CompiledEgress {
        gateway: table.gateway.clone(),
        namespace: settings.namespace_of(&table.gateway).into(),
        protected: protected.unwrap_or_else(|| Arc::new(Ranges::new(&settings.protected))),
        external: external.unwrap_or_else(|| Arc::new(Ranges::new(&settings.external))),
        settings,
        entries: entries.unwrap_or_else(|| {
            let good = table.entries.iter();
            let good = good.filter(|(key, _)| served(ResourceKind::Entry, key.as_str()));
            Arc::new(EntryIndex::new(good))
        }),
        policies: policies.unwrap_or_else(|| {
            let good = table.policies.iter();
            let good = good.filter(|(key, _)| served(ResourceKind::Policy, key.as_str()));
            Arc::new(PolicyIndex::new(good))
        }),
        workloads: workloads.unwrap_or_else(|| {
            let good = table.workloads.iter();
            let good = good.filter(|(key, _)| served(ResourceKind::Workload, key.as_str()));
            Arc::new(WorkloadIndex::new(good))
        }),
    })
}

impl CompiledEgress {
    /// Whether all but workloads is shared with the table before.
    pub(crate) fn decides_as(&self, before: &Self) -> bool {
        self.namespace == before.namespace
            && self.settings == before.settings
            && Arc::ptr_eq(&self.protected, &before.protected)
            && Arc::ptr_eq(&self.external, &before.external)
            && Arc::ptr_eq(&self.entries, &before.entries)
            && Arc::ptr_eq(&self.policies, &before.policies)
    }

    /// Whether workloads are shared with the table before.
    pub(crate) fn knows_as(&self, before: &Self) -> bool {
        Arc::ptr_eq(&self.workloads, &before.workloads)
    }
}

fn of_kind(rejections: &[Rejection], kind: ResourceKind) -> impl Iterator<Item = &Rejection> {
    rejections.iter().filter(move |it| it.kind == kind)
}
