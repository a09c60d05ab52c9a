//! `portcullis analyze`: what is wrong with manifests, and what to do about it.

pub(crate) mod broken;
mod certificates;
mod grant;
mod lint;
mod shadow;

use std::{process::ExitCode, time::SystemTime};

use portcullis_controller::{Resources, Translation};

use crate::{
    args::AnalyzeArgs,
    output::{self, GOOD, count, styled},
    report::{self, Issue},
    source::Source,
};

/// Prints the findings of files and directories.
pub(crate) fn analyze(args: &AnalyzeArgs) -> anyhow::Result<ExitCode> {
    let configuration = Source::new(&args.paths)?.examine()?;
    let objects = configuration.objects;
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

/// The findings of a translation, with the manifests that mend them, and hints beyond them.
pub(crate) fn issues(resources: &Resources, translation: &Translation) -> Vec<Issue> {
    let found = translation.findings.iter().map(|finding| Issue {
        apply: grant::for_finding(finding, resources),
        ..Issue::from(finding.clone())
    });
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
