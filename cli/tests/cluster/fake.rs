//! An API server that only answers, over a real socket: lists and gets of the objects that it was given, its version, and
//! what its caller may do.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::portcullis;

/// What a cluster holds, and whom it refuses.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// All objects.
    pub(crate) objects: Vec<Value>,
    /// What pods have printed, by their names.
    pub(crate) logs: BTreeMap<&'static str, String>,
    /// Status codes instead of answers, by plural; `log` is that of pods.
    pub(crate) refused: BTreeMap<&'static str, u16>,
    /// What the caller may list in one namespace, but not in all of them, by plural.
    pub(crate) refused_everywhere: Vec<&'static str>,
    /// What the caller may not create, by plural.
    pub(crate) not_creatable: Vec<&'static str>,
    /// A list with a limit has no more objects than this, however many are asked for.
    pub(crate) page: Option<usize>,
    /// The rest of a list has always changed too much meanwhile.
    pub(crate) is_forgetful: bool,
}

impl Contents {
    /// The objects of a stream of YAML documents.
    pub(crate) fn of(manifests: &str) -> Self {
        Self {
            objects: serde_saphyr::from_multiple(manifests).expect("YAML"),
            ..Self::default()
        }
    }

    /// The same, but requests for a kind are answered with this code.
    pub(crate) fn refusing(mut self, plural: &'static str, code: u16) -> Self {
        self.refused.insert(plural, code);
        self
    }

    /// The same, and a controller that holds its Lease.
    pub(crate) fn controlled(mut self) -> Self {
        let arguments = [
            "--controller-name=portcullis.dev/gateway-controller",
            "--lease-name=portcullis",
        ];
        let metadata = json!({
            "name": "portcullis", "namespace": "portcullis-system",
            "labels": { "app.kubernetes.io/component": "controller" },
        });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": { "template": { "spec": { "containers": [{ "args": arguments }] } } },
        });
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {
                "holderIdentity": "one", "leaseDurationSeconds": 15,
                "renewTime": "2999-01-01T00:00:00.000000Z",
            },
        });
        self.objects.extend([deployment, lease]);
        self
    }

    fn answer(&self, target: &str, body: &Value) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/version" {
            let version = json!({ "major": "1", "minor": "33+", "gitVersion": "v1.33.4-eks" });
            return (200, version);
        }
        if path.ends_with("/selfsubjectaccessreviews") {
            let plural = body["spec"]["resourceAttributes"]["resource"].as_str();
            let is_allowed = plural.is_some_and(|plural| !self.not_creatable.contains(&plural));
            return (201, json!({ "status": { "allowed": is_allowed } }));
        }
        let mut parts = path.trim_matches('/').split('/');
        let root = parts.next();
        let version = match root {
            Some("api") => parts.next().unwrap_or_default().to_owned(),
            _ => parts.by_ref().take(2).collect::<Vec<_>>().join("/"),
        };
        let mut rest: Vec<&str> = parts.collect();
        let mut namespace = None;
        if rest.len() > 2 && rest[0] == "namespaces" {
            namespace = Some(rest[1]);
            rest.drain(..2);
        }
        let plural = rest.first().copied().unwrap_or_default();
        if namespace.is_none() && self.refused_everywhere.contains(&plural) {
            return (403, failure(403, plural));
        }
        if let Some(code) = self.refused.get(plural) {
            return (*code, failure(*code, plural));
        }
        if let ["pods", name, "log"] = rest[..] {
            return match (self.refused.get("log"), self.logs.get(name)) {
                (Some(code), _) => (*code, failure(*code, "pods/log")),
                (None, Some(log)) => (200, log.clone().into()),
                (None, None) => (404, failure(404, "pods/log")),
            };
        }
        let is_asked = |object: &&Value| {
            object["apiVersion"] == *version
                && plural_of(object) == plural
                && namespace.is_none_or(|namespace| object["metadata"]["namespace"] == *namespace)
                && has_labels(object, query)
                && has_fields(object, query)
        };
        let mut asked = self.objects.iter().filter(is_asked);
        if let Some(name) = rest.get(1) {
            let named = asked.find(|object| object["metadata"]["name"] == **name);
            return named.map_or_else(
                || {
                    (
                        404,
                        json!({ "status": "Failure", "code": 404, "reason": "NotFound" }),
                    )
                },
                |object| (200, object.clone()),
            );
        }
        let items: Vec<_> = asked.cloned().collect();
        self.page(&version, query, items)
    }

    /// As many of the objects of a list as the query asks for.
    fn page(&self, version: &str, query: &str, mut items: Vec<Value>) -> (u16, Value) {
        let number = |name| parameter(query, name).map(|it| it.parse().expect("a number"));
        let begin: Option<usize> = number("continue");
        if begin.is_some() && self.is_forgetful {
            return (410, failure(410, "list"));
        }
        let begin = begin.unwrap_or_default();
        items.drain(..begin);
        let mut metadata = json!({});
        if let Some(limit) = number("limit") {
            let limit = limit.min(self.page.unwrap_or(limit));
            if items.len() > limit {
                items.truncate(limit);
                metadata["continue"] = (begin + limit).to_string().into();
            }
        }
        let list = json!({
            "apiVersion": version, "kind": "List", "metadata": metadata, "items": items,
        });
        (200, list)
    }
}

