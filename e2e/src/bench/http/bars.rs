//! The bars of the HTTP bench.

use super::{
    contender::{Contender, Protocol},
    memory::Memory,
    rounds::{Sample, cpu},
    routes::RouteCosts,
};
use crate::bench::bars::{Bar, ratio};

/// Every bar that this run has figures for.
pub(crate) fn judge(
    samples: &[Sample],
    memory: &[Memory],
    routes: Option<&RouteCosts>,
) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (protocol, limit) in [
        (Protocol::Http1, 1.15),
        (Protocol::TlsHttp1, 1.05),
        (Protocol::TlsHttp2, 1.5),
    ] {
        let cpu = cpu(samples, Some(protocol));
        if let Some(ratio) = ratio(
            &cpu,
            &Contender::Portcullis,
            [Contender::Nginx, Contender::Haproxy],
        ) {
            bars.push(Bar::new(
                format!("CPU per request, {protocol} ÷ better of nginx and HAProxy"),
                ratio,
                limit,
                "x",
            ));
        }
        if let Some(ratio) = ratio(&cpu, &Contender::Portcullis, [Contender::Envoy]) {
            bars.push(Bar::new(
                format!("CPU per request, {protocol} ÷ Envoy"),
                ratio,
                0.5,
                "x",
            ));
        }
    }
    if let Some(ratio) = ratio(
        &cpu(samples, None),
        &Contender::Portcullis,
        [Contender::Nginx],
    ) {
        bars.push(Bar::new(
            "CPU per full TLS 1.3 handshake ÷ nginx",
            ratio,
            0.7,
            "x",
        ));
    }
    for memory in memory
        .iter()
        .filter(|memory| memory.contender == Contender::Portcullis)
    {
        bars.push(Bar::new(
            "Resident memory, idle",
            memory.idle_mib,
            20.0,
            "MiB",
        ));
        for (connection, limit) in memory.connections.iter().zip([6.0, 16.0, 45.0]) {
            let what = format!("Memory per idle connection, {}", connection.protocol);
            bars.push(Bar::new(what, connection.kib, limit, "KiB"));
        }
    }
    if let Some(costs) = routes {
        let at = format!("at {} routes", costs.routes);
        bars.push(Bar::new(
            format!("Memory per route {at}"),
            costs.kib_per_route,
            4.0,
            "KiB",
        ));
        bars.push(Bar::new(
            format!("Worker time per new table {at}, one changed"),
            costs.swap_one_ms,
            5.0,
            "ms",
        ));
        bars.push(Bar::new(
            format!("Worker time per new table {at}, all changed"),
            costs.swap_all_ms,
            5.0,
            "ms",
        ));
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::{Contender, Protocol, Sample, judge};

    fn sample(contender: Contender, cpu_us: f64) -> Sample {
        Sample {
            round: 1,
            contender,
            protocol: Some(Protocol::Http1),
            count: 1,
            per_second: 1.0,
            cpu_us,
        }
    }

    #[test]
    fn the_better_peer_sets_the_bar() {
        let samples = [
            sample(Contender::Portcullis, 12.0),
            sample(Contender::Nginx, 20.0),
            sample(Contender::Haproxy, 10.0),
        ];
        let bars = judge(&samples, &[], None);
        assert_eq!(bars.len(), 1, "there is no bar without figures: {bars:?}");
        assert!((bars[0].figure - 1.2).abs() < 1e-9 && !bars[0].met);
    }
}
