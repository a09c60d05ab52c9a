//! `cargo e2e chart install`: what is in this checkout, installed in the cluster by its chart.

use std::path::PathBuf;

use anyhow::Result;

use super::{helm::Helm, repository};
use crate::{cluster::Cluster, images::product};

/// The release, as the documents install it.
const RELEASE: &str = "portcullis";
pub(crate) const NAMESPACE: &str = "portcullis-system";

/// The values that name the images of this checkout.
pub(super) const IMAGES: [&str; 5] = [
    "image.repository=localhost/portcullis-controller",
    "image.tag=e2e",
    "image.pullPolicy=Never",
    "proxy.image.repository=localhost/portcullis-proxy",
    "proxy.image.tag=e2e",
];

/// Installs or upgrades it, and waits until it is there.
pub(super) async fn run(images: Option<PathBuf>) -> Result<()> {
    let cluster = Cluster::chosen();
    let kubectl = cluster.kubectl().await?;
    load_images(&cluster, images).await?;
    let helm = Helm::new(Some(&kubectl.kubeconfig)).await?;
    // Helm installs CRDs once and never upgrades them.
    let crds = repository("charts/portcullis/crds");
    let crds = crds.to_string_lossy();
    kubectl
        .run(&["apply", "--server-side", "--force-conflicts", "-f", &crds])
        .await?;
    let mut arguments = vec![
        "upgrade",
        RELEASE,
        helm.chart(),
        "--install",
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--wait",
    ];
    arguments.extend(IMAGES.iter().flat_map(|value| ["--set", value]));
    helm.run(&arguments).await?;
    // An image may have changed under the name that it had.
    let deployment = format!("deployment/{RELEASE}-controller");
    for action in ["restart", "status"] {
        kubectl
            .run(&["rollout", action, &deployment, "--namespace", NAMESPACE])
            .await?;
    }
    println!("{RELEASE} is installed in {NAMESPACE}");
    Ok(())
}

/// Loads the images of a folder into the cluster's nodes; without one they are built.
pub(super) async fn load_images(cluster: &Cluster, folder: Option<PathBuf>) -> Result<()> {
    let packed;
    let folder = if let Some(folder) = folder {
        folder
    } else {
        packed = tempfile::tempdir()?;
        product::pack_for_clusters(packed.path()).await?;
        packed.path().to_owned()
    };
    for program in ["portcullis-controller", "portcullis-proxy"] {
        cluster
            .load(&folder.join(program).with_extension("tar"))
            .await?;
    }
    Ok(())
}
