//! Reads the objects of one kind that others refer to: at once, and again whenever they change.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use kube::{Api, Client};
use tokio::time::timeout;

use super::{
    ResourceStore,
    backoff::{Backoff, BackoffTimes},
    follow::why,
    kind::Referenced,
    object::Watched,
};
use crate::{
    metrics::Metrics,
    resources::{NotRead, ObjectKey},
};

/// Time for one request; beyond it what is known of the object has to do until the next try.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads objects of `K` for ever.
pub(super) async fn read<K: Referenced>(
    client: Client,
    store: Arc<ResourceStore>,
    metrics: Arc<Metrics>,
    times: BackoffTimes,
) {
    let mut unread = store.unread();
    let mut reading = FuturesUnordered::new();
    loop {
        for key in store.take_unread::<K>() {
            let backoff = Backoff::new(times);
            reading.push(read_one::<K>(&client, &store, &metrics, key, backoff));
        }
        tokio::select! {
            changed = unread.changed() => if changed.is_err() { return },
            Some(()) = reading.next() => {}
        }
    }
}

/// Reads one object, until it succeeds or nobody wants it any more.
async fn read_one<K: Referenced>(
    client: &Client,
    store: &ResourceStore,
    metrics: &Metrics,
    key: ObjectKey,
    mut backoff: Backoff,
) {
    let api = Api::<Watched<K>>::namespaced(client.clone(), &key.namespace);
    loop {
        let (how, why) = match timeout(TIMEOUT, api.get_opt(&key.name)).await {
            Ok(Ok(object)) => return store.read(&key, object),
            Ok(Err(error)) => (NotRead::of(&error), why(K::NAME, &error)),
            Err(_) => (
                NotRead::Failing,
                "the API server does not answer".to_owned(),
            ),
        };
        metrics.watch_failed(K::NAME);
        if !store.unreadable::<K>(&key, how) {
            return;
        }
        let wait = backoff.wait();
        tracing::warn!(kind = K::NAME, object = %key, error = why, ?wait, "cannot read an object");
        tokio::time::sleep(wait).await;
    }
}
