//! Problems of loading: where, what, and what to do.

use std::fmt;

use serde::Serialize;

use crate::finding::Severity;

/// Something in a file that is not used, or probably not meant so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadProblem {
    /// Path of the file.
    pub file: String,
    /// Number of the document in the file, from 1; 0 for the file as a whole.
    pub document: usize,
    /// Line where it is, or where the document begins, from 1; 0 for the file as a whole.
    pub line: usize,
    /// Error: the object is left out. Warning: it is used, without the field that is named.
    pub severity: Severity,
    /// Stable name of the kind of problem.
    pub code: &'static str,
    /// Kind of the object, if known.
    pub kind: String,
    /// The kind that is probably meant, if there is none of that name in its group; of several that may be, the one whose absence
    /// would let something pass.
    #[serde(skip)]
    pub meant: Option<&'static str>,
    /// `namespace/name` of the object, if known.
    pub name: String,
    /// Path of the field, such as `spec.rules[0].matches[1].path.type`; empty for the object as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl LoadProblem {
    /// File and line: `routes.yaml:12`, or the file alone if it is meant as a whole.
    pub fn place(&self) -> String {
        match self.line {
            0 => self.file.clone(),
            line => format!("{}:{line}", self.file),
        }
    }
}

impl fmt::Display for LoadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place())?;
        for part in [&self.kind, &self.name] {
            if !part.is_empty() {
                write!(f, "{part} ")?;
            }
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

/// Where a document stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) document: usize,
    pub(super) line: usize,
}

impl Place {
    /// A problem here, of no known object yet.
    pub(super) fn problem(
        &self,
        severity: Severity,
        code: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> LoadProblem {
        LoadProblem {
            file: self.file.clone(),
            document: self.document,
            line: self.line,
            severity,
            code,
            kind: String::new(),
            meant: None,
            name: String::new(),
            field: field.into(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

impl LoadProblem {
    /// The same problem, of this object.
    pub(super) fn of(self, kind: &str, name: &str) -> Self {
        Self {
            kind: kind.into(),
            name: name.into(),
            ..self
        }
    }
}
