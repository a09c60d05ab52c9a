//! The HTTP side of the fake API server.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Collected, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    Logged, Shared,
    apply::{apply, create, take_over},
    state::{Id, KINDS, Kind, Refusal, State},
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| serve_one(Arc::clone(&shared), request));
            let connection = http1::Builder::new();
            // A client that goes away is part of the game.
            drop(
                connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

/// What a path names.
struct Target {
    kind: &'static Kind,
    version: String,
    namespace: String,
    name: String,
    status: bool,
}

/// `/api/v1/...` or `/apis/{group}/{version}/...`, then `[namespaces/{namespace}/]{plural}[/{name}[/status]]`.
fn target(path: &str) -> Option<Target> {
    let mut parts = path.trim_matches('/').split('/');
    let group = match parts.next()? {
        "api" => "",
        _ => parts.next()?,
    };
    let version = parts.next()?.to_owned();
    let mut rest: Vec<_> = parts.collect();
    let mut namespace = "";
    if rest.len() > 2 && rest[0] == "namespaces" {
        namespace = rest[1];
        rest.drain(..2);
    }
    let part = |index: usize| rest.get(index).copied().unwrap_or_default();
    let kind = KINDS
        .iter()
        .find(|kind| (kind.group, kind.plural) == (group, part(0)))?;
    Some(Target {
        kind,
        version,
        namespace: namespace.into(),
        name: part(1).into(),
        status: part(2) == "status",
    })
}

/// Who says something about an object, and how.
struct Said {
    manager: String,
    applies: bool,
    force: bool,
}

/// Which objects of a kind are asked for: one by name, or those with a label; else all.
#[derive(Clone, Debug)]
struct Selection {
    name: Option<String>,
    label: Option<(String, String)>,
}

impl Selection {
    fn of(query: &BTreeMap<String, String>) -> Self {
        let pair = |selector: &str| query.get(selector)?.split_once('=');
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            name: pair("fieldSelector").map(|(_, name)| name.to_owned()),
            label: pair("labelSelector").map(owned),
        }
    }

    fn has_name(&self, object: &Value) -> bool {
        let name = self.name.as_ref();
        name.is_none_or(|name| object["metadata"]["name"] == **name)
    }

    fn has(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = self.label.as_ref();
        self.has_name(object) && label.is_none_or(|(name, value)| labels[name] == **value)
    }
}

async fn serve_one(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    match shared.document(request.uri().path()) {
        Some(document) => Ok(respond(200, document.to_string())),
        None => answer(shared, request).await,
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let Some(target) = target(request.uri().path()) else {
        return Ok(not_served());
    };
    let header = |name| {
        let value = request.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let mut logged = Logged {
        method: request.method().to_string(),
        kind: target.kind.name,
        name: target.name.clone(),
        status: target.status,
        code: 200,
        from: None,
        client: header(header::AUTHORIZATION).replace("Bearer ", ""),
    };
    let metadata_only = header(header::ACCEPT).contains("PartialObjectMetadata");
    let query: BTreeMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            (
                name.to_owned(),
                value.replace("%3D", "=").replace("%2F", "/"),
            )
        })
        .collect();
    if query.contains_key("watch") {
        logged.from = query.get("resourceVersion").and_then(|it| it.parse().ok());
    }
    let list = request.method() == Method::GET && target.name.is_empty();
    let read = request.method() == Method::GET && !list;
    if !query.contains_key("watch") {
        released(&shared, target.kind, list, read).await;
    }
    let method = request.method().clone();
    let said = Said {
        manager: query.get("fieldManager").cloned().unwrap_or_default(),
        applies: header(header::CONTENT_TYPE).contains("apply-patch"),
        force: query.contains_key("force"),
    };
    let body = request.into_body().collect().await.map(Collected::to_bytes);
    let body: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let answer = shared.change(|state| {
        if !state.serves(target.kind, &target.version) {
            logged.code = 404;
            state.log.push(logged.clone());
            return Ok(None);
        }
        let result = refused(state, target.kind, read, logged.from).and_then(|()| {
            if list && query.contains_key("watch") {
                let from = logged.from.unwrap_or(state.version);
                if state.refuses_expired && from < state.oldest {
                    Err((410, "Expired"))
                } else {
                    Ok(json!(from))
                }
            } else if list {
                list_page(state, &target, &query, metadata_only)
            } else {
                object(state, &method, &target, &said, body)
            }
        });
        if let Err((code, _)) = result {
            logged.code = code;
        }
        state.log.push(logged.clone());
        result.map(Some)
    });
    Ok(match answer {
        Ok(None) => not_served(),
        Ok(Some(from)) if list && query.contains_key("watch") => {
            let from = from.as_u64().unwrap_or_default();
            watch(
                shared,
                target.kind,
                Selection::of(&query),
                from,
                metadata_only,
            )
        }
        Ok(Some(object)) => {
            let object = if metadata_only && !list {
                partial(&object)
            } else {
                object
            };
            respond(200, object.to_string())
        }
        Err((code, reason)) => respond(code, failure(code, reason).to_string()),
    })
}

