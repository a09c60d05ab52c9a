//! The status for people: tables, and below them what is wrong.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{Status, condition::Finding, gateways::Listeners};
use crate::{
    output::{ALIKE_SHOWN, BAD, Columns, DIM, GOOD, HEAD, ODD, count, indented, styled},
    report,
};

/// The whole of it.
pub(super) fn text(status: &Status) -> String {
    let now = Timestamp::now();
    let mut tables = Vec::new();
    let mut add = |is_empty: bool, columns: Columns| {
        if !is_empty {
            tables.push(columns.to_string());
        }
    };
    add(status.gateway_classes.is_empty(), classes(status, now));
    add(status.gateways.is_empty(), gateways(status, now));
    add(status.listener_sets.is_empty(), listener_sets(status, now));
    add(status.routes.is_empty(), routes(status, now));
    add(status.egress.is_empty(), egress(status, now));
    tables.push(findings(&status.findings));
    let hidden = status.hidden.iter();
    let hidden = hidden.map(|it| format!("without {}: {}", it.what, it.message));
    for note in hidden.chain(status.notes.iter().cloned()) {
        tables.push(format!("{} {note}\n", styled(ODD, "note:")));
    }
    tables.join("\n")
}

fn classes(status: &Status, now: Timestamp) -> Columns {
    let mut columns = Columns::new([
        "GATEWAYCLASS",
        "ACCEPTED",
        "GATEWAY API",
        "SUPPORTED",
        "AGE",
    ]);
    for class in &status.gateway_classes {
        columns.row([
            class.name.clone(),
            coloured(&class.accepted),
            status.gateway_api.clone().unwrap_or_else(|| "-".into()),
            coloured(&class.supported_version),
            age(class.created_at, now),
        ]);
    }
    columns
}

fn gateways(status: &Status, now: Timestamp) -> Columns {
    let mut columns = Columns::new([
        "GATEWAY",
        "CLASS",
        "ADDRESSES",
        "ACCEPTED",
        "PROGRAMMED",
        "LISTENERS",
        "ROUTES",
        "AGE",
    ]);
    for gateway in &status.gateways {
        columns.row([
            gateway.name.clone(),
            gateway.class.clone(),
            joined(&gateway.addresses),
            coloured(&gateway.accepted),
            coloured(&gateway.programmed),
            good(&gateway.listeners),
            gateway.listeners.attached_routes.to_string(),
            age(gateway.created_at, now),
        ]);
    }
    columns
}

fn listener_sets(status: &Status, now: Timestamp) -> Columns {
    let mut columns = Columns::new([
        "LISTENERSET",
        "GATEWAY",
        "ACCEPTED",
        "PROGRAMMED",
        "LISTENERS",
        "ROUTES",
        "AGE",
    ]);
    for set in &status.listener_sets {
        columns.row([
            set.name.clone(),
            set.parent.clone(),
            coloured(&set.accepted),
            coloured(&set.programmed),
            good(&set.listeners),
            set.listeners.attached_routes.to_string(),
            age(set.created_at, now),
        ]);
    }
    columns
}

/// One row per parent.
fn routes(status: &Status, now: Timestamp) -> Columns {
    let mut columns = Columns::new([
        "ROUTE",
        "HOSTNAMES",
        "PARENT",
        "ACCEPTED",
        "RESOLVED",
        "AGE",
    ]);
    for route in &status.routes {
        for parent in &route.parents {
            columns.row([
                format!("{} {}", route.kind, route.name),
                joined(&route.hostnames),
                parent.name.clone(),
                coloured(&parent.accepted),
                coloured(&parent.resolved),
                age(route.created_at, now),
            ]);
        }
    }
    columns
}

fn egress(status: &Status, now: Timestamp) -> Columns {
    let mut columns = Columns::new([
        "EGRESS",
        "HOSTS",
        "ACCEPTED",
        "RESOLVED",
        "PROGRAMMED",
        "AGE",
    ]);
    for object in &status.egress {
        columns.row([
            format!("{} {}", object.kind, object.name),
            joined(&object.hosts),
            coloured(&object.accepted),
            coloured(&object.resolved),
            coloured(&object.programmed),
            age(object.created_at, now),
        ]);
    }
    columns
}

