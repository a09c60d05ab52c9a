//! HTTPS: a listener with a certificate, the redirect to it, and another certificate in its place.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::load::{CLIENTS, Load};
use crate::{
    support::{
        certificate::{Authority, Identity},
        client::{Target, Version},
    },
    test::bed::Bed,
};

const TLS: &str = include_str!("../manifests/tls.yaml");
const HOST: &str = "shop.example";
const URL: &str = "https://shop.example/cart";

/// HTTPS with curl, as a user trusts it, and the way to it from HTTP.
pub(super) async fn https(bed: &Bed) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let trusted = write(folder.path(), "authority.pem", &authority)?;
    let shop = Shop::open(bed, &authority.issue(&[HOST])?).await?;
    let answer = shop
        .until_trusted(bed, &trusted)
        .await
        .context("HTTPS is not served")?;
    ensure!(answer["path"] == "/cart", "another path: {answer}");
    // Otherwise `--cacert` would prove nothing.
    bed.curl_distrusts(&["--resolve", &shop.resolve(443), URL])
        .await
        .context("with the authorities of the machine")?;

    let [clear, encrypted] = [80, 443].map(|port| shop.resolve(port));
    let resolve = ["--resolve", &clear, "--resolve", &encrypted];
    let with = |more: &[&'static str]| [&resolve[..], more].concat();
    let plain = "http://shop.example/cart";
    let answer = bed
        .until_curl(&with(&[plain]), |answer| answer.status == 301)
        .await?;
    ensure!(
        answer.header("location") == Some(URL),
        "it leads elsewhere: {answer}"
    );
    let mut follow = with(&["--location", plain]);
    follow.extend(["--cacert", path(&trusted)?]);
    let answer = bed.curl(&follow).await?;
    ensure!(
        answer.is_from("app"),
        "the redirect leads nowhere: {answer}"
    );
    Ok(())
}

/// The Secret gets the certificate of another authority.
pub(super) async fn rotation(bed: &Bed) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let old = Authority::new()?;
    let new = Authority::new()?;
    let trusts_old = write(folder.path(), "old.pem", &old)?;
    let trusts_new = write(folder.path(), "new.pem", &new)?;
    let shop = Shop::open(bed, &old.issue(&[HOST])?).await?;
    shop.until_trusted(bed, &trusts_old).await?;
    shop.is_untrusted(bed, &trusts_new)
        .await
        .context("with the new authority before the rotation")?;
    let load = Load::new(Target {
        address: shop.address,
        host: HOST.to_owned(),
        tls: Some(old.client(&["http/1.1"])?),
        version: Version::Http1,
    });
    load.during(async {
        bed.until("the clients have connected", async || {
            ensure!(load.answers() > 2 * CLIENTS, "{} answers", load.answers());
            Ok(())
        })
        .await?;
        bed.apply(&secret(&new.issue(&[HOST])?)).await?;
        shop.until_trusted(bed, &trusts_new).await?;
        shop.is_untrusted(bed, &trusts_old)
            .await
            .context("with the old authority after the rotation")?;
        let before = load.answers();
        bed.until("the clients go on", async || {
            ensure!(load.answers() > before + 10 * CLIENTS, "they have stopped");
            Ok(())
        })
        .await
    })
    .await?;
    // A new connection could not have been made: the clients do not trust the new authority.
    ensure!(
        load.connections() == CLIENTS,
        "{} connections of {CLIENTS} clients",
        load.connections()
    );
    Ok(())
}

/// A shop that is served by HTTPS.
struct Shop {
    address: SocketAddr,
}

impl Shop {
    async fn open(bed: &Bed, identity: &Identity) -> Result<Self> {
        bed.echo("app", 1).await?;
        bed.apply(&secret(identity)).await?;
        bed.apply(TLS).await?;
        let address = SocketAddr::new(bed.address("edge").await?, 443);
        Ok(Self { address })
    }

    fn resolve(&self, port: u16) -> String {
        format!("{HOST}:{port}:{}", self.address.ip())
    }

    /// Asks with the authorities of a file; returns what the backend tells.
    async fn ask(&self, bed: &Bed, trusted: &Path) -> Result<serde_json::Value> {
        let resolve = self.resolve(443);
        let answer = bed
            .curl(&["--resolve", &resolve, "--cacert", path(trusted)?, URL])
            .await?;
        ensure!(answer.is_from("app"), "{answer}");
        Ok(answer.echo())
    }

    /// Fails unless who trusts the authorities of a file does not trust the certificate that is shown.
    async fn is_untrusted(&self, bed: &Bed, trusted: &Path) -> Result<()> {
        let resolve = self.resolve(443);
        bed.curl_distrusts(&["--resolve", &resolve, "--cacert", path(trusted)?, URL])
            .await
    }

    async fn until_trusted(&self, bed: &Bed, trusted: &Path) -> Result<serde_json::Value> {
        bed.until("the certificate is shown", async || {
            self.ask(bed, trusted).await
        })
        .await
    }
}

fn secret(identity: &Identity) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "shop-certificate" },
        "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": identity.chain_pem, "tls.key": identity.key_pem },
    })
    .to_string()
}

/// Writes the authority's certificate for curl.
fn write(folder: &Path, name: &str, authority: &Authority) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, authority.pem())?;
    Ok(path)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary folder is not UTF-8")
}
