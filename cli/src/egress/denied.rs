//! `portcullis egress denied`: who was refused what, and how often.

use std::{fmt::Write as _, process::ExitCode};

use jiff::Timestamp;
use portcullis_routing::egress::Verdict;
use serde::Serialize;

use super::{
    logs::{self, Read},
    record::{Caller, Record, place},
    tally::{Count, Tally},
};
use crate::{
    FINDINGS,
    args::DeniedArgs,
    output::{self, BAD, Columns, GOOD, ODD, count, styled, tell},
};

/// What is counted together. Caller and destination go first, so that equal counts are in their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    caller: Caller,
    host: Box<str>,
    port: Option<u16>,
    verdict: Verdict,
    reason: Box<str>,
    policy: Option<Box<str>>,
    request: Option<(Box<str>, Box<str>)>,
}

/// Decisions of one kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    caller: Caller,
    host: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    verdict: Verdict,
    reason: Box<str>,
    /// The EgressPolicy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Box<str>>,
    /// The method that it is against, with the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Box<str>>,
    count: u64,
    first: String,
    last: String,
}

/// All that was refused.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Denied {
    /// Most frequent first.
    groups: Vec<Group>,
    /// Refusals that are in none of the groups.
    others: u64,
    /// Decisions that were looked at, of any verdict and caller.
    decisions: u64,
    /// Lines that are no lines of a proxy.
    unread: u64,
    /// What could not be read.
    notes: Vec<String>,
}

/// Prints who was refused what.
pub(super) fn denied(args: &DeniedArgs) -> anyhow::Result<ExitCode> {
    let mut tally = Tally::default();
    let read = logs::read(&args.decisions, |record| {
        if record.verdict != Verdict::Allow && is_asked(args, &record.caller) {
            let time = record.time;
            tally.add(Key::of(record), time);
        }
    })?;
    let denied = Denied::new(tally, args.top, read);
    output::print(args.output.output, &denied, text)?;
    Ok(if denied.groups.is_empty() && denied.others == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

fn is_asked(args: &DeniedArgs, caller: &Caller) -> bool {
    let from = args.from.as_ref();
    from.is_none_or(|(namespace, account)| caller.is_of(namespace, account.as_deref()))
}

impl Key {
    fn of(record: Record) -> Self {
        Self {
            caller: record.caller,
            host: record.host,
            port: record.port,
            verdict: record.verdict,
            reason: record.reason,
            policy: record.policy,
            request: record.request,
        }
    }
}

impl Denied {
    fn new(tally: Tally<Key>, top: usize, read: Read) -> Self {
        let (mut sorted, others) = tally.sorted();
        let rest = sorted.split_off(top.min(sorted.len()));
        let rest: u64 = rest.iter().map(|(_, count)| count.times).sum();
        Self {
            groups: sorted.into_iter().map(Group::from).collect(),
            others: others + rest,
            decisions: read.decisions,
            unread: read.unread,
            notes: read.notes,
        }
    }
}

impl From<(Key, Count)> for Group {
    fn from((key, count): (Key, Count)) -> Self {
        let (method, path) = key.request.unzip();
        Self {
            method,
            path,
            caller: key.caller,
            host: key.host,
            port: key.port,
            verdict: key.verdict,
            reason: key.reason,
            policy: key.policy,
            count: count.times,
            first: second(count.first),
            last: second(count.last),
        }
    }
}

impl Group {
    /// `api.example:80`, or `POST api.example:80/v1` where it is for the request.
    fn destination(&self) -> String {
        let place = place(&self.host, self.port);
        match self.method.as_deref().zip(self.path.as_deref()) {
            Some((method, path)) => format!("{method} {place}{path}"),
            None => place,
        }
    }
}

/// To the second: lines of several proxies say no more.
pub(super) fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn text(denied: &Denied) -> String {
    let mut text = String::new();
    if denied.groups.is_empty() && denied.others == 0 {
        let seen = count_of(denied.decisions, "decision");
        writeln!(text, "{}: {seen}", styled(GOOD, "nothing was refused")).ok();
    } else {
        let mut columns = Columns::new([
            "COUNT",
            "CALLER",
            "DESTINATION",
            "VERDICT",
            "REASON",
            "FIRST",
            "LAST",
        ]);
        for group in &denied.groups {
            let style = if group.verdict == Verdict::Refuse {
                BAD
            } else {
                ODD
            };
            let verdict = format!("{:?}", group.verdict).to_lowercase();
            let reason = match &group.policy {
                Some(policy) => format!("{} ({policy})", group.reason),
                None => group.reason.to_string(),
            };
            columns.row([
                group.count.to_string(),
                group.caller.to_string(),
                group.destination(),
                styled(style, verdict),
                reason,
                group.first.clone(),
                group.last.clone(),
            ]);
        }
        text += &columns.to_string();
    }
    if denied.others > 0 {
        let others = count_of(denied.others, "more refusal");
        writeln!(text, "... and {others} (--top shows more lines)").ok();
    }
    text + &beside(denied.decisions, denied.unread, &denied.notes)
}

/// What is to be known of what was read.
fn beside(decisions: u64, unread: u64, notes: &[String]) -> String {
    let mut text = String::new();
    if unread > 0 {
        let lines = count_of(unread, "line");
        writeln!(text, "note: {lines} that no proxy writes: not read").ok();
    }
    for note in notes {
        writeln!(text, "note: {note}").ok();
    }
    if decisions == 0 {
        text += "note: no decision was found; proxies log them unless spec.proxy.egress.decisionLog of GatewayParameters is Never, \
                 and --since goes further back\n";
    }
    text
}

/// Says it on standard error, for who prints something else.
pub(super) fn tell_beside(read: &Read) {
    tell(&beside(read.decisions, read.unread, &read.notes));
}

fn count_of(number: u64, noun: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), noun)
}
