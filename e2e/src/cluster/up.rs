//! `cargo e2e cluster up`: builds what is missing, starts the node, and waits until it is ready.

use std::{
    env,
    fs::{self, DirBuilder, File},
    os::unix::fs::{DirBuilderExt, symlink},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::{
    Cluster, LOADER,
    artifacts::{DNS, HELM, KUBERNETES, KUBERNETES_PROGRAMS, gateway_api},
    certificates, cgroups, config, doctor,
    kubectl::Kubectl,
    layout::{self, MARK, NODE_NAME},
    network, node_command, teardown,
};
use crate::{
    images,
    support::process::{POLL, output_of},
};

/// How long each step of a boot may take. Machines that build something beside are slow.
const PATIENCE: Duration = Duration::from_mins(5);
/// How much of a log stands in an error, in lines.
const LAST_WORDS: usize = 15;
/// How much of a line of a log, in characters.
const LINE: usize = 300;

/// Which definitions of Gateway API a cluster gets.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Crds {
    /// All kinds and fields, experimental ones too.
    Experimental,
    /// What is generally available.
    Standard,
    /// None at all.
    None,
}

/// Where the programs that the cluster needs are in the cache.
struct Programs {
    kubernetes: PathBuf,
    dns: PathBuf,
    helm: PathBuf,
}

/// Says what is done, and when since the start.
struct Progress(Instant);

