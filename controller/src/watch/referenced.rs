//! Secrets and ConfigMaps: only those that an object of ours names are read; of the others nothing but the version is
//! known.

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::apis::{
    experimental::{gateways::Gateway, httproutes::HttpRoute, listenersets::ListenerSet},
    standard::backendtlspolicies::BackendTlsPolicy,
};

use super::object::Version;
use crate::{
    resources::{NotRead, ObjectKey, Resources},
    translate::{GATEWAY_GROUP, credentials_of, gateway_of},
};

/// The objects that a translation may look into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Secrets, by the references to certificates of our Gateways, of their ListenerSets and of BackendTLSPolicies, and by
    /// the CredentialInjections that routes of our Gateways use.
    pub secrets: BTreeSet<ObjectKey>,
    /// ConfigMaps, by the caCertificateRefs of our Gateways and of BackendTLSPolicies.
    pub config_maps: BTreeSet<ObjectKey>,
}

impl References {
    /// What the Gateways of `controller_name` and their ListenerSets refer to, whether or not a ReferenceGrant permits it.
    pub fn of(resources: &Resources, controller_name: &str) -> Self {
        let mut references = Self::default();
        let is_ours = |gateway: &Gateway| {
            let class = ObjectKey::cluster(gateway.spec.gateway_class_name.as_str());
            let class = resources.gateway_classes.get(&class);
            class.is_some_and(|class| class.spec.controller_name == controller_name)
        };
        for (key, gateway) in &resources.gateways {
            if is_ours(gateway) {
                references.secrets.extend(of_gateway(key, gateway));
                references.add_client_cas(key, gateway);
                references.secrets.extend(client_certificate(key, gateway));
            }
        }
        for (key, policy) in &resources.backend_tls_policies {
            references.add_backend_cas(key, policy);
        }
        for (key, set) in &resources.listener_sets {
            let gateway = gateway_of(key, set).and_then(|key| resources.gateways.get(&key));
            if gateway.is_some_and(|gateway| is_ours(gateway)) {
                references.secrets.extend(of_set(key, set));
            }
        }
        for (key, route) in &resources.http_routes {
            let mut gateways = parents(resources, key, route);
            if gateways.any(|key| resources.gateways.get(&key).is_some_and(|it| is_ours(it))) {
                references.add_credentials(resources, key, route);
            }
        }
        // No object has another name, and to ask for one would be another request, or none: it becomes part of a URL.
        for keys in [&mut references.secrets, &mut references.config_maps] {
            keys.retain(|key| key.has_valid_name() && key.has_valid_namespace());
        }
        references
    }

    /// The credentials that a route gives to its backends.
    fn add_credentials(&mut self, resources: &Resources, key: &ObjectKey, route: &HttpRoute) {
        for injection in credentials_of(key, route) {
            if let Some(object) = resources.credential_injections.get(&injection) {
                let name = &object.spec.secret_ref.name;
                let secret = ObjectKey::new(&injection.namespace, name);
                self.secrets.insert(secret);
            }
        }
    }

    /// The CAs that clients of a Gateway are verified with.
    fn add_client_cas(&mut self, key: &ObjectKey, gateway: &Gateway) {
        let tls = gateway.spec.tls.as_ref();
        let Some(frontend) = tls.and_then(|tls| tls.frontend.as_ref()) else {
            return;
        };
        macro_rules! add {
            ($validation:expr) => {
                for reference in $validation.iter().flat_map(|it| &it.ca_certificate_refs) {
                    let namespace = reference.namespace.as_ref().unwrap_or(&key.namespace);
                    let target = ObjectKey::new(namespace, &reference.name);
                    match (reference.group.as_str(), reference.kind.as_str()) {
                        ("", "ConfigMap") => drop(self.config_maps.insert(target)),
                        ("", "Secret") => drop(self.secrets.insert(target)),
                        _ => {}
                    }
                }
            };
        }
        add!(frontend.default.validation);
        for entry in frontend.per_port.iter().flatten() {
            add!(entry.tls.validation);
        }
    }

    /// The CAs that backends are verified with.
    fn add_backend_cas(&mut self, key: &ObjectKey, policy: &BackendTlsPolicy) {
        let references = &policy.spec.validation.ca_certificate_refs;
        for reference in references.iter().flatten() {
            let target = ObjectKey::new(&key.namespace, &reference.name);
            match (reference.group.as_str(), reference.kind.as_str()) {
                ("", "ConfigMap") => drop(self.config_maps.insert(target)),
                ("", "Secret") => drop(self.secrets.insert(target)),
                _ => {}
            }
        }
    }
}

