//! The contenders of the egress bench, and what they are started from: two names that they may forward to, whose servers are on
//! loopback.
//!
//! The names must mean something to each contender, and the machine stays as it is. Squid and tinyproxy get a mount namespace
//! with a hosts file of its own; Envoy and Portcullis ask a DNS server of the bench's.

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use hickory_resolver::proto::rr::RecordType;
use serde::Serialize;
use tokio::process::Command;

use super::{
    manifests::{self, HOST, TUNNELS},
    wire::{Wire, connect, get},
};
use crate::{
    bench::{
        PORTCULLIS,
        ground::{Ground, MarkedBy, ON_CONTENDER_CORE, envoy_command, fill},
    },
    support::{
        backend::Backend,
        debian::Unpacked,
        dns::{DnsServer, Reply},
        machine,
        process::Service,
        proxy::{free_address, prefixed, serve},
    },
};

/// A host that is not allowed.
const DENIED: &str = "other.bench.example";
/// Squid with its error pages, libraries that Debian does not have without it, and tinyproxy without its service.
const PACKAGES: &[&str] = &[
    "squid",
    "squid-common",
    "squid-langpack",
    "libecap3",
    "libltdl7",
    "libtdb1",
    "tinyproxy-bin",
];
/// Runs the arguments behind the first with that hosts file, and with shared memory that is gone when they end: Squid leaves
/// segments behind that stand in the way of the next one.
const WITH_HOSTS: &str =
    r#"mount --bind "$0" /etc/hosts && mount -t tmpfs shm /dev/shm && exec "$@""#;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Contender {
    Portcullis,
    Squid,
    Tinyproxy,
    Envoy,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Portcullis => PORTCULLIS,
            Self::Squid => "Squid",
            Self::Tinyproxy => "tinyproxy",
            Self::Envoy => "Envoy",
        })
    }
}

impl Contender {
    /// All but Portcullis.
    pub(crate) const PEERS: [Self; 3] = [Self::Squid, Self::Tinyproxy, Self::Envoy];

    /// What a client hears that asks for another host.
    fn refusal(self) -> u16 {
        // To Envoy a host without a route is a host that is not there.
        if self == Self::Envoy { 404 } else { 403 }
    }

    /// Whether it keeps a client's connection after an answer.
    pub(crate) fn keeps_connections(self) -> bool {
        self != Self::Tinyproxy
    }

    /// Whether it is started in a mount namespace.
    pub(crate) fn needs_root(self) -> bool {
        matches!(self, Self::Squid | Self::Tinyproxy)
    }
}

/// The programs of a run; those of Debian are unpacked when it begins.
#[derive(Default)]
pub(crate) struct Programs {
    /// portcullis-proxy, and the `portcullis` that makes its routing table of manifests.
    pub(crate) portcullis: Option<(PathBuf, PathBuf)>,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) debian: bool,
}

/// Everything that a contender is started from.
pub(crate) struct Arena {
    pub(crate) ground: Ground,
    /// Takes and gives long bodies.
    bulk: Backend,
    dns: DnsServer,
    programs: Programs,
    debian: Option<Unpacked>,
}

/// A contender that runs, allows what it should, and refuses the rest.
pub(crate) struct Running {
    pub(crate) contender: Contender,
    pub(crate) service: Service,
    pub(crate) proxy: SocketAddr,
}

impl Arena {
    /// Pins the harness and starts the servers behind the proxies.
    pub(crate) async fn new(programs: Programs) -> Result<Self> {
        let ground = Ground::new(MarkedBy::Backend).await?;
        let folder = ground.folder.path();
        // Squid is somebody else, and looks for its files in there.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?;
        fs::write(
            folder.join("hosts"),
            format!("127.0.0.1 localhost\n127.0.0.1 {HOST} {TUNNELS}\n"),
        )?;
        let debian = if programs.debian {
            Some(Unpacked::new(PACKAGES, &folder.join("debian")).await?)
        } else {
            None
        };
        let dns = DnsServer::start(Ipv4Addr::LOCALHOST.into()).await?;
        for host in [HOST, TUNNELS] {
            dns.set(host, [Reply::of([Ipv4Addr::LOCALHOST])])?;
        }
        Ok(Self {
            ground,
            bulk: Backend::start("bulk")?,
            dns,
            programs,
            debian,
        })
    }

