//! Golden tests: manifests in; tables, statuses and findings out.
//!
//! `testdata/<area>/<case>.yaml` holds manifests, then `---` and `# Output`, then what the translation makes of them.
//! The objects of `testdata/_defaults.yaml` are there in every case that does not define them itself.
//! `UPDATE_GOLDEN=1 cargo test -p portcullis-controller --test golden` writes the output anew.
//!
//! Below `---` and `# Before`, if that stands there, are objects in the form that they had before: the case is the second
//! translation then.
//!
//! A case is translated as a standalone proxy would. Its first line may say otherwise, as in
//! `# Options: accepted, cluster`:
//!
//! - `accepted`: the objects are taken as if from an API server, without a check against their schemas;
//! - `cluster`: nothing is known of data planes, and no GatewayClass is implied;
//! - `acknowledged`: as `cluster`, but data planes have acknowledged everything and wait for an address;
//! - `rejects serviceentry/ns/name`: besides, they cannot serve this entry;
//! - `address 192.0.2.1`: the proxy is bound to that address;
//! - `obstructed`: something is in the way of every Gateway's infrastructure;
//! - `tokens`: who issues tokens of service accounts is known;
//! - `no tokens`: it is not;
//! - `unread EgressPolicy`: the controller may not read objects of that kind, and knows none;
//! - `stale EgressPolicy`: it cannot read them any more, and goes by those that it has read;
//! - `pending Pod`: it has not read them yet;
//! - `hidden Secret default/keys`: this Secret or ConfigMap is there, but cannot be read;
//! - `installed v0.8.1`: the CRDs of the cluster are of that release, and there is none for ReferenceGrant.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use portcullis_controller::{
    Finding, ObjectKey, Options, Resources, Statuses,
    manifests::{LoadProblem, Loaded},
    resources::NotRead,
    status::{
        GatewayAddress, Observation, Observed,
        programmed::{Served, obstruct},
        reason,
    },
    translate::{InstalledApi, Obstacle, ParametersInForce, TokenIssuer, Unread, translate},
    watch::References,
};
use portcullis_routing::{EntryKey, GatewayKey, RoutingTable};
use serde::Serialize;

const MARKER: &str = "---\n# Output\n";
const BEFORE: &str = "---\n# Before\n";

/// What stands below the marker.
#[derive(Serialize)]
struct Output {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<LoadProblem>,
    tables: BTreeMap<GatewayKey, RoutingTable>,
    statuses: Statuses,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Finding>,
}

#[test]
fn golden() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let defaults = fs::read_to_string(root.join("_defaults.yaml")).unwrap();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differences = String::new();
    let cases = cases(&root);
    assert!(!cases.is_empty(), "no cases below {}", root.display());
    for path in cases {
        let text = fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once(MARKER).unwrap_or((&text, ""));
        let (now, before) = input.split_once(BEFORE).unwrap_or((input, ""));
        let actual = output(now, before, &defaults);
        if update {
            fs::write(&path, format!("{}\n{MARKER}{actual}", input.trim_end())).unwrap();
        } else if actual != expected {
            let name = path.strip_prefix(&root).unwrap().display();
            writeln!(differences, "{name}:\n{}", difference(expected, &actual)).unwrap();
        }
    }
    assert!(
        differences.is_empty(),
        "output differs (UPDATE_GOLDEN=1 accepts it)\n{differences}"
    );
}

/// The order of documents must not matter, but for the place that problems name.
#[test]
fn order_of_documents_does_not_matter() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let none = None;
    for path in cases(&root) {
        let text = fs::read_to_string(&path).unwrap();
        let input = now(&text);
        let documents: Vec<_> = input.split("\n---\n").collect();
        let reversed = documents
            .iter()
            .rev()
            .copied()
            .collect::<Vec<_>>()
            .join("\n---\n");
        let words = words(input);
        let (forward, backward) = (load(input, &words), load(&reversed, &words));
        if forward
            .problems
            .iter()
            .any(|problem| problem.code == "Duplicate")
        {
            continue;
        }
        let (forward, backward) = (
            run(&forward.resources, &words, none),
            run(&backward.resources, &words, none),
        );
        assert_eq!(forward.tables, backward.tables, "{}", path.display());
        assert_eq!(forward.statuses, backward.statuses, "{}", path.display());
        assert_eq!(forward.findings, backward.findings, "{}", path.display());
    }
}

