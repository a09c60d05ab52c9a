//! Files and directories as the source of a configuration, with a memory of what was good.
//!
//! Kubernetes refuses an object that is not valid and keeps the one it has. Files have nobody who refuses, so the same
//! is done here: while a document is broken, the object it described before stays in force, and while GatewayParameters cannot be
//! used, so do the last good ones. A path that is not there or
//! cannot be listed, or paths without a single object, are no configuration at all: loading fails, and the caller keeps
//! what it has.

mod left_out;
mod unknown;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use portcullis_controller::{
    Finding, ObjectRef, Options, Resources, Severity, Translation,
    manifests::{self, LoadProblem, Loaded},
    resources::Redacted,
    translate::{self, ParametersInForce},
};

use crate::{analyze, report::Issue};

/// Largest file, bytes. Nobody writes more by hand; some devices never end.
const MAX_TEXT: u64 = 256 << 20;
/// Files that are not read and named all the same.
const NAMED: usize = 5;

/// Everything a set of manifests says.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// What it becomes.
    pub(crate) translation: Translation,
    /// What is wrong with it.
    pub(crate) issues: Vec<Issue>,
    /// All objects.
    pub(crate) resources: Resources,
    /// Those of them that are of earlier versions, since their documents are broken now.
    pub(crate) kept: Vec<ObjectRef>,
    /// Ports of the listeners, also of those that are not served.
    pub(crate) ports: BTreeSet<u16>,
    /// What is not in force at all, and would be if what is said of it were mended: object and place.
    pub(crate) left_out: Vec<String>,
    /// Why it is not known what EgressPolicies say, where somebody would go by them.
    unknown_policies: Vec<LoadProblem>,
}

impl Configuration {
    /// What texts become, given as pairs of a name for messages and the text.
    pub(crate) fn of_texts(texts: &[(String, String)]) -> Self {
        let mut loaded = Loaded::default();
        for (name, text) in texts {
            loaded.read_text(name, text);
        }
        let options = Options::standalone();
        Self::new(&loaded.resources, &options, loaded.problems, Vec::new())
    }

    /// What is said of a finding of the translation.
    pub(crate) fn issue(&self, finding: &Finding) -> Option<&Issue> {
        let object = finding.object.to_string();
        let told = (object.as_str(), finding.code, finding.field.as_str());
        let mut issues = self.issues.iter();
        issues.find(|it| (it.object.as_str(), it.code.as_str(), it.field.as_str()) == told)
    }

    /// Fails if there may be an EgressPolicy whose document is broken, and no earlier form of it is in force: what it refuses would
    /// pass without it.
    pub(crate) fn ensure_policies_known(&self) -> anyhow::Result<()> {
        if self.unknown_policies.is_empty() {
            return Ok(());
        }
        bail!("{}", unknown::text(&self.unknown_policies))
    }

    /// What is wrong with documents that describe a route, so that it is left out.
    pub(crate) fn broken_routes(&self) -> impl Iterator<Item = &Issue> {
        let issues = self.issues.iter();
        issues.filter(|it| {
            it.file.is_some()
                && it.severity == Severity::Error
                && it
                    .object
                    .split_once(' ')
                    .is_some_and(|(kind, _)| analyze::broken::ROUTES.contains(&kind))
        })
    }

    /// ServiceEntries whose documents are broken, so that they count as not there: what is wrong with each.
    pub(crate) fn broken_entries(&self) -> impl Iterator<Item = String> {
        let issues = self.issues.iter();
        let broken = issues.filter(|it| {
            it.file.is_some()
                && it.severity == Severity::Error
                && it.object.split(' ').next() == Some("ServiceEntry")
        });
        broken.map(|issue| {
            let Issue {
                place,
                object,
                field,
                message,
                remedy,
                ..
            } = issue;
            let place = place.as_deref().unwrap_or_default();
            format!("as if it were not there: {object} ({place}): {field}: {message}; {remedy}")
        })
    }

    fn new(
        resources: &Resources,
        options: &Options,
        problems: Vec<LoadProblem>,
        kept: Vec<ObjectRef>,
    ) -> Self {
        let translation = translate::translate(resources, options);
        let mut found = analyze::issues(resources, &translation);
        analyze::broken::point_out(&mut found, &problems);
        let mut issues: Vec<Issue> = problems.into_iter().map(Issue::from).collect();
        issues.extend(found);
        Self {
            issues,
            ports: ports(resources, &translation),
            translation,
            resources: resources.clone(),
            kept,
            left_out: Vec::new(),
            unknown_policies: Vec::new(),
        }
    }
}

