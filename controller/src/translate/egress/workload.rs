//! Pods: who calls from which address.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    net::IpAddr,
    sync::Arc,
};

use portcullis_routing::{WorkloadKey, egress::Workload};

use super::{policies::LabelKeys, proxies::Proxies};
use crate::{
    callers::Pod,
    resources::{ObjectKey, Objects},
};

/// The pods by address, with those of their labels that `keys` ask for. Proxies are there for their addresses: nobody is taken for them.
///
/// The addresses of a node say nothing of who calls from them, nor does one that two running pods claim: a caller from there is
/// unknown. A pod that has ended may have left its address to another.
pub(super) fn index(
    pods: &Objects<Pod>,
    keys: &LabelKeys<'_>,
    proxies: &Proxies,
) -> BTreeMap<WorkloadKey, Arc<Workload>> {
    let mut callers = BTreeMap::<IpAddr, Option<Arc<Workload>>>::new();
    let running = pods
        .iter()
        .filter(|(_, pod)| !pod.has_ended && !pod.host_network);
    for (key, pod) in running {
        let addresses: BTreeSet<_> = pod.addresses.iter().map(IpAddr::to_canonical).collect();
        if addresses.is_empty() {
            continue;
        }
        let workload = Arc::new(workload(key, pod, keys, proxies));
        for address in addresses {
            match callers.entry(address) {
                btree_map::Entry::Vacant(free) => drop(free.insert(Some(Arc::clone(&workload)))),
                btree_map::Entry::Occupied(mut claimed) => *claimed.get_mut() = None,
            }
        }
    }
    let known = callers.into_iter();
    known
        .filter_map(|(address, workload)| Some((WorkloadKey::of(address), workload?)))
        .collect()
}

fn workload(key: &ObjectKey, pod: &Pod, keys: &LabelKeys<'_>, proxies: &Proxies) -> Workload {
    let all = pod.metadata.labels.as_ref();
    let labels = all.into_iter().flatten();
    let labels = labels.filter(|(label, _)| keys.ask(&key.namespace, label));
    Workload {
        namespace: key.namespace.clone(),
        service_account: pod.service_account.clone(),
        pod: key.name.clone(),
        labels: labels
            .map(|(label, value)| (label.clone(), value.clone()))
            .collect(),
        proxy_of: proxies.gateway(&key.namespace, all).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(pods: &[(&str, Pod)]) -> Objects<Pod> {
        let pods = pods.iter();
        pods.map(|(name, pod)| (ObjectKey::new("shop", *name), Arc::new(pod.clone())))
            .collect()
    }

    fn pod(addresses: &[&str]) -> Pod {
        Pod {
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            ..Pod::default()
        }
    }

    fn index_of(all: &[(&str, Pod)]) -> Vec<(String, String)> {
        let index = index(&pods(all), &LabelKeys::default(), &Proxies::default());
        let index = index.into_iter();
        index
            .map(|(key, workload)| (key.to_string(), workload.pod.clone()))
            .collect()
    }

    #[test]
    fn who_shares_an_address_with_a_running_pod_is_unknown() {
        let ended = |addresses: &[&str]| Pod {
            has_ended: true,
            ..pod(addresses)
        };
        assert_eq!(
            index_of(&[
                ("a", pod(&["10.0.0.1", "2001:db8::1"])),
                ("b", pod(&["10.0.0.1"])),
                ("c", pod(&["10.0.0.2"])),
                ("d", ended(&["10.0.0.2", "10.0.0.3"])),
                ("e", pod(&["::ffff:10.0.0.4", "10.0.0.4"])),
            ]),
            [("10.0.0.2", "c"), ("10.0.0.4", "e"), ("2001:db8::1", "a")]
                .map(|(address, pod)| (address.to_owned(), pod.to_owned()))
        );
    }

    #[test]
    fn a_third_claim_makes_nobody_known() {
        let same = || pod(&["10.0.0.1"]);
        assert_eq!(index_of(&[("a", same()), ("b", same()), ("c", same())]), []);
    }
}
