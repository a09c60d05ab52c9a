//! Proxies of Gateways: which pods are one, and by which addresses they are reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use portcullis_routing::GatewayKey;

use super::addresses;
use crate::{
    provision::{GATEWAY_NAME, label_value},
    resources::{ObjectKey, Resources},
};

/// Gateways by their namespace and the label that their proxies have.
#[derive(Debug, Default)]
pub(super) struct Proxies(BTreeMap<(String, String), GatewayKey>);

impl Proxies {
    /// Those of these Gateways. Whoever may make pods in the namespace of a Gateway is trusted with its proxies; elsewhere the label
    /// says nothing.
    pub(super) fn of<'g>(gateways: impl Iterator<Item = &'g ObjectKey>) -> Self {
        let labelled = gateways.map(|ObjectKey { namespace, name }| {
            let gateway = GatewayKey::of(namespace, name);
            ((namespace.clone(), label_value(name)), gateway)
        });
        Self(labelled.collect())
    }

    /// The Gateway that a pod of a namespace, with these labels, is a proxy of; or pods that a Service looks for by them.
    pub(super) fn gateway(
        &self,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Option<&GatewayKey> {
        let label = labels?.get(GATEWAY_NAME)?;
        self.0.get(&(namespace.to_owned(), label.clone()))
    }

    /// The addresses of the Services in front of proxies, by Gateway: what the controller made, and what others did beside it.
    pub(super) fn addresses(&self, resources: &Resources) -> BTreeMap<GatewayKey, Vec<IpAddr>> {
        let mut found = BTreeMap::<_, BTreeSet<IpAddr>>::new();
        for (key, service) in &resources.services {
            let selector = service
                .spec
                .as_ref()
                .and_then(|spec| spec.selector.as_ref());
            if let Some(gateway) = self.gateway(&key.namespace, selector) {
                let own = found.entry(gateway.clone()).or_default();
                own.extend(addresses::all(service));
            }
        }
        let found = found.into_iter();
        found
            .map(|(gateway, addresses)| (gateway, addresses.into_iter().collect()))
            .collect()
    }
}
