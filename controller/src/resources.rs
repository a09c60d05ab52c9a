//! The objects that a translation reads, ordered by namespace and name.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock},
};

use gateway_api::apis::{
    experimental::{
        gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute,
        listenersets::ListenerSet, referencegrants::ReferenceGrant, tlsroutes::TlsRoute,
    },
    standard::backendtlspolicies::BackendTlsPolicy,
};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
};
use kube::ResourceExt;
use portcullis_crds::{CredentialInjection, EgressPolicy, GatewayParameters, ServiceEntry};
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    callers::{Node, Pod},
    finding::ObjectRef,
    status::ParentReference,
    translate::RouteObject,
};

/// A name that the API server takes (RFC 1123 subdomain), but for its length.
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        .expect("a valid expression")
});

/// Objects of one kind.
pub type Objects<K> = BTreeMap<ObjectKey, Arc<K>>;

/// A snapshot of everything that a translation reads.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// GatewayClasses.
    pub gateway_classes: Objects<GatewayClass>,
    /// Gateways.
    pub gateways: Objects<Gateway>,
    /// ListenerSets.
    pub listener_sets: Objects<ListenerSet>,
    /// HTTPRoutes.
    pub http_routes: Objects<HttpRoute>,
    /// TLSRoutes.
    pub tls_routes: Objects<TlsRoute>,
    /// BackendTLSPolicies.
    pub backend_tls_policies: Objects<BackendTlsPolicy>,
    /// ReferenceGrants.
    pub reference_grants: Objects<ReferenceGrant>,
    /// Namespaces, for their labels.
    pub namespaces: Objects<Namespace>,
    /// Services.
    pub services: Objects<Service>,
    /// EndpointSlices.
    pub endpoint_slices: Objects<EndpointSlice>,
    /// Secrets.
    pub secrets: Objects<Redacted<Secret>>,
    /// ConfigMaps.
    pub config_maps: Objects<ConfigMap>,
    /// GatewayParameters.
    pub gateway_parameters: Objects<GatewayParameters>,
    /// ServiceEntries of Istio.
    pub service_entries: Objects<ServiceEntry>,
    /// EgressPolicies.
    pub egress_policies: Objects<EgressPolicy>,
    /// CredentialInjections.
    pub credential_injections: Objects<CredentialInjection>,
    /// Pods, for who calls an egress Gateway; none of a cluster without one.
    pub pods: Objects<Pod>,
    /// Nodes, for the addresses that no egress Gateway lets anybody reach; none of a cluster without one.
    pub nodes: Objects<Node>,
    /// `ServiceCIDR`s, for the same reason; none of a cluster before Kubernetes 1.33.
    pub service_cidrs: Objects<ServiceCIDR>,
    /// Secrets and ConfigMaps that are referred to and, as far as is known, there, but were never read.
    pub not_read: ObjectsNotRead,
}

/// Objects that are there or may be, and of which nothing else is known.
#[derive(Clone, Debug, Default)]
pub struct ObjectsNotRead {
    /// Secrets.
    pub secrets: BTreeMap<ObjectKey, NotRead>,
    /// ConfigMaps.
    pub config_maps: BTreeMap<ObjectKey, NotRead>,
}

/// Why an object that is there, or may be, could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRead {
    /// There is no answer yet.
    Pending,
    /// The API server fails to give it.
    Failing,
    /// The API server says that the controller may not read it.
    Refused,
    /// The API server does not say any more which objects of its kind there are, and of this one it never did.
    Unlisted,
}

impl NotRead {
    /// What an error says of the object that was asked for.
    pub(crate) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 403 => Self::Refused,
            _ => Self::Failing,
        }
    }

    /// What is wrong with such an object of this kind, in words that can follow its name, and what to do about it.
    pub(crate) fn told(self, kind: &str, key: &ObjectKey) -> (String, String) {
        let message = match self {
            Self::Unlisted => "cannot be read, if it is there",
            Self::Pending | Self::Failing | Self::Refused => "is there, but cannot be read",
        };
        let remedy = match self {
            Self::Unlisted => format!(
                "give the controller's ServiceAccount the verbs list and watch for {kind}s"
            ),
            Self::Refused => format!(
                "give the controller's ServiceAccount the verb get for {kind}s of namespace {}",
                key.namespace
            ),
            Self::Pending | Self::Failing => {
                "it is tried again; if that does not help, the controller's log has the words of the API server".to_owned()
            }
        };
        (message.to_owned(), remedy)
    }
}

