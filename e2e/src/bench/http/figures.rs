//! What the HTTP bench has measured, and the tables of it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    contender::{Contender, Protocol},
    memory::Memory,
    rounds::{Sample, cpu},
    routes::RouteCosts,
};
use crate::{
    bench::result::{Figures, cell},
    support::{report::Table, statistics::Summary},
};

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct HttpFigures {
    pub(crate) memory: Vec<Memory>,
    pub(crate) routes: Option<RouteCosts>,
    pub(crate) samples: Vec<Sample>,
}

impl Figures for HttpFigures {
    const NAME: &'static str = "http";
    const TITLE: &'static str = "HTTP bench";

    fn spreads(&self) -> Vec<(String, Summary)> {
        let of = |protocol| {
            cpu(&self.samples, Some(protocol))
                .into_iter()
                .map(move |(contender, summary)| (format!("{contender}, {protocol}"), summary))
        };
        Protocol::ALL.into_iter().flat_map(of).collect()
    }

    fn smoke(&self) -> Option<(&'static str, f64)> {
        let nginx = cpu(&self.samples, Some(Protocol::Http1))
            .get(&Contender::Nginx)?
            .median;
        Some(("nginx", nginx))
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.cpu_table(), self.memory_table(), self.rounds_table()]
    }

    fn remarks(&self) -> Vec<String> {
        let remark = |costs: &RouteCosts| {
            format!(
                "A new table of {} routes is served {:.0} ms (median) after its file was renamed.\n",
                costs.routes, costs.apply_ms
            )
        };
        self.routes.iter().map(remark).collect()
    }
}

impl HttpFigures {
    fn cpu_table(&self) -> Table {
        let header = [
            "",
            "HTTP/1.1",
            "TLS, HTTP/1.1",
            "TLS, HTTP/2",
            "full handshake",
        ];
        let mut table = Table::new(
            "CPU us per request, median (least, most; spread of the quartiles)",
            &header,
        );
        let columns: Vec<_> = Protocol::ALL
            .into_iter()
            .map(Some)
            .chain([None])
            .map(|protocol| cpu(&self.samples, protocol))
            .collect();
        for contender in self.contenders() {
            let cells = columns
                .iter()
                .map(|column| column.get(&contender).map_or_else(String::new, cell));
            table.row(std::iter::once(contender.to_string()).chain(cells));
        }
        table
    }

    fn memory_table(&self) -> Table {
        let header = [
            "",
            "idle MiB",
            "KiB per HTTP/1.1 connection",
            "TLS, HTTP/1.1",
            "TLS, HTTP/2",
        ];
        let mut table = Table::new("Memory at rest", &header);
        for memory in &self.memory {
            let connections = memory
                .connections
                .iter()
                .map(|connection| format!("{:.1}", connection.kib));
            table.row(
                [
                    memory.contender.to_string(),
                    format!("{:.1}", memory.idle_mib),
                ]
                .into_iter()
                .chain(connections),
            );
        }
        table
    }

    fn rounds_table(&self) -> Table {
        let mut table = Table::new(
            "All rounds",
            &["round", "contender", "protocol", "count", "per s", "CPU us"],
        );
        for sample in &self.samples {
            table.row([
                sample.round.to_string(),
                sample.contender.to_string(),
                sample
                    .protocol
                    .map_or_else(|| "handshake".to_owned(), |protocol| protocol.to_string()),
                sample.count.to_string(),
                format!("{:.0}", sample.per_second),
                format!("{:.1}", sample.cpu_us),
            ]);
        }
        table
    }

    fn contenders(&self) -> BTreeSet<Contender> {
        self.samples.iter().map(|sample| sample.contender).collect()
    }
}
