//! What the egress bench has measured, and the tables of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    contender::Contender,
    decisions::{self, Decision},
    memory::Memory,
    rounds::{self, Sample, Times, Work},
};
use crate::{
    bench::{
        cost::summaries,
        result::{Figures, cell},
    },
    support::{report::Table, statistics::Summary},
};

/// Every kind of work, in the order of the tables.
const WORKS: [Work; 4] = [Work::Tunnels, Work::Requests, Work::Download, Work::Upload];

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct EgressFigures {
    pub(crate) memory: Vec<Memory>,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) samples: Vec<Sample>,
}

impl Figures for EgressFigures {
    const NAME: &'static str = "egress";
    const TITLE: &'static str = "Egress bench";

    fn spreads(&self) -> Vec<(String, Summary)> {
        let of = |work| {
            rounds::cpu(&self.samples, work)
                .into_iter()
                .map(move |(contender, summary)| (format!("{contender}, {work}"), summary))
        };
        let deciding = |work| {
            decisions::cpu(&self.decisions, work)
                .into_iter()
                .map(move |(entries, summary)| (format!("{entries} entries, {work}"), summary))
        };
        let contenders = WORKS.into_iter().flat_map(of);
        contenders
            .chain(WORKS.into_iter().flat_map(deciding))
            .collect()
    }

    fn smoke(&self) -> Option<(&'static str, f64)> {
        let cpu = rounds::cpu(&self.samples, Work::Tunnels);
        Some(("Squid", cpu.get(&Contender::Squid)?.median))
    }

    fn tables(&self) -> Vec<Table> {
        vec![
            self.cpu_table(),
            self.times_table(),
            self.memory_table(),
            self.decisions_table(),
            self.rounds_table(),
        ]
    }

    fn remarks(&self) -> Vec<String> {
        vec![
            "A tunnel is CONNECT, one GET of 1 KiB through it, and close, by 2 clients; requests are GETs of a URL \
             by 32 clients that keep their connections, except that tinyproxy keeps none. A GB is 10^9 bytes. \
             tinyproxy has a thread for each connection, the others one worker. Every contender resolves the name \
             that it forwards to.\n"
                .to_owned(),
        ]
    }
}

impl EgressFigures {
    fn cpu_table(&self) -> Table {
        let header: Vec<String> = std::iter::once(String::new())
            .chain(WORKS.map(|work| format!("{work}, {}", work.unit())))
            .collect();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut table = Table::new(
            "CPU, median (least, most; spread of the quartiles)",
            &header,
        );
        let columns = WORKS.map(|work| rounds::cpu(&self.samples, work));
        for contender in self.contenders() {
            let cells = columns
                .iter()
                .map(|column| column.get(&contender).map_or_else(String::new, cell));
            table.row(std::iter::once(contender.to_string()).chain(cells));
        }
        table
    }

    fn times_table(&self) -> Table {
        let header = ["", "work", "per s", "p50 ms", "p99 ms"];
        let mut table = Table::new(
            "Rate and time of a whole exchange, medians of the rounds; clients and servers share a core",
            &header,
        );
        for work in [Work::Tunnels, Work::Requests] {
            let rates = self.medians(work, |sample| Some(sample.cost.per_second));
            let p50 = self.medians(work, |sample| Some(times(sample)?.p50_ms));
            let p99 = self.medians(work, |sample| Some(times(sample)?.p99_ms));
            for (contender, rate) in rates {
                let of = |column: &BTreeMap<Contender, f64>| {
                    let value = column.get(&contender);
                    value.map_or_else(String::new, |value| format!("{value:.2}"))
                };
                let (p50, p99) = (of(&p50), of(&p99));
                let rate = format!("{rate:.0}");
                table.row([contender.to_string(), work.to_string(), rate, p50, p99]);
            }
        }
        table
    }

    fn medians(
        &self,
        work: Work,
        figure: impl Fn(&Sample) -> Option<f64>,
    ) -> BTreeMap<Contender, f64> {
        let samples = self.samples.iter().filter(|sample| sample.work == work);
        let figures = samples.filter_map(|sample| Some((sample.contender, figure(sample)?)));
        summaries(figures)
            .into_iter()
            .map(|(contender, summary)| (contender, summary.median))
            .collect()
    }

    fn memory_table(&self) -> Table {
        let mut table = Table::new(
            "Memory at rest",
            &["", "idle MiB", "KiB per idle tunnel", "tunnels"],
        );
        for memory in &self.memory {
            table.row([
                memory.contender.to_string(),
                format!("{:.1}", memory.idle_mib),
                format!("{:.1}", memory.kib_per_tunnel),
                memory.tunnels.to_string(),
            ]);
        }
        table
    }

    fn decisions_table(&self) -> Table {
        let header = ["ServiceEntries", "us per tunnel", "us per request"];
        let mut table = Table::new("CPU of Portcullis by what is allowed", &header);
        let tunnels = decisions::cpu(&self.decisions, Work::Tunnels);
        let requests = decisions::cpu(&self.decisions, Work::Requests);
        for (entries, summary) in tunnels {
            let request = requests.get(&entries).map_or_else(String::new, cell);
            table.row([entries.to_string(), cell(&summary), request]);
        }
        table
    }

    fn rounds_table(&self) -> Table {
        let header = [
            "round", "", "work", "count", "per s", "CPU", "p50 ms", "p99 ms",
        ];
        let mut table = Table::new("All rounds", &header);
        let contenders = self.samples.iter().map(|sample| {
            let who = sample.contender.to_string();
            (sample.round, who, sample.work, &sample.cost)
        });
        let decisions = self.decisions.iter().map(|decision| {
            let who = format!("{} entries", decision.entries);
            (decision.round, who, decision.work, &decision.cost)
        });
        for (round, who, work, cost) in contenders.chain(decisions) {
            let time = |pick: fn(&Times) -> f64| {
                let time = cost.times.as_ref().map(pick);
                time.map_or_else(String::new, |time| format!("{time:.2}"))
            };
            table.row([
                round.to_string(),
                who,
                work.to_string(),
                cost.count.to_string(),
                format!("{:.0}", cost.per_second),
                format!("{:.1}", cost.cpu),
                time(|times| times.p50_ms),
                time(|times| times.p99_ms),
            ]);
        }
        table
    }

    fn contenders(&self) -> std::collections::BTreeSet<Contender> {
        self.samples.iter().map(|sample| sample.contender).collect()
    }
}

fn times(sample: &Sample) -> Option<Times> {
    sample.cost.times
}
