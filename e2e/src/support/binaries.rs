//! The binaries under test, and the programs of others: where they are.

use std::{env, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;
use tokio::process::Command;

/// Builds `binary` with cargo's `profile` and returns where it is.
///
/// The whole workspace is selected, though only one binary of it is built: dependencies get the features that all of its
/// packages together ask for, so that every binary, and `.ci/run`, share them.
pub(crate) async fn build(binary: &str, profile: &str) -> Result<PathBuf> {
    println!("building {binary} (profile {profile})");
    run(cargo(), binary, profile).await
}

/// More flags for the compiler.
pub(crate) struct Flags {
    /// One flag of rustc.
    pub(crate) rustc: String,
    /// Where everything goes that is built with it.
    pub(crate) folder: PathBuf,
}

/// The same with `flags`. They are for what is built, not for what runs during the build, which is why the target is named.
pub(crate) async fn build_with(binary: &str, profile: &str, flags: &Flags) -> Result<PathBuf> {
    println!("building {binary} (profile {profile}, {})", flags.rustc);
    let mut cargo = cargo();
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", &flags.rustc)
        .args(["--target", &rustc_print("host-tuple").await?])
        .arg("--target-dir")
        .arg(&flags.folder);
    run(cargo, binary, profile).await
}

/// What `rustc --print` says about `what`.
pub(crate) async fn rustc_print(what: &str) -> Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", what]);
    Ok(super::process::output_of(rustc).await?.trim().to_owned())
}

fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("build");
    cargo
}

async fn run(mut cargo: Command, binary: &str, profile: &str) -> Result<PathBuf> {
    let output = cargo
        .args([
            "--quiet",
            "--locked",
            "--workspace",
            "--bin",
            binary,
            "--profile",
            profile,
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("building {binary} failed");
    }
    Message::parse_stream(output.stdout.as_slice())
        .filter_map(|message| match message {
            Ok(Message::CompilerArtifact(artifact)) if artifact.target.name == binary => {
                artifact.executable
            }
            _ => None,
        })
        .last()
        .map(Into::into)
        .with_context(|| format!("cargo built no {binary}"))
}

/// Where things are kept between runs: `$PORTCULLIS_CACHE`, else `~/.cache/portcullis`.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("PORTCULLIS_CACHE") {
        return Ok(folder.into());
    }
    let home = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(home
        .context("neither HOME nor PORTCULLIS_CACHE is set")?
        .join("portcullis"))
}

/// A program of the Python environment in the cache, made from `e2e/requirements.txt` on first use.
pub(crate) async fn python_tool(name: &str) -> Result<PathBuf> {
    let tool = cache()?.join("venv/bin").join(name);
    if !tool.exists() {
        make_environment().await?;
    }
    Ok(tool)
}

/// The folder of a module in that environment.
pub(crate) async fn python_module(name: &str) -> Result<PathBuf> {
    let python = python_tool("python").await?;
    let find = || {
        let mut find = Command::new(&python);
        find.arg("-c")
            .arg(format!("import {name}; print({name}.__path__[0])"));
        super::process::output_of(find)
    };
    if let Ok(found) = find().await {
        return Ok(found.trim().into());
    }
    // The environment is older than that.
    make_environment().await?;
    let found = find().await?;
    Ok(found.trim().into())
}

async fn make_environment() -> Result<()> {
    let environment = cache()?.join("venv");
    println!(
        "installing e2e/requirements.txt into {}",
        environment.display()
    );
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&environment);
    super::process::output_of(make).await?;
    let mut install = Command::new(environment.join("bin/pip"));
    install
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/requirements.txt"));
    super::process::output_of(install).await.map(drop)
}

/// An installed program, also looked for where Debian keeps servers.
pub(crate) fn installed(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!("{name} is not installed (`.ci/run packages` installs what is needed)")
        })
}
