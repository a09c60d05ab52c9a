//! Bars: what a figure must be at most, and whether it is.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::support::{report::Table, statistics::Summary};

/// One row of the verdict.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    pub(crate) what: String,
    pub(crate) figure: f64,
    pub(crate) limit: f64,
    pub(crate) unit: &'static str,
    pub(crate) met: bool,
}

impl Bar {
    pub(crate) fn new(
        what: impl Into<String>,
        figure: f64,
        limit: f64,
        unit: &'static str,
    ) -> Self {
        Self {
            what: what.into(),
            figure,
            limit,
            unit,
            met: figure <= limit,
        }
    }
}

/// The bars as a table; a figure over its bar is a loss and is called so.
pub(crate) fn table(bars: &[Bar]) -> Table {
    let mut table = Table::new("Bars", &["what", "figure", "bar", "verdict"]);
    for bar in bars {
        table.row([
            bar.what.clone(),
            format!("{:.2} {}", bar.figure, bar.unit),
            format!("≤ {} {}", bar.limit, bar.unit),
            if bar.met { "PASS" } else { "LOSS" }.to_owned(),
        ]);
    }
    table
}

/// The median of `ours` divided by the best of `peers`; `None` if one of them did not run.
pub(crate) fn ratio<C: Ord>(
    cpu: &BTreeMap<C, Summary>,
    ours: &C,
    peers: impl IntoIterator<Item = C>,
) -> Option<f64> {
    let ours = cpu.get(ours)?.median;
    let mut best = f64::INFINITY;
    for peer in peers {
        best = best.min(cpu.get(&peer)?.median);
    }
    Some(ours / best)
}
