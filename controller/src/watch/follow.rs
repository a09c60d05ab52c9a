//! One watch that never ends: pages, bookmarks, expiry and failures are its business; what it hears goes to a sink.

use std::{collections::BTreeMap, fmt};

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;

use super::backoff::Backoff;
use crate::{metrics::Metrics, resources::ObjectKey};

/// Where a watch puts what it hears.
pub(crate) trait Sink<T> {
    /// Everything there is.
    fn replace(&self, all: BTreeMap<ObjectKey, T>);
    /// Something new or changed.
    fn apply(&self, key: ObjectKey, object: T);
    /// Something gone.
    fn delete(&self, key: &ObjectKey);
    /// The API server does not let us list or watch this.
    fn refused(&self) {}
}

/// Why a watch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The API server says that there is no such resource.
    NotFound,
    /// What was heard last is too long ago: everything has to be listed again.
    Expired,
}

/// Watches everything of one kind that is selected. Failures are told and tried again after a while; until then the sink keeps what it has.
pub(crate) async fn follow<T>(
    api: Api<T>,
    kind: &'static str,
    selected: watcher::Config,
    sink: &impl Sink<T>,
    metrics: &Metrics,
    backoff: &mut Backoff,
) -> Ended
where
    T: Resource + Clone + fmt::Debug + DeserializeOwned + Send + 'static,
{
    let stream = watcher(api, selected);
    pin_mut!(stream);
    let mut listed = BTreeMap::new();
    loop {
        match stream.next().await {
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(object))) => {
                listed.insert(ObjectKey::of(&object), object);
            }
            Some(Ok(Event::InitDone)) => {
                backoff.reset();
                sink.replace(std::mem::take(&mut listed));
            }
            Some(Ok(Event::Apply(object))) => {
                backoff.reset();
                sink.apply(ObjectKey::of(&object), object);
            }
            Some(Ok(Event::Delete(object))) => sink.delete(&ObjectKey::of(&object)),
            Some(Err(error)) => {
                metrics.watch_failed(kind);
                match (status_code(&error), &error) {
                    (Some(404), _) => return Ended::NotFound,
                    // The watcher lists again by itself.
                    (Some(410), watcher::Error::WatchError(_)) => {
                        tracing::debug!(kind, "a watch has expired; listing again");
                        continue;
                    }
                    // The watch did not even begin: the watcher would try the same again for ever.
                    (
                        Some(410),
                        watcher::Error::WatchStartFailed(_) | watcher::Error::WatchFailed(_),
                    ) => return Ended::Expired,
                    (Some(403), _) => sink.refused(),
                    _ => {}
                }
                let wait = backoff.wait();
                let error = why_watch_failed(kind, &error);
                tracing::warn!(
                    kind,
                    error,
                    ?wait,
                    "cannot watch; what is known stays in force"
                );
                tokio::time::sleep(wait).await;
            }
            None => return Ended::Expired,
        }
    }
}

/// Why a watch failed, fit for the log; see [`why`].
pub(crate) fn why_watch_failed(kind: &str, error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error @ kube::Error::SerdeError(_))
        | WatchStartFailed(error @ kube::Error::SerdeError(_))
        | WatchFailed(error @ kube::Error::SerdeError(_)) => why(kind, error),
        error => error.to_string(),
    }
}

/// Why a request for an object of this kind failed, fit for the log: what a parser says of a Secret is left out, as it quotes what
/// it does not expect.
pub(crate) fn why(kind: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::SerdeError(_) if kind == "Secret" => {
            "the API server's answer could not be decoded".to_owned()
        }
        error => error.to_string(),
    }
}

/// The HTTP status that the API server answered with.
fn status_code(error: &watcher::Error) -> Option<u16> {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => match error {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        },
        WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}