/// Something to tell, in a heading and what stands below it.
struct Entry<'a> {
    subject: String,
    conditions: String,
    /// Empty for what follows from the entry above.
    message: &'a str,
    apply: Option<&'a str>,
}

/// Conditions of one object that say the same are told together, and so are objects of which the same is said.
fn findings(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return format!("{}\n", styled(GOOD, "No condition is wrong."));
    }
    let mut text = format!("{}\n", styled(HEAD, count(findings.len(), "finding")));
    let objects = findings.chunk_by(|a, b| a.object == b.object);
    let entries: Vec<_> = objects.flat_map(entries).collect();
    let alike = |a: &Entry<'_>, b: &Entry<'_>| {
        (&a.conditions, a.message, a.apply) == (&b.conditions, b.message, b.apply)
    };
    for group in entries.chunk_by(alike) {
        let Some(first) = group.first() else { continue };
        for entry in group.iter().take(ALIKE_SHOWN) {
            let conditions = styled(BAD, &entry.conditions);
            writeln!(text, "{}  {conditions}", entry.subject).ok();
        }
        if let Some(more) = group.len().checked_sub(ALIKE_SHOWN).filter(|it| *it > 0) {
            writeln!(text, "and {more} more").ok();
        }
        text += &indented(first.message, 8);
        if let Some(manifest) = first.apply {
            text += &report::to_apply(manifest);
        }
    }
    text
}

/// What is wrong with one object. What follows from the rest of it is said in one line.
fn entries(object: &[Finding]) -> Vec<Entry<'_>> {
    let has_cause = object.iter().any(Finding::is_cause);
    let (hence, own): (Vec<_>, Vec<_>) = object
        .iter()
        .partition(|finding| has_cause && finding.is_consequence());
    let same = |a: &&Finding, b: &&Finding| (&a.part, &a.message) == (&b.part, &b.message);
    let groups = own.chunk_by(same).filter_map(|group| {
        let first = group.first()?;
        let conditions: Vec<_> = group.iter().map(|it| condition(it)).collect();
        Some(Entry {
            subject: subject(first),
            conditions: conditions.join(", "),
            message: &first.message,
            apply: first.apply.as_deref(),
        })
    });
    let mut entries: Vec<_> = groups.collect();
    if let Some(first) = hence.first() {
        let parts = hence.iter().map(|it| match &it.part {
            Some(part) => format!("{part} {}", condition(it)),
            None => condition(it),
        });
        entries.push(Entry {
            subject: first.object.clone(),
            conditions: format!("hence {}", parts.collect::<Vec<_>>().join(", ")),
            message: "",
            apply: None,
        });
    }
    entries
}

fn subject(finding: &Finding) -> String {
    match &finding.part {
        Some(part) => format!("{}, {part}", finding.object),
        None => finding.object.clone(),
    }
}

fn condition(finding: &Finding) -> String {
    let Finding {
        condition,
        status,
        reason,
        ..
    } = finding;
    format!("{condition}={status} ({reason})")
}

fn joined(words: &[String]) -> String {
    if words.is_empty() {
        "-".into()
    } else {
        words.join(",")
    }
}

fn good(listeners: &Listeners) -> String {
    let style = if listeners.good == listeners.all {
        GOOD
    } else {
        BAD
    };
    styled(style, format!("{}/{}", listeners.good, listeners.all))
}

fn coloured(status: &str) -> String {
    let style = match status {
        "True" => GOOD,
        "-" => DIM,
        _ => BAD,
    };
    styled(style, status)
}

/// As kubectl writes it: the largest unit, and hours and minutes where days and hours are few.
fn age(created_at: Option<Timestamp>, now: Timestamp) -> String {
    let Some(created_at) = created_at else {
        return "-".into();
    };
    let seconds = now.duration_since(created_at).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes < 2 => format!("{seconds}s"),
        () if hours < 2 => format!("{minutes}m"),
        () if days < 2 => format!("{hours}h"),
        () => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_the_largest_unit_that_tells_enough() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let told = |seconds: i64| {
            let then = Timestamp::from_second(1_000_000_000 - seconds).unwrap();
            age(Some(then), now)
        };
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7199, "119m"),
            (7200, "2h"),
            (172_800, "2d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(told(seconds), expected);
        }
        assert_eq!(told(-5), "0s", "clocks differ");
        assert_eq!(age(None, now), "-");
    }
}
