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

/// A program and its image.
struct Product {
    binary: &'static str,
    image: &'static str,
    /// The image may not be larger, unpacked, in bytes.
    max_size: u64,
}

const PROXY: &str = "portcullis-proxy";

/// What runs in a cluster.
const FOR_CLUSTERS: [Product; 2] = [
    Product {
        binary: "portcullis-controller",
        image: CONTROLLER_IMAGE,
        max_size: 30 << 20,
    },
    Product {
        binary: PROXY,
        image: PROXY_IMAGE,
        max_size: 30 << 20,
    },
];

/// The command holds both, and is rarely fetched by a node.
const COMMAND: Product = Product {
    binary: "portcullis",
    image: "localhost/portcullis:e2e",
    max_size: 40 << 20,
};

/// The controller's image in a cluster under test.
pub(crate) const CONTROLLER_IMAGE: &str = "localhost/portcullis-controller:e2e";
/// The proxies' image in a cluster under test.
pub(crate) const PROXY_IMAGE: &str = "localhost/portcullis-proxy:e2e";

/// The images of controller, proxy and command, without symbols, with the trusted authorities of this machine.
#[derive(Args)]
pub(crate) struct Pack {
    /// Where the tarballs go, one for each program: `portcullis-controller.tar` and so on.
    #[arg(long, value_name = "DIRECTORY")]
    output: PathBuf,
    /// Profile of cargo that they are built with.
    #[arg(long, default_value = "release")]
    profile: String,
    /// A portcullis-proxy that is packed in place of a fresh one, such as `cargo e2e bench train` makes.
    #[arg(long, value_name = "PROGRAM")]
    proxy: Option<PathBuf>,
}

impl Pack {
    pub(crate) async fn run(self) -> Result<()> {
        let all = FOR_CLUSTERS.iter().chain([&COMMAND]);
        pack(&self.output, &self.profile, self.proxy.as_deref(), all).await
    }
}

/// Builds and packs what runs in a cluster, for release, into the folder `output`.
pub(crate) async fn pack_for_clusters(output: &Path) -> Result<()> {
    pack(output, "release", None, &FOR_CLUSTERS).await
}

async fn pack(
    output: &Path,
    profile: &str,
    proxy: Option<&Path>,
    products: impl IntoIterator<Item = &Product>,
) -> Result<()> {
    fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    let mut large = Vec::new();
    for Product {
        binary,
        image,
        max_size,
    } in products
    {
        let program = match proxy {
            Some(proxy) if *binary == PROXY => proxy.to_owned(),
            _ => build(binary, profile).await?,
        };
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
        if size > *max_size {
            large.push(format!("{image} (at most {} MiB)", mib(*max_size)));
        }
    }
    let large = large.join(", ");
    // A release is optimised across crates, which takes a tenth off.
    if std::env::var("CARGO_PROFILE_RELEASE_LTO").is_ok_and(|lto| lto == "off") {
        if !large.is_empty() {
            println!(
                "too large for a release, but this is none (CARGO_PROFILE_RELEASE_LTO=off): {large}"
            );
        }
        return Ok(());
    }
    ensure!(large.is_empty(), "too large: {large}");
    Ok(())
}
