//! Files and directories as the source of a configuration, with a memory of what was good.
//!
//! Kubernetes refuses an object that is not valid and keeps the one it has. Files have nobody who refuses, so the same
//! is done here: while a document is broken, the object it described before stays in force. A path that is not there or
//! cannot be listed, or paths without a single object, are no configuration at all: loading fails, and the caller keeps
//! what it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use portcullis_controller::{
    ObjectRef, Options, Resources, Severity, Translation,
    manifests::{self, LoadProblem, Loaded},
    resources::Redacted,
    translate,
};

use crate::{analyze, report::Issue};

/// Files that are not read and named all the same.
const NAMED: usize = 5;

/// Everything a set of manifests says.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// What it becomes.
    pub(crate) translation: Translation,
    /// What is wrong with it.
    pub(crate) issues: Vec<Issue>,
    /// Number of objects.
    pub(crate) objects: usize,
    /// Those of them that are of earlier versions, since their documents are broken now.
    pub(crate) kept: Vec<ObjectRef>,
    /// What is not in force at all, since its document is broken and there is no earlier version: object and place.
    pub(crate) left_out: Vec<String>,
}

impl Configuration {
    /// What texts become, given as pairs of a name for messages and the text.
    pub(crate) fn of_texts(texts: &[(String, String)]) -> Self {
        let mut loaded = Loaded::default();
        for (name, text) in texts {
            loaded.read_text(name, text);
        }
        Self::new(&loaded.resources, loaded.problems, Vec::new())
    }

    fn new(resources: &Resources, problems: Vec<LoadProblem>, kept: Vec<ObjectRef>) -> Self {
        let translation = translate(resources, &Options::standalone());
        let mut found = analyze::issues(resources, &translation);
        analyze::broken::point_out(&mut found, &problems);
        let mut issues: Vec<Issue> = problems.into_iter().map(Issue::from).collect();
        issues.extend(found);
        Self {
            translation,
            issues,
            objects: resources.len(),
            kept,
            left_out: Vec::new(),
        }
    }
}

/// Reads manifests, again and again.
#[derive(Debug)]
pub(crate) struct Source {
    paths: Vec<PathBuf>,
    piped: Option<(PathBuf, Arc<File>)>,
    files: BTreeMap<PathBuf, Arc<File>>,
}

/// What a file held when it was read last.
#[derive(Debug)]
struct File {
    /// With the values of Secrets.
    text: Redacted<String>,
    /// With the objects of earlier versions whose documents are broken now.
    resources: Resources,
    /// Which those are.
    kept: Vec<ObjectRef>,
    problems: Vec<LoadProblem>,
}

impl Source {
    /// A source of these paths. `-` is standard input, which is read now, once and for all.
    pub(crate) fn new(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let (inputs, paths): (Vec<_>, Vec<_>) = paths
            .iter()
            .cloned()
            .partition(|path| path.as_os_str() == "-");
        let piped = if inputs.is_empty() {
            None
        } else {
            let text = io::read_to_string(io::stdin()).context("standard input is no text")?;
            let name = PathBuf::from("standard input");
            let file = File::parse(&name, text, None);
            Some((name, Arc::new(file)))
        };
        Ok(Self {
            paths,
            piped,
            files: BTreeMap::new(),
        })
    }

    /// Reads what has changed, and translates the whole.
    pub(crate) fn load(&mut self) -> anyhow::Result<Configuration> {
        let manifests::Found {
            files: paths,
            others,
            problems: unreadable,
        } = manifests::files(&self.paths);
        if let Some(problem) = unreadable.first() {
            bail!("{problem}");
        }
        let mut files: BTreeMap<_, _> = paths
            .into_iter()
            .map(|path| {
                let file = File::read(&path, self.files.get(&path));
                (path, file)
            })
            .collect();
        files.extend(self.piped.clone());
        let (resources, mut problems) = join(&files);
        problems.extend(not_read(&others));
        if resources.is_empty() {
            let piped = self.piped.iter().map(|(name, _)| name);
            bail!(
                "{}",
                nothing_found(self.paths.iter().chain(piped), &problems)
            );
        }
        let kept = files
            .values()
            .flat_map(|file| file.kept.iter().cloned())
            .collect();
        let mut configuration = Configuration::new(&resources, problems, kept);
        point_to_files(&mut configuration.issues, &files);
        configuration.left_out = files.values().flat_map(|file| file.left_out()).collect();
        self.files = files;
        Ok(configuration)
    }
}

