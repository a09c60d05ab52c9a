//! What a run has shown: the table of figures, and what had to hold.

use anyhow::Result;

use super::{
    Egress,
    backends::Speech,
    reference::{ADDRESS_REFUSED, DENIED, HOST_NOT_LISTED, NOT_ALLOWED, UNKNOWN_CALLER},
    run::{Changes, Found},
};
use crate::support::{
    process::ended_well,
    report::{Table, Tally},
    statistics::quantile,
};

/// The share of the tunnels of a second that have to be made in one: with less the run would say little of the load it names.
const LEAST_RATE: f64 = 0.8;

/// Prints the figures, and fails if something is not as it has to be.
pub(super) fn close(plan: &Egress, mut found: Found) -> Result<()> {
    found.changes.in_force.sort_by(f64::total_cmp);
    found.changes.translated.sort_by(f64::total_cmp);
    println!("{}", table(plan, &found));
    let mut tally = Tally::default();
    let count = &found.made.count;
    tally.check(count.wrong == 0, || {
        format!("{} decisions are wrong", count.wrong)
    });
    tally.check(count.failed == 0, || {
        format!("{} tunnels came to nothing", count.failed)
    });
    for told in &count.told {
        println!("{told}");
    }
    let rate = found.made.rate();
    tally.check(rate >= f64::from(plan.rate) * LEAST_RATE, || {
        format!("only {rate:.0} tunnels were made a second")
    });
    for reason in [
        HOST_NOT_LISTED,
        UNKNOWN_CALLER,
        DENIED,
        NOT_ALLOWED,
        ADDRESS_REFUSED,
    ] {
        tally.check(count.refused.contains_key(reason), || {
            format!("nobody was refused as {reason}")
        });
    }
    for speech in Speech::ALL {
        tally.check(count.served.contains_key(&speech), || {
            format!("nobody was served by {}", speech.as_str())
        });
    }
    for (what, many) in [
        ("nobody greeted another host", count.alerted),
        (
            "no tunnel met a change of what is right for it",
            count.disputed,
        ),
        (
            "no tunnel was made while nobody published",
            count.while_away,
        ),
        (
            "nothing changed while nobody published",
            found.changes.unpublished as u64,
        ),
    ] {
        tally.check(many > 0, || what.to_owned());
    }
    tally.check(found.frames.deltas > 0 && found.frames.snapshots > 1, || {
        format!(
            "the proxy should have got deltas, and a snapshot at the start and at the return: {:?}",
            found.frames
        )
    });
    tally.check(ended_well(found.status), || {
        format!(
            "after SIGTERM it ended with {}:\n{}",
            found.status, found.log
        )
    });
    tally.close()
}

fn table(plan: &Egress, found: &Found) -> Table {
    let Found {
        made,
        changes,
        frames,
        ..
    } = found;
    let count = &made.count;
    let title = format!(
        "Egress under churn: {} entries, {} pods, seed {}",
        plan.entries, plan.pods, plan.seed
    );
    let mut table = Table::new(title, &["what", "figure"]);
    let mut row = |what: &str, figure: String| table.row([what.to_owned(), figure]);
    row("tunnels", count.tunnels.to_string());
    row("tunnels a second", format!("{:.0}", made.rate()));
    row("wrong decisions", count.wrong.to_string());
    row("no answer, or none of sense", count.failed.to_string());
    row("allowed", count.served().to_string());
    for (speech, number) in &count.served {
        row(&format!("allowed: {}", speech.as_str()), number.to_string());
    }
    row("refused", count.refused().to_string());
    for (reason, number) in &count.refused {
        row(&format!("refused: {reason}"), number.to_string());
    }
    row("cut: greeting of another host", count.alerted.to_string());
    row("cut: taken back by a change", count.cut.to_string());
    row(
        "while a change was under way, and what was right did change",
        format!("{}, {}", count.during_change, count.disputed),
    );
    row(
        &format!("while nobody published, for {} s", plan.away),
        count.while_away.to_string(),
    );
    row(
        "changes of objects, those while nobody published",
        format!("{}, {}", changes.objects, changes.unpublished),
    );
    row("tables published", changes.tables.to_string());
    row(
        "deltas and snapshots that the proxy got",
        format!("{}, {}", frames.deltas, frames.snapshots),
    );
    row("change to in force, median, p99, longest", times(changes));
    row(
        "of that translation, median",
        shown(quantile(&changes.translated, 0.5)),
    );
    row(
        "publisher's return to in force",
        shown(Some(changes.after_return)),
    );
    row(
        "longest tunnel, latest begin",
        format!(
            "{}, {}",
            shown(Some(count.slowest)),
            shown(Some(made.latest.as_secs_f64() * 1e3))
        ),
    );
    table
}

fn times(changes: &Changes) -> String {
    let times = [0.5, 0.99, 1.0].map(|share| shown(quantile(&changes.in_force, share)));
    times.join(", ")
}

fn shown(milliseconds: Option<f64>) -> String {
    milliseconds.map_or_else(|| "none".to_owned(), |time| format!("{time:.0} ms"))
}