    /// Host and port of the server of ordinary answers, as a client asks a proxy for it by URL.
    pub(crate) fn authority(&self) -> String {
        format!("{HOST}:{}", self.ground.backend.port())
    }

    /// The same server, as a client asks for a tunnel to it.
    pub(crate) fn tunnel_authority(&self) -> String {
        format!("{TUNNELS}:{}", self.ground.backend.port())
    }

    /// The server of long bodies, as a client asks for a tunnel to it.
    pub(crate) fn bulk_authority(&self) -> String {
        format!("{TUNNELS}:{}", self.bulk.address.port())
    }

    /// Starts a fresh process of `contender` and checks what it lets through.
    pub(crate) async fn start(&self, contender: Contender) -> Result<Running> {
        if contender == Contender::Portcullis {
            return self.start_portcullis(1).await;
        }
        let proxy = free_address()?;
        let mut service = match contender {
            Contender::Squid => self.start_squid(proxy)?,
            Contender::Tinyproxy => self.start_tinyproxy(proxy)?,
            _ => self.start_envoy(proxy)?,
        };
        service.until_listening(&[proxy]).await?;
        let running = Running {
            contender,
            service,
            proxy,
        };
        running.check(self).await?;
        if contender == Contender::Envoy {
            ensure!(
                self.dns.questions(HOST, RecordType::A)? > 0,
                "Envoy has the address of {HOST} from somebody else"
            );
        }
        Ok(running)
    }

