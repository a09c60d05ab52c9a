//! Golden lookup tests: `testdata/lookup/*.yaml` hold a table and requests; after `---` and `# Output` stands what becomes
//! of them. `UPDATE_GOLDEN=1` writes the outputs anew.

use std::{env, fs, path::Path, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use portcullis_routing::{
    CompiledTable, Filter, ListenerKey, Rejection, RequestHead, RouteAction, RouteKey,
    RoutingTable, compile, explain,
};
use serde::{Deserialize, Serialize};

const SEPARATOR: &str = "---\n# Output\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    table: RoutingTable,
    requests: Vec<Request>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// `METHOD http://host[:port]/path[?query]`, or `TLS https://host:port/` for a connection that greets this host.
    request: String,
    /// `name: value`
    #[serde(default)]
    headers: Vec<String>,
}

#[derive(Serialize)]
struct Output<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejections: Vec<Rejection>,
    answers: Vec<Answer<'a>>,
}

#[derive(Serialize)]
struct Answer<'a> {
    request: &'a str,
    listener: Option<&'a ListenerKey>,
    route: Option<&'a RouteKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    match_index: Option<usize>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    filters: &'a [Filter],
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a RouteAction>,
    /// The explanation, as people read it.
    because: Vec<String>,
}

fn answer<'a>(compiled: &'a CompiledTable<()>, request: &'a Request) -> Answer<'a> {
    let (method, url) = request.request.split_once(' ').unwrap();
    let (method, url) = (
        method.parse::<Method>().unwrap(),
        url.parse::<Uri>().unwrap(),
    );
    let mut headers = HeaderMap::new();
    for (name, value) in request
        .headers
        .iter()
        .map(|line| line.split_once(": ").unwrap())
    {
        headers.append(
            name.parse::<HeaderName>().unwrap(),
            value.parse::<HeaderValue>().unwrap(),
        );
    }
    let (host, path, query) = (url.host().unwrap(), url.path(), url.query());
    let head = RequestHead {
        host,
        path,
        query,
        method: &method,
        headers: &headers,
    };
    let port = url.port_u16().unwrap_or(80);
    let listener = compiled.port(port).and_then(|port| port.listener_for(host));
    let (route, match_index) = match listener {
        Some(listener) if method.as_str() == "TLS" => (listener.lookup_connection(host), None),
        listener => listener
            .and_then(|listener| listener.lookup(&head))
            .map(|found| (found.route, found.match_index))
            .unzip(),
    };
    let key = route.map(|route| route.key());
    let route = route.map(|route| route.route());
    Answer {
        request: &request.request,
        listener: listener.map(|listener| listener.key()),
        route: key,
        match_index,
        filters: route
            .map(|route| route.filters.as_slice())
            .unwrap_or_default(),
        action: route.map(|route| &route.action),
        because: explain(compiled, port, &head)
            .to_string()
            .lines()
            .map(str::to_owned)
            .collect(),
    }
}

fn output(input: &Input) -> String {
    let (compiled, rejections) = compile(None, Arc::new(input.table.clone()), |_, _| Ok(()));
    let answers = input
        .requests
        .iter()
        .map(|request| answer(&compiled, request))
        .collect();
    serde_saphyr::to_string(&Output {
        rejections,
        answers,
    })
    .unwrap()
}

#[test]
fn golden_lookups() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/lookup");
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut different = Vec::new();
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let (input, expected) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
        let parsed = serde_saphyr::from_str(input)
            .unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let actual = output(&parsed);
        if update {
            fs::write(&case, format!("{input}{SEPARATOR}{actual}")).unwrap();
        } else if actual != expected {
            different.push(format!("{}:\n{actual}", case.display()));
        }
    }
    assert!(
        different.is_empty(),
        "set UPDATE_GOLDEN=1 to accept:\n{}",
        different.join("\n")
    );
}
