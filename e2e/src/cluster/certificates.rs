//! The cluster's authorities, certificates and keys, new for every cluster. All keys are P-256.

use std::{fs, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::layout::{API_SERVICE, NODE_ADDRESS, NODE_NAME};

/// Names under which pods and people reach the API server.
const API_NAMES: [&str; 8] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    API_SERVICE,
    NODE_ADDRESS,
];

/// Clients by file name: common name and organisation, which are user and group to Kubernetes.
const CLIENTS: [(&str, &str, Option<&str>); 6] = [
    ("admin", "admin", Some("system:masters")),
    (
        "apiserver-kubelet-client",
        "apiserver-kubelet-client",
        Some("system:masters"),
    ),
    ("controller-manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
    ("node", "system:node:node1", Some("system:nodes")),
];

struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// Writes `<name>.crt` and `<name>.key` of everything that the programs need into `folder`.
pub(super) fn issue(folder: &Path) -> Result<()> {
    let cluster = Authority::create("ca", folder)?;
    cluster.serving("apiserver", "kube-apiserver", &API_NAMES, folder)?;
    cluster.serving("kubelet", NODE_NAME, &[NODE_NAME, NODE_ADDRESS], folder)?;
    for (file, user, group) in CLIENTS {
        cluster.client(file, user, group, folder)?;
    }
    let front_proxy = Authority::create("front-proxy-ca", folder)?;
    front_proxy.client("front-proxy-client", "front-proxy-client", None, folder)?;

    let service_accounts = KeyPair::generate()?;
    write_secret(
        &folder.join("service-account.key"),
        &service_accounts.serialize_pem(),
    )?;
    fs::write(
        folder.join("service-account.pub"),
        service_accounts.public_key_pem(),
    )?;
    Ok(())
}

impl Authority {
    fn create(name: &str, folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        write_pair(name, &params.self_signed(&key)?, &key, folder)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
        })
    }

    fn serving(&self, file: &str, name: &str, names: &[&str], folder: &Path) -> Result<()> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names)?;
        self.sign(
            file,
            params,
            name,
            ExtendedKeyUsagePurpose::ServerAuth,
            folder,
        )
    }

    fn client(&self, file: &str, user: &str, group: Option<&str>, folder: &Path) -> Result<()> {
        let mut params = CertificateParams::new(Vec::new())?;
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        self.sign(
            file,
            params,
            user,
            ExtendedKeyUsagePurpose::ClientAuth,
            folder,
        )
    }

    fn sign(
        &self,
        file: &str,
        mut params: CertificateParams,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
        folder: &Path,
    ) -> Result<()> {
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        write_pair(file, &params.signed_by(&key, &self.issuer)?, &key, folder)
    }
}

fn write_pair(
    name: &str,
    certificate: &rcgen::Certificate,
    key: &KeyPair,
    folder: &Path,
) -> Result<()> {
    fs::write(folder.join(format!("{name}.crt")), certificate.pem())?;
    write_secret(&folder.join(format!("{name}.key")), &key.serialize_pem())
}

/// Writes a file that only its owner may read.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
}
