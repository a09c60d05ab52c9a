//! Places for connections: counted by who is at the other end, so that nobody takes those of others.
//!
//! A connection has a place among the handshakes of its address first. Once its certificate has said who it is, it needs
//! one of that Gateway. Replicas have places of their own, or Gateways could keep the statuses from being written.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Limits, limits::MAX_OTHERS, tls::PeerName};
use crate::{metrics::Turned, resources::ObjectKey};

/// Whose places are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// Whoever connects from this address, until its handshake is done.
    Handshake(IpAddr),
    /// The data planes of a Gateway.
    Gateway(ObjectKey),
    /// The other replicas of this controller.
    Replicas,
    /// Whose certificate is good for nothing here: they are told so.
    Strangers,
}

impl Holder {
    /// Whose place it takes to speak with this certificate.
    pub(super) fn of(name: &Result<PeerName, String>, trust_domain: &str) -> Self {
        match name {
            Ok(PeerName::DataPlane(id)) if id.trust_domain == trust_domain => {
                Self::Gateway(id.gateway.clone())
            }
            Ok(PeerName::Replica) => Self::Replicas,
            _ => Self::Strangers,
        }
    }
}

/// The places that are taken.
#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_holder: BTreeMap<Holder, usize>,
    /// By all Gateways.
    by_gateways: usize,
}

impl Places {
    /// All are free.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            taken: Mutex::default(),
        }
    }

    /// Takes a place, or says why there is none.
    pub(super) fn take(self: &Arc<Self>, holder: Holder) -> Result<Place, Turned> {
        let (most, full) = match &holder {
            Holder::Handshake(_) => (self.limits.handshakes_per_address, Turned::Address),
            Holder::Gateway(_) => (self.limits.clients_per_gateway, Turned::Gateway),
            Holder::Replicas | Holder::Strangers => (MAX_OTHERS, Turned::Others),
        };
        let mut taken = self.lock();
        let is_gateway = matches!(holder, Holder::Gateway(_));
        if taken.by_holder.get(&holder).is_some_and(|it| *it >= most) {
            return Err(full);
        }
        if is_gateway && taken.by_gateways >= self.limits.clients {
            return Err(Turned::Total);
        }
        taken.by_gateways += usize::from(is_gateway);
        *taken.by_holder.entry(holder.clone()).or_default() += 1;
        Ok(Place {
            places: Arc::clone(self),
            holder,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    holder: Holder,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.by_gateways -= usize::from(matches!(self.holder, Holder::Gateway(_)));
        if let Some(count) = taken.by_holder.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                taken.by_holder.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_places_of_others() {
        let places = Arc::new(Places::new(Limits {
            clients: 5,
            clients_per_gateway: 3,
            handshakes_per_address: 2,
            ..Limits::default()
        }));
        let gateway = |name: &str| Holder::Gateway(ObjectKey::new("infra", name));
        let take = |holder: Holder| places.take(holder);
        let full = |holder: Holder| take(holder).err();
        let mut greedy: Vec<_> = (0..3).map(|_| take(gateway("greedy")).unwrap()).collect();
        assert_eq!(full(gateway("greedy")), Some(Turned::Gateway));
        let mut other: Vec<_> = (0..2).map(|_| take(gateway("other")).unwrap()).collect();
        assert_eq!(full(gateway("other")), Some(Turned::Total));
        greedy.pop();
        other.push(take(gateway("other")).unwrap());
        let others: Vec<_> = (0..MAX_OTHERS)
            .map(|_| take(Holder::Strangers).unwrap())
            .collect();
        assert_eq!(full(Holder::Strangers), Some(Turned::Others));
        assert!(take(Holder::Replicas).is_ok());

        let address = |last: u8| Holder::Handshake([192, 0, 2, last].into());
        let shaking: Vec<_> = (0..2).map(|_| take(address(1)).unwrap()).collect();
        assert_eq!(full(address(1)), Some(Turned::Address));
        assert!(take(address(2)).is_ok());

        drop((greedy, other, others, shaking));
        assert!(places.lock().by_holder.is_empty());
        assert_eq!(places.lock().by_gateways, 0);
    }
}
