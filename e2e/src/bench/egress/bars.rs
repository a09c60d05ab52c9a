//! The bars of the egress bench.

use super::{
    contender::Contender,
    decisions::{self, Decision, FEW},
    memory::Memory,
    rounds::{self, Sample, Work},
};
use crate::bench::bars::{Bar, ratio};

/// Every bar that this run has figures for.
pub(crate) fn judge(samples: &[Sample], memory: &[Memory], decisions: &[Decision]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (work, what, limit) in [
        (Work::Tunnels, "CPU per tunnel", 0.6),
        (Work::Download, "CPU per GB through a tunnel, download", 0.5),
        (Work::Upload, "CPU per GB through a tunnel, upload", 0.5),
    ] {
        let cpu = rounds::cpu(samples, work);
        if let Some(ratio) = ratio(&cpu, &Contender::Portcullis, Contender::PEERS) {
            bars.push(Bar::new(format!("{what} ÷ best peer"), ratio, limit, "x"));
        }
    }
    let ours = memory
        .iter()
        .filter(|memory| memory.contender == Contender::Portcullis);
    bars.extend(ours.map(|memory| {
        let figure = memory.kib_per_tunnel;
        Bar::new("Memory per idle tunnel", figure, 12.0, "KiB")
    }));
    for (work, what) in [(Work::Tunnels, "tunnel"), (Work::Requests, "request")] {
        let cpu = decisions::cpu(decisions, work);
        let many = cpu.keys().next_back().copied().unwrap_or(FEW);
        if let Some(ratio) = ratio(&cpu, &many, [FEW]) {
            bars.push(Bar::new(
                format!("CPU per {what} with {many} ServiceEntries ÷ with {FEW}"),
                ratio,
                1.1,
                "x",
            ));
        }
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::{super::rounds::Cost, Contender, Decision, FEW, Sample, Work, judge};

    fn cost(cpu: f64) -> Cost {
        Cost {
            count: 1,
            per_second: 1.0,
            cpu,
            times: None,
        }
    }

    fn sample(contender: Contender, cpu: f64) -> Sample {
        Sample {
            round: 1,
            contender,
            work: Work::Tunnels,
            cost: cost(cpu),
        }
    }

    #[test]
    fn the_best_of_all_peers_sets_the_bar() {
        let mut samples = vec![
            sample(Contender::Portcullis, 100.0),
            sample(Contender::Squid, 300.0),
            sample(Contender::Tinyproxy, 200.0),
        ];
        assert!(
            judge(&samples, &[], &[]).is_empty(),
            "without Envoy nobody knows the best"
        );
        samples.push(sample(Contender::Envoy, 125.0));
        let bars = judge(&samples, &[], &[]);
        assert_eq!(bars.len(), 1, "there is no bar without figures: {bars:?}");
        assert!((bars[0].figure - 0.8).abs() < 1e-9 && !bars[0].met);
    }

    #[test]
    fn many_entries_are_held_against_few() {
        let decision = |entries, cpu| Decision {
            round: 1,
            entries,
            work: Work::Requests,
            cost: cost(cpu),
        };
        let bars = judge(&[], &[], &[decision(FEW, 20.0), decision(10_000, 21.0)]);
        assert_eq!(bars.len(), 1, "{bars:?}");
        assert!((bars[0].figure - 1.05).abs() < 1e-9 && bars[0].met);
    }
}
