//! Command-line options of everything that runs the proxy.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZero,
    path::PathBuf,
    thread,
};

use anyhow::Context as _;

use portcullis_routing::{GatewayKey, settings::AccessLog};

use crate::{
    ports::PortMap,
    source::{Controller, Endpoint, Timing},
    state::{Overrides, TableSource},
    telemetry::MetricsOptions,
};

/// Where the tables of a proxy by itself come from: a file, or a controller.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("tables").required(true)))]
pub struct TableOptions {
    /// Routing table, JSON. It may appear later.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_TABLE", group = "tables")]
    table: Option<PathBuf>,
    /// The controller to follow.
    #[arg(long, value_name = "https://HOST:PORT", env = "PORTCULLIS_CONTROLLER")]
    #[arg(group = "tables", requires = "gateway", requires = "identity")]
    controller: Option<Endpoint>,
    /// The Gateway to serve.
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        env = "PORTCULLIS_GATEWAY",
        value_parser = gateway,
        requires = "controller"
    )]
    gateway: Option<GatewayKey>,
    /// Directory with tls.crt and tls.key, which name the Gateway (`spiffe://DOMAIN/ns/NAMESPACE/gateway/NAME`), and ca.crt,
    /// which the controller is checked against. Read anew for each connection, so they may be replaced at any time.
    #[arg(
        long,
        value_name = "DIRECTORY",
        env = "PORTCULLIS_IDENTITY",
        requires = "controller"
    )]
    identity: Option<PathBuf>,
    /// Where to keep the last known good table for a restart without a controller. It holds private keys; best in memory,
    /// such as in an emptyDir with medium Memory. Default: none is kept.
    #[arg(
        long,
        value_name = "FILE",
        env = "PORTCULLIS_TABLE_CACHE",
        requires = "controller"
    )]
    table_cache: Option<PathBuf>,
}

impl TableOptions {
    /// The file, if it is one. Fails if its directory cannot be watched.
    pub fn file(&self) -> anyhow::Result<Option<TableSource>> {
        let watch = |path: &PathBuf| {
            TableSource::file(path)
                .with_context(|| format!("cannot watch the directory of {}", path.display()))
        };
        self.table.as_ref().map(watch).transpose()
    }

    /// The controller, if it is one.
    pub fn controller(&self) -> Option<Controller> {
        Some(Controller {
            endpoint: self.controller.clone()?,
            gateway: self.gateway.clone()?,
            identity: self.identity.clone()?,
            cache: self.table_cache.clone(),
            timing: Timing::default(),
        })
    }
}

fn admin(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write address and port, such as 127.0.0.1:9901; every address is 0.0.0.0 or [::]"
            .to_owned()
    })
}

fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let server: Option<SocketAddr> = text.parse().ok();
    server.filter(|server| server.port() != 0).ok_or_else(|| {
        "write an address and a port from 1 on, such as 192.0.2.53:53 or [2001:db8::53]:53; a name would have to be looked up first"
            .to_owned()
    })
}

fn gateway(text: &str) -> Result<GatewayKey, String> {
    let is_name = |name: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        !name.is_empty() && name.bytes().all(is_part)
    };
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => {
            Ok(GatewayKey::of(namespace, name))
        }
        _ => Err("write NAMESPACE/NAME, such as infra/edge".to_owned()),
    }
}

/// Where the admin port is unless it is said.
pub const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);

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
    /// others than this machine reach it; /table is for this machine anyway.
    #[arg(long, value_name = "IP:PORT", default_value_t = ADMIN, value_parser = admin)]
    pub admin: SocketAddr,
    /// Worker threads. Default: one per core that this process may use.
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZero<usize>>,
    /// Seconds for which everybody is still served after SIGTERM, each connection with one last answer, so that load
    /// balancers hear of the end before it comes. In a cluster about 5.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "PORTCULLIS_DRAIN_DELAY",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(..=3600)
    )]
    pub drain_delay: u16,
    /// Access log on standard output: off, on, or sampled:N for failures and one in N of the others. Default: as the
    /// Gateway's settings say.
    #[arg(long, value_name = "off|sampled:N|on", value_parser = access_log)]
    pub access_log: Option<AccessLog>,
    /// DNS server that an egress Gateway asks for the hosts outside, over UDP and TCP; may be repeated. Instead of `dnsServers` of
    /// GatewayParameters, and of those of /etc/resolv.conf, which are asked if neither names any.
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', value_parser = dns_server)]
    pub dns_server: Vec<SocketAddr>,
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
            dns_servers: self.dns_server.clone(),
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

    #[derive(Debug, Parser)]
    struct Proxy {
        #[command(flatten)]
        tables: TableOptions,
    }

    fn tables(arguments: &[&str]) -> Result<TableOptions, String> {
        let proxy = Proxy::try_parse_from([&["proxy"], arguments].concat());
        proxy
            .map(|proxy| proxy.tables)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn tables_come_from_a_file_or_from_a_controller() {
        let file = tables(&["--table", "t"]).unwrap();
        assert!(file.controller().is_none() && file.table.is_some());
        let controller = [
            "--controller",
            "https://c:1",
            "--gateway",
            "a/b",
            "--identity",
            "d",
        ];
        let followed = tables(&controller).unwrap().controller().unwrap();
        assert_eq!(followed.gateway.as_str(), "a/b");
        assert_eq!(followed.cache, None);
        let cached = tables(&[&controller[..], &["--table-cache", "f"]].concat()).unwrap();
        assert_eq!(cached.controller().unwrap().cache, Some("f".into()));

        let told = |arguments: &[&str], words: &str| {
            let error = tables(arguments).unwrap_err();
            assert!(error.contains(words), "{arguments:?}: {error}");
        };
        told(&[], "--table <FILE>|--controller");
        told(&controller[..2], "--gateway");
        told(&controller[..4], "--identity");
        told(&controller[2..], "--controller");
        told(
            &[&controller[..], &["--table", "t"]].concat(),
            "cannot be used with",
        );
        told(&["--controller", "c:1"], "https://HOST:PORT");
        for wrong in ["b", "a/", "/b", "a/b/c", "a/b?c"] {
            let mut arguments = controller;
            arguments[3] = wrong;
            told(&arguments, "NAMESPACE/NAME");
        }
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
            "--dns-server",
            "192.0.2.53:53",
            "--dns-server",
            "[2001:db8::53]:5353",
        ])
        .unwrap();
        assert_eq!(
            options.overrides().dns_servers,
            ["192.0.2.53:53", "[2001:db8::53]:5353"].map(|it| it.parse().unwrap())
        );
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
            ["--dns-server", "192.0.2.53"],
            ["--dns-server", "192.0.2.53:0"],
            ["--dns-server", "dns.example:53"],
        ] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }
}
