//! `portcullis analyze`: what is wrong with manifests, and what to do about it.

pub(crate) mod broken;
pub(crate) mod certificates;
mod lint;
mod shadow;

use std::{process::ExitCode, time::SystemTime};

use portcullis_controller::{Finding, Resources, Translation};

use crate::{
    args::AnalyzeArgs,
    grant,
    output::{self, GOOD, count, styled},
    report::{self, Issue},
    source::Source,
};

/// Prints the findings of files and directories.
pub(crate) fn analyze(args: &AnalyzeArgs) -> anyhow::Result<ExitCode> {
    let configuration = Source::new(&args.paths)?.examine()?;
    let objects = configuration.resources.len();
    output::print(args.output.output, &configuration.issues, |issues| {
        if issues.is_empty() {
            styled(GOOD, "all is well") + &format!(": {}, no findings\n", count(objects, "object"))
        } else {
            format!(
                "{}\n{} in {}\n",
                report::text(issues),
                report::summary(issues),
                count(objects, "object")
            )
        }
    })?;
    Ok(report::exit_code(&configuration.issues))
}

/// A finding of a translation, with the manifest that mends it.
pub(crate) fn issue(finding: &Finding, resources: &Resources) -> Issue {
    Issue {
        apply: grant::for_finding(finding, resources),
        ..Issue::from(finding.clone())
    }
}

/// The findings of a translation, with the manifests that mend them, and hints beyond them.
pub(crate) fn issues(resources: &Resources, translation: &Translation) -> Vec<Issue> {
    let found = translation.findings.iter();
    let found = found.map(|finding| issue(finding, resources));
    let now = SystemTime::now();
    let of_tables = translation.tables.values().flat_map(|table| {
        [
            lint::table(table),
            shadow::hints(table),
            certificates::hints(table, now),
        ]
        .concat()
    });
    let mut hints: Vec<Issue> = of_tables
        .chain(lint::unserved(resources, translation))
        .map(Issue::from)
        .collect();
    // A backend or certificate that several Gateways use is told once.
    hints.sort_by(|one, other| {
        (&one.object, &one.field, &one.code).cmp(&(&other.object, &other.field, &other.code))
    });
    hints.dedup();
    found.chain(hints).collect()
}
