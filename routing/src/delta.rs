//! Deltas: how a table becomes the next one, and what a data plane answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use itertools::{EitherOrBoth, Itertools};
use serde::{Deserialize, Serialize};

use crate::{
    certificate::Certificate,
    cluster::Cluster,
    egress::{Entry, Policy, Workload},
    endpoint::ClusterEndpoints,
    filter::Credential,
    key::{
        CertificateKey, ClusterKey, CredentialKey, EntryKey, ListenerKey, PolicyKey, RouteKey,
        WorkloadKey,
    },
    listener::Listener,
    resource::{Rejection, ResourceKind},
    route::Route,
    settings::ProxySettings,
    table::{RoutingTable, SCHEMA, TableVersion},
    version::VersionSum,
};

/// The step from one version of a Gateway's table to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The version it applies to.
    pub base: TableVersion,
    /// The version it leads to.
    pub version: TableVersion,
    /// Resources that are new or changed.
    #[serde(default)]
    pub upserts: Upserts,
    /// Resources that are gone.
    #[serde(default)]
    pub removes: Removes,
}

/// Resources that are new or changed, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upserts {
    /// Settings, if they changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Arc<ProxySettings>>,
    /// Listeners.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub listeners: BTreeMap<ListenerKey, Arc<Listener>>,
    /// Rules.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<RouteKey, Arc<Route>>,
    /// Backends.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<ClusterKey, Arc<Cluster>>,
    /// Addresses of the backends.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<ClusterKey, Arc<ClusterEndpoints>>,
    /// Certificates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<CertificateKey, Arc<Certificate>>,
    /// What rules add to requests.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<CredentialKey, Arc<Credential>>,
    /// Entries of the allow-list.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub entries: BTreeMap<EntryKey, Arc<Entry>>,
    /// Policies of egress.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<PolicyKey, Arc<Policy>>,
    /// Workloads.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub workloads: BTreeMap<WorkloadKey, Arc<Workload>>,
}

/// Keys of resources that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Removes {
    /// Listeners.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub listeners: BTreeSet<ListenerKey>,
    /// Rules.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub routes: BTreeSet<RouteKey>,
    /// Backends.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub clusters: BTreeSet<ClusterKey>,
    /// Addresses of the backends.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub endpoints: BTreeSet<ClusterKey>,
    /// Certificates.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub certificates: BTreeSet<CertificateKey>,
    /// What rules add to requests.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub credentials: BTreeSet<CredentialKey>,
    /// Entries of the allow-list.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub entries: BTreeSet<EntryKey>,
    /// Policies of egress.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub policies: BTreeSet<PolicyKey>,
    /// Workloads.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub workloads: BTreeSet<WorkloadKey>,
}

impl Delta {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.upserts == Upserts::default() && self.removes == Removes::default()
    }
}

/// A data plane's answer to a table: it runs `version`, without the rejected resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version in use.
    pub version: TableVersion,
    /// Resources that are not served, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejection>,
}

/// Why a delta was refused. The table stays as it was; the data plane asks for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The delta is written in a schema this code does not know.
    #[error("the delta has schema {found}, this proxy reads schema {}", SCHEMA)]
    Schema {
        /// The delta's.
        found: u32,
    },
    /// The delta belongs to another version.
    #[error("the delta applies to version {base}, the table is version {version}")]
    Base {
        /// What the delta wants.
        base: TableVersion,
        /// What the table is.
        version: TableVersion,
    },
    /// The delta removes a resource that is not there.
    #[error("the delta removes {kind} {key}, which is not in the table")]
    Unknown {
        /// Kind of the resource.
        kind: ResourceKind,
        /// Its key.
        key: String,
    },
    /// The result is not what the sender has.
    #[error("the delta leads to version {computed}, not to {announced} as it says")]
    Version {
        /// What the delta says.
        announced: TableVersion,
        /// What came out.
        computed: TableVersion,
    },
}

/// What leads from `old` to `new`. Both are sealed tables of one Gateway.
pub fn diff(old: &RoutingTable, new: &RoutingTable) -> Delta {
    let (listeners, gone_listeners) = diff_map(&old.listeners, &new.listeners);
    let (routes, gone_routes) = diff_map(&old.routes, &new.routes);
    let (clusters, gone_clusters) = diff_map(&old.clusters, &new.clusters);
    let (endpoints, gone_endpoints) = diff_map(&old.endpoints, &new.endpoints);
    let (certificates, gone_certificates) = diff_map(&old.certificates, &new.certificates);
    let (credentials, gone_credentials) = diff_map(&old.credentials, &new.credentials);
    let (entries, gone_entries) = diff_map(&old.entries, &new.entries);
    let (policies, gone_policies) = diff_map(&old.policies, &new.policies);
    let (workloads, gone_workloads) = diff_map(&old.workloads, &new.workloads);
    Delta {
        schema: new.schema,
        base: old.version.clone(),
        version: new.version.clone(),
        upserts: Upserts {
            settings: (!same(&old.settings, &new.settings)).then(|| new.settings.clone()),
            listeners,
            routes,
            clusters,
            endpoints,
            certificates,
            credentials,
            entries,
            policies,
            workloads,
        },
        removes: Removes {
            listeners: gone_listeners,
            routes: gone_routes,
            clusters: gone_clusters,
            endpoints: gone_endpoints,
            certificates: gone_certificates,
            credentials: gone_credentials,
            entries: gone_entries,
            policies: gone_policies,
            workloads: gone_workloads,
        },
    }
}

