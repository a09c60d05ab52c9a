//! What is wrong and what to do about it: problems of files and findings of objects in one form.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write as _,
    process::ExitCode,
};

use portcullis_controller::{Finding, ObjectRef, Severity, manifests::LoadProblem};
use serde::Serialize;

use crate::{
    FINDINGS,
    output::{ALIKE_SHOWN, BAD, DIM, GOOD, HEAD, ODD, count, indented, styled},
};

/// The code of [`Issue::nothing_served`].
const NOTHING_SERVED: &str = "NothingServed";

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
    /// Nothing of what was read is served. `classes` are those of the Gateways that would serve it.
    pub(crate) fn nothing_served(classes: &[&str]) -> Self {
        Self {
            severity: Severity::Error,
            code: NOTHING_SERVED.into(),
            place: None,
            file: None,
            object: "all manifests".into(),
            field: String::new(),
            message: "no listener of any Gateway is served".into(),
            remedy: format!(
                "mend the other findings; at least one Gateway of class {} is needed, with a valid listener",
                classes.join(" or ")
            ),
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

    /// What it is about, in one line.
    fn subject(&self) -> String {
        let culprit = self.culprit();
        if self.field.is_empty() {
            culprit.to_owned()
        } else {
            format!("{culprit}  {}", styled(DIM, &self.field))
        }
    }

    /// How far from the cause of others it may be: nothing comes of an object that cannot be read, little of one whose
    /// Gateway is not served, and that nothing is served at all follows from the rest.
    fn distance(&self) -> usize {
        const CAUSES: [&str; 3] = ["GatewayClass", "Gateway", "ListenerSet"];
        if self.file.is_some() {
            return 0;
        }
        let kind = self.object.split(' ').next();
        let place = CAUSES.iter().position(|cause| Some(*cause) == kind);
        match place {
            Some(place) => place + 1,
            None if self.code == NOTHING_SERVED => CAUSES.len() + 2,
            None => CAUSES.len() + 1,
        }
    }

    /// All that it says, but for what it is about.
    fn words(&self) -> (Severity, &str, &str, &str, Option<&str>) {
        let Self {
            severity,
            code,
            message,
            remedy,
            apply,
            ..
        } = self;
        (*severity, code, message, remedy, apply.as_deref())
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

/// The issues for people: the worst first, and causes before what follows from them. What is said of several objects in the
/// same words is said once.
pub(crate) fn text<'a>(issues: impl IntoIterator<Item = &'a Issue>) -> String {
    let mut sorted: Vec<&Issue> = issues.into_iter().collect();
    sorted.sort_by_key(|issue| (issue.severity, issue.distance()));
    let mut groups: Vec<Vec<&Issue>> = Vec::new();
    let mut places = BTreeMap::new();
    for issue in sorted {
        let place = *places.entry(issue.words()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(issue),
            None => groups.push(vec![issue]),
        }
    }
    groups.iter().map(|group| told(group)).collect()
}

/// `2 errors, 1 warning`.
pub(crate) fn summary(issues: &[Issue]) -> String {
    numbers(&issues.iter().collect::<Vec<_>>()).unwrap_or_else(|| "no findings".into())
}

/// The same after a reload, where there may be more than what was just told: what is wrong with `kept`, the objects that are
/// in force in earlier forms, and what was told before.
pub(crate) fn summary_of_news(before: &[Issue], now: &[Issue], kept: &[ObjectRef]) -> String {
    let kept: HashSet<_> = kept.iter().map(ToString::to_string).collect();
    let is_earlier = |issue: &&Issue| issue.file.is_none() && kept.contains(&issue.object);
    let (earlier, present): (Vec<_>, Vec<_>) = now.iter().partition(is_earlier);
    let earlier = numbers(&earlier);
    let earlier = earlier.map(|it| format!("{it} of the earlier form that stays in force"));
    let parts: Vec<_> = numbers(&present).into_iter().chain(earlier).collect();
    if parts.is_empty() {
        return "no findings".into();
    }
    let known: HashSet<_> = before.iter().map(Issue::identity).collect();
    let known = now.iter().filter(|it| known.contains(&it.identity()));
    let known: Vec<_> = known.collect();
    let again = match numbers(&known) {
        Some(_) if known.len() == now.len() => "; the same as before".to_owned(),
        Some(again) => format!("; as before: {again}"),
        None => String::new(),
    };
    format!("{}{again}", parts.join(", and "))
}

/// Nothing, if there are none.
fn numbers(issues: &[&Issue]) -> Option<String> {
    let number = |severity| {
        let issues = issues.iter();
        issues.filter(|issue| issue.severity == severity).count()
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
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Issues that differ only in what they are about.
fn told(group: &[&Issue]) -> String {
    let Some((first, others)) = group.split_first() else {
        return String::new();
    };
    let (style, word) = match first.severity {
        Severity::Error => (BAD, "error  "),
        Severity::Warning => (ODD, "warning"),
        Severity::Note => (DIM, "note   "),
    };
    let code = styled(HEAD, &first.code);
    let mut text = format!("{} {code}  {}\n", styled(style, word), first.subject());
    if let Some(place) = first.place.as_ref().filter(|it| *it != first.culprit()) {
        text += &indented(&format!("in {place}"), 8);
    }
    for other in others.iter().take(ALIKE_SHOWN) {
        let place = other.place.iter().map(|place| format!(", in {place}"));
        let line = format!("and {}{}", other.subject(), place.collect::<String>());
        text += &indented(&line, 8);
    }
    if let Some(more) = others.len().checked_sub(ALIKE_SHOWN).filter(|it| *it > 0) {
        text += &indented(&format!("and {more} more"), 8);
    }
    text += &indented(&first.message, 8);
    text += &indented(&format!("-> {}", first.remedy), 8);
    if let Some(manifest) = &first.apply {
        text += &to_apply(manifest);
    }
    text
}

/// A manifest that is a remedy.
pub(crate) fn to_apply(manifest: &str) -> String {
    indented("-> or apply this:", 8) + &indented(manifest, 14)
}

#[cfg(test)]
mod tests {
    use portcullis_controller::ObjectKey;

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
    fn what_is_counted_and_was_not_just_told_is_said_to_be_so() {
        let (one, other) = (issue("a", "Invalid", "one"), issue("b", "Invalid", "one"));
        let both = [one.clone(), other.clone()];
        let one = std::slice::from_ref(&one);
        let kept = [ObjectRef::new("HTTPRoute", ObjectKey::new("shop", "b"))];
        for (before, now, kept, expected) in [
            (&[][..], &[][..], &[][..], "no findings"),
            (one, &[], &[], "no findings"),
            (&[], one, &[], "1 error"),
            (one, one, &[], "1 error; the same as before"),
            (one, &both, &[], "2 errors; as before: 1 error"),
            (
                &[],
                &both,
                &kept,
                "1 error, and 1 error of the earlier form that stays in force",
            ),
            (
                &[],
                std::slice::from_ref(&other),
                &kept,
                "1 error of the earlier form that stays in force",
            ),
        ] {
            assert_eq!(summary_of_news(before, now, kept), expected);
        }
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
    fn causes_come_first_and_what_is_said_of_several_objects_is_said_once() {
        let object = |kind: &str, name: &str| ObjectRef::new(kind, ObjectKey::new("shop", name));
        let left = |name: &str| {
            let route = object("HTTPRoute", name);
            Issue::from(route.error("ParentNotServed", "spec.parentRefs[0]", "no", "look there"))
        };
        let cause =
            object("Gateway", "edge").error("GatewayClassNotFound", "spec", "none", "make it");
        let mut issues = vec![Issue::nothing_served(&["portcullis"])];
        issues.extend((0..8).map(|number| left(&format!("r{number}"))));
        issues.push(cause.into());
        let told = told(&[], &issues);
        let expected = [
            "error GatewayClassNotFound Gateway shop/edge spec",
            "none",
            "-> make it",
            "error ParentNotServed HTTPRoute shop/r0 spec.parentRefs[0]",
            "and HTTPRoute shop/r1 spec.parentRefs[0]",
        ];
        assert_eq!(told[..5], expected);
        assert_eq!(told[9..12], ["and 2 more", "no", "-> look there"]);
        assert_eq!(told[12], "error NothingServed all manifests");
    }

    #[test]
    fn a_file_that_describes_no_object_is_named_where_others_have_theirs() {
        let empty = Issue {
            place: Some("a.yaml".into()),
            file: Some("a.yaml".into()),
            object: String::new(),
            field: String::new(),
            ..issue("", "EmptyFile", "it is empty")
        };
        let expected = ["error EmptyFile a.yaml", "it is empty", "-> mend it"];
        assert_eq!(told(&[], &[empty]), expected);
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
