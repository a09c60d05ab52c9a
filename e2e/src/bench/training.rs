//! Training: portcullis-proxy as the compiler makes it when it has seen what the proxy does most of the time
//! (profile-guided optimisation).
//!
//! A proxy that counts is built, gets the bench's load on every protocol, and is built once more with what it counted. All of
//! this stays in the cache. Every training starts from nothing but the sources, so a profile is never older than they are.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use tokio::process::Command;

use super::{
    ground::ON_CONTENDER_CORE,
    http::{
        contender::{Arena, Contender, Protocol, Running},
        load::load,
    },
};
use crate::support::{
    binaries::{self, Flags, cache, rustc_print},
    process::{ended_well, output_of},
    proxy::Proxy,
};

const PROXY: &str = "portcullis-proxy";
/// Load on each protocol. Counts do not get better by more of the same.
const LESSON: Duration = Duration::from_secs(5);

/// Builds portcullis-proxy for the load of the bench and prints where it is: about a quarter less instructions per request.
#[derive(Args)]
pub(crate) struct Train {
    /// Cargo profile that it is built with.
    #[arg(long, default_value = "dist")]
    profile: String,
}

impl Train {
    pub(crate) async fn run(self) -> Result<()> {
        println!("{}", build(&self.profile).await?.display());
        Ok(())
    }
}

/// The trained program.
pub(crate) async fn build(profile: &str) -> Result<PathBuf> {
    let merge = profile_merger().await?;
    let folder = cache()?.join("training");
    fs::create_dir_all(&folder)?;
    let learner = Flags {
        rustc: "-Cprofile-generate".to_owned(),
        folder: folder.join("learner"),
    };
    let learner = binaries::build_with(PROXY, profile, &learner).await?;

    // The arena pins this process and whatever it starts; the second build wants all cores again.
    let cores = sched_getaffinity(None)?;
    let counts = learn(learner).await;
    sched_setaffinity(None, &cores)?;
    let counts = counts?;
    let seen = folder.join(PROXY).with_extension("profdata");
    let mut command = Command::new(merge);
    // Sparse: what was never called stays as it is, instead of being made small and slow.
    command
        .args(["merge", "--sparse", "--output"])
        .args([&*seen, counts.path()]);
    output_of(command).await?;

    let trained = Flags {
        rustc: format!("-Cprofile-use={}", seen.display()),
        folder: folder.join("trained"),
    };
    // Cargo does not see that there is another profile under the same name.
    if trained.folder.exists() {
        fs::remove_dir_all(&trained.folder)?;
    }
    binaries::build_with(PROXY, profile, &trained).await
}

/// Lets `learner` serve the bench's load, and returns the folder with what it counted.
async fn learn(learner: PathBuf) -> Result<tempfile::TempDir> {
    let counts = tempfile::tempdir()?;
    let file = format!(
        "LLVM_PROFILE_FILE={}",
        counts.path().join("%p.profraw").display()
    );
    let prefix = [&["env", &*file], ON_CONTENDER_CORE].concat();
    let arena = Arena::new(BTreeMap::new()).await?;
    let proxy = Proxy::start(
        &learner,
        &arena.table(),
        arena.ground.folder.path(),
        &prefix,
    )
    .await?;
    let running = Running {
        contender: Contender::Portcullis,
        service: proxy.service,
        http: proxy.http,
        https: proxy.https,
    };
    for protocol in Protocol::ALL {
        println!("training on {protocol}");
        running.check(&arena, protocol).await?;
        load(&running, protocol, LESSON).await?;
    }
    // It writes at its end what it counted.
    let status = running.service.stop().await?;
    ensure!(ended_well(status), "{PROXY} ended with {status}");
    Ok(counts)
}

/// `llvm-profdata` of the compiler that counts: only it is sure to read what was written.
async fn profile_merger() -> Result<PathBuf> {
    let folder = PathBuf::from(rustc_print("sysroot").await?);
    let target = rustc_print("host-tuple").await?;
    let tool = folder
        .join("lib/rustlib")
        .join(target)
        .join("bin/llvm-profdata");
    ensure!(
        tool.is_file(),
        "{} is missing: `rustup component add llvm-tools` installs it",
        tool.display()
    );
    Ok(tool)
}
