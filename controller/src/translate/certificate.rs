//! Certificates of HTTPS listeners: from a `certificateRefs` entry to a chain with its key, each Secret read once.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use gateway_api::apis::experimental::gateways::GatewayListenersTlsCertificateRefs;
use k8s_openapi::{ByteString, api::core::v1::Secret as SecretObject};
use portcullis_routing::{Certificate, CertificateKey, Secret};
use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Context, GrantSubject, GrantTarget, hostname};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::reason,
};

/// The type of Secrets that hold a certificate with its key.
const TLS_SECRET: &str = "kubernetes.io/tls";

/// Only used to check that a key belongs to its certificate.
static CRYPTO: LazyLock<CryptoProvider> =
    LazyLock::new(rustls::crypto::aws_lc_rs::default_provider);

/// A certificate that can be served.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    pub(crate) certificate: Arc<Certificate>,
    /// DNS names that it is valid for, lower case.
    names: Vec<String>,
}

impl ServerCertificate {
    /// Whether it is valid for the hostname of a listener. A wildcard of a certificate stands for one label (RFC 9525,
    /// 6.3), which has to do for a wildcard listener that asks for the same.
    pub(crate) fn covers(&self, listener: &str) -> bool {
        self.names
            .iter()
            .any(|name| name == listener || hostname::covers_one_label(name, listener))
    }
}

/// What is wrong with a Secret, and what to do about it.
type Broken = (String, &'static str);

/// A certificateRef that leads to nothing that can be served.
#[derive(Debug)]
pub(crate) struct Unresolved {
    pub(crate) finding: Finding,
    /// The Secret may be referred to and is there, but cannot be read, or its content is broken, perhaps because it is just
    /// being replaced: a data plane that has an earlier pair of it shows that on.
    pub(crate) broken: Option<CertificateKey>,
}

impl From<Finding> for Unresolved {
    fn from(finding: Finding) -> Self {
        Self {
            finding,
            broken: None,
        }
    }
}

/// Every Secret that was asked for, read once.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    read: BTreeMap<ObjectKey, Result<Arc<ServerCertificate>, Broken>>,
}

impl Certificates {
    /// Follows a certificateRef at `field` of `object`, a Gateway or ListenerSet.
    pub(crate) fn resolve(
        &mut self,
        ctx: &Context<'_>,
        object: &ObjectRef,
        field: &str,
        reference: &GatewayListenersTlsCertificateRefs,
    ) -> Result<(CertificateKey, Arc<ServerCertificate>), Unresolved> {
        let group = reference.group.as_deref().unwrap_or_default();
        let kind = reference.kind.as_deref().unwrap_or("Secret");
        if (group, kind) != ("", "Secret") {
            return Err(object
                .error(
                    reason::INVALID_CERTIFICATE_REF,
                    format!("{field}.kind"),
                    format!("{kind} of group {group:?} cannot hold a certificate"),
                    "refer to a Secret of type kubernetes.io/tls",
                )
                .into());
        }
        let own = &object.key.namespace;
        let namespace = reference.namespace.as_deref().unwrap_or(own);
        let subject = GrantSubject {
            group: "gateway.networking.k8s.io",
            kind: &object.kind,
            namespace: own,
        };
        let target = GrantTarget {
            group,
            kind,
            namespace,
            name: &reference.name,
        };
        // Asked before anything else: who may not refer to a Secret learns nothing about it either.
        if !ctx.grants.permits(subject, target) {
            return Err(object.error(
                reason::REF_NOT_PERMITTED,
                format!("{field}.namespace"),
                format!("no ReferenceGrant in namespace {namespace} lets {}s of {own} refer to this Secret", object.kind),
                format!("create a ReferenceGrant in {namespace} from {} in {own} to Secret {}", object.kind, reference.name),
            ).into());
        }
        let key = ObjectKey::new(namespace, &reference.name);
        let certificate_key = CertificateKey::secret(&key.namespace, &key.name);
        if let Some(not_read) = ctx.resources.not_read.secrets.get(&key) {
            let (message, remedy) = not_read.told(kind, &key);
            let message = format!("Secret {key} {message}");
            return Err(Unresolved {
                finding: object.error(reason::INVALID_CERTIFICATE_REF, field, message, remedy),
                broken: Some(certificate_key),
            });
        }
        let Some(secret) = ctx.resources.secrets.get(&key) else {
            return Err(missing(ctx, object, field, &key).into());
        };
        match self.read(&key, secret) {
            Ok(certificate) => Ok((certificate_key, certificate)),
            Err((message, remedy)) => Err(Unresolved {
                finding: object.error(
                    reason::INVALID_CERTIFICATE_REF,
                    field,
                    format!("Secret {key} {message}"),
                    remedy,
                ),
                broken: is_tls_secret(secret).then_some(certificate_key),
            }),
        }
    }

