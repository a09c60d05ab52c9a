//! Clients of others: curl, h2load, and Python's grpcio and websockets.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{process::Command, time::timeout};

use crate::support::{binaries::installed, process::output_of, proxy::Proxy};

/// How long one transfer may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// Requests of an h2load run.
const REQUESTS: &str = "20000";
/// What a slow reader takes per second.
const SLOW: &str = "24M";

/// How a client speaks to the proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Http1,
    TlsHttp1,
    PriorKnowledge,
    TlsHttp2,
}

pub(crate) const CURL_WAYS: [Way; 4] = [
    Way::Http1,
    Way::TlsHttp1,
    Way::PriorKnowledge,
    Way::TlsHttp2,
];
pub(crate) const H2LOAD_WAYS: [Way; 3] = [Way::Http1, Way::PriorKnowledge, Way::TlsHttp2];

impl Way {
    fn is_tls(self) -> bool {
        matches!(self, Self::TlsHttp1 | Self::TlsHttp2)
    }

    fn scheme(self) -> &'static str {
        if self.is_tls() { "https" } else { "http" }
    }

    fn is_http2(self) -> bool {
        matches!(self, Self::PriorKnowledge | Self::TlsHttp2)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::TlsHttp1 => "TLS HTTP/1.1",
            Self::PriorKnowledge => "h2c",
            Self::TlsHttp2 => "TLS HTTP/2",
        })
    }
}

/// What the clients need to know.
pub(crate) struct Clients<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) folder: &'a Path,
    pub(crate) authority_file: &'a Path,
    pub(crate) python: &'a Path,
}

impl Clients<'_> {
    /// GETs `size` bytes.
    pub(crate) async fn download(&self, way: Way, host: &str, size: u64) -> Result<String> {
        let mut curl = self.curl(way, host, &format!("/bytes/{size}"))?;
        curl.args(["--output", "/dev/null"]);
        expect_curl(curl, way, &format!("size {size}")).await
    }

    /// GETs `size` bytes and takes them slower than they come.
    pub(crate) async fn slow_download(&self, host: &str, size: u64) -> Result<String> {
        let mut curl = self.curl(Way::Http1, host, &format!("/bytes/{size}"))?;
        curl.args(["--output", "/dev/null", "--limit-rate", SLOW]);
        expect_curl(curl, Way::Http1, &format!("size {size}")).await
    }

    /// POSTs `size` bytes, streamed from a file; the backend says how many have come.
    pub(crate) async fn upload(&self, way: Way, host: &str, size: u64) -> Result<String> {
        let file = self.folder.join("upload");
        std::fs::File::create(&file)?.set_len(size)?;
        let answer = self.folder.join("answer");
        let mut curl = self.curl(way, host, "/sink")?;
        curl.args(["--request", "POST", "--upload-file"])
            .arg(&file)
            .arg("--output")
            .arg(&answer);
        let result = expect_curl(curl, way, "").await?;
        let counted = std::fs::read_to_string(answer)?;
        ensure!(
            counted == size.to_string(),
            "{counted} of {size} bytes have come"
        );
        Ok(result)
    }

    /// Many small requests on few connections.
    pub(crate) async fn h2load(&self, way: Way, host: &str) -> Result<String> {
        let mut command = Command::new(installed("h2load")?);
        command.args(["-n", REQUESTS, "-c", "10", "-m", "10"]);
        if !way.is_http2() {
            command.arg("--h1");
        }
        let address = self.address(way);
        command.arg(format!("--connect-to={address}"));
        command.arg(format!("{}://{host}:{}/", way.scheme(), address.port()));
        let output = bounded(command).await?;
        ensure!(
            output.contains(&format!("{REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx")),
            "not all are 2xx:\n{output}"
        );
        Ok(format!("{REQUESTS} requests"))
    }

    /// Messages small, fragmented and large, and pings.
    pub(crate) async fn websocket(&self, tls: bool, host: &str, mebibytes: u64) -> Result<String> {
        let way = if tls { Way::TlsHttp1 } else { Way::Http1 };
        let url = format!(
            "{}://{}/ws",
            if tls { "wss" } else { "ws" },
            self.address(way)
        );
        let mut command = self.script("websocket_client.py");
        command.args([&url, host, &mebibytes.to_string()]);
        self.checks(command, tls).await
    }

    /// Unary calls, streams each way and both ways, errors, deadlines, metadata and trailers.
    pub(crate) async fn grpc(&self, tls: bool, host: &str) -> Result<String> {
        let mut command = self.script("grpc_client.py");
        command.args([
            &self
                .address(if tls {
                    Way::TlsHttp2
                } else {
                    Way::PriorKnowledge
                })
                .to_string(),
            host,
        ]);
        self.checks(command, tls).await
    }

    async fn checks(&self, mut command: Command, tls: bool) -> Result<String> {
        if tls {
            command.arg(self.authority_file);
        }
        let output = bounded(command).await?;
        let checks: Vec<&str> = output
            .lines()
            .filter_map(|line| line.strip_prefix("ok "))
            .collect();
        ensure!(!checks.is_empty(), "the client checked nothing");
        Ok(checks.join(", "))
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.python);
        command.arg(script(name));
        command
    }

    fn curl(&self, way: Way, host: &str, path: &str) -> Result<Command> {
        let mut curl = Command::new(installed("curl")?);
        let address = self.address(way);
        let scheme = way.scheme();
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--cacert"])
            .arg(self.authority_file)
            .arg(match way {
                Way::Http1 | Way::TlsHttp1 => "--http1.1",
                Way::PriorKnowledge => "--http2-prior-knowledge",
                Way::TlsHttp2 => "--http2",
            })
            .args([
                "--resolve",
                &format!("{host}:{}:{}", address.port(), address.ip()),
            ])
            .args([
                "--write-out",
                "status %{http_code} version %{http_version} size %{size_download}",
            ])
            .arg(format!("{scheme}://{host}:{}{path}", address.port()));
        Ok(curl)
    }

    fn address(&self, way: Way) -> SocketAddr {
        if way.is_tls() {
            self.proxy.https
        } else {
            self.proxy.http
        }
    }
}

/// Where a Python program of this crate is.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("python")
        .join(name)
}

/// What curl wrote out must be a 200 in the right version, and hold `more`.
async fn expect_curl(curl: Command, way: Way, more: &str) -> Result<String> {
    let written = bounded(curl).await?;
    let version = if way.is_http2() { "2" } else { "1.1" };
    let good =
        written.starts_with(&format!("status 200 version {version} ")) && written.ends_with(more);
    ensure!(good, "unexpected answer: {written}");
    Ok(written)
}

async fn bounded(command: Command) -> Result<String> {
    let what = format!(
        "{} takes longer than {} s",
        command.as_std().get_program().display(),
        PATIENCE.as_secs()
    );
    timeout(PATIENCE, output_of(command)).await.context(what)?
}