/// The Gateways that a route names, be it by a ListenerSet. Whether they take it is for the translation to say.
fn parents<'a>(
    resources: &'a Resources,
    key: &'a ObjectKey,
    route: &'a HttpRoute,
) -> impl Iterator<Item = ObjectKey> + use<'a> {
    let references = route.spec.parent_refs.iter().flatten();
    references.filter_map(move |reference| {
        let namespace = reference.namespace.as_ref().unwrap_or(&key.namespace);
        let target = ObjectKey::new(namespace, &reference.name);
        let group = reference.group.as_deref().unwrap_or(GATEWAY_GROUP);
        match (group, reference.kind.as_deref().unwrap_or("Gateway")) {
            (GATEWAY_GROUP, "Gateway") => Some(target),
            (GATEWAY_GROUP, "ListenerSet") => {
                gateway_of(&target, resources.listener_sets.get(&target)?)
            }
            _ => None,
        }
    })
}

/// The certificate that a Gateway shows to backends.
fn client_certificate(key: &ObjectKey, gateway: &Gateway) -> Option<ObjectKey> {
    let backend = gateway.spec.tls.as_ref()?.backend.as_ref()?;
    let reference = backend.client_certificate_ref.as_ref()?;
    let namespace = reference.namespace.as_ref().unwrap_or(&key.namespace);
    Some(ObjectKey::new(namespace, &reference.name))
}

/// The Secrets that the listeners of an object name. Its types are generated, once for each kind.
macro_rules! certificates {
    ($key:ident, $object:ident) => {{
        let listeners = $object.spec.listeners.iter();
        let references = listeners
            .filter_map(|listener| listener.tls.as_ref()?.certificate_refs.as_ref())
            .flatten();
        references
            .filter(|reference| {
                reference
                    .kind
                    .as_deref()
                    .is_none_or(|kind| kind == "Secret")
            })
            .map(|reference| {
                let namespace = reference.namespace.as_ref().unwrap_or(&$key.namespace);
                ObjectKey::new(namespace, &reference.name)
            })
    }};
}

fn of_gateway(key: &ObjectKey, gateway: &Gateway) -> impl Iterator<Item = ObjectKey> {
    certificates!(key, gateway)
}

fn of_set(key: &ObjectKey, set: &ListenerSet) -> impl Iterator<Item = ObjectKey> {
    certificates!(key, set)
}

/// How far the objects of one kind are read.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Every object there is.
    versions: BTreeMap<ObjectKey, Version>,
    /// Those that are referred to.
    wanted: BTreeSet<ObjectKey>,
    /// The version that was read last.
    read: BTreeMap<ObjectKey, Version>,
    /// Those whose last reading failed, and how.
    failed: BTreeMap<ObjectKey, NotRead>,
    /// Those that are being read.
    reading: BTreeSet<ObjectKey>,
}

impl Contents {
    /// Every object there is, as a list said. Returns those that are gone.
    pub(super) fn replace(&mut self, versions: BTreeMap<ObjectKey, Version>) -> Vec<ObjectKey> {
        self.versions = versions;
        let gone = self
            .read
            .keys()
            .filter(|key| !self.versions.contains_key(key));
        let gone: Vec<_> = gone.cloned().collect();
        for key in &gone {
            self.forget(key);
        }
        gone
    }

    /// An object that is new or has changed.
    pub(super) fn exists(&mut self, key: ObjectKey, version: Version) {
        self.versions.insert(key, version);
    }

    /// An object is gone.
    pub(super) fn gone(&mut self, key: &ObjectKey) {
        self.versions.remove(key);
        self.forget(key);
    }

    /// From now on these are wanted. Returns those that are not any more.
    pub(super) fn want(&mut self, wanted: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
        if self.wanted == *wanted {
            return Vec::new();
        }
        self.wanted.clone_from(wanted);
        let unwanted = self.read.keys().filter(|key| !wanted.contains(key));
        let unwanted: Vec<_> = unwanted.cloned().collect();
        for key in &unwanted {
            self.forget(key);
        }
        unwanted
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.read.remove(key);
        self.failed.remove(key);
    }

