//! The contenders: how each is started, pinned, and asked whether it answers rightly.

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use portcullis_routing::{ClusterProtocol, RoutePolicy};
use serde::Serialize;
use tokio::process::Command;

use crate::{
    bench::{
        Options, PORTCULLIS,
        ground::{Ground, MarkedBy, ON_CONTENDER_CORE, envoy_command, fill, nginx_command},
    },
    support::{
        backend::ANSWER_LENGTH,
        binaries::{installed, python_tool},
        certificate::{Authority, Identity},
        client::{Client, Target, Version, expect_answer},
        machine,
        process::Service,
        proxy::{Proxy, free_address, prefixed},
        table::{MARK, TableBuilder},
    },
};

/// The name in the certificate.
pub(crate) const HOST: &str = "bench.example";

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Contender {
    Portcullis,
    Nginx,
    Haproxy,
    Envoy,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Portcullis => PORTCULLIS,
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
        })
    }
}

impl Contender {
    /// Finds the program; portcullis-proxy is built.
    pub(crate) async fn program(self, options: &Options) -> Result<PathBuf> {
        match self {
            Self::Portcullis => options.portcullis().await,
            Self::Nginx => installed("nginx"),
            Self::Haproxy => installed("haproxy"),
            Self::Envoy => python_tool("envoy").await,
        }
    }
}

/// What is spoken with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Protocol {
    #[serde(rename = "HTTP/1.1")]
    Http1,
    #[serde(rename = "TLS, HTTP/1.1")]
    TlsHttp1,
    #[serde(rename = "TLS, HTTP/2")]
    TlsHttp2,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::TlsHttp1, Self::TlsHttp2];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Http1 => "HTTP/1.1",
            Self::TlsHttp1 => "TLS, HTTP/1.1",
            Self::TlsHttp2 => "TLS, HTTP/2",
        })
    }
}

/// Everything a contender is started from: the backend, the certificate, the configurations.
pub(crate) struct Arena {
    pub(crate) ground: Ground,
    pub(crate) authority: Authority,
    pub(crate) identity: Identity,
    pub(crate) programs: BTreeMap<Contender, PathBuf>,
}

/// A contender that runs and answers.
pub(crate) struct Running {
    pub(crate) contender: Contender,
    pub(crate) service: Service,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
}

impl Arena {
    /// Pins the harness and starts the backend.
    pub(crate) async fn new(programs: BTreeMap<Contender, PathBuf>) -> Result<Self> {
        let ground = Ground::new(MarkedBy::Contender).await?;
        let folder = ground.folder.path();
        let authority = Authority::new()?;
        let identity = authority.issue(&[HOST])?;
        fs::write(folder.join("chain.pem"), &identity.chain_pem)?;
        fs::write(folder.join("key.pem"), &identity.key_pem)?;
        fs::write(
            folder.join("combined.pem"),
            [&*identity.chain_pem, &identity.key_pem].concat(),
        )?;

        Ok(Self {
            ground,
            authority,
            identity,
            programs,
        })
    }

    /// A table that forwards everything to the backend.
    pub(crate) fn table(&self) -> TableBuilder {
        let mut table = TableBuilder::new(&self.identity);
        let cluster = table.cluster("backend", ClusterProtocol::Http1, &[self.ground.backend]);
        table.route("all", &[], "/", &cluster, RoutePolicy::default());
        table
    }

    /// Starts a fresh process of `contender` and checks its answers on every protocol.
    pub(crate) async fn start(&self, contender: Contender) -> Result<Running> {
        let program = self
            .programs
            .get(&contender)
            .context("only contenders of this run are started")?;
        let folder = self.ground.folder.path();
        let running = if contender == Contender::Portcullis {
            let proxy = Proxy::start(program, &self.table(), folder, ON_CONTENDER_CORE).await?;
            Running {
                contender,
                service: proxy.service,
                http: proxy.http,
                https: proxy.https,
            }
        } else {
            self.start_peer(contender, program).await?
        };
        for protocol in Protocol::ALL {
            running.check(self, protocol).await?;
        }
        Ok(running)
    }