/// The ports of the listeners that Gateways of ours and their ListenerSets have.
fn ports(resources: &Resources, translation: &Translation) -> BTreeSet<u16> {
    let statuses = &translation.statuses;
    let gateways = statuses.gateways.keys();
    let gateways = gateways.filter_map(|key| resources.gateways.get(key));
    let own = gateways.flat_map(|gateway| gateway.spec.listeners.iter().map(|it| it.port));
    let sets = statuses.listener_sets.keys();
    let sets = sets.filter_map(|key| resources.listener_sets.get(key));
    let of_sets = sets.flat_map(|set| set.spec.listeners.iter().map(|it| it.port));
    own.chain(of_sets)
        .filter_map(|port| u16::try_from(port).ok())
        .collect()
}

/// Reads manifests, again and again.
#[derive(Debug)]
pub(crate) struct Source {
    paths: Vec<PathBuf>,
    piped: Option<(PathBuf, Arc<File>)>,
    files: BTreeMap<PathBuf, Arc<File>>,
    /// `None` if nothing of it is served.
    last_good: Option<Arc<ParametersInForce>>,
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
    /// A source of what is served and followed.
    pub(crate) fn followed(paths: &[PathBuf]) -> anyhow::Result<Self> {
        Ok(Self {
            last_good: Some(Arc::default()),
            ..Self::new(paths)?
        })
    }

    /// A source of these paths. `-` is standard input, which is read now, once and for all.
    pub(crate) fn new(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let (inputs, paths): (Vec<_>, Vec<_>) = paths
            .iter()
            .cloned()
            .partition(|path| path.as_os_str() == "-");
        let piped = if inputs.is_empty() {
            None
        } else {
            let text = text(io::stdin()).context("standard input cannot be read")?;
            let name = PathBuf::from("standard input");
            let file = File::parse(&name, text, None);
            Some((name, Arc::new(file)))
        };
        Ok(Self {
            paths,
            piped,
            files: BTreeMap::new(),
            last_good: None,
        })
    }

    /// Reads what has changed, and translates the whole.
    pub(crate) fn load(&mut self) -> anyhow::Result<Configuration> {
        self.read(|_| false)
    }

    /// The same for who asks only what is wrong: that every document is broken is an answer then.
    pub(crate) fn examine(&mut self) -> anyhow::Result<Configuration> {
        let broken = |problem: &LoadProblem| problem.severity == Severity::Error;
        self.read(|problems| problems.iter().any(broken))
    }

    /// `is_told` says whether problems are worth it where there is no object.
    fn read(
        &mut self,
        is_told: impl FnOnce(&[LoadProblem]) -> bool,
    ) -> anyhow::Result<Configuration> {
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
        if resources.is_empty() && !is_told(&problems) {
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
        let options = Options {
            last_good: self.last_good.clone(),
            ..Options::standalone()
        };
        let mut configuration = Configuration::new(&resources, &options, problems, kept);
        point_to_files(&mut configuration.issues, &files);
        configuration.left_out = left_out::left_out(&files, &resources, &configuration.translation);
        configuration.unknown_policies =
            unknown::policies(&files, &resources, &configuration.translation);
        self.files = files;
        if let Some(last_good) = &mut self.last_good {
            *last_good = Arc::clone(&configuration.translation.parameters);
        }
        Ok(configuration)
    }
}

/// The text of a file, or of standard input.
fn text(file: impl Read) -> io::Result<String> {
    let mut text = String::new();
    file.take(MAX_TEXT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_TEXT {
        let message = format!("it has more than {} MiB", MAX_TEXT >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

impl File {
    fn read(path: &Path, known: Option<&Arc<Self>>) -> Arc<Self> {
        match (fs::File::open(path).and_then(text), known) {
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
                let problem = |remedy| file_problem(path, "Unreadable", &error.to_string(), remedy);
                match known {
                    Some(known) => {
                        let problem = problem(
                            "make the file readable, as UTF-8 text; what it held before stays in force until then",
                        );
                        Arc::new(Self::keeping(String::new(), known, problem))
                    }
                    None => Arc::new(Self {
                        text: Redacted::default(),
                        resources: Resources::default(),
                        kept: Vec::new(),
                        problems: vec![problem("make the file readable, as UTF-8 text")],
                    }),
                }
            }
        }
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
            let first = file_of(files, &object).unwrap_or_default();
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

/// The file that an object is from.
fn file_of(files: &BTreeMap<PathBuf, Arc<File>>, object: &ObjectRef) -> Option<String> {
    let mut files = files.iter();
    let (path, _) = files.find(|(_, file)| file.resources.contains(object))?;
    Some(path.display().to_string())
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
        meant: None,
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
mod tests;