impl File {
    fn read(path: &Path, known: Option<&Arc<Self>>) -> Arc<Self> {
        match (std::fs::read_to_string(path), known) {
            (Ok(text), Some(known)) if text == *known.text => Arc::clone(known),
            (Ok(text), Some(known)) if text.trim().is_empty() && !known.resources.is_empty() => {
                let problem = file_problem(
                    path,
                    "EmptyFile",
                    "the file is empty now; what it held stays in force",
                    "write its content, or remove the file if nothing of it is to be served",
                );
                Arc::new(Self::keeping(text, known, problem))
            }
            (Ok(text), known) => Arc::new(Self::parse(path, text, known)),
            (Err(error), known) => {
                let problem = file_problem(
                    path,
                    "Unreadable",
                    &error.to_string(),
                    "make the file readable, as UTF-8 text; what it held before stays in force until then",
                );
                match known {
                    Some(known) => Arc::new(Self::keeping(String::new(), known, problem)),
                    None => Arc::new(Self {
                        text: Redacted::default(),
                        resources: Resources::default(),
                        kept: Vec::new(),
                        problems: vec![problem],
                    }),
                }
            }
        }
    }

    /// What its broken documents describe and nothing else stands in for.
    fn left_out(&self) -> Vec<String> {
        let mut left_out: Vec<String> = Vec::new();
        for problem in &self.problems {
            let Some(name) = left_out_by(problem) else {
                continue;
            };
            // One that has no name may be any object that the file held.
            let in_force = if problem.name.is_empty() {
                self.kept.iter().any(|object| spoils(problem, object))
            } else {
                let objects = self.resources.objects();
                objects.iter().any(|object| spoils(problem, object))
            };
            if !in_force && !left_out.contains(&name) {
                left_out.push(name);
            }
        }
        left_out
    }

    /// All that was known before stays in force.
    fn keeping(text: String, known: &Self, problem: LoadProblem) -> Self {
        Self {
            text: Redacted(text),
            resources: known.resources.clone(),
            kept: known.resources.objects(),
            problems: vec![problem],
        }
    }

    fn parse(path: &Path, text: String, known: Option<&Arc<Self>>) -> Self {
        let mut loaded = Loaded::default();
        loaded.read_text(&path.display().to_string(), &text);
        let Loaded {
            mut resources,
            problems,
            ..
        } = loaded;
        let mut kept = Vec::new();
        if let Some(known) = known {
            let mut still_meant = known.resources.clone();
            still_meant.retain(|object| problems.iter().any(|problem| spoils(problem, object)));
            kept = still_meant.objects();
            kept.retain(|object| !resources.contains(object));
            resources.merge(still_meant);
        }
        Self {
            text: Redacted(text),
            resources,
            kept,
            problems,
        }
    }
}

/// How to call what is left out because of a problem, if anything is.
fn left_out_by(problem: &LoadProblem) -> Option<String> {
    let object = format!("{} {}", problem.kind, problem.name);
    let object = match object.trim() {
        "" => "a document",
        object => object,
    };
    (problem.severity == Severity::Error).then(|| format!("{object} ({})", problem.place()))
}

/// Whether a problem is the reason why an object is missing now. A document that is no YAML at all may be any object, and
/// one without `kind`, or of a misspelt one, any object of its name.
fn spoils(problem: &LoadProblem, object: &ObjectRef) -> bool {
    let (kind, name) = (&problem.kind, &problem.name);
    problem.severity == Severity::Error
        && (kind.is_empty() || problem.field == "kind" || *kind == object.kind)
        && (name.is_empty() || *name == object.key.name || *name == object.key.to_string())
}

