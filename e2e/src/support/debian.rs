//! Programs of Debian packages that are unpacked, not installed: to install them would start services.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::Command;

use super::{binaries::cache, process::output_of};

/// Packages, unpacked into a folder.
pub(crate) struct Unpacked {
    root: PathBuf,
}

impl Unpacked {
    /// Unpacks `packages` into `root`. They are fetched once and kept in the cache; their dependencies are not followed.
    pub(crate) async fn new(packages: &[&str], root: &Path) -> Result<Self> {
        let archives = fetch(packages).await.with_context(|| {
            let packages = packages.join(", ");
            format!(
                "the Debian packages {packages} cannot be had: apt-get of Debian 12 fetches them"
            )
        })?;
        extract(&archives, root).await?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// `packages` with everything that they depend on, unpacked in the cache: a root file system in which their programs run. No
    /// script of any package has run there.
    pub(crate) async fn whole(packages: &[&str]) -> Result<Self> {
        let root = cache()?
            .join("debian")
            .join(format!("root-{}", packages.join("-")));
        if root.is_dir() {
            return Ok(Self { root });
        }
        println!(
            "unpacking {} of Debian with what they need",
            packages.join(", ")
        );
        let part = root.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        let archives = fetch_whole(packages).await.with_context(|| {
            let packages = packages.join(", ");
            format!(
                "the Debian packages {packages} cannot be had: apt-get of Debian 12 fetches them"
            )
        })?;
        extract(archives.path(), &part).await?;
        fs::rename(&part, &root)?;
        Ok(Self { root })
    }

    /// Where `file` of a package is; `file` as the package calls it, without the first slash.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// Where the shared libraries are.
    pub(crate) fn libraries(&self) -> PathBuf {
        let architecture = std::env::consts::ARCH;
        self.root.join(format!("usr/lib/{architecture}-linux-gnu"))
    }
}

/// Unpacks all archives of a folder into `root`.
async fn extract(archives: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for archive in fs::read_dir(archives)? {
        let archive = archive?.path();
        if archive.extension().is_some_and(|end| end == "deb") {
            let mut command = Command::new("dpkg-deb");
            command.arg("--extract").arg(archive).arg(root);
            output_of(command).await?;
        }
    }
    Ok(())
}

/// A folder with the archives of `packages` and of all that they need, whatever the machine has.
async fn fetch_whole(packages: &[&str]) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("partial"))?;
    let status = folder.path().join("status");
    fs::write(&status, "")?;
    let mut command = Command::new("apt-get");
    command
        .args([
            "--quiet",
            "--yes",
            "--download-only",
            "--no-install-recommends",
        ])
        .arg("--option")
        .arg(format!("Dir::State::status={}", status.display()))
        .arg("--option")
        .arg(format!("Dir::Cache::archives={}", folder.path().display()))
        .args(["--option", "Debug::NoLocking=1", "install"])
        .args(packages);
    output_of(command).await?;
    Ok(folder)
}

/// The folder with the archives.
async fn fetch(packages: &[&str]) -> Result<PathBuf> {
    let cache = cache()?.join("debian");
    let folder = cache.join(packages.join("-"));
    if folder.is_dir() {
        return Ok(folder);
    }
    fs::create_dir_all(&cache)?;
    // What is not whole never gets the name.
    let part = tempfile::tempdir_in(&cache)?;
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "download"])
        .args(packages)
        .current_dir(part.path());
    output_of(command).await?;
    fs::rename(part.keep(), &folder)?;
    Ok(folder)
}
