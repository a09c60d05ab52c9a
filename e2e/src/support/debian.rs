//! Programs of Debian packages that are unpacked, not installed: to install them would start services.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
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
        fs::create_dir_all(root)?;
        for archive in fs::read_dir(archives)? {
            let mut command = Command::new("dpkg-deb");
            command.arg("--extract").arg(archive?.path()).arg(root);
            output_of(command).await?;
        }
        Ok(Self {
            root: root.to_owned(),
        })
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