/// All files together, in the order of their paths.
fn join(files: &BTreeMap<PathBuf, Arc<File>>) -> (Resources, Vec<LoadProblem>) {
    let mut resources = Resources::default();
    let mut problems = Vec::new();
    for (path, file) in files {
        problems.extend(file.problems.iter().cloned());
        let twice = resources.merge(file.resources.clone());
        problems.extend(twice.into_iter().map(|object| {
            let first = files
                .iter()
                .find(|(_, file)| file.resources.contains(&object));
            let first = first.map_or_else(String::new, |(path, _)| path.display().to_string());
            LoadProblem {
                kind: object.kind.clone(),
                name: object.key.to_string(),
                ..file_problem(
                    path,
                    "Duplicate",
                    &format!("{first} describes this object too; the one here is left out"),
                    "keep one of the two",
                )
            }
        }));
    }
    (resources, problems)
}

/// Says in which file the object of an issue stands.
fn point_to_files(issues: &mut [Issue], files: &BTreeMap<PathBuf, Arc<File>>) {
    let nowhere: BTreeSet<&str> = issues
        .iter()
        .filter(|issue| issue.place.is_none())
        .map(|issue| issue.object.as_str())
        .collect();
    if nowhere.is_empty() {
        return;
    }
    let mut places = BTreeMap::new();
    for (path, file) in files {
        for object in file.resources.objects() {
            let name = object.to_string();
            if nowhere.contains(name.as_str()) {
                places
                    .entry(name)
                    .or_insert_with(|| path.display().to_string());
            }
        }
    }
    for issue in issues.iter_mut().filter(|issue| issue.place.is_none()) {
        issue.place = places.get(&issue.object).cloned();
    }
}

/// Files in directories that are no manifests by their names. Most are not meant to be; a misnamed one would be missed.
fn not_read(others: &[PathBuf]) -> Option<LoadProblem> {
    let first = others.first()?;
    let names: Vec<_> = others
        .iter()
        .take(NAMED)
        .filter_map(|path| path.file_name())
        .map(|name| name.to_string_lossy())
        .collect();
    let more = others.len().saturating_sub(NAMED);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    Some(LoadProblem {
        severity: Severity::Note,
        ..file_problem(
            first.parent().unwrap_or(first),
            "NotRead",
            &format!(
                "of directories only files named .yaml, .yml and .json are read, so not {}{more}",
                names.join(", ")
            ),
            "rename what is a manifest, or name the file itself",
        )
    })
}