/// In a cluster only those Secrets and ConfigMaps are read that are known to be referred to.
#[test]
fn nothing_that_is_not_referred_to_is_looked_into() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let defaults = fs::read_to_string(root.join("_defaults.yaml")).unwrap();
    let (mut dropped, none) = (0, None);
    for path in cases(&root) {
        let text = fs::read_to_string(&path).unwrap();
        let input = now(&text);
        let mut words = words(input);
        words.push("cluster");
        let mut loaded = load(input, &words);
        loaded.read_text("_defaults.yaml", &defaults);
        let whole = run(&loaded.resources, &words, none);
        let references = References::of(&loaded.resources, &Options::default().controller_name);
        let before = loaded.resources.len();
        loaded.resources.retain(|object| match &*object.kind {
            "Secret" => references.secrets.contains(&object.key),
            "ConfigMap" => references.config_maps.contains(&object.key),
            _ => true,
        });
        dropped += before - loaded.resources.len();
        let cut = run(&loaded.resources, &words, none);
        assert_eq!(whole.tables, cut.tables, "{}", path.display());
        assert_eq!(whole.statuses, cut.statuses, "{}", path.display());
        assert_eq!(whole.findings, cut.findings, "{}", path.display());
    }
    assert!(dropped > 0, "no case has a Secret that nobody refers to");
}

#[test]
fn there_is_a_case_for_every_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let outputs: Vec<_> = cases(&root)
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let told = |reason: &str| {
        let line = format!(" reason: {reason}\n");
        outputs.iter().any(|output| output.contains(&line))
    };
    // It takes more than a case can show; `bounds.rs` has it.
    let shown = reason::ALL
        .iter()
        .filter(|it| **it != reason::QUOTA_EXCEEDED);
    let missing: Vec<_> = shown.filter(|reason| !told(reason)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn cases(root: &Path) -> Vec<PathBuf> {
    let list = |directory: &Path| {
        let mut entries: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        entries
    };
    list(root)
        .iter()
        .filter(|path| path.is_dir())
        .flat_map(|area| list(area))
        .collect()
}

/// The objects of a case as they are now.
fn now(text: &str) -> &str {
    let input = text.split_once(MARKER).map_or(text, |(input, _)| input);
    input.split_once(BEFORE).map_or(input, |(now, _)| now)
}

/// The options of a case's first line.
fn words(input: &str) -> Vec<&str> {
    let first = input.lines().next().unwrap_or_default();
    first
        .strip_prefix("# Options: ")
        .map(|options| options.split(", ").collect())
        .unwrap_or_default()
}

fn load(text: &str, words: &[&str]) -> Loaded {
    let mut loaded = if words.contains(&"accepted") {
        Loaded::accepted()
    } else {
        Loaded::default()
    };
    loaded.read_text("case.yaml", text);
    loaded
}

fn output(now: &str, before: &str, defaults: &str) -> String {
    let words = words(now);
    let mut loaded = load(now, &words);
    let problems = std::mem::take(&mut loaded.problems);
    loaded.read_text("_defaults.yaml", defaults);
    assert!(
        loaded
            .problems
            .iter()
            .all(|problem| problem.code == "Duplicate"),
        "the defaults do not load: {:?}",
        loaded.problems
    );
    let mut last_good = None;
    if !before.is_empty() {
        let Loaded {
            mut resources,
            problems,
            ..
        } = load(before, &words);
        assert!(problems.is_empty(), "what was before: {problems:?}");
        resources.merge(loaded.resources.clone());
        last_good = Some(run(&resources, &words, last_good.as_ref()).parameters);
    }
    let translation = run(&loaded.resources, &words, last_good.as_ref());
    let tables = translation
        .tables
        .into_iter()
        .map(|(key, table)| (key, table.redacted()))
        .collect();
    let output = Output {
        problems,
        tables,
        statuses: translation.statuses,
        findings: translation.findings,
    };
    serde_saphyr::to_string(&output).unwrap()
}

fn run(
    resources: &Resources,
    words: &[&str],
    last_good: Option<&Arc<ParametersInForce>>,
) -> portcullis_controller::Translation {
    let mut translation = observed(&hidden(resources, words), words, last_good);
    if words.contains(&"obstructed") {
        let why = || "Service default/edge-portcullis cannot be applied: exceeded quota".to_owned();
        let obstacles = resources.gateways.keys().map(|key| (key.clone(), why()));
        obstruct(&mut translation.statuses, &obstacles.collect());
    }
    translation
}

/// The objects without the content of those that cannot be read.
fn hidden<'a>(resources: &'a Resources, words: &[&str]) -> Cow<'a, Resources> {
    let mut resources = Cow::Borrowed(resources);
    for word in words {
        let Some(("hidden", object)) = word.split_once(' ') else {
            continue;
        };
        let (kind, key) = object.split_once(' ').unwrap();
        let (namespace, name) = key.split_once('/').unwrap();
        let key = ObjectKey::new(namespace, name);
        let resources = resources.to_mut();
        if kind == "Secret" {
            resources.secrets.remove(&key);
            resources.not_read.secrets.insert(key, NotRead::Failing);
        } else {
            resources.config_maps.remove(&key);
            resources.not_read.config_maps.insert(key, NotRead::Failing);
        }
    }
    resources
}

