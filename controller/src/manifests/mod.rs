//! Reads manifests into [`Resources`]: YAML or JSON, several documents per file, files or directories.
//!
//! What cannot be read is told with file, document, object, field and remedy; everything else is used.

mod document;
mod field;
mod kind;
mod object;
mod problem;
mod schema;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use self::problem::LoadProblem;
use self::{document::Document, problem::Place};
use crate::{finding::Severity, resources::Resources};

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The objects.
    pub resources: Resources,
    /// What could not be read, or is probably not meant so; in the order of files and documents.
    pub problems: Vec<LoadProblem>,
    /// Whether the objects come from an API server, so that they are not checked against their schemas again.
    accepted: bool,
}

/// What paths lead to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Files that are named themselves, and the `.yaml`, `.yml` and `.json` files below directories, in the order of their
    /// names, without those whose name begins with a dot.
    pub files: Vec<PathBuf>,
    /// The other files below directories, which are not read. Without those whose name begins with a dot.
    pub others: Vec<PathBuf>,
    /// Paths that are not there or cannot be listed.
    pub problems: Vec<LoadProblem>,
}

/// The files that `paths` mean.
pub fn files<P: AsRef<Path>>(paths: &[P]) -> Found {
    let mut found = Found::default();
    for path in paths {
        found.add(path.as_ref(), true);
    }
    found
}

impl Found {
    fn add(&mut self, path: &Path, named: bool) {
        if path.is_dir() {
            match entries(path) {
                Ok(entries) => entries.iter().for_each(|entry| self.add(entry, false)),
                Err(error) => self.problems.push(unreadable(path, &error)),
            }
        } else if named {
            match fs::metadata(path) {
                Ok(_) => self.files.push(path.into()),
                Err(error) => self.problems.push(unreadable(path, &error)),
            }
        } else if is_manifest(path) {
            self.files.push(path.into());
        } else {
            self.others.push(path.into());
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> LoadProblem {
    let place = Place {
        file: path.display().to_string(),
        document: 0,
        line: 0,
    };
    place.problem(
        Severity::Error,
        "Unreadable",
        "",
        error.to_string(),
        "make the file readable, as UTF-8 text, or correct the path",
    )
}

impl Loaded {
    /// Nothing yet, of objects that an API server has accepted: they are taken without a check against their schemas,
    /// and without defaults.
    pub fn accepted() -> Self {
        Self {
            accepted: true,
            ..Self::default()
        }
    }

    /// Reads the documents of one text; `file` is what problems call it.
    pub fn read_text(&mut self, file: &str, text: &str) {
        for document in document::split(text) {
            let place = Place {
                file: file.into(),
                document: document.number,
                line: document.line,
            };
            self.read_document(&place, &document);
        }
    }

    fn read_document(&mut self, place: &Place, document: &Document<'_>) {
        match document.parse() {
            Ok(None) => {}
            Ok(Some(value)) => object::read(self, place, "", value),
            Err((line, message)) => {
                let place = Place {
                    line,
                    ..place.clone()
                };
                // YAML takes it for an alias.
                let found = document.line_at(line);
                let remedy = if [": *", "- *", "[*", ", *"]
                    .iter()
                    .any(|part| found.contains(part))
                {
                    "quote what begins with *, as in \"*.example.com\"; the other documents of the file are read all the same"
                } else {
                    "correct the YAML; the other documents of the file are read all the same"
                };
                self.problems
                    .push(place.problem(Severity::Error, "Syntax", "", message, remedy));
            }
        }
    }
}

fn entries(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    entries.retain(|path| {
        !path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    });
    entries.sort();
    Ok(entries)
}

/// Whether a file in a directory is read: by its extension. A file that is named is read whatever it is called.
pub fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension == *known)
    })
}