    /// Wanted objects whose present version is not read.
    fn unread(&self) -> impl Iterator<Item = &ObjectKey> {
        self.wanted.iter().filter(|key| {
            let there = self.versions.get(key);
            there.is_some_and(|version| self.read.get(key).is_none_or(|read| read < version))
        })
    }

    /// Whether there are objects to be read, for the first time or again.
    pub(super) fn has_unread(&self) -> bool {
        self.unread().next().is_some()
    }

    /// Wanted objects that are there and were never read. Of one that was, what it was then is in force until it is read again:
    /// whoever changes it all the time must not hold up anything else.
    pub(super) fn never_read(&self) -> impl Iterator<Item = (&ObjectKey, NotRead)> {
        let unread = self.unread().filter(|key| !self.read.contains_key(*key));
        unread.map(|key| {
            let failed = self.failed.get(key).copied();
            (key, failed.unwrap_or(NotRead::Pending))
        })
    }

    /// Wanted objects that nobody has told of. While that is so only as nobody tells any more, they may be there all the same.
    pub(super) fn unlisted(&self) -> impl Iterator<Item = &ObjectKey> {
        let wanted = self.wanted.iter();
        wanted.filter(|key| !self.versions.contains_key(*key))
    }

    /// Takes the objects that have to be read now.
    pub(super) fn take_unread(&mut self) -> Vec<ObjectKey> {
        let due = self.unread().filter(|key| !self.reading.contains(key));
        let due: Vec<_> = due.cloned().collect();
        self.reading.extend(due.iter().cloned());
        due
    }

    /// An object was read at this version; `None` if it is not there any more. Returns whether it is still wanted.
    pub(super) fn read(&mut self, key: &ObjectKey, version: Option<Version>) -> bool {
        self.reading.remove(key);
        self.failed.remove(key);
        let listed = self.versions.get(key).copied();
        let wanted = self.wanted.contains(key) && listed.is_some();
        if let (true, Some(version)) = (wanted, version.or(listed)) {
            self.read.insert(key.clone(), version);
        }
        wanted
    }

