//! One watch that never ends: pages, bookmarks, expiry and failures are its business; what it hears goes to a sink.

use std::{collections::BTreeMap, fmt, ops::ControlFlow};

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Resource,
    api::{Request, WatchParams},
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;

use super::backoff::Backoff;
use crate::{metrics::Metrics, resources::ObjectKey, translate::Obstacle};

/// Where a watch puts what it hears.
pub(crate) trait Sink<T> {
    /// Everything there is.
    fn replace(&self, all: BTreeMap<ObjectKey, T>);
    /// Whether a list counts that no watch keeps up to date.
    fn takes_lists(&self) -> bool {
        false
    }
    /// Such a list. What it is of counts as unreadable as before.
    fn renew(&self, _: BTreeMap<ObjectKey, T>) {}
    /// Something new or changed.
    fn apply(&self, key: ObjectKey, object: T);
    /// Something gone.
    fn delete(&self, key: &ObjectKey);
    /// Whether an API server may well have no such resource, which is no failure then.
    fn may_be_missing(&self) -> bool {
        false
    }
    /// This cannot be read, and that will not pass in a moment. Returns whether everything is to be listed anew once it can be:
    /// a watch that goes on where it was would not tell.
    fn unreadable(&self, _: &Unreadable) -> bool {
        false
    }
    /// Whether it was told so, and nothing was listed since.
    fn is_unreadable(&self) -> bool {
        false
    }
}

/// What helps, as far as it is known.
pub(super) fn remedy(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Refused => {
            ". Give the controller's ServiceAccount the verbs list and watch for it, as the ClusterRoles of config/rbac do"
        }
        Obstacle::NotServed => ". Install the CRD of a release that has it",
        Obstacle::Failing => "",
    }
}

/// Why a kind cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// What keeps it from being read.
    pub(crate) obstacle: Obstacle,
    /// What the API server says.
    pub(crate) why: String,
}

/// Why a watch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The API server says that there is no such resource.
    NotFound,
    /// What was heard last is too long ago: everything has to be listed again.
    Expired,
    /// It cannot be read, as the sink has been told.
    Unreadable,
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
    // Where only lists are given, what they say is as good as it gets, but does not count as readable: that would come and go.
    while sink.is_unreadable() {
        let Err(error) = try_watch(&api).await else {
            break;
        };
        if sink.takes_lists()
            && let Some(all) = list(&api, &selected).await
        {
            sink.renew(all);
        }
        if let ControlFlow::Break(ended) = failed(kind, &error, sink, metrics, backoff).await {
            return ended;
        }
    }
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
                if let ControlFlow::Break(ended) =
                    failed(kind, &error, sink, metrics, backoff).await
                {
                    return ended;
                }
            }
            None => return Ended::Expired,
        }
    }
}

/// Everything there is now; `None` if that cannot be listed.
async fn list<T>(api: &Api<T>, selected: &watcher::Config) -> Option<BTreeMap<ObjectKey, T>>
where
    T: Resource + Clone + fmt::Debug + DeserializeOwned + Send + 'static,
{
    // It goes on to watch only when it is asked for more.
    let stream = watcher(api.clone(), selected.clone());
    pin_mut!(stream);
    let mut listed = BTreeMap::new();
    loop {
        match stream.next().await?.ok()? {
            Event::InitApply(object) => drop(listed.insert(ObjectKey::of(&object), object)),
            Event::InitDone => return Some(listed),
            Event::Init | Event::Apply(_) | Event::Delete(_) => {}
        }
    }
}

/// Whether a watch can begin; of objects of a name that hardly any has, as nobody reads what it would say.
async fn try_watch<T: Resource + Clone>(api: &Api<T>) -> Result<(), watcher::Error> {
    let few = WatchParams::default()
        .fields("metadata.name=portcullis-probe")
        .timeout(1);
    let request = Request::new(api.resource_url()).watch(&few, "0");
    let answer = async {
        let request = request.map_err(kube::Error::BuildRequest)?;
        // `Api::watch` does not look at how it is answered before there is something to read.
        api.clone().into_client().request_stream(request).await
    };
    answer
        .await
        .map(drop)
        .map_err(watcher::Error::WatchStartFailed)
}

/// Tells of a failure and waits, unless the watch has to begin anew.
async fn failed<T>(
    kind: &'static str,
    error: &watcher::Error,
    sink: &impl Sink<T>,
    metrics: &Metrics,
    backoff: &mut Backoff,
) -> ControlFlow<Ended> {
    if status_code(error) == Some(404) && sink.may_be_missing() {
        return ControlFlow::Break(Ended::NotFound);
    }
    metrics.watch_failed(kind);
    if let watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_) = error {
        backoff.ended();
    }
    match (status_code(error), error) {
        (Some(404), _) => return ControlFlow::Break(Ended::NotFound),
        // The watcher lists again by itself.
        (Some(410), watcher::Error::WatchError(_)) => {
            tracing::debug!(kind, "a watch has expired; listing again");
            return ControlFlow::Continue(());
        }
        // The watch did not even begin: the watcher would try the same again for ever.
        (Some(410), watcher::Error::WatchStartFailed(_) | watcher::Error::WatchFailed(_)) => {
            return ControlFlow::Break(Ended::Expired);
        }
        _ => {}
    }
    let obstacle = match status_code(error) {
        Some(403) => Obstacle::Refused,
        _ => Obstacle::Failing,
    };
    let error = why_watch_failed(kind, error);
    // Rights too come a moment after an API server: it knows them once it has read the roles.
    if backoff.is_lasting() {
        let why = Unreadable {
            obstacle,
            why: error.clone(),
        };
        if sink.unreadable(&why) {
            tracing::debug!(kind, error, "cannot be read; trying again");
            return ControlFlow::Break(Ended::Unreadable);
        }
    }
    let wait = backoff.wait();
    tracing::warn!(
        kind,
        error,
        ?wait,
        "cannot watch; what is known stays in force{}",
        remedy(obstacle)
    );
    tokio::time::sleep(wait).await;
    ControlFlow::Continue(())
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
