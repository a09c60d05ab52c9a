//! The proxy's certificate and the authorities it trusts, from files.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    version::TLS13,
};

/// Why the files cannot be used. They are read again at the next attempt.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{} holds {what}: {error}", path.display())]
    Pem {
        path: PathBuf,
        what: &'static str,
        error: pem::Error,
    },
    #[error("the files in {} cannot be used: {error}", path.display())]
    Unusable { path: PathBuf, error: rustls::Error },
}

/// TLS 1.3 towards the controller, as the files in `directory` are at this moment. Kubernetes replaces them in one step;
/// whoever reads in between sees a key that is not the certificate's, which is an error here.
pub(super) fn client_config(directory: &Path) -> Result<Arc<ClientConfig>, IdentityError> {
    let unusable = |error| IdentityError::Unusable {
        path: directory.to_owned(),
        error,
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(directory.join("ca.crt"))? {
        roots.add(authority).map_err(unusable)?;
    }
    let chain = certificates(directory.join("tls.crt"))?;
    let path = directory.join("tls.key");
    let key = PrivateKeyDer::from_pem_slice(&read(&path)?).map_err(|error| IdentityError::Pem {
        path,
        what: "no private key",
        error,
    })?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn certificates(path: PathBuf) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let content = read(&path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        other => Err(IdentityError::Pem {
            path,
            what: "no certificate",
            error: other.err().unwrap_or(pem::Error::NoItemsFound),
        }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|error| IdentityError::Read {
        path: path.to_owned(),
        error,
    })
}