fn observed(
    resources: &Resources,
    words: &[&str],
    last_good: Option<&Arc<ParametersInForce>>,
) -> portcullis_controller::Translation {
    let mut options = Options::standalone();
    let mut rejected = BTreeMap::new();
    for word in words {
        match word.split_once(' ').unwrap_or((word, "")) {
            ("accepted" | "obstructed", "") | ("hidden", _) => {}
            ("cluster" | "acknowledged", "") => options = Options::default(),
            ("rejects", key) => {
                rejected.insert(EntryKey::new(key), "it is broken".to_owned());
            }
            ("address", value) => {
                let addresses = vec![GatewayAddress {
                    kind: "IPAddress".into(),
                    value: value.into(),
                }];
                options.observed = Observed::Standalone { addresses };
            }
            ("tokens", "") => {
                options.token_issuer = Some(Ok(TokenIssuer {
                    issuer: "https://kubernetes.default.svc".into(),
                    jwks: r#"{"keys":[{"kid":"1"}]}"#.into(),
                }));
            }
            ("no", "tokens") => {
                options.token_issuer = Some(Err("/openid/v1/jwks: Forbidden".into()));
            }
            ("pending", "Pod") => {
                let installed = options.installed.get_or_insert_default();
                installed.pending.insert("Pod");
            }
            (how @ ("unread" | "stale"), kind) => {
                let kinds = [
                    "CredentialInjection",
                    "EgressPolicy",
                    "GatewayParameters",
                    "HTTPRoute",
                    "ListenerSet",
                    "Node",
                    "Pod",
                    "ServiceEntry",
                    "TLSRoute",
                ];
                let kind = kinds.into_iter().find(|known| *known == kind).unwrap();
                let unread = Unread {
                    obstacle: if how == "unread" {
                        Obstacle::Refused
                    } else {
                        Obstacle::Failing
                    },
                    is_known: how == "stale",
                    why: format!("{how} {kind}"),
                };
                let installed = options.installed.get_or_insert_default();
                installed.release = Some("v1.7.0".into());
                installed.unread.insert(kind, unread);
            }
            ("installed", release) => {
                options.installed = Some(InstalledApi {
                    release: Some(release.into()),
                    missing: ["ReferenceGrant"].into(),
                    ..InstalledApi::default()
                });
            }
            other => panic!("unknown option {other:?}"),
        }
    }
    options.last_good = last_good.cloned();
    let translation = translate(resources, &options);
    if !words.contains(&"acknowledged") {
        return translation;
    }
    let observations = resources.gateways.keys().map(|key| {
        let table = translation
            .tables
            .get(&GatewayKey::of(&key.namespace, &key.name));
        let observation = table.map(|table| Observation {
            acknowledged: table.listeners.clone(),
            served: vec![Served {
                table: Arc::new(table.clone()),
                rejected_entries: rejected.clone(),
                rejected_policies: BTreeMap::new(),
            }],
            ..Observation::default()
        });
        (key.clone(), observation.unwrap_or_default())
    });
    options.observed = Observed::Cluster(observations.collect());
    translate(resources, &options)
}

/// The first lines that differ, with what stands before them.
fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) =
        (expected.lines().collect(), actual.lines().collect());
    let pairs = expected.iter().zip(&actual);
    let first = pairs.take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    let mut show = |sign: char, lines: &[&str]| {
        for line in lines {
            writeln!(text, "  {sign}{line}").unwrap();
        }
    };
    show(' ', &expected[first.saturating_sub(4)..first]);
    for (sign, lines) in [('-', &expected), ('+', &actual)] {
        show(sign, &lines[first..lines.len().min(first + 6)]);
    }
    text
}
