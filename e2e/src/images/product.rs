//! `cargo e2e images product`: the images that are given away, built from this checkout and small enough.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::process::Command;

use super::oci::Image;
use crate::support::{
    binaries::{build, installed},
    process::output_of,
    watch::mib,
};

/// A program and the name of its image.
struct Product {
    binary: &'static str,
    image: &'static str,
}

const PRODUCTS: [Product; 3] = [
    Product {
        binary: "portcullis-controller",
        image: CONTROLLER_IMAGE,
    },
    Product {
        binary: "portcullis-proxy",
        image: PROXY_IMAGE,
    },
    Product {
        binary: "portcullis",
        image: "localhost/portcullis:e2e",
    },
];

/// The controller's image in a cluster under test.
pub(crate) const CONTROLLER_IMAGE: &str = "localhost/portcullis-controller:e2e";
/// The proxies' image in a cluster under test.
pub(crate) const PROXY_IMAGE: &str = "localhost/portcullis-proxy:e2e";

/// No image may be larger, unpacked, in bytes.
const MAX_SIZE: u64 = 30 << 20;

/// The images of controller, proxy and command, without symbols, with the trusted authorities of this machine.
#[derive(Args)]
pub(crate) struct Pack {
    /// Where the tarballs go, one for each program: `portcullis-controller.tar` and so on.
    #[arg(long, value_name = "DIRECTORY")]
    output: PathBuf,
    /// Profile of cargo that they are built with.
    #[arg(long, default_value = "release")]
    profile: String,
}

impl Pack {
    pub(crate) async fn run(self) -> Result<()> {
        pack(&self.output, &self.profile).await.map(drop)
    }
}

/// Builds and packs all of them into the folder `output`, and returns where they are.
pub(crate) async fn pack(output: &Path, profile: &str) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    let mut images = Vec::new();
    let mut large = Vec::new();
    for Product { binary, image } in PRODUCTS {
        let program = build(binary, profile).await?;
        let stripped = tempfile::NamedTempFile::new()?.into_temp_path();
        let mut strip = Command::new(installed("strip")?);
        strip.arg("-o").arg(&stripped).arg(&program);
        output_of(strip).await?;
        let tarball = output.join(binary).with_extension("tar");
        Image {
            names: &[image],
            program: &stripped,
            entrypoint: binary,
            authorities: true,
        }
        .pack(&tarball)?;
        let size = fs::metadata(&tarball)?.len();
        println!("{image}: {} ({:.1} MiB)", tarball.display(), mib(size));
        if size > MAX_SIZE {
            large.push(image);
        }
        images.push(tarball);
    }
    ensure!(
        large.is_empty(),
        "larger than {} MiB: {large:?}",
        mib(MAX_SIZE)
    );
    Ok(images)
}
