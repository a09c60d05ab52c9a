//! `cargo e2e images`: images of one program each, as OCI tarballs.

mod libraries;
pub(crate) mod oci;
pub(crate) mod product;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use self::oci::Image;
use crate::{
    cluster::{
        artifacts::{ECHO, GoProgram, PAUSE},
        layout::PAUSE_IMAGE,
    },
    support::watch::mib,
};

/// Names of the echo backend in the manifests of the conformance suite and in the smoke test.
pub(crate) const ECHO_IMAGES: [&str; 2] = [
    "registry.k8s.io/gateway-api/conformance/echo-basic:v0.1.0",
    "registry.k8s.io/gateway-api/conformance/echo-basic:v0.2.0",
];

/// OCI images without a registry or a daemon.
#[derive(Subcommand)]
pub(crate) enum Images {
    /// The images that the cluster itself needs; prints where they are.
    Bed,
    Pack(Pack),
    Product(product::Pack),
}

/// An image of one program with the shared libraries it needs, to be imported by `cargo e2e cluster load`. The program is packed as
/// it is, with its symbols, so that backtraces and profilers have names; `images product` packs without them.
#[derive(Args)]
pub(crate) struct Pack {
    /// The program; also what the image runs.
    program: PathBuf,
    /// Full name with a tag other than `latest`, `localhost/portcullis-proxy:e2e`.
    #[arg(long)]
    name: String,
    /// Where the tarball goes.
    #[arg(long)]
    output: PathBuf,
    /// Also pack the machine's trusted certificate authorities.
    #[arg(long)]
    authorities: bool,
}

impl Images {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Bed => {
                for image in bed().await? {
                    println!("{}", image.display());
                }
                Ok(())
            }
            Self::Pack(pack) => pack.run(),
            Self::Product(product) => product.run().await,
        }
    }
}

impl Pack {
    fn run(&self) -> Result<()> {
        let entrypoint = self
            .program
            .file_name()
            .and_then(|name| name.to_str())
            .context("the program's name is not UTF-8")?;
        Image {
            names: &[&self.name],
            program: &self.program,
            entrypoint,
            authorities: self.authorities,
        }
        .pack(&self.output)?;
        let size = std::fs::metadata(&self.output)?.len();
        println!(
            "{}: {} ({:.1} MiB)",
            self.name,
            self.output.display(),
            mib(size)
        );
        Ok(())
    }
}

/// Tarballs of the images that every cluster gets, built and packed where the cache has them not.
pub(crate) async fn bed() -> Result<Vec<PathBuf>> {
    Ok(vec![
        packed(&PAUSE, &[PAUSE_IMAGE]).await?,
        packed(&ECHO, &ECHO_IMAGES).await?,
    ])
}

/// The image of a Go program, beside the program in the cache. The names are no input of the program's hash, so the image
/// is packed anew each time; that takes milliseconds.
async fn packed(program: &GoProgram, names: &[&str]) -> Result<PathBuf> {
    let binary = program.get().await?;
    let output = Path::new(&binary).with_extension("tar");
    Image {
        names,
        program: &binary,
        entrypoint: program.name,
        authorities: false,
    }
    .pack(&output)?;
    Ok(output)
}