impl Progress {
    fn done(&self, what: &str) {
        println!("{:>6.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}

/// Starts a cluster of our own.
pub(super) async fn up(crds: Crds) -> Result<()> {
    refuse_a_second().await?;
    doctor::check().await?;
    let programs = Programs {
        kubernetes: KUBERNETES.get().await?,
        dns: DNS.get().await?,
        helm: HELM.get().await?,
    };
    let images = images::bed().await?;
    if crds != Crds::None {
        gateway_api().await?;
    }
    println!("every program and image is in the cache; starting the cluster");

    let progress = Progress(Instant::now());
    write_files(&programs)?;
    progress.done("certificates and configuration written");
    let mut node = start_node().await?;
    progress.done("node connected");
    let kubectl = Kubectl::own();
    // Whoever waits finds out by an error that names the log, not by waiting to the end.
    let ready = async {
        until_api_answers(&kubectl).await?;
        progress.done("API server ready");
        for image in &images {
            super::load_into_node(image).await?;
        }
        progress.done("images of the bed imported");
        let node = ["node", NODE_NAME];
        kubectl.wait(&node, "create", PATIENCE).await?;
        kubectl.wait(&node, "condition=Ready", PATIENCE).await?;
        progress.done("node Ready");
        install(&kubectl, crds, &progress).await
    };
    let outcome = tokio::select! {
        outcome = ready => outcome,
        status = node.wait() => Err(anyhow::anyhow!("the node ended with {}", status?)),
    };
    if let Err(error) = outcome {
        bail!(
            "{error:#}\n{}\nThe logs are in {}; `cargo e2e cluster down` removes what has been started.",
            last_words(),
            layout::logs().display()
        );
    }
    fs::write(layout::complete_file(), "")?;
    println!(
        "\nThe cluster is up. KUBECONFIG={}\n  eval \"$(cargo e2e cluster env)\"   sets it, and PATH to kubectl and helm\n  cargo e2e cluster down            ends it",
        layout::kubeconfig("admin").display()
    );
    Ok(())
}

/// Prepares a cluster that `KUBECONFIG` names.
pub(super) async fn prepare(cluster: &Cluster, crds: Crds) -> Result<()> {
    let kubectl = &cluster.kubectl().await?;
    println!(
        "KUBECONFIG is set: using the cluster of {}",
        kubectl.kubeconfig.display()
    );
    println!("SKIPPED: booting a node, because the cluster is there");
    println!("SKIPPED: the load-balancer allocator, because that is up to the cluster");
    if env::var_os(LOADER).is_some() {
        for image in images::bed().await? {
            cluster.load(&image).await?;
        }
    } else {
        println!(
            "SKIPPED: importing images, because {LOADER} does not say how; `cargo e2e images bed` makes them"
        );
    }
    install(kubectl, crds, &Progress(Instant::now())).await
}

/// Installs the definitions of Gateway API.
async fn install(kubectl: &Kubectl, crds: Crds, progress: &Progress) -> Result<()> {
    let Some((folder, version)) = definitions(crds).await? else {
        return Ok(());
    };
    let objects = kubectl.apply_kustomization(&folder).await?;
    kubectl
        .wait(&["crd", "--all"], "condition=Established", PATIENCE)
        .await?;
    let channel = if crds == Crds::Standard {
        "standard"
    } else {
        "experimental"
    };
    progress.done(&format!(
        "Gateway API {version} ({channel}): {objects} objects installed"
    ));
    Ok(())
}

/// The folder of the definitions for kustomize, and their version.
pub(crate) async fn definitions(crds: Crds) -> Result<Option<(PathBuf, String)>> {
    if crds == Crds::None {
        return Ok(None);
    }
    let (mut folder, version) = gateway_api().await?;
    // The release's own folder is the standard channel.
    if crds == Crds::Experimental {
        folder.push("experimental");
    }
    Ok(Some((folder, version)))
}

async fn refuse_a_second() -> Result<()> {
    if Cluster::Own.is_up().await {
        bail!(
            "a cluster is up already: use it (`eval \"$(cargo e2e cluster env)\"`) or end it (`cargo e2e cluster down`)"
        );
    }
    let left = teardown::leftovers()?;
    ensure!(
        left.is_empty() && !layout::run().exists(),
        "an earlier cluster was not ended; `cargo e2e cluster down` removes what is left of it:\n  {}",
        if left.is_empty() {
            layout::run().display().to_string()
        } else {
            left.join("\n  ")
        }
    );
    Ok(())
}

/// Writes everything that the programs read, and makes their cgroup.
fn write_files(programs: &Programs) -> Result<()> {
    let mut private = DirBuilder::new();
    private.mode(0o700);
    // Fails if it is there: of two at once, one wins.
    private
        .create(layout::run())
        .with_context(|| format!("cannot make {}", layout::run().display()))?;
    for folder in [
        layout::state(),
        layout::logs(),
        layout::pki(),
        layout::config(),
        layout::bin(),
    ] {
        private.create(folder)?;
    }
    for name in KUBERNETES_PROGRAMS {
        symlink(&programs.kubernetes, layout::bin().join(name))?;
    }
    symlink(&programs.dns, layout::bin().join("dns"))?;
    symlink(&programs.helm, layout::bin().join("helm"))?;
    // A copy: cargo may build another one while the node runs.
    fs::copy(env::current_exe()?, layout::bin().join("portcullis-e2e"))?;
    certificates::issue(&layout::pki())?;
    config::write(&doctor::plugins().context("the CNI plugins were there a moment ago")?)?;
    cgroups::create()
}

/// Starts the node's first process in namespaces of its own and connects it with the machine.
async fn start_node() -> Result<Child> {
    let log = File::create(layout::logs().join("node.log"))?;
    // It outlives this program and its terminal.
    let mut unshare = Command::new("setsid")
        .args(["unshare", "--net", "--mount", "--pid", "--fork"])
        .args(["--kill-child=KILL", "--mount-proc"])
        .args(["--propagation", "private"])
        .arg(layout::bin().join("portcullis-e2e"))
        .args(["node", "init"])
        .current_dir("/")
        .env(MARK, "1")
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the node")?;
    let parent = unshare.id().context("the node has just been started")?;
    let pid = first_child(parent, &mut unshare).await?;
    fs::write(layout::pid_file(), pid.to_string())?;
    let namespaces = ["net", "mnt", "pid"]
        .iter()
        .map(|kind| {
            let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"))?;
            Ok(format!("{}\n", link.display()))
        })
        .collect::<Result<String>>()?;
    fs::write(layout::namespaces_file(), namespaces)?;
    network::connect(pid).await?;
    let mut input = unshare.stdin.take().context("the input is piped")?;
    input.write_all(b"connected\n").await?;
    Ok(unshare)
}

/// The process that `unshare` forks into the new namespaces.
async fn first_child(parent: u32, unshare: &mut Child) -> Result<u32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
            .unwrap_or_default();
        if let Some(pid) = children.split_whitespace().next() {
            return Ok(pid.parse()?);
        }
        if let Some(status) = unshare.try_wait()? {
            bail!("unshare ended with {status}:\n{}", last_words());
        }
        ensure!(Instant::now() < deadline, "unshare starts nothing");
        sleep(POLL).await;
    }
}

async fn until_api_answers(kubectl: &Kubectl) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match kubectl.run(&["get", "--raw", "/readyz"]).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context("the API server does not get ready"));
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

/// The end of every log.
fn last_words() -> String {
    let mut words = String::new();
    let mut logs: Vec<PathBuf> = fs::read_dir(layout::logs())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    logs.sort();
    for log in logs {
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.chars().take(LINE).collect())
            .collect();
        let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
        words = format!("{words}--- {}\n{}\n", log.display(), last.join("\n"));
    }
    words
}

/// Imports an image tarball into the node's containerd.
pub(super) async fn import(tarball: &std::path::Path) -> Result<()> {
    let tarball = fs::canonicalize(tarball)
        .with_context(|| format!("cannot read the image {}", tarball.display()))?;
    let mut ctr = node_command("ctr")?;
    ctr.arg("--address")
        .arg(layout::containerd_socket())
        .args(["--namespace", layout::CONTAINERD_NAMESPACE])
        .args(["images", "import"])
        .arg(&tarball);
    output_of(ctr).await.map(drop)
}
