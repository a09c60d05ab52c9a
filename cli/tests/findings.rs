//! `docs/findings.md` names every code that the sources report, and no other.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Codes stand right behind one of these, or behind the severity or scope that follows it.
const REPORTS: [&str; 4] = ["error(", "warning(", "problem(", "unsupported("];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(directory: &Path, all: &mut String) {
    for entry in fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("readable").path())
    {
        if entry.is_dir() {
            sources(&entry, all);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).expect("readable");
            all.push_str(text.split("#[cfg(test)]").next().unwrap_or_default());
        }
    }
}

/// The reasons that `status/reason.rs` gives names to, as `NAME` and `Code`.
fn reasons() -> Vec<(String, String)> {
    let text =
        fs::read_to_string(root().join("controller/src/status/reason.rs")).expect("readable");
    let constant = |line: &str| {
        let (name, code) = line.trim().trim_end_matches(';').split_once(" = ")?;
        Some((name.to_owned(), code.trim_matches('"').to_owned()))
    };
    text.lines()
        .filter(|line| line.ends_with("\";"))
        .filter_map(constant)
        .collect()
}

fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/findings.md")).expect("readable");
    text.lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect()
}

/// The first code among the next few arguments of a call.
fn code(arguments: &str, reasons: &[(String, String)]) -> Option<String> {
    for argument in arguments.split(',').take(2).map(str::trim) {
        if let Some(literal) = argument.strip_prefix('"') {
            let code = literal.split('"').next().unwrap_or_default();
            if code.starts_with(|first: char| first.is_ascii_uppercase())
                && code.chars().all(char::is_alphanumeric)
            {
                return Some(code.to_owned());
            }
        }
        if let Some(name) = argument.strip_prefix("reason::") {
            return reasons
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, code)| code.clone());
        }
    }
    None
}

#[test]
fn every_code_is_documented_and_every_documented_code_exists() {
    let mut text = String::new();
    sources(&root().join("controller/src"), &mut text);
    sources(&root().join("cli/src"), &mut text);
    let reasons = reasons();
    let reported: BTreeSet<String> = REPORTS
        .iter()
        .flat_map(|report| {
            text.match_indices(report)
                .map(|(at, found)| &text[at + found.len()..])
        })
        .filter_map(|arguments| code(arguments, &reasons))
        .collect();
    assert!(reported.len() > 30, "only {reported:?} found");
    let documented = documented();
    let missing: Vec<_> = reported.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/findings.md: {missing:?}");
    for code in &documented {
        let used =
            reasons.iter().any(|(_, known)| known == code) || text.contains(&format!("\"{code}\""));
        assert!(used, "docs/findings.md names {code}, which nothing reports");
    }
}