/// Whether an object has the labels that a query asks for, if it asks for any.
fn has_labels(object: &Value, query: &str) -> bool {
    let Some(selector) = parameter(query, "labelSelector") else {
        return true;
    };
    selector.split(',').all(|label| {
        let (name, value) = label.split_once('=').expect("a name and a value");
        object["metadata"]["labels"][name] == *value
    })
}

/// Whether an object has the name that a query asks for, if it asks for any.
fn has_fields(object: &Value, query: &str) -> bool {
    parameter(query, "fieldSelector").is_none_or(|selector| {
        let name = selector.strip_prefix("metadata.name=");
        object["metadata"]["name"] == *name.expect("a name")
    })
}

/// A parameter of a query.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut parts = query.split('&').filter_map(|part| part.split_once('='));
    let (_, value) = parts.find(|(known, _)| *known == name)?;
    let codes = ["%2F/", "%3D=", "%2C,"];
    let decoded = codes.iter().fold(value.to_owned(), |text, code| {
        text.replace(&code[..3], &code[3..])
    });
    Some(decoded)
}

/// As all kinds here have it.
fn plural_of(object: &Value) -> String {
    let kind = object["kind"].as_str().expect("a kind").to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with('a') => format!("{stem}ies"),
        _ if kind.ends_with("ss") => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

fn failure(code: u16, plural: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": "Refused",
        "message": format!("{plural} is forbidden: User \"dora\" cannot list resource \"{plural}\""),
    })
}

/// The server, and a kubeconfig for it. It serves until the test's process ends.
#[derive(Debug)]
pub(crate) struct FakeCluster {
    kubeconfig: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeCluster {
    /// Starts it.
    pub(crate) fn start(contents: Contents) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let cluster = Self::at(address);
        let (contents, asked) = (Arc::new(contents), Arc::clone(&cluster.asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (contents, asked) = (Arc::clone(&contents), Arc::clone(&asked));
                thread::spawn(move || serve(&stream, &contents, &asked));
            }
        });
        cluster
    }

    /// What it was asked for so far: paths with queries.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody fails").clone()
    }

    /// A kubeconfig for whatever is at this address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let kubeconfig = tempfile::tempdir().expect("a directory");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{ "name": "fake", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "dora", "user": { "token": "dora" } }],
            "contexts": [{
                "name": "fake",
                "context": { "cluster": "fake", "user": "dora", "namespace": "shop" },
            }],
        });
        std::fs::write(kubeconfig.path().join("config"), text.to_string()).expect("written");
        Self {
            kubeconfig,
            asked: Arc::default(),
        }
    }

    /// A command that asks this cluster.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = portcullis(arguments);
        command.env("KUBECONFIG", self.kubeconfig.path().join("config"));
        command
    }

    /// Runs such a command.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output();
        output.expect("the binary starts")
    }
}

/// Answers one request after the other, until the client has had enough.
fn serve(stream: &TcpStream, contents: &Contents, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    while let Some((target, body)) = request(&mut reader) {
        asked.lock().expect("nobody fails").push(target.clone());
        let (code, body) = contents.answer(&target, &body);
        let body = match body {
            Value::String(log) => log,
            object => object.to_string(),
        };
        let head = format!(
            "HTTP/1.1 {code} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut writer = stream;
        if writer.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

/// Path with query, and body, of the next request.
fn request(reader: &mut impl BufRead) -> Option<(String, Value)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let target = first.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body).ok()?;
    Some((target, serde_json::from_slice(&body).unwrap_or_default()))
}