    fn read(
        &mut self,
        key: &ObjectKey,
        secret: &SecretObject,
    ) -> Result<Arc<ServerCertificate>, Broken> {
        let read = self.read.entry(key.clone());
        read.or_insert_with(|| parse(secret).map(Arc::new)).clone()
    }
}

/// There is no such Secret.
fn missing(ctx: &Context<'_>, object: &ObjectRef, field: &str, key: &ObjectKey) -> Finding {
    let (message, remedy) = if key.has_valid_name() && key.has_valid_namespace() {
        (
            format!("Secret {key} does not exist"),
            format!(
                "create it, as by `{}`, or correct the reference",
                create(ctx, key)
            ),
        )
    } else {
        // It may be written to be pasted into a shell, so there is no command with it.
        let ObjectKey { namespace, name } = key;
        (
            format!("no Secret can have the name {name:?} in namespace {namespace:?}"),
            "correct the reference".into(),
        )
    };
    object.error(reason::INVALID_CERTIFICATE_REF, field, message, remedy)
}

/// The command that creates a Secret. With files nobody needs a cluster: the same command prints the manifest then.
fn create(ctx: &Context<'_>, ObjectKey { namespace, name }: &ObjectKey) -> String {
    let printed = if ctx.options.implied_classes.is_empty() {
        ""
    } else {
        " --dry-run=client -o yaml"
    };
    format!("kubectl -n {namespace} create secret tls {name} --cert=FILE --key=FILE{printed}")
}

fn is_tls_secret(secret: &SecretObject) -> bool {
    secret.type_.as_deref() == Some(TLS_SECRET)
}

fn parse(secret: &SecretObject) -> Result<ServerCertificate, Broken> {
    let kind = secret.type_.as_deref().unwrap_or("Opaque");
    if kind != TLS_SECRET {
        return Err((
            format!("is of type {kind}"),
            "use a Secret of type kubernetes.io/tls",
        ));
    }
    let chain_pem = entry(secret, "tls.crt")?;
    let key_pem = entry(secret, "tls.key")?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| {
            (
                format!("has a tls.crt that is not PEM: {error}"),
                "put the PEM certificate chain there, leaf first",
            )
        })?;
    let Some(leaf) = chain.first() else {
        return Err((
            "has a tls.crt without a certificate".into(),
            "put the PEM certificate chain there, leaf first",
        ));
    };
    let names = dns_names(leaf)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| {
        (
            format!("has a tls.key that is no PEM private key: {error}"),
            "put the PEM private key of the leaf there",
        )
    })?;
    CertifiedKey::from_der(chain, key, &CRYPTO).map_err(|error| {
        (
            format!("has a tls.crt and tls.key that do not work together: {error}"),
            "put a matching pair there",
        )
    })?;
    let certificate = Certificate {
        chain_pem: chain_pem.into(),
        key_pem: Secret::new(key_pem),
    };
    Ok(ServerCertificate {
        certificate: Arc::new(certificate),
        names,
    })
}

fn entry<'a>(secret: &'a SecretObject, name: &str) -> Result<&'a str, Broken> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(name));
    let Some(ByteString(bytes)) = bytes.filter(|bytes| !bytes.0.is_empty()) else {
        return Err((
            format!("has no {name}"),
            "a Secret of type kubernetes.io/tls needs tls.crt and tls.key",
        ));
    };
    std::str::from_utf8(bytes).map_err(|_| {
        (
            format!("has a {name} that is not text"),
            "put PEM there, not DER",
        )
    })
}

fn dns_names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, Broken> {
    let broken = |error: &dyn std::fmt::Display| {
        (
            format!("has a leaf certificate that cannot be read: {error}"),
            "issue the certificate again",
        )
    };
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| broken(&error))?;
    let extension = leaf
        .subject_alternative_name()
        .map_err(|error| broken(&error))?;
    let names = extension
        .iter()
        .flat_map(|extension| &extension.value.general_names);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect())
}