    /// An object could not be read; what was read of it before stays. Returns whether to try again.
    pub(super) fn failed(&mut self, key: &ObjectKey, how: NotRead) -> bool {
        let again = self.unread().any(|unread| unread == key);
        if again {
            self.failed.insert(key.clone(), how);
        } else {
            self.reading.remove(key);
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::Loaded;
    use kube::api::ObjectMeta;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("apps", name)
    }

    fn version(number: u64) -> Version {
        Version::of(&ObjectMeta {
            resource_version: Some(number.to_string()),
            ..ObjectMeta::default()
        })
    }

    #[test]
    fn certificates_and_cas_are_referred_to_by_our_gateways() {
        let manifests = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: ours }
spec: { controllerName: portcullis.dev/gateway-controller }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge, namespace: apps }
spec:
  gatewayClassName: ours
  tls:
    frontend:
      default:
        validation:
          caCertificateRefs:
          - { group: "", kind: ConfigMap, name: ca }
          - { group: "", kind: ConfigMap, name: "ca?watch=true" }
          - { group: "", kind: Service, name: none }
      perPort:
      - port: 8443
        tls:
          validation:
            caCertificateRefs:
            - { group: "", kind: Secret, name: ca, namespace: partners }
            - { group: example.com, kind: ConfigMap, name: none }
  listeners:
  - name: https
    port: 443
    protocol: HTTPS
    tls: { certificateRefs: [{ name: server }, { name: ../configmaps/server }, { name: "line\nbreak" }] }
"#;
        let mut loaded = Loaded::default();
        loaded.read_text("edge.yaml", manifests);
        let references = References::of(&loaded.resources, "portcullis.dev/gateway-controller");
        assert_eq!(references.config_maps, [key("ca")].into());
        let secrets = [key("server"), ObjectKey::new("partners", "ca")];
        assert_eq!(references.secrets, secrets.into());
        let others = References::of(&loaded.resources, "example.com/other");
        assert_eq!(others, References::default());
    }

    #[test]
    fn credentials_are_referred_to_by_routes_of_our_gateways_alone() {
        let class = |name: &str, controller: &str| {
            format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{ name: {name} }}\nspec: {{ controllerName: {controller} }}\n---\n"
            )
        };
        let gateway = |class: &str| {
            format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{ name: {class}, namespace: apps }}\nspec:\n  gatewayClassName: {class}\n  listeners: [{{ name: http, port: 80, protocol: HTTP }}]\n---\n"
            )
        };
        let injection = |name: &str| {
            format!(
                "apiVersion: portcullis.dev/v1alpha1\nkind: CredentialInjection\nmetadata: {{ name: {name}, namespace: apps }}\nspec: {{ secretRef: {{ name: of-{name} }} }}\n---\n"
            )
        };
        let filter = |name: &str| {
            format!(
                "filters: [{{ type: ExtensionRef, extensionRef: {{ group: portcullis.dev, kind: CredentialInjection, name: {name} }} }}]"
            )
        };
        let route = |parent: &str, of_rule: &str, of_backend: &str| {
            format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: at-{parent}, namespace: apps }}\nspec:\n  parentRefs: [{{ name: {parent} }}]\n  rules:\n  - {}\n    backendRefs: [{{ name: web, port: 80, {} }}]\n---\n",
                filter(of_rule),
                filter(of_backend)
            )
        };
        let manifests = [
            class("ours", "portcullis.dev/gateway-controller"),
            class("theirs", "example.com/other"),
            gateway("ours"),
            gateway("theirs"),
            ["rule", "backend", "others", "unused"]
                .map(injection)
                .concat(),
            route("ours", "rule", "backend"),
            route("theirs", "others", "rule"),
        ]
        .concat();
        let mut loaded = Loaded::default();
        loaded.read_text("routes.yaml", &manifests);
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let of = |controller| References::of(&loaded.resources, controller).secrets;
        assert_eq!(
            of("portcullis.dev/gateway-controller"),
            [key("of-rule"), key("of-backend")].into()
        );
        assert_eq!(
            of("example.com/other"),
            [key("of-others"), key("of-rule")].into()
        );
    }

    /// What is waited for, and how reading it goes.
    fn never_read(contents: &Contents) -> Vec<(ObjectKey, NotRead)> {
        let all = contents.never_read();
        all.map(|(key, how)| (key.clone(), how)).collect()
    }

    #[test]
    fn only_what_is_wanted_is_read_and_again_when_it_changes() {
        let mut contents = Contents::default();
        contents.replace([(key("a"), version(1)), (key("b"), version(2))].into());
        assert!(never_read(&contents).is_empty());
        contents.want(&[key("a"), key("missing")].into());
        assert_eq!(never_read(&contents), [(key("a"), NotRead::Pending)]);
        assert_eq!(contents.take_unread(), [key("a")]);
        assert!(contents.take_unread().is_empty(), "once is enough");
        assert!(contents.read(&key("a"), Some(version(1))));
        assert!(never_read(&contents).is_empty() && !contents.has_unread());

        contents.exists(key("a"), version(3));
        assert!(
            never_read(&contents).is_empty(),
            "what it was is in force, however often it changes"
        );
        assert!(contents.has_unread());
        assert_eq!(contents.take_unread(), [key("a")]);
        // What is read may be newer than what was heard of.
        assert!(contents.read(&key("a"), Some(version(5))));
        contents.exists(key("a"), version(5));
        assert!(!contents.has_unread() && contents.take_unread().is_empty());
    }

    #[test]
    fn a_failure_is_told_and_tried_again_while_it_is_wanted() {
        let mut contents = Contents::default();
        contents.replace([(key("a"), version(1))].into());
        contents.want(&[key("a")].into());
        assert_eq!(contents.take_unread(), [key("a")]);
        for how in [NotRead::Failing, NotRead::Refused] {
            assert!(contents.failed(&key("a"), how));
            assert_eq!(never_read(&contents), [(key("a"), how)]);
        }
        assert!(
            contents.take_unread().is_empty(),
            "whoever failed tries again"
        );
        contents.want(&BTreeSet::new());
        assert!(!contents.failed(&key("a"), NotRead::Failing));
    }

    #[test]
    fn what_is_gone_or_not_wanted_any_more_is_dropped() {
        let mut contents = Contents::default();
        contents.replace([(key("a"), version(1)), (key("b"), version(1))].into());
        contents.want(&[key("a"), key("b")].into());
        for key in contents.take_unread() {
            contents.read(&key, Some(version(1)));
        }
        assert_eq!(contents.want(&[key("b")].into()), [key("a")]);
        assert_eq!(
            contents.replace([(key("a"), version(1))].into()),
            [key("b")]
        );
        assert!(!contents.has_unread());
    }
}
