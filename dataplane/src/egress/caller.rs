//! Who calls: taken once per connection, so that a later table does not make somebody else of whoever is connected.

use std::{net::IpAddr, sync::Arc};

use portcullis_routing::egress::{self, CompiledEgress, Workload};

/// Who a caller is, and how that is known.
#[derive(Clone, Debug)]
pub enum Identity {
    /// The pod that has the address it calls from.
    Pod(Arc<Workload>),
}

impl Identity {
    /// Who calls from `address`, as far as the table knows.
    pub(crate) fn of_address(egress: &CompiledEgress, address: IpAddr) -> Option<Self> {
        egress.workload(address).cloned().map(Self::Pod)
    }

    /// How it is known: stable, for machines.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Pod(_) => "pod",
        }
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Pod(workload) => &workload.namespace,
        }
    }

    /// Its service account.
    pub(crate) fn service_account(&self) -> &str {
        match self {
            Self::Pod(workload) => &workload.service_account,
        }
    }

    /// The name of its pod, if one is known.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "a certificate or a token names none"
    )]
    pub(crate) fn pod(&self) -> Option<&str> {
        match self {
            Self::Pod(workload) => Some(&workload.pod),
        }
    }

    /// As decisions want it.
    pub(crate) fn caller(&self) -> egress::Caller<'_> {
        egress::Caller {
            namespace: self.namespace(),
            service_account: self.service_account(),
            labels: match self {
                Self::Pod(workload) => Some(&workload.labels),
            },
        }
    }
}
