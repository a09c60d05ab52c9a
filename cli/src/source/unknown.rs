//! EgressPolicies whose documents are broken: what they refuse is not known, and would pass without them.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, sync::Arc};

use portcullis_controller::{Resources, Severity, Translation, manifests::LoadProblem};

use super::{File, left_out};

const KIND: &str = "EgressPolicy";

/// Why it is not known what they say. Nothing, if there is no Gateway of egress that would go by them.
pub(super) fn policies(
    files: &BTreeMap<PathBuf, Arc<File>>,
    resources: &Resources,
    translation: &Translation,
) -> Vec<LoadProblem> {
    let mut tables = translation.tables.values();
    if !tables.any(|table| table.settings.egress.is_some()) {
        return Vec::new();
    }
    let in_force = left_out::in_force(resources);
    let problems = files.values().flat_map(|file| {
        let problems = file.problems.iter().filter(|it| may_be_policy(it));
        problems.filter(|problem| !left_out::stands_in(problem, file, &in_force))
    });
    problems.cloned().collect()
}

/// Whether a document is left out that is a policy, or of which nobody knows that it is none.
fn may_be_policy(problem: &LoadProblem) -> bool {
    let LoadProblem { kind, meant, .. } = problem;
    problem.severity == Severity::Error && (kind.is_empty() || kind == KIND || *meant == Some(KIND))
}

/// What follows from these, which are at least one.
pub(super) fn text(problems: &[LoadProblem]) -> String {
    let documents = match problems {
        [one] if one.kind != KIND || one.meant.is_some() => {
            "a document that may be an EgressPolicy is broken"
        }
        [_] => "an EgressPolicy is broken",
        _ => "EgressPolicies, or documents that may be some, are broken",
    };
    let mut text = format!(
        "{documents}, and without it callers could reach what it refuses: mend or remove what is named here"
    );
    for problem in problems {
        write!(text, "\n  {problem}").ok();
    }
    text
}
