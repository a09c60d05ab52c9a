//! What is wrong and what to do about it: problems of files and findings of objects in one form.

use std::{fmt::Write as _, process::ExitCode};

use portcullis_controller::{Finding, Severity, manifests::LoadProblem};
use serde::Serialize;

use crate::{
    FINDINGS,
    output::{BAD, DIM, HEAD, ODD, count, indented, styled},
};

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Issue {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// Stable name of this kind of issue.
    pub(crate) code: String,
    /// File and line, where it is the file that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<String>,
    /// Kind, namespace and name, as far as known.
    pub(crate) object: String,
    /// Path of the field; empty for the object as a whole.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) remedy: String,
    /// A manifest that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) apply: Option<String>,
}

impl Issue {
    /// Whether a document, and not what it describes, is at fault.
    pub(crate) fn is_of_file(&self) -> bool {
        self.place.is_some() && self.severity == Severity::Error
    }

    /// Whether it is the same as another one, wherever in the file it stands now.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.code, &self.object, &self.field, &self.message)
            == (&other.code, &other.object, &other.field, &other.message)
    }
}

impl From<Finding> for Issue {
    fn from(finding: Finding) -> Self {
        Self {
            severity: finding.severity,
            code: finding.code.to_owned(),
            place: None,
            object: finding.object.to_string(),
            field: finding.field,
            message: finding.message,
            remedy: finding.remedy,
            apply: None,
        }
    }
}

impl From<LoadProblem> for Issue {
    fn from(problem: LoadProblem) -> Self {
        Self {
            severity: problem.severity,
            code: problem.code.to_owned(),
            place: Some(match problem.line {
                0 => problem.file,
                line => format!("{}:{line}", problem.file),
            }),
            object: format!("{} {}", problem.kind, problem.name)
                .trim()
                .to_owned(),
            field: problem.field,
            message: problem.message,
            remedy: problem.remedy,
            apply: None,
        }
    }
}

/// Whether something that was asked for is not served.
pub(crate) fn has_errors(issues: &[Issue]) -> bool {
    issues.iter().any(|issue| issue.severity == Severity::Error)
}

/// 1 if there is something to mend, else 0. A note is only worth knowing.
pub(crate) fn exit_code(issues: &[Issue]) -> ExitCode {
    let to_mend = issues.iter().any(|issue| issue.severity != Severity::Note);
    if to_mend {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    }
}

/// The issues for people, the worst first.
pub(crate) fn text<'a>(issues: impl IntoIterator<Item = &'a Issue>) -> String {
    let mut sorted: Vec<&Issue> = issues.into_iter().collect();
    sorted.sort_by_key(|issue| issue.severity);
    sorted.into_iter().map(one).collect()
}

/// `2 errors, 1 warning`.
pub(crate) fn summary(issues: &[Issue]) -> String {
    let number = |severity| {
        issues
            .iter()
            .filter(|issue| issue.severity == severity)
            .count()
    };
    let parts: Vec<_> = [
        (Severity::Error, "error"),
        (Severity::Warning, "warning"),
        (Severity::Note, "note"),
    ]
    .into_iter()
    .map(|(severity, noun)| (number(severity), noun))
    .filter(|(number, _)| *number > 0)
    .map(|(number, noun)| count(number, noun))
    .collect();
    if parts.is_empty() {
        "no findings".into()
    } else {
        parts.join(", ")
    }
}

fn one(issue: &Issue) -> String {
    let Issue {
        severity,
        code,
        place,
        object,
        field,
        message,
        remedy,
        apply,
    } = issue;
    let (style, word) = match severity {
        Severity::Error => (BAD, "error  "),
        Severity::Warning => (ODD, "warning"),
        Severity::Note => (DIM, "note   "),
    };
    let mut text = format!("{} {}  {object}", styled(style, word), styled(HEAD, code));
    if !field.is_empty() {
        write!(text, "  {}", styled(DIM, field)).ok();
    }
    text.push('\n');
    if let Some(place) = place {
        text += &indented(&format!("in {place}"), 8);
    }
    text += &indented(message, 8);
    text += &indented(&format!("-> {remedy}"), 8);
    if let Some(manifest) = apply {
        text += &indented("-> or apply this:", 8);
        text += &indented(manifest, 14);
    }
    text
}