    /// Starts Portcullis with a table of the caller's.
    pub(crate) async fn start_with(&self, table: &TableBuilder) -> Result<Proxy> {
        let program = self
            .programs
            .get(&Contender::Portcullis)
            .context("only contenders of this run are started")?;
        Proxy::start(program, table, self.ground.folder.path(), ON_CONTENDER_CORE).await
    }

    async fn start_peer(&self, contender: Contender, program: &Path) -> Result<Running> {
        let folder = self.ground.folder.path();
        let (http, https) = (free_address()?, free_address()?);
        let (file, template) = match contender {
            Contender::Nginx => (
                "nginx.conf",
                include_str!("../../../bench/peers/nginx.conf"),
            ),
            Contender::Haproxy => (
                "haproxy.cfg",
                include_str!("../../../bench/peers/haproxy.cfg"),
            ),
            _ => (
                "envoy.yaml",
                include_str!("../../../bench/peers/envoy.yaml"),
            ),
        };
        let config = folder.join(file);
        let values = [
            ("HTTP", &*http.port().to_string()),
            ("HTTPS", &https.port().to_string()),
            ("BACKEND", &self.ground.backend.port().to_string()),
        ];
        fs::write(&config, fill(template, &values))?;
        let mut command = prefixed(ON_CONTENDER_CORE, program);
        command.current_dir(folder);
        let command = match contender {
            Contender::Nginx => nginx_command(command, folder, &config),
            Contender::Haproxy => {
                command.arg("-db").arg("-f").arg(&config);
                command
            }
            _ => envoy_command(command, &config),
        };
        let mut service = Service::start(&contender.to_string(), command, folder)?;
        service.until_listening(&[http, https]).await?;
        Ok(Running {
            contender,
            service,
            http,
            https,
        })
    }

    /// The versions of the contenders and of the load generators.
    pub(crate) async fn versions(&self) -> Result<BTreeMap<String, String>> {
        let mut versions = BTreeMap::new();
        let mut ask = async |name: String, program: &Path, argument: &str| {
            let mut command = Command::new(program);
            command.arg(argument);
            versions.insert(name, machine::version(command).await?);
            anyhow::Ok(())
        };
        for (contender, program) in &self.programs {
            let argument = match contender {
                Contender::Nginx | Contender::Haproxy => "-v",
                Contender::Portcullis | Contender::Envoy => "--version",
            };
            ask(contender.to_string(), program, argument).await?;
        }
        ask("h2load".to_owned(), &installed("h2load")?, "--version").await?;
        ask("wrk".to_owned(), &installed("wrk")?, "-v").await?;
        Ok(versions)
    }
}

impl Running {
    /// Where `protocol` is spoken.
    pub(crate) fn address(&self, protocol: Protocol) -> SocketAddr {
        if protocol == Protocol::Http1 {
            self.http
        } else {
            self.https
        }
    }

    /// A client's view of it.
    pub(crate) fn target(&self, arena: &Arena, protocol: Protocol) -> Result<Target> {
        let (tls, version) = match protocol {
            Protocol::Http1 => (None, Version::Http1),
            Protocol::TlsHttp1 => (Some(arena.authority.client(&["http/1.1"])?), Version::Http1),
            Protocol::TlsHttp2 => (Some(arena.authority.client(&["h2"])?), Version::Http2),
        };
        Ok(Target {
            address: self.address(protocol),
            host: HOST.to_owned(),
            tls,
            version,
        })
    }

    /// One request, whose answer must be the right one.
    pub(crate) async fn check(&self, arena: &Arena, protocol: Protocol) -> Result<()> {
        let what = || format!("{} on {protocol} gives a wrong answer", self.contender);
        let mut client = Client::connect(&self.target(arena, protocol)?)
            .await
            .with_context(what)?;
        let answer = client.get("/").await.with_context(what)?;
        expect_answer(&answer, ANSWER_LENGTH, MARK).with_context(what)
    }
}
