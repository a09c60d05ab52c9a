//! `portcullis check`: whether a cluster is ready for an installation, and whether the installation is well.

mod fleet;
mod installation;
mod platform;
mod pods;
mod rollout;

use std::{
    fmt::{self, Display, Formatter, Write as _},
    process::ExitCode,
};

use serde::Serialize;

use crate::{
    FINDINGS,
    args::CheckArgs,
    cluster::Cluster,
    output::{self, BAD, GOOD, HEAD, ODD, count, indented, styled},
    report,
};

pub(crate) use self::fleet::Fleet;

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    state: State,
    /// What was looked at.
    what: String,
    /// What was found.
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// A manifest that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    apply: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Ok,
    /// Something is less than it could be, or may not be looked at.
    Warning,
    Fault,
}

/// Without the remedy.
impl Display for Item {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.found)
    }
}

impl Item {
    fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            state: State::Ok,
            what: what.into(),
            found: found.into(),
            remedy: None,
            apply: None,
        }
    }

    fn concern(what: impl Into<String>, found: impl Into<String>, remedy: &str) -> Self {
        Self {
            state: State::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(what, found)
        }
    }

    fn fault(what: impl Into<String>, found: impl Into<String>, remedy: &str) -> Self {
        Self {
            state: State::Fault,
            ..Self::concern(what, found, remedy)
        }
    }

    /// Whether there is nothing to be done about it.
    pub(crate) fn is_ok(&self) -> bool {
        self.state == State::Ok
    }

    /// What the caller may not look at.
    fn hidden(what: impl Into<String>, message: &str) -> Self {
        let remedy = "ask for a role with this right, or somebody who has it";
        Self::concern(what, format!("may not be looked at: {message}"), remedy)
    }
}

/// Looks at everything.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let items = runtime.block_on(items(args))?;
    output::print(args.output.output, &items, |items| text(items))?;
    let is_fault = items.iter().any(|item| item.state == State::Fault);
    Ok(if is_fault {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    })
}

async fn items(args: &CheckArgs) -> anyhow::Result<Vec<Item>> {
    let cluster = Cluster::new(&args.cluster).await?;
    let mut items = vec![platform::kubernetes(&cluster).await?];
    items.extend(platform::gateway_api(&cluster).await?);
    if args.pre {
        items.extend(platform::rights(&cluster, &args.namespace).await?);
        return Ok(items);
    }
    items.push(platform::own_kinds(&cluster).await?);
    items.extend(installation::controllers(&cluster, &args.namespace).await?);
    // Without Gateway API there are no objects to look at, and that has been said.
    if !items.iter().any(platform::lacks_gateway_api) {
        items.extend(installation::objects(&cluster, &args.controller_name).await?);
    }
    Ok(items)
}

fn text(items: &[Item]) -> String {
    let number = |state| items.iter().filter(|item| item.state == state).count();
    let (faults, warnings) = (number(State::Fault), number(State::Warning));
    format!(
        "{}\n{}, {}\n",
        lines(items),
        count(faults, "fault"),
        count(warnings, "warning")
    )
}

/// Each item, and below it the remedy. Neighbours with the same one share it.
pub(crate) fn lines(items: &[Item]) -> String {
    let mut text = String::new();
    let alike = |one: &Item, next: &Item| (&one.remedy, &one.apply) == (&next.remedy, &next.apply);
    for group in items.chunk_by(alike) {
        for item in group {
            let (style, word) = match item.state {
                State::Ok => (GOOD, "ok     "),
                State::Warning => (ODD, "warning"),
                State::Fault => (BAD, "fault  "),
            };
            let what = styled(HEAD, &item.what);
            writeln!(text, "{} {what}: {}", styled(style, word), item.found).ok();
        }
        let Some(first) = group.first() else { continue };
        if let Some(remedy) = &first.remedy {
            text += &indented(&format!("-> {remedy}"), 8);
        }
        if let Some(manifest) = &first.apply {
            text += &report::to_apply(manifest);
        }
    }
    text
}