/// Waits while lists of this kind, or reads of its objects, are held.
async fn released(shared: &Shared, kind: &Kind, list: bool, read: bool) {
    let is_held = |state: &State| {
        list && state.held.contains(kind.name) || read && state.held_reads.contains(kind.name)
    };
    let mut changes = shared.changes.subscribe();
    while is_held(&shared.state.lock().unwrap()) {
        changes.changed().await.unwrap();
    }
}

/// How a request is refused, if it is: for a single object, for a watch from a version on, or for anything else.
fn refused(state: &mut State, kind: &Kind, read: bool, from: Option<u64>) -> Result<(), Refusal> {
    if from.is_some() && state.refused_watches.contains(kind.name) {
        return Err((403, "Refused"));
    }
    if let Some(refusal) = state.refused_reads.get(kind.name).filter(|_| read) {
        return Err(*refusal);
    }
    match state.refused.get_mut(kind.name) {
        Some((times, refusal)) if *times > 0 => {
            *times -= 1;
            Err(*refusal)
        }
        _ => Ok(()),
    }
}

fn list_page(
    state: &State,
    target: &Target,
    query: &BTreeMap<String, String>,
    metadata_only: bool,
) -> Result<Value, Refusal> {
    let limit = query
        .get("limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(usize::MAX);
    // A token says which version the first page was of, and how many objects came before.
    let (version, skip) = match query
        .get("continue")
        .and_then(|token| token.split_once('.'))
    {
        Some((version, skip)) => (version.parse().unwrap(), skip.parse().unwrap()),
        None => (state.version, 0),
    };
    if version < state.oldest {
        return Err((410, "Expired"));
    }
    let selection = Selection::of(query);
    let all: Vec<_> = state
        .objects
        .iter()
        .filter(|((kind, namespace, _), _)| {
            *kind == target.kind.name
                && (target.namespace.is_empty() || *namespace == target.namespace)
        })
        .map(|(_, object)| object)
        .filter(|object| selection.has(object))
        .map(|object| {
            if metadata_only {
                partial(object)
            } else {
                object.clone()
            }
        })
        .collect();
    let items: Vec<_> = all.iter().skip(skip).take(limit).cloned().collect();
    let end = skip + items.len();
    let token = if end < all.len() {
        format!("{version}.{end}")
    } else {
        String::new()
    };
    Ok(json!({
        "kind": format!("{}List", target.kind.name),
        "apiVersion": "v1",
        "metadata": { "resourceVersion": version.to_string(), "continue": token },
        "items": items,
    }))
}

fn object(
    state: &mut State,
    method: &Method,
    target: &Target,
    said: &Said,
    mut body: Value,
) -> Result<Value, Refusal> {
    let manager = &*said.manager;
    let id = |name: &str| -> Id { (target.kind.name, target.namespace.clone(), name.into()) };
    match *method {
        Method::GET => {
            let found = state.get(&id(&target.name));
            if found.is_err() {
                state.sneak_in(&id(&target.name));
            }
            found
        }
        Method::POST => {
            let name = body["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            body["metadata"]["namespace"] = target.namespace.clone().into();
            create(state, &id(&name), manager, body)
        }
        Method::PUT => state.replace(id(&target.name), target.status, body),
        Method::PATCH if said.applies => apply(state, &id(&target.name), manager, said.force, body),
        Method::DELETE => {
            let uid = &body["preconditions"]["uid"];
            state.delete_exactly(&id(&target.name), uid)?;
            Ok(json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }))
        }
        Method::PATCH => {
            let mut object = state.get(&id(&target.name))?;
            json_patch::merge(&mut object, &body);
            let object = state.replace(id(&target.name), target.status, object)?;
            if body["metadata"]["managedFields"].is_array() {
                take_over(state, &id(&target.name), &object);
            }
            Ok(object)
        }
        _ => Err((405, "MethodNotAllowed")),
    }
}

