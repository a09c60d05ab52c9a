//! Echo servers: they answer with what they received, so that one sees what the proxy sent.
//!
//! `?delay_ms=N` answers late, `?status=N` answers with that status, and `/seen` tells the last requests.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    net::Ipv4Addr,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;

/// How many requests an echo server remembers.
const REMEMBERED: usize = 20;

/// What came in, as JSON.
#[derive(Clone, Debug, Serialize)]
struct Echo {
    service: &'static str,
    method: String,
    path: String,
    host: String,
    headers: BTreeMap<String, String>,
    body_bytes: usize,
}

/// Binds `count` ports that the system chooses, on the loopback address.
pub(crate) async fn bind(count: usize) -> std::io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    }
    Ok(listeners)
}

/// Serves until the task is dropped. Must run on a `LocalSet`.
pub(crate) async fn serve(service: &'static str, listener: TcpListener) {
    let seen = Rc::new(RefCell::new(VecDeque::new()));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let seen = Rc::clone(&seen);
        tokio::task::spawn_local(async move {
            let answer = service_fn(|request| answer(service, &seen, request));
            // A client that goes away is no news for an echo server.
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await
                .ok();
        });
    }
}

async fn answer(
    service: &'static str,
    seen: &RefCell<VecDeque<Echo>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body_bytes = body.collect().await.map_or(0, |body| body.to_bytes().len());
    if head.uri.path() == "/seen" {
        return Ok(json(StatusCode::OK, service, &*seen.borrow()));
    }
    let echo = Echo {
        service,
        method: head.method.to_string(),
        path: head.uri.to_string(),
        host: text(head.headers.get(header::HOST)),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(Some(value))))
            .collect(),
        body_bytes,
    };
    remember(&mut seen.borrow_mut(), echo.clone());
    let query = head.uri.query().unwrap_or_default();
    if let Some(delay) = parameter(query, "delay_ms") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let status = parameter(query, "status").unwrap_or(StatusCode::OK);
    Ok(json(status, service, &echo))
}

fn remember(seen: &mut VecDeque<Echo>, echo: Echo) {
    if seen.len() == REMEMBERED {
        seen.pop_front();
    }
    seen.push_back(echo);
}

fn text(value: Option<&header::HeaderValue>) -> String {
    value
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default()
}

fn parameter<T: std::str::FromStr>(query: &str, name: &str) -> Option<T> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)?
        .1
        .parse()
        .ok()
}

fn json(
    status: StatusCode,
    service: &'static str,
    value: &impl Serialize,
) -> Response<Full<Bytes>> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
        .headers_mut()
        .insert("x-served-by", header::HeaderValue::from_static(service));
    response
}
