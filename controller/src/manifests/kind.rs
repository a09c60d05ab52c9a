//! The kinds of objects that are read, and where each goes.

use std::{collections::BTreeMap, convert::identity, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use portcullis_crds::service_entry;
use serde_json::Value;

use super::field::{self, Read};
use crate::resources::{ObjectKey, Redacted, Resources};

/// The group of the Gateway API.
pub(super) const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// The group of our own kinds.
pub(super) const OWN: &str = "portcullis.dev";
/// The group of Istio's kind.
const ISTIO: &str = "networking.istio.io";

/// A kind that is read.
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    /// Versions that are alike; the first is the one to write.
    pub(super) versions: &'static [&'static str],
    pub(super) namespaced: bool,
    /// Whether an object is there.
    pub(super) contains: fn(&Resources, &ObjectKey) -> bool,
    /// Reads an object.
    pub(super) read: fn(&Value) -> Read<Insert>,
}

/// Puts an object that was read into the resources.
pub(super) type Insert = Box<dyn FnOnce(&mut Resources, ObjectKey)>;

macro_rules! kinds {
    ($($group:expr, $name:literal, $versions:expr, $namespaced:literal, $objects:ident, $finish:expr;)*) => {
        &[$(Kind {
            group: $group,
            name: $name,
            versions: &$versions,
            namespaced: $namespaced,
            contains: |resources, key| resources.$objects.contains_key(key),
            read: |value| field::read(value).map(|object| -> Insert {
                let object = Arc::new($finish(object));
                Box::new(|resources, key| drop(resources.$objects.insert(key, object)))
            }),
        }),*]
    };
}

/// All kinds that are read: group, kind, versions, whether it has a namespace, collection, last touch.
const KINDS: &[Kind] = kinds! {
    GATEWAY_API, "GatewayClass", ["v1", "v1beta1"], false, gateway_classes, identity;
    GATEWAY_API, "Gateway", ["v1", "v1beta1"], true, gateways, identity;
    GATEWAY_API, "HTTPRoute", ["v1", "v1beta1"], true, http_routes, identity;
    GATEWAY_API, "TLSRoute", ["v1"], true, tls_routes, identity;
    GATEWAY_API, "ListenerSet", ["v1"], true, listener_sets, identity;
    GATEWAY_API, "BackendTLSPolicy", ["v1", "v1alpha3"], true, backend_tls_policies, identity;
    GATEWAY_API, "ReferenceGrant", ["v1", "v1beta1"], true, reference_grants, identity;
    OWN, "GatewayParameters", ["v1alpha1"], true, gateway_parameters, identity;
    OWN, "EgressPolicy", ["v1alpha1"], true, egress_policies, identity;
    OWN, "CredentialInjection", ["v1alpha1"], true, credential_injections, identity;
    ISTIO, "ServiceEntry", service_entry::VERSIONS, true, service_entries, identity;
    "", "Namespace", ["v1"], false, namespaces, identity;
    "", "Service", ["v1"], true, services, identity;
    "", "Secret", ["v1"], true, secrets, fold_string_data;
    "", "ConfigMap", ["v1"], true, config_maps, identity;
    "", "Pod", ["v1"], true, pods, identity;
    "", "Node", ["v1"], false, nodes, identity;
    "networking.k8s.io", "ServiceCIDR", ["v1"], false, service_cidrs, identity;
    "discovery.k8s.io", "EndpointSlice", ["v1"], true, endpoint_slices, identity;
};

/// Kinds of the Gateway API that are known, and not read yet.
const NOT_YET: [&str; 7] = [
    "GRPCRoute",
    "TCPRoute",
    "UDPRoute",
    "XBackend",
    "XBackendTrafficPolicy",
    "XListenerSet",
    "XMesh",
];

/// Kinds and groups this few edits apart may be a slip of the pen, if those are not a third of the name or more.
const MAX_SLIP: usize = 2;

/// The kind whose objects may refuse something: without one that is meant, more passes than with it.
const REFUSING: &str = "EgressPolicy";

/// What groups are taken for ours that hold it.
const PROJECT: &str = "portcullis";