    /// Starts Portcullis with `entries` entries besides the one for tunnels, of which one is for the host that is asked for.
    pub(crate) async fn start_portcullis(&self, entries: u32) -> Result<Running> {
        let (program, translator) = self
            .programs
            .portcullis
            .as_ref()
            .context("only contenders of this run are started")?;
        let folder = self.ground.folder.path().join(format!("entries-{entries}"));
        fs::create_dir_all(&folder)?;
        let manifests = folder.join("manifests.yaml");
        fs::write(&manifests, manifests::all(&self.values(), entries))?;
        let mut translate = Command::new(translator);
        translate
            .args(["translate", "--table", manifests::GATEWAY])
            .arg(&manifests);
        let output = translate.output().await?;
        ensure!(
            output.status.success(),
            "the manifests are not as they should be:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let table = folder.join("table.json");
        fs::write(&table, output.stdout)?;
        let proxy = free_address()?;
        let listeners = [(manifests::PORT, proxy)];
        let running = Running {
            contender: Contender::Portcullis,
            service: serve(program, &table, &listeners, &folder, ON_CONTENDER_CORE).await?,
            proxy,
        };
        running.check(self).await?;
        Ok(running)
    }

    /// What may be forwarded to, and who knows where it is, as templates call it.
    fn values(&self) -> [(&'static str, String); 5] {
        [
            ("HOST", HOST.to_owned()),
            ("TUNNELS", TUNNELS.to_owned()),
            ("HTTP", self.ground.backend.port().to_string()),
            ("BULK", self.bulk.address.port().to_string()),
            ("DNS", self.dns.address.port().to_string()),
        ]
    }

    fn start_squid(&self, proxy: SocketAddr) -> Result<Service> {
        let debian = self.debian()?;
        let template = include_str!("../../../bench/egress/squid.conf");
        let config = self.configure(template, "squid.conf", proxy)?;
        let mut squid = self.with_hosts(&debian.path("usr/sbin/squid"))?;
        squid.args(["-N", "-f"]).arg(config);
        Service::start("squid", squid, self.ground.folder.path())
    }

    fn start_tinyproxy(&self, proxy: SocketAddr) -> Result<Service> {
        let debian = self.debian()?;
        let filter = [HOST, TUNNELS].map(|host| format!("^{}$\n", host.replace('.', r"\.")));
        fs::write(self.filter(), filter.concat())?;
        let template = include_str!("../../../bench/egress/tinyproxy.conf");
        let config = self.configure(template, "tinyproxy.conf", proxy)?;
        let mut tinyproxy = self.with_hosts(&debian.path("usr/bin/tinyproxy"))?;
        tinyproxy.args(["-d", "-c"]).arg(config);
        Service::start("tinyproxy", tinyproxy, self.ground.folder.path())
    }

    fn start_envoy(&self, proxy: SocketAddr) -> Result<Service> {
        let program = self.programs.envoy.as_ref();
        let program = program.context("only contenders of this run are started")?;
        let template = include_str!("../../../bench/egress/envoy.yaml");
        let config = self.configure(template, "envoy.yaml", proxy)?;
        let command = envoy_command(prefixed(ON_CONTENDER_CORE, program), &config);
        Service::start("envoy", command, self.ground.folder.path())
    }

    /// Writes a peer's configuration.
    fn configure(&self, template: &str, file: &str, proxy: SocketAddr) -> Result<PathBuf> {
        let root = self.ground.folder.path().join("debian");
        let (root, filter) = (root.display().to_string(), self.filter());
        let port = proxy.port().to_string();
        let mut values = vec![
            ("PORT", port.as_str()),
            ("ROOT", &root),
            ("FILTER", filter.to_str().context("the folder has a name")?),
        ];
        let ours = self.values();
        values.extend(ours.iter().map(|(name, it)| (*name, it.as_str())));
        let config = self.ground.folder.path().join(file);
        fs::write(&config, fill(template, &values))?;
        Ok(config)
    }

    /// Where tinyproxy finds the hosts that are allowed.
    fn filter(&self) -> PathBuf {
        self.ground.folder.path().join("filter")
    }

    /// `program` with a mount namespace, and the libraries that came with it.
    fn with_hosts(&self, program: &Path) -> Result<Command> {
        let (unshare, sh) = (Path::new("unshare"), ["--mount", "sh", "-c", WITH_HOSTS]);
        let mut command = prefixed(ON_CONTENDER_CORE, unshare);
        command
            .args(sh)
            .arg(self.ground.folder.path().join("hosts"))
            .arg(program)
            .env("LD_LIBRARY_PATH", self.debian()?.libraries());
        Ok(command)
    }

    fn debian(&self) -> Result<&Unpacked> {
        let debian = self.debian.as_ref();
        debian.context("only contenders of this run are started")
    }

    /// The versions of the contenders.
    pub(crate) async fn versions(&self) -> Result<BTreeMap<String, String>> {
        let mut commands = Vec::new();
        if let Some((proxy, _)) = &self.programs.portcullis {
            commands.push((Contender::Portcullis, Command::new(proxy), "--version"));
        }
        if let Some(envoy) = &self.programs.envoy {
            commands.push((Contender::Envoy, Command::new(envoy), "--version"));
        }
        if let Some(debian) = &self.debian {
            for (peer, file) in [
                (Contender::Squid, "usr/sbin/squid"),
                (Contender::Tinyproxy, "usr/bin/tinyproxy"),
            ] {
                let mut command = Command::new(debian.path(file));
                command.env("LD_LIBRARY_PATH", debian.libraries());
                commands.push((peer, command, "-v"));
            }
        }
        let mut versions = BTreeMap::new();
        for (contender, mut command, argument) in commands {
            command.arg(argument);
            versions.insert(contender.to_string(), machine::version(command).await?);
        }
        Ok(versions)
    }
}

impl Running {
    /// The allowed host must answer, by a tunnel and by a URL; another host must be refused, both ways.
    pub(crate) async fn check(&self, arena: &Arena) -> Result<()> {
        let contender = self.contender;
        self.allows(arena)
            .await
            .with_context(|| format!("{contender} gives a wrong answer"))?;
        let denied = format!("{DENIED}:{}", arena.ground.backend.port());
        let url = format!("http://{denied}/");
        for request in [connect(&denied), get(&url, &denied)] {
            let head = Wire::open(self.proxy).await?.head(&request).await?;
            ensure!(
                head.status == contender.refusal() && !head.marked,
                "{contender} answers {} for a host that is not allowed",
                head.status
            );
        }
        Ok(())
    }

    async fn allows(&self, arena: &Arena) -> Result<()> {
        let authority = arena.tunnel_authority();
        let mut tunnel = Wire::tunnel(self.proxy, &authority).await?;
        tunnel.get(&get("/", &authority)).await?;
        let authority = arena.authority();
        let url = format!("http://{authority}/");
        let mut direct = Wire::open(self.proxy).await?;
        direct.get(&get(&url, &authority)).await
    }
}
