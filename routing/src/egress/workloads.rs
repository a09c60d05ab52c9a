//! Workloads by address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use foldhash::fast::RandomState;

use super::workload::Workload;
use crate::key::WorkloadKey;

/// Who has which address.
#[derive(Debug, Default)]
pub(super) struct WorkloadIndex(HashMap<IpAddr, Arc<Workload>, RandomState>);

impl WorkloadIndex {
    pub(super) fn new<'a>(
        workloads: impl Iterator<Item = (&'a WorkloadKey, &'a Arc<Workload>)>,
    ) -> Self {
        let by_address = workloads.filter_map(|(key, workload)| {
            let address: IpAddr = key.as_str().parse().ok()?;
            Some((address, Arc::clone(workload)))
        });
        Self(by_address.collect())
    }

    /// `address` may come from a socket of both families.
    pub(super) fn get(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.0.get(&address.to_canonical())
    }
}
