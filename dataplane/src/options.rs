//! Command-line options of everything that runs the proxy.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZero,
    thread,
};

use portcullis_routing::settings::AccessLog;

use crate::{ports::PortMap, state::Overrides, telemetry::MetricsOptions};

/// Options of the proxy itself, whatever its tables come from.
#[derive(Clone, Debug, clap::Args)]
pub struct ProxyOptions {
    /// Address to listen on; may be repeated. Default: every address, IPv6 and IPv4.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub address: Vec<IpAddr>,
    /// Ports to bind instead of those of the Gateway, such as 80=8080,443=8443 without the right to bind low ports.
    #[arg(
        long,
        value_name = "SPEC=BIND,...",
        default_value = "",
        hide_default_value = true
    )]
    pub map_port: PortMap,
    /// Where /livez, /readyz, /metrics and /table are served. Nobody has to log in there, so think twice before you let
    /// others than this machine reach it.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
    /// Worker threads. Default: one per core that this process may use.
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZero<usize>>,
    /// Access log on standard output: off, on, or sampled:N for failures and one in N of the others. Default: as the
    /// Gateway's settings say.
    #[arg(long, value_name = "off|sampled:N|on", value_parser = access_log)]
    pub access_log: Option<AccessLog>,
    /// Most metric series at /metrics. Listeners, routes and backends beyond are counted together.
    #[arg(long, value_name = "N", default_value_t = MetricsOptions::default().max_series)]
    pub max_series: usize,
}

impl ProxyOptions {
    /// The number of worker threads.
    pub fn workers(&self) -> NonZero<usize> {
        self.workers
            .or_else(|| thread::available_parallelism().ok())
            .unwrap_or(NonZero::<usize>::MIN)
    }

    /// Bounds of the metrics.
    pub fn metrics(&self) -> MetricsOptions {
        MetricsOptions {
            max_series: self.max_series,
        }
    }

    /// What is said against the table.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            access_log: self.access_log,
        }
    }
}

fn access_log(text: &str) -> Result<AccessLog, String> {
    match (text, text.strip_prefix("sampled:").map(str::parse)) {
        ("off", _) => Ok(AccessLog::Off),
        ("on", _) => Ok(AccessLog::On),
        (_, Some(Ok(one_in @ 1..))) => Ok(AccessLog::Sampled(one_in)),
        _ => Err(
            "write off, on, or sampled:N with a number from 1 on, such as sampled:100".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: ProxyOptions,
    }

    fn parse(arguments: &[&str]) -> Result<ProxyOptions, clap::Error> {
        let command = Command::try_parse_from([&["proxy"], arguments].concat());
        command.map(|command| command.options)
    }

    #[test]
    fn nothing_is_required_and_admin_stays_on_this_machine() {
        let options = parse(&[]).unwrap();
        assert!(options.address.is_empty());
        assert!(options.admin.ip().is_loopback());
        assert_eq!(options.overrides().access_log, None);
        assert_eq!(options.metrics().max_series, 500);
        assert!(options.workers().get() >= 1);
    }

    #[test]
    fn reads_every_form() {
        let options = parse(&[
            "--address",
            "127.0.0.1,::1",
            "--map-port",
            "80=8080",
            "--workers",
            "2",
            "--access-log",
            "sampled:9",
        ])
        .unwrap();
        assert_eq!(options.address.len(), 2);
        assert_eq!(options.map_port.bound(80), 8080);
        assert_eq!(options.workers().get(), 2);
        assert_eq!(options.access_log, Some(AccessLog::Sampled(9)));
        for (text, mode) in [("on", AccessLog::On), ("off", AccessLog::Off)] {
            assert_eq!(access_log(text), Ok(mode));
        }
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for text in ["", "sampled", "sampled:", "sampled:0", "sampled:x", "On"] {
            assert!(access_log(text).is_err(), "{text}");
        }
        for arguments in [
            ["--workers", "0"],
            ["--admin", "9901"],
            ["--address", "localhost"],
        ] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }
}