/// Every collection of [`Resources`], with the kind of its objects.
macro_rules! for_each_kind {
    ($do:ident) => {
        $do!("GatewayClass", gateway_classes);
        $do!("Gateway", gateways);
        $do!("ListenerSet", listener_sets);
        $do!("HTTPRoute", http_routes);
        $do!("TLSRoute", tls_routes);
        $do!("BackendTLSPolicy", backend_tls_policies);
        $do!("ReferenceGrant", reference_grants);
        $do!("Namespace", namespaces);
        $do!("Service", services);
        $do!("EndpointSlice", endpoint_slices);
        $do!("Secret", secrets);
        $do!("ConfigMap", config_maps);
        $do!("GatewayParameters", gateway_parameters);
        $do!("ServiceEntry", service_entries);
        $do!("EgressPolicy", egress_policies);
        $do!("CredentialInjection", credential_injections);
        $do!("Pod", pods);
        $do!("Node", nodes);
        $do!("ServiceCIDR", service_cidrs);
    };
}

impl Resources {
    /// Number of objects.
    pub fn len(&self) -> usize {
        self.counts().iter().map(|(_, number)| number).sum()
    }

    /// Number of objects of each kind.
    pub fn counts(&self) -> Vec<(&'static str, usize)> {
        let mut counts = Vec::new();
        macro_rules! count {
            ($kind:literal, $field:ident) => {
                counts.push(($kind, self.$field.len()));
            };
        }
        for_each_kind!(count);
        counts
    }

    /// Routes of every kind.
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_>> {
        let http = self.http_routes.iter();
        let http = http.map(|(key, route)| RouteView::of(key, &**route));
        let tls = self.tls_routes.iter();
        http.chain(tls.map(|(key, route)| RouteView::of(key, &**route)))
    }

    /// A route of whatever kind.
    pub fn route(&self, object: &ObjectRef) -> Option<RouteView<'_>> {
        let key = &object.key;
        match object.kind.as_str() {
            HttpRoute::KIND => Some(RouteView::of(key, &**self.http_routes.get(key)?)),
            TlsRoute::KIND => Some(RouteView::of(key, &**self.tls_routes.get(key)?)),
            _ => None,
        }
    }

    /// Whether there is no object at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the objects of `other` that are not here yet, and returns those that are.
    pub fn merge(&mut self, other: Self) -> Vec<ObjectRef> {
        let mut twice = Vec::new();
        macro_rules! merge {
            ($kind:literal, $field:ident) => {
                for (key, object) in other.$field {
                    match self.$field.entry(key) {
                        Entry::Vacant(entry) => drop(entry.insert(object)),
                        Entry::Occupied(entry) => {
                            twice.push(ObjectRef::new($kind, entry.key().clone()));
                        }
                    }
                }
            };
        }
        for_each_kind!(merge);
        twice
    }

    /// Whether there is such an object.
    pub fn contains(&self, object: &ObjectRef) -> bool {
        let mut found = false;
        macro_rules! look {
            ($kind:literal, $field:ident) => {
                found |= object.kind == $kind && self.$field.contains_key(&object.key);
            };
        }
        for_each_kind!(look);
        found
    }

    /// Kinds, namespaces and names of all objects.
    pub fn objects(&self) -> Vec<ObjectRef> {
        let mut all = Vec::new();
        macro_rules! list {
            ($kind:literal, $field:ident) => {
                all.extend(
                    self.$field
                        .keys()
                        .map(|key| ObjectRef::new($kind, key.clone())),
                );
            };
        }
        for_each_kind!(list);
        all
    }

    /// Drops the objects that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&ObjectRef) -> bool) {
        macro_rules! retain {
            ($kind:literal, $field:ident) => {
                self.$field
                    .retain(|key, _| keep(&ObjectRef::new($kind, key.clone())));
            };
        }
        for_each_kind!(retain);
    }
}

/// A route, as far as those of all kinds are alike.
#[derive(Clone, Debug)]
pub struct RouteView<'a> {
    /// The route.
    pub object: ObjectRef,
    /// Its hostnames; without any it is for every host.
    pub hostnames: &'a [String],
    /// Its parentRefs.
    pub parents: Vec<ParentReference>,
}

impl<'a> RouteView<'a> {
    fn of<R: RouteObject>(key: &ObjectKey, route: &'a R) -> Self {
        Self {
            object: ObjectRef::new(R::KIND, key.clone()),
            hostnames: route.hostnames(),
            parents: route.parents(),
        }
    }
}

/// Something that may hold keys: it is read as what it is, but never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redacted<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Redacted<T> {
    /// An error does not say what was found instead: that would be printed.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = T::deserialize(deserializer);
        read.map(Self)
            .map_err(|_| D::Error::custom("could not be decoded"))
    }
}

impl<T> Deref for Redacted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Namespace and name of an object. The namespace of a cluster-scoped object is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// The object `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The cluster-scoped object `name`.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self::new("", name)
    }

    /// The key of an object.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }

    /// Whether an object of a cluster can have this name. References may hold anything.
    pub(crate) fn has_valid_name(&self) -> bool {
        self.name.len() <= 253 && NAME.is_match(&self.name)
    }

    /// Whether a namespace of a cluster can be called like that.
    pub(crate) fn has_valid_namespace(&self) -> bool {
        let name = &self.namespace;
        name.len() <= 63 && !name.contains('.') && NAME.is_match(name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