fn file_problem(path: &Path, code: &'static str, message: &str, remedy: &str) -> LoadProblem {
    LoadProblem {
        file: path.display().to_string(),
        document: 0,
        line: 0,
        severity: Severity::Error,
        code,
        kind: String::new(),
        name: String::new(),
        field: String::new(),
        message: message.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn nothing_found<'a>(paths: impl Iterator<Item = &'a PathBuf>, problems: &[LoadProblem]) -> String {
    let places: Vec<_> = paths.map(|path| path.display().to_string()).collect();
    let places = places.join(", ");
    match problems.first() {
        None => format!(
            "there is no object in {places}; put manifests there, in files named .yaml, .yml or .json"
        ),
        Some(problem) => {
            format!("no object in {places} can be used; the first problem is {problem}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const GATEWAY: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, protocol: HTTP, port: 80}]
";

    fn route(name: &str, path: &str) -> String {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
             parentRefs: [{{name: edge}}]\n  rules:\n  - matches: [{{path: {{type: Exact, value: {path}}}}}]\n    \
             filters: [{{type: RequestRedirect, requestRedirect: {{hostname: example.org}}}}]\n"
        )
    }

    fn directory(files: &[(&str, &str)]) -> (TempDir, Source) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(root.path().join(name), text).unwrap();
        }
        let source = Source::new(&[root.path().to_owned()]).unwrap();
        (root, source)
    }

    fn routes(configuration: &Configuration) -> Vec<String> {
        configuration
            .translation
            .tables
            .values()
            .flat_map(|table| table.routes.values())
            .map(|route| format!("{} {:?}", route.source.name, route.matches[0].path))
            .collect()
    }

    fn codes(configuration: &Configuration) -> Vec<&str> {
        configuration
            .issues
            .iter()
            .map(|issue| issue.code.as_str())
            .collect()
    }

    #[test]
    fn good_changes_are_taken_over() {
        let (root, mut source) =
            directory(&[("gateway.yaml", GATEWAY), ("a.yaml", &route("a", "/1"))]);
        assert_eq!(routes(&source.load().unwrap()), [r#"a Exact("/1")"#]);
        fs::write(root.path().join("a.yaml"), route("a", "/2")).unwrap();
        fs::write(root.path().join("b.yaml"), route("b", "/3")).unwrap();
        assert_eq!(
            routes(&source.load().unwrap()),
            [r#"a Exact("/2")"#, r#"b Exact("/3")"#]
        );
        fs::remove_file(root.path().join("a.yaml")).unwrap();
        assert_eq!(routes(&source.load().unwrap()), [r#"b Exact("/3")"#]);
    }

    #[test]
    fn a_broken_object_keeps_its_earlier_form_and_the_others_go_on() {
        let both = route("a", "/1") + &route("b", "/1");
        let (root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("routes.yaml", &both)]);
        source.load().unwrap();
        let broken = route("a", "/2").replace("Exact", "Wrong") + &route("b", "/2");
        fs::write(root.path().join("routes.yaml"), broken).unwrap();
        let configuration = source.load().unwrap();
        assert_eq!(
            routes(&configuration),
            [r#"a Exact("/1")"#, r#"b Exact("/2")"#]
        );
        assert_eq!(codes(&configuration), ["Invalid"]);
    }

    #[test]
    fn a_document_that_is_no_yaml_keeps_what_the_file_held() {
        let both = route("a", "/1") + &route("b", "/1");
        let (root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("routes.yaml", &both)]);
        source.load().unwrap();
        fs::write(
            root.path().join("routes.yaml"),
            format!("---\nkind: [\n{}", route("b", "/2")),
        )
        .unwrap();
        let configuration = source.load().unwrap();
        assert_eq!(
            routes(&configuration),
            [r#"a Exact("/1")"#, r#"b Exact("/2")"#]
        );
        assert_eq!(codes(&configuration), ["Syntax"]);
        fs::write(root.path().join("routes.yaml"), route("b", "/2")).unwrap();
        assert_eq!(routes(&source.load().unwrap()), [r#"b Exact("/2")"#]);
    }

    #[test]
    fn an_object_that_lost_its_kind_keeps_its_earlier_form() {
        let (root, mut source) =
            directory(&[("gateway.yaml", GATEWAY), ("a.yaml", &route("a", "/1"))]);
        source.load().unwrap();
        let broken = route("a", "/2").replace("kind: HTTPRoute", "");
        fs::write(root.path().join("a.yaml"), broken).unwrap();
        let configuration = source.load().unwrap();
        assert_eq!(routes(&configuration), [r#"a Exact("/1")"#]);
        assert_eq!(codes(&configuration), ["NotAnObject"]);
    }

    #[test]
    fn an_object_of_a_misspelt_kind_keeps_its_earlier_form() {
        let (root, mut source) =
            directory(&[("gateway.yaml", GATEWAY), ("a.yaml", &route("a", "/1"))]);
        assert_eq!(source.load().unwrap().kept, []);
        let misspelt = route("a", "/2").replace("kind: HTTPRoute", "kind: HTTPRout");
        fs::write(root.path().join("a.yaml"), misspelt).unwrap();
        for again in 1..3 {
            let configuration = source.load().unwrap();
            assert_eq!(routes(&configuration), [r#"a Exact("/1")"#], "{again}");
            assert_eq!(codes(&configuration), ["UnknownKind"], "{again}");
            let kept: Vec<_> = configuration.kept.iter().map(ToString::to_string).collect();
            assert_eq!(kept, ["HTTPRoute default/a"], "{again}");
        }
    }

    #[test]
    fn what_is_broken_from_the_start_is_left_out_and_named() {
        let misspelt = GATEWAY.replace("port: 80", "port: 80, allowedRoute: {}, hostnam: a");
        let routes = route("a", "/1") + &route("a", "/2") + "---\nkind: [\n" + &route("b", "/1");
        let (root, mut source) =
            directory(&[("gateway.yaml", &misspelt), ("routes.yaml", &routes)]);
        let place = |name: &str| root.path().join(name).display().to_string();
        let left_out = source.load().unwrap().left_out;
        assert_eq!(
            left_out,
            [
                format!("Gateway default/edge ({}:1)", place("gateway.yaml")),
                format!("a document ({}:20)", place("routes.yaml")),
            ]
        );
        fs::write(root.path().join("gateway.yaml"), GATEWAY).unwrap();
        fs::write(root.path().join("routes.yaml"), route("a", "/1")).unwrap();
        assert_eq!(source.load().unwrap().left_out, [""; 0]);
        fs::write(root.path().join("gateway.yaml"), misspelt).unwrap();
        let configuration = source.load().unwrap();
        assert_eq!(configuration.left_out, [""; 0], "the earlier form stays");
        assert_eq!(configuration.kept.len(), 1);
    }

    #[test]
    fn a_source_can_be_printed_without_keys() {
        let secret =
            "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: hunter2}}";
        let (_root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("s.yaml", secret)]);
        let configuration = source.load().unwrap();
        let printed = format!("{source:?} {configuration:?}");
        assert!(printed.contains("[redacted]"), "{printed}");
        let bytes = format!("{:?}", b"hunter2");
        for key in ["hunter2", bytes.trim_matches(['[', ']'])] {
            assert!(!printed.contains(key), "{printed}");
        }
    }

    #[test]
    fn a_misnamed_file_is_told() {
        let (root, mut source) = directory(&[
            ("gateway.yaml", GATEWAY),
            ("a.yaml", &route("a", "/1")),
            ("a.yaml.txt", ""),
            (".b", ""),
        ]);
        let configuration = source.load().unwrap();
        assert_eq!(codes(&configuration), ["NotRead"]);
        let message = &configuration.issues[0].message;
        assert!(message.ends_with("not a.yaml.txt"), "{message}");
        fs::remove_file(root.path().join("a.yaml.txt")).unwrap();
        assert_eq!(codes(&source.load().unwrap()), [""; 0]);
    }

    #[test]
    fn an_emptied_file_is_taken_for_one_that_is_being_written() {
        let (root, mut source) =
            directory(&[("gateway.yaml", GATEWAY), ("a.yaml", &route("a", "/1"))]);
        source.load().unwrap();
        fs::write(root.path().join("a.yaml"), "").unwrap();
        let configuration = source.load().unwrap();
        assert_eq!(routes(&configuration), [r#"a Exact("/1")"#]);
        assert_eq!(codes(&configuration), ["EmptyFile"]);
    }

    #[test]
    fn an_object_in_two_files_is_reported_and_the_first_is_used() {
        let (_root, mut source) = directory(&[
            ("a.yaml", &route("a", "/1")),
            ("b.yaml", &route("a", "/2")),
            ("gateway.yaml", GATEWAY),
        ]);
        let configuration = source.load().unwrap();
        assert_eq!(routes(&configuration), [r#"a Exact("/1")"#]);
        assert_eq!(codes(&configuration), ["Duplicate"]);
        let message = &configuration.issues[0].message;
        assert!(message.contains("a.yaml describes"), "{message}");
    }

    #[test]
    fn nothing_at_all_is_refused_and_forgets_nothing() {
        let (root, mut source) =
            directory(&[("gateway.yaml", GATEWAY), ("a.yaml", &route("a", "/1"))]);
        source.load().unwrap();
        let moved = root.path().with_extension("moved");
        fs::rename(root.path(), &moved).unwrap();
        assert!(source.load().is_err(), "the directory is gone");
        fs::create_dir(root.path()).unwrap();
        let error = source.load().unwrap_err().to_string();
        assert!(error.contains("there is no object in"), "{error}");
        fs::remove_dir(root.path()).unwrap();
        fs::rename(&moved, root.path()).unwrap();
        assert_eq!(routes(&source.load().unwrap()), [r#"a Exact("/1")"#]);
    }
}
