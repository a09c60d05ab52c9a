//! `cargo e2e test`: what users do with Portcullis on a real cluster, and what a cluster does to it; by kubectl, curl and pods.

mod answer;
mod api;
mod bed;
mod chaos;
mod controllers;
mod egress;
mod evidence;
mod flows;
mod late_crds;
mod latency;
mod portcullis;
mod proxies;
mod scale;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use clap::Args;
use futures::{FutureExt, StreamExt, future::LocalBoxFuture, stream};
use tokio::sync::Semaphore;

use self::bed::Bed;
use crate::{
    cluster::Cluster,
    support::report::{Table, Tally},
};

/// Scenarios that run side by side. More would wait for each other on a machine with two cores.
const SIDE_BY_SIDE: usize = 4;
/// No scenario may take longer: what hangs must not keep the others from being told.
const TIME_LIMIT: Duration = Duration::from_mins(8);

/// Scenarios on the cluster, where `cargo e2e chart install` has put Portcullis before.
#[derive(Args)]
pub(crate) struct Test {
    /// Only these; see `--list`.
    names: Vec<String>,
    /// Print the scenarios and what each shows, and run none.
    #[arg(long)]
    list: bool,
    /// Leave the namespaces of failed scenarios for a look.
    #[arg(long)]
    keep: bool,
    /// Cargo profile that the `portcullis` command is built with.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// One scenario. It has a namespace of its own, which is gone afterwards.
pub(crate) struct Scenario {
    /// In lower case with hyphens; also the end of its namespace's name.
    name: &'static str,
    /// What is true if it passes, as one sentence.
    shows: &'static str,
    company: Company,
    /// Namespaces that its manifests make, and that go with its own.
    namespaces: &'static [&'static str],
    run: Run,
}

type Run = Box<dyn for<'a> Fn(&'a Bed) -> LocalBoxFuture<'a, Result<()>>>;

/// What a scenario can stand beside itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// Others that stay in their namespaces.
    Others,
    /// Nobody: it measures, it judges the whole cluster, or it breaks what all of them need.
    Alone,
    /// Nobody, and it needs a node of our own.
    AloneOnOwnNode,
}

impl Scenario {
    pub(crate) fn new(
        name: &'static str,
        shows: &'static str,
        company: Company,
        run: impl for<'a> Fn(&'a Bed) -> LocalBoxFuture<'a, Result<()>> + 'static,
    ) -> Self {
        Self {
            name,
            shows,
            company,
            namespaces: &[],
            run: Box::new(run),
        }
    }

    /// The same with manifests that make these namespaces, which must be nobody else's.
    fn making(self, namespaces: &'static [&'static str]) -> Self {
        Self { namespaces, ..self }
    }
}

/// All scenarios; those that stand alone run in this order, after the others.
fn all() -> Vec<Scenario> {
    let mut scenarios = flows::all();
    scenarios.extend(egress::all());
    scenarios.extend([
        latency::scenario(),
        scale::scenario(),
        chaos::scenario(),
        // What it takes away, nobody misses any more.
        late_crds::scenario(),
    ]);
    scenarios
}

/// How one scenario ended.
struct Outcome {
    name: &'static str,
    shows: &'static str,
    result: Result<()>,
    took: Duration,
}

impl Test {
    pub(crate) async fn run(self) -> Result<()> {
        let chosen = self.chosen()?;
        if self.list {
            println!("{}", list(&chosen));
            return Ok(());
        }
        let cluster = Cluster::chosen();
        let kubectl = cluster.kubectl().await?;
        let (impossible, chosen): (Vec<_>, Vec<_>) = chosen
            .into_iter()
            .partition(|one| one.company == Company::AloneOnOwnNode && cluster != Cluster::Own);
        for scenario in impossible {
            println!(
                "SKIPPED: {}, because the node is not ours; unset KUBECONFIG to run it on ours",
                scenario.name
            );
        }
        ensure!(!chosen.is_empty(), "no scenario is left to run");
        let (together, alone): (Vec<_>, Vec<_>) = chosen
            .into_iter()
            .partition(|one| one.company == Company::Others);
        let mut tally = Tally::default();
        let bed = |scenario: &Scenario| Bed::new(&kubectl, scenario, &self);
        let slots = &Semaphore::new(SIDE_BY_SIDE);
        // Those that stand alone do not even begin before the one before them is gone.
        for (width, scenarios) in [(together.len().max(1), together), (1, alone)] {
            let mut outcomes = stream::iter(scenarios)
                .map(|scenario| {
                    let bed = bed(&scenario);
                    async move { scenario.play(&bed, slots).await }
                })
                .buffer_unordered(width);
            while let Some(outcome) = outcomes.next().await {
                outcome.tell(&mut tally);
            }
        }
        tally.close()
    }

    fn chosen(&self) -> Result<Vec<Scenario>> {
        let mut scenarios = all();
        let known: BTreeSet<&str> = scenarios.iter().map(|one| one.name).collect();
        if let Some(unknown) = self
            .names
            .iter()
            .find(|name| !known.contains(name.as_str()))
        {
            let known: Vec<&str> = known.into_iter().collect();
            return Err(anyhow!(
                "there is no scenario `{unknown}`; there are {}",
                known.join(", ")
            ));
        }
        if !self.names.is_empty() {
            scenarios.retain(|one| self.names.iter().any(|name| name == one.name));
        }
        Ok(scenarios)
    }
}

impl Scenario {
    /// Holds one of `slots` until its namespace goes: that takes time, and nothing else.
    async fn play(self, bed: &Bed, slots: &Semaphore) -> Outcome {
        let slot = slots.acquire().await;
        let start = Instant::now();
        let run = async {
            bed.open().await?;
            (self.run)(bed).await
        };
        let result = tokio::time::timeout(TIME_LIMIT, run.boxed_local())
            .await
            .unwrap_or_else(|_| Err(anyhow!("not done after {} s", TIME_LIMIT.as_secs())));
        let took = start.elapsed();
        drop(slot);
        if result.is_err() {
            evidence::print(bed).await;
        }
        let closed = bed.close(result.is_ok()).await;
        Outcome {
            name: self.name,
            shows: self.shows,
            result: result.and(closed),
            took,
        }
    }
}

impl Outcome {
    fn tell(self, tally: &mut Tally) {
        let Self {
            name,
            shows,
            result,
            took,
        } = self;
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{:>6.1} s  {name}: {shows}: {verdict}", took.as_secs_f64());
        if let Err(error) = result {
            println!("          {error:#}");
            tally.check(false, || format!("{name}: {error:#}"));
        } else {
            tally.check(true, String::new);
        }
    }
}

fn list(scenarios: &[Scenario]) -> Table {
    let mut table = Table::new("Scenarios", &["name", "shows", "needs"]);
    for one in scenarios {
        let needs = match one.company {
            Company::Others => "",
            Company::Alone => "nobody beside it",
            Company::AloneOnOwnNode => "nobody beside it, our own node",
        };
        table.row([one.name, one.shows, needs]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;

    #[test]
    fn names_are_unique_and_may_stand_in_namespaces() {
        let scenarios = all();
        let names: BTreeSet<&str> = scenarios.iter().map(|one| one.name).collect();
        assert_eq!(names.len(), scenarios.len());
        for name in names {
            assert!(
                name.len() <= 40
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
                "{name}"
            );
        }
    }
}
