//! What is wrong and what to do about it: problems of files and findings of objects in one form.

use std::{
    collections::{BTreeSet, HashSet},
    fmt::Write as _,
    process::ExitCode,
};

use portcullis_controller::{Finding, Severity, manifests::LoadProblem};
use serde::Serialize;

use crate::{
    FINDINGS,
    output::{BAD, DIM, GOOD, HEAD, ODD, count, indented, styled},
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
    /// The file alone: lines move.
    #[serde(skip)]
    pub(crate) file: Option<String>,
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
    /// Nothing of what was read is served.
    pub(crate) fn nothing_served() -> Self {
        Self {
            severity: Severity::Error,
            code: "NothingServed".into(),
            place: None,
            file: None,
            object: "all manifests".into(),
            field: String::new(),
            message: "no listener of any Gateway is served".into(),
            remedy: "mend the other findings; at least one Gateway of class portcullis is needed, with a valid listener"
                .into(),
            apply: None,
        }
    }

    /// What is at fault: an object, or a file that cannot be told to describe any.
    fn culprit(&self) -> &str {
        match &self.file {
            Some(file) if self.object.is_empty() => file,
            _ => &self.object,
        }
    }

    /// What tells it from others, wherever in the file it stands.
    fn identity(&self) -> [&str; 4] {
        [self.culprit(), &self.code, &self.field, &self.message]
    }
}

/// What is wrong now and was not before, and what is mended: of what was wrong with an object, nothing of that kind is
/// wrong any more.
pub(crate) fn news(before: &[Issue], now: &[Issue]) -> String {
    let known: HashSet<_> = before.iter().map(Issue::identity).collect();
    let mut text = text(
        now.iter()
            .filter(|issue| !known.contains(&issue.identity())),
    );
    let kinds = |issues: &'_ [Issue]| -> BTreeSet<(String, String)> {
        let kind = |issue: &Issue| (issue.code.clone(), issue.culprit().to_owned());
        issues.iter().map(kind).collect()
    };
    for (code, culprit) in kinds(before).difference(&kinds(now)) {
        writeln!(text, "{}  {code}  {culprit}", styled(GOOD, "mended ")).ok();
    }
    text
}

impl From<Finding> for Issue {
    fn from(finding: Finding) -> Self {
        Self {
            severity: finding.severity,
            code: finding.code.to_owned(),
            place: None,
            file: None,
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
            place: Some(problem.place()),
            file: Some(problem.file),
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
        file: _,
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

#[cfg(test)]
mod tests {
    use portcullis_controller::{ObjectKey, ObjectRef};

    use super::*;

    fn issue(name: &str, code: &'static str, message: &str) -> Issue {
        let object = ObjectRef::new("HTTPRoute", ObjectKey::new("shop", name));
        Issue::from(object.error(code, "spec", message, "mend it"))
    }

    fn told(before: &[Issue], now: &[Issue]) -> Vec<String> {
        let plain: String = anstream::adapter::strip_str(&news(before, now)).collect();
        let first_words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        plain.lines().map(first_words).collect()
    }

    #[test]
    fn what_is_new_is_told_once_and_what_is_mended_too() {
        let (one, other) = (issue("a", "Invalid", "one"), issue("b", "Invalid", "one"));
        assert_eq!(told(&[], std::slice::from_ref(&one)).len(), 3);
        assert_eq!(
            told(std::slice::from_ref(&one), std::slice::from_ref(&one)),
            [""; 0]
        );
        let both = [one, other.clone()];
        assert_eq!(told(&both, &[other]), ["mended Invalid HTTPRoute shop/a"]);
    }

    #[test]
    fn what_is_broken_in_another_way_is_not_mended() {
        let before = [issue("a", "Invalid", "one"), issue("a", "Invalid", "other")];
        let now = [issue("a", "Invalid", "third")];
        assert_eq!(
            told(&before, &now),
            ["error Invalid HTTPRoute shop/a spec", "third", "-> mend it"]
        );
        assert_eq!(told(&now, &[]), ["mended Invalid HTTPRoute shop/a"]);
    }

    #[test]
    fn files_that_describe_no_object_are_told_apart() {
        let broken = |file: &str| Issue {
            place: Some(format!("{file}:3")),
            file: Some(file.into()),
            object: String::new(),
            ..issue("", "Syntax", "unclosed")
        };
        let both = [broken("a.yaml"), broken("b.yaml")];
        assert_eq!(told(&both, &both[1..]), ["mended Syntax a.yaml"]);
    }
}