/// A watch from a version on: events, and a bookmark whenever only others have changed.
fn watch(
    shared: Arc<Shared>,
    kind: &'static Kind,
    selection: Selection,
    from: u64,
    metadata_only: bool,
) -> Response<Body> {
    let cuts = shared.state.lock().unwrap().cuts;
    let mut changes = shared.changes.subscribe();
    changes.mark_changed();
    let lines = stream::unfold(Some((shared, changes, from)), move |watch| {
        let selection = selection.clone();
        async move {
            let (shared, mut changes, from) = watch?;
            changes.changed().await.ok()?;
            let (lines, version, over) = {
                let state = shared.state.lock().unwrap();
                // Whatever there is to tell is told before the end.
                let over = state.cuts != cuts;
                if from < state.oldest && state.refuses_expired {
                    (String::new(), from, true)
                } else if from < state.oldest {
                    let error = json!({ "type": "ERROR", "object": failure(410, "Expired") });
                    (format!("{error}\n"), u64::MAX, over)
                } else if state.muted.contains(kind.name) {
                    (String::new(), from, over)
                } else {
                    let lines = lines(&state, kind, &selection, from, metadata_only);
                    (lines, state.version, over)
                }
            };
            Some((lines, (!over).then_some((shared, changes, version))))
        }
    });
    let frames = lines.map(|lines| Ok(Frame::data(Bytes::from(lines))));
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    response
}

fn lines(
    state: &State,
    kind: &Kind,
    selection: &Selection,
    from: u64,
    metadata_only: bool,
) -> String {
    let events = state
        .events
        .iter()
        .filter(|event| event.version > from && event.kind == kind.name)
        .filter(|event| selection.has_name(&event.object));
    let mut lines = String::new();
    for event in events {
        let object = if metadata_only {
            partial(&event.object)
        } else {
            event.object.clone()
        };
        // Whoever loses the label is gone for those who select by it.
        let what = if selection.has(&event.object) {
            event.what
        } else {
            "DELETED"
        };
        lines += &json!({ "type": what, "object": object }).to_string();
        lines.push('\n');
    }
    if lines.is_empty() && state.version > from {
        let version = state.version.to_string();
        let bookmark = json!({
            "type": "BOOKMARK",
            "object": {
                "kind": kind.name, "apiVersion": "v1",
                "metadata": { "resourceVersion": version },
            },
        });
        lines = format!("{bookmark}\n");
    }
    lines
}

fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

fn failure(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": reason,
    })
}

fn not_served() -> Response<Body> {
    respond(404, "404 page not found\n".into())
}

fn respond(code: u16, body: String) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from(body));
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    *response.status_mut() = code.try_into().unwrap();
    response
}
