//! Keys: how the resources of a table are named, and how they name each other. A clone is cheap: the text is shared.

use std::{fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! string_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a key that is already in canonical form.
            pub fn new(key: impl Into<Arc<str>>) -> Self {
                Self(key.into())
            }

            /// The canonical text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

string_key! {
    /// Names a Gateway: `<namespace>/<name>`.
    GatewayKey
}
string_key! {
    /// Names a listener: `<namespace>/<gateway>/<listener>`, or, if it stands in a ListenerSet of the Gateway,
    /// `<namespace>/<gateway>/<namespace of the set>/<set>/<listener>`. No name has a `/` in it.
    ListenerKey
}
string_key! {
    /// Names one rule of a route: `<kind>/<namespace>/<name>/<rule index>`, kind in lower case.
    RouteKey
}
string_key! {
    /// Names a backend by its own identity, never by the rule that uses it: `service/<namespace>/<name>/<port>` or
    /// `external/<host>/<port>`.
    ClusterKey
}
string_key! {
    /// Names a certificate by the Secret it comes from: `secret/<namespace>/<name>`.
    CertificateKey
}

string_key! {
    /// Names a credential by its CredentialInjection: `credentialinjection/<namespace>/<name>`.
    CredentialKey
}
string_key! {
    /// Names an entry of the allow-list by its ServiceEntry: `serviceentry/<namespace>/<name>`.
    EntryKey
}
string_key! {
    /// Names an egress policy: `egresspolicy/<namespace>/<name>`.
    PolicyKey
}
string_key! {
    /// Names a workload by its IP address, as RFC 5952 writes it.
    WorkloadKey
}

impl RouteKey {
    /// The namespace of the route; empty for a key that is not of this form.
    pub fn namespace(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }
}

impl EntryKey {
    /// The key of the ServiceEntry `namespace/name`.
    pub fn of(namespace: &str, name: &str) -> Self {
        Self::new(format!("serviceentry/{namespace}/{name}"))
    }

    /// Namespace and name of the ServiceEntry.
    pub fn object(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix("serviceentry/")?.split_once('/')
    }
}

impl CredentialKey {
    /// The key of the CredentialInjection `namespace/name`.
    pub fn of(namespace: &str, name: &str) -> Self {
        Self::new(format!("credentialinjection/{namespace}/{name}"))
    }
}

impl PolicyKey {
    /// The key of the EgressPolicy `namespace/name`.
    pub fn of(namespace: &str, name: &str) -> Self {
        Self::new(format!("egresspolicy/{namespace}/{name}"))
    }

    /// Namespace and name of the EgressPolicy. Neither, of a key that is not of this form.
    pub fn object(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix("egresspolicy/")?.split_once('/')
    }
}

impl WorkloadKey {
    /// The key of the workload that has this address. An IPv4-mapped address is the IPv4 address in it.
    pub fn of(address: IpAddr) -> Self {
        Self::new(address.to_canonical().to_string())
    }
}

impl GatewayKey {
    /// The key of the Gateway `namespace/name`.
    pub fn of(namespace: &str, name: &str) -> Self {
        Self::new(format!("{namespace}/{name}"))
    }

    /// The namespace of the Gateway.
    pub fn namespace(&self) -> &str {
        namespace(&self.0)
    }
}

/// What stands before the first `/`.
fn namespace(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

impl ListenerKey {
    /// The key of the listener called `listener` of a Gateway.
    pub fn of(gateway: &GatewayKey, listener: &str) -> Self {
        Self::new(format!("{gateway}/{listener}"))
    }

    /// The key of the listener called `listener` of the ListenerSet `namespace/set`, which belongs to a Gateway.
    pub fn of_set(gateway: &GatewayKey, namespace: &str, set: &str, listener: &str) -> Self {
        Self::new(format!("{gateway}/{namespace}/{set}/{listener}"))
    }

    /// The name of the listener in its Gateway or ListenerSet.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Namespace and name of its Gateway, as in its [`GatewayKey`].
    pub fn gateway(&self) -> &str {
        let second = self.0.match_indices('/').nth(1);
        second.map_or(&*self.0, |(end, _)| self.0.get(..end).unwrap_or_default())
    }

    /// Namespace of its Gateway.
    pub fn gateway_namespace(&self) -> &str {
        namespace(&self.0)
    }

    /// Namespace and name of the ListenerSet that the listener stands in; `None` for a Gateway's own.
    pub fn listener_set(&self) -> Option<(&str, &str)> {
        let mut parts = self.0.split('/').skip(2);
        let (namespace, set, _name) = (parts.next()?, parts.next()?, parts.next()?);
        Some((namespace, set))
    }
}

impl RouteKey {
    /// The key of rule number `rule` (from 0) of the route object `namespace/name` of `kind`.
    pub fn of(kind: &str, namespace: &str, name: &str, rule: usize) -> Self {
        Self::new(format!(
            "{}/{namespace}/{name}/{rule}",
            kind.to_ascii_lowercase()
        ))
    }
}

impl ClusterKey {
    /// The key of a Kubernetes Service port.
    pub fn service(namespace: &str, name: &str, port: u16) -> Self {
        Self::new(format!("service/{namespace}/{name}/{port}"))
    }

    /// The key of a host outside the cluster.
    pub fn external(host: &str, port: u16) -> Self {
        Self::new(format!("external/{host}/{port}"))
    }

    /// Whether it is the key of a host outside the cluster.
    pub fn is_external(&self) -> bool {
        self.0.starts_with("external/")
    }
}

impl CertificateKey {
    /// The key of the certificate held by a TLS Secret.
    pub fn secret(namespace: &str, name: &str) -> Self {
        Self::new(format!("secret/{namespace}/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_sets_have_names_of_their_own() {
        let gateway = GatewayKey::of("infra", "edge");
        let own = ListenerKey::of(&gateway, "http");
        assert_eq!(own.as_str(), "infra/edge/http");
        assert_eq!((own.name(), own.listener_set()), ("http", None));
        let of_set = ListenerKey::of_set(&gateway, "shop", "extra", "http");
        assert_eq!(of_set.as_str(), "infra/edge/shop/extra/http");
        assert_eq!(of_set.name(), "http");
        assert_eq!(of_set.listener_set(), Some(("shop", "extra")));
        for key in [own, of_set] {
            assert_eq!(key.gateway(), gateway.as_str());
            assert_eq!(key.gateway_namespace(), gateway.namespace());
        }
    }
}