/// Why an object is not read.
pub(super) enum Unread {
    /// Its kind is of a group that is ours to serve.
    NotYet,
    /// There is no such kind, but one of this name in the same group.
    MisspeltKind(&'static str),
    /// There is no such kind in our own group, so it may be any of ours; some of these share a part of the name.
    NoneOfOurs(Vec<&'static str>),
    /// There is no such kind in its group, but this one.
    WrongGroup(&'static Kind),
    /// Somebody else's; a kind of ours may have the same name.
    Foreign(Option<&'static Kind>),
}

impl Kind {
    /// The kind `name` of `group`, if it is read.
    pub(super) fn find(group: &str, name: &str) -> Option<&'static Self> {
        KINDS
            .iter()
            .find(|kind| (kind.group, kind.name) == (group, name))
    }

    /// `group/version`, as it is to be written.
    pub(super) fn api_version(&self) -> String {
        match self.group {
            "" => self.versions[0].into(),
            group => format!("{group}/{}", self.versions[0]),
        }
    }
}

impl Unread {
    /// The kind that is probably meant, if there is none of that name. Of several that may be, the one that may refuse something.
    pub(super) fn meant(&self) -> Option<&'static str> {
        match self {
            Self::MisspeltKind(meant) => Some(meant),
            Self::NoneOfOurs(_) => Some(REFUSING),
            Self::WrongGroup(meant) => Some(meant.name),
            Self::NotYet | Self::Foreign(_) => None,
        }
    }

    /// Why the kind `name` of `group`, which [`Kind::find`] does not know, is not read.
    pub(super) fn of(group: &str, name: &str) -> Self {
        let served = [GATEWAY_API, OWN].contains(&group);
        if group == GATEWAY_API && NOT_YET.contains(&name) {
            return Self::NotYet;
        }
        let not_yet = NOT_YET.iter().filter(|_| group == GATEWAY_API);
        let siblings = KINDS.iter().filter(|kind| kind.group == group);
        let near = siblings
            .map(|kind| kind.name)
            .chain(not_yet.copied())
            .map(|known| (slips(known, name), known))
            .min();
        let is_near = |(slip, known): &(usize, &str)| *slip <= MAX_SLIP.min(known.len() / 3);
        if let Some((_, known)) = near.filter(is_near) {
            return Self::MisspeltKind(known);
        }
        // Groups of Kubernetes itself have no kinds but their own; in any other there may be a kind of the same name.
        let closed = served || group.is_empty() || group.ends_with("k8s.io");
        let is_slip = |kind: &Kind| strsim::damerau_levenshtein(kind.group, group) <= MAX_SLIP;
        match KINDS.iter().find(|kind| kind.name == name) {
            Some(kind) if closed || is_slip(kind) => Self::WrongGroup(kind),
            None if group == OWN => Self::NoneOfOurs(sharing(name)),
            namesake => match KINDS.iter().find(|kind| refuses(kind, group, name)) {
                Some(kind) => Self::WrongGroup(kind),
                None if served => Self::NotYet,
                None => Self::Foreign(namesake),
            },
        }
    }
}

/// How many edits a name is from that of a known kind, or from its plural, which is what kubectl is told.
fn slips(known: &str, name: &str) -> usize {
    let (known, name) = (known.to_lowercase(), name.to_lowercase());
    let plural = match known.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if known.ends_with('s') => format!("{known}es"),
        None => format!("{known}s"),
    };
    let edits = |known: &str| strsim::damerau_levenshtein(known, &name);
    edits(&known).min(edits(&plural))
}

/// Whether this kind is meant by a name in a group that has none of it. Other programs may have one of this name in groups of theirs.
fn refuses(kind: &Kind, group: &str, name: &str) -> bool {
    let is_like_ours = group.contains(PROJECT) || KINDS.iter().any(|known| known.group == group);
    kind.name == REFUSING && is_like_ours && slips(kind.name, name) <= 1
}

/// Our own kinds of which a name is a part, or which are a part of it; all of them, if there is none.
fn sharing(name: &str) -> Vec<&'static str> {
    let name = name.to_lowercase();
    let own = || {
        KINDS
            .iter()
            .filter(|kind| kind.group == OWN)
            .map(|kind| kind.name)
    };
    let shares = |known: &&str| {
        let known = known.to_lowercase();
        known.contains(&name) || name.contains(&known)
    };
    let sharing: Vec<_> = own().filter(shares).collect();
    if sharing.is_empty() {
        own().collect()
    } else {
        sharing
    }
}

/// `stringData` is only a convenience of writing: the API server moves it into `data`.
fn fold_string_data(mut secret: Secret) -> Redacted<Secret> {
    if let Some(text) = secret.string_data.take() {
        let data = secret.data.get_or_insert_with(BTreeMap::new);
        data.extend(
            text.into_iter()
                .map(|(key, value)| (key, ByteString(value.into_bytes()))),
        );
    }
    Redacted(secret)
}
