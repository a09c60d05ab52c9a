//! `cargo e2e cluster doctor`: what the machine lacks, one line each. Nothing is ever skipped because something is missing.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};
use rustix::process::geteuid;
use tokio::{process::Command, time::timeout};

use super::{
    artifacts::{
        CONFORMANCE, DNS, ECHO, GoProgram, HELM, KUBERNETES, PAUSE, gateway_api_is_cached,
    },
    cgroups,
    layout::{LINK, NODES, ROUTED},
    toolchain::{self, Toolchain},
};
use crate::support::{binaries::installed, process::output_of};

/// Programs that the node needs, with the Debian package of each.
const PROGRAMS: [(&str, &str); 13] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("etcd", "etcd-server"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
];
/// CNI plugins that the node's network is made of.
const PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];
/// Where distributions install CNI plugins.
const PLUGIN_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
/// How long the module proxy may take to answer.
const PROXY_PATIENCE: Duration = Duration::from_mins(1);

/// Ends with an error that holds everything that is missing for a cluster of our own.
pub(super) async fn check() -> Result<()> {
    let mut missing = missing_on_node().await;
    missing.extend(missing_for_builds(&[&KUBERNETES, &DNS, &HELM, &PAUSE, &ECHO]).await?);
    report(&missing)
}

/// The same for the conformance suite alone.
pub(crate) async fn check_suite() -> Result<()> {
    report(&missing_for_builds(&[&CONFORMANCE]).await?)
}

fn report(missing: &[String]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    bail!("the machine lacks:\n  {}", missing.join("\n  "))
}

async fn missing_on_node() -> Vec<String> {
    let mut missing = Vec::new();
    if !geteuid().is_root() {
        missing.push("not root: namespaces, mounts and cgroups need it".to_owned());
    }
    for (program, package) in PROGRAMS {
        if installed(program).is_err() {
            missing.push(format!("{program} not found: apt-get install {package}"));
        }
    }
    if plugins().is_none() {
        missing.push(format!(
            "CNI plugins {} not found in {}: apt-get install containernetworking-plugins",
            PLUGINS.join(", "),
            PLUGIN_FOLDERS.join(", ")
        ));
    }
    let file_systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !file_systems.lines().any(|line| line.ends_with("\toverlay")) {
        missing.push("the kernel has no overlay file system: modprobe overlay".to_owned());
    }
    if !Path::new("/proc/sys/net/bridge").is_dir() {
        missing.push("the kernel does not filter on bridges: modprobe br_netfilter".to_owned());
    }
    if cgroups::hierarchies().is_empty() {
        missing.push("no cgroup hierarchy is mounted".to_owned());
    }
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "true",
    ]);
    if let Err(error) = output_of(unshare).await {
        missing.push(format!("namespaces cannot be made: {error:#}"));
    }
    missing.extend(taken_networks().await);
    missing
}

/// Where the CNI plugins are.
pub(super) fn plugins() -> Option<PathBuf> {
    PLUGIN_FOLDERS
        .iter()
        .map(PathBuf::from)
        .find(|folder| PLUGINS.iter().all(|plugin| folder.join(plugin).is_file()))
}

/// Networks of the bed that lead somewhere else on this machine.
async fn taken_networks() -> Vec<String> {
    let mut taken = Vec::new();
    for network in ROUTED.iter().chain(&[NODES]) {
        let mut command = Command::new("ip");
        command.args(["route", "show", "root", network]);
        let routes = output_of(command).await.unwrap_or_default();
        taken.extend(
            routes
                .lines()
                .filter(|route| !route.contains(LINK))
                .map(|route| {
                    format!(
                        "the network {network} is in use on this machine: {}",
                        route.trim()
                    )
                }),
        );
    }
    taken
}

/// What is missing to build those of `programs` that are not in the cache.
async fn missing_for_builds(programs: &[&GoProgram]) -> Result<Vec<String>> {
    let mut toolchains = Vec::new();
    let mut building = Vec::new();
    for program in programs {
        if !program.is_cached()? {
            toolchains.push(program.toolchain());
            building.push(program.name);
        }
    }
    if !gateway_api_is_cached()? {
        toolchains.push(&toolchain::CONFORMANCE);
        building.push("the CRDs of Gateway API");
    }
    let mut missing = BTreeSet::new();
    for toolchain in &toolchains {
        if !toolchain.obtainable().await {
            missing.insert(format!(
                "go {} not found, nor python3 with venv and pip to install it",
                toolchain.series
            ));
        }
    }
    if let Some(toolchain) = toolchains.first()
        && missing.is_empty()
        && !proxy_answers(toolchain).await
    {
        missing.insert(format!(
            "the Go module proxy does not answer (GOPROXY), and these are not in the cache: {}",
            building.join(", ")
        ));
    }
    Ok(missing.into_iter().collect())
}

/// Whether modules can be had.
async fn proxy_answers(toolchain: &Toolchain) -> bool {
    // Where Go itself has to be installed first, the build will find out.
    let Some(go) = toolchain.find().await else {
        return true;
    };
    let mut command = Command::new(go);
    command
        .args(["list", "-m", "golang.org/x/sys@latest"])
        .env("GOTOOLCHAIN", "local")
        .current_dir(env::temp_dir());
    timeout(PROXY_PATIENCE, output_of(command))
        .await
        .is_ok_and(|answer| answer.is_ok())
}