/// The table that `delta` makes of `old`. Unchanged resources are shared with `old`, which is what makes the next
/// [`crate::compile()`] cheap.
pub fn apply(old: &RoutingTable, delta: &Delta) -> Result<RoutingTable, ApplyError> {
    if delta.schema != SCHEMA {
        return Err(ApplyError::Schema {
            found: delta.schema,
        });
    }
    if delta.base != old.version {
        return Err(ApplyError::Base {
            base: delta.base.clone(),
            version: old.version.clone(),
        });
    }
    let mut new = old.clone();
    let base = VersionSum::parse(&old.version).unwrap_or_else(|| VersionSum::of(old));
    let mut step = Step { sum: base };
    let Delta {
        upserts, removes, ..
    } = delta;
    if let Some(settings) = &upserts.settings {
        let gateway = old.gateway.as_str();
        step.sum
            .subtract(ResourceKind::Settings, gateway, &old.settings);
        step.sum.add(ResourceKind::Settings, gateway, settings);
        new.settings = settings.clone();
    }
    step.map(
        ResourceKind::Listener,
        &mut new.listeners,
        &upserts.listeners,
        &removes.listeners,
    )?;
    step.map(
        ResourceKind::Route,
        &mut new.routes,
        &upserts.routes,
        &removes.routes,
    )?;
    step.map(
        ResourceKind::Cluster,
        &mut new.clusters,
        &upserts.clusters,
        &removes.clusters,
    )?;
    step.map(
        ResourceKind::Endpoints,
        &mut new.endpoints,
        &upserts.endpoints,
        &removes.endpoints,
    )?;
    step.map(
        ResourceKind::Certificate,
        &mut new.certificates,
        &upserts.certificates,
        &removes.certificates,
    )?;
    step.map(
        ResourceKind::Credential,
        &mut new.credentials,
        &upserts.credentials,
        &removes.credentials,
    )?;
    step.map(
        ResourceKind::Entry,
        &mut new.entries,
        &upserts.entries,
        &removes.entries,
    )?;
    step.map(
        ResourceKind::Policy,
        &mut new.policies,
        &upserts.policies,
        &removes.policies,
    )?;
    step.map(
        ResourceKind::Workload,
        &mut new.workloads,
        &upserts.workloads,
        &removes.workloads,
    )?;
    new.version = step.sum.version();
    if new.version != delta.version {
        return Err(ApplyError::Version {
            announced: delta.version.clone(),
            computed: new.version,
        });
    }
    Ok(new)
}

/// Applies the parts of a delta and keeps the version in step.
struct Step {
    sum: VersionSum,
}

impl Step {
    fn map<K: Ord + Clone + AsRef<str>, V: Serialize>(
        &mut self,
        kind: ResourceKind,
        map: &mut BTreeMap<K, Arc<V>>,
        upserts: &BTreeMap<K, Arc<V>>,
        removes: &BTreeSet<K>,
    ) -> Result<(), ApplyError> {
        for key in removes {
            let Some(value) = map.remove(key) else {
                return Err(ApplyError::Unknown {
                    kind,
                    key: key.as_ref().to_owned(),
                });
            };
            self.sum.subtract(kind, key.as_ref(), &value);
        }
        for (key, value) in upserts {
            self.sum.add(kind, key.as_ref(), value);
            if let Some(replaced) = map.insert(key.clone(), value.clone()) {
                self.sum.subtract(kind, key.as_ref(), &replaced);
            }
        }
        Ok(())
    }
}

fn diff_map<K: Ord + Clone, V: PartialEq>(
    old: &BTreeMap<K, Arc<V>>,
    new: &BTreeMap<K, Arc<V>>,
) -> (BTreeMap<K, Arc<V>>, BTreeSet<K>) {
    let mut upserts = BTreeMap::new();
    let mut removes = BTreeSet::new();
    for pair in old.iter().merge_join_by(new, |old, new| old.0.cmp(new.0)) {
        match pair {
            EitherOrBoth::Left((key, _)) => {
                removes.insert(key.clone());
            }
            EitherOrBoth::Both((_, old), (_, new)) if same(old, new) => {}
            EitherOrBoth::Both(_, (key, value)) | EitherOrBoth::Right((key, value)) => {
                upserts.insert(key.clone(), value.clone());
            }
        }
    }
    (upserts, removes)
}

/// Whether two maps hold the same resources, by their pointers: tables that follow one another share what did not change.
pub(crate) fn unchanged<K: Ord, V>(old: &BTreeMap<K, Arc<V>>, new: &BTreeMap<K, Arc<V>>) -> bool {
    old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .all(|(old, new)| old.0 == new.0 && Arc::ptr_eq(old.1, new.1))
}

/// Equality that looks at the pointers first: shared resources, the common case, cost nothing to compare.
pub(crate) fn same<V: PartialEq>(a: &Arc<V>, b: &Arc<V>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
