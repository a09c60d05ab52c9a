//! CA certificates that somebody else's certificates are verified with: from a reference to a PEM bundle.

use std::borrow::Cow;

use k8s_openapi::ByteString;
use portcullis_routing::ca::named;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{Context, GrantSubject, GrantTarget};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::reason,
};

/// The entry of a ConfigMap or Secret that holds the bundle.
const ENTRY: &str = "ca.crt";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// A `caCertificateRefs` entry.
#[derive(Clone, Debug)]
pub(crate) struct CaReference<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    /// The object's own namespace if unset.
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    /// The reason for a kind that holds no CA: the API has one for Gateways and another one for policies.
    pub(crate) invalid_kind: &'static str,
}

/// What is wrong with a ConfigMap or Secret, and what to do about it.
type Broken = (String, Cow<'static, str>);

/// Why a reference leads to no certificate.
#[derive(Debug)]
pub(crate) struct Unresolved {
    pub(crate) finding: Finding,
    /// In place of the certificates, if these are there and cannot be read: an entry that no data plane takes, so that one which
    /// has what they are for from before serves that on.
    pub(crate) stand_in: Option<String>,
}

impl From<Finding> for Unresolved {
    fn from(finding: Finding) -> Self {
        Self {
            finding,
            stand_in: None,
        }
    }
}

/// Follows references: what is trusted, PEM, and those that lead nowhere.
pub(crate) fn collect(
    references: impl Iterator<Item = Result<String, Unresolved>>,
) -> (Vec<String>, Vec<Finding>) {
    let (mut pem, mut unresolved) = (Vec::new(), Vec::new());
    for reference in references {
        match reference {
            Ok(one) => pem.push(one),
            Err(Unresolved { finding, stand_in }) => {
                unresolved.push(finding);
                pem.extend(stand_in);
            }
        }
    }
    (pem, unresolved)
}

/// Follows a reference at `field` of `object` to the certificates that are trusted, PEM.
pub(crate) fn resolve(
    ctx: &Context<'_>,
    object: &ObjectRef,
    field: &str,
    reference: &CaReference<'_>,
) -> Result<String, Unresolved> {
    let CaReference {
        group, kind, name, ..
    } = *reference;
    if !group.is_empty() || !["ConfigMap", "Secret"].contains(&kind) {
        let finding = object.error(
            reference.invalid_kind,
            format!("{field}.kind"),
            format!("{kind} of group {group:?} cannot hold CA certificates"),
            "refer to a ConfigMap, or to a Secret, with the entry ca.crt",
        );
        return Err(finding.into());
    }
    let own = object.key.namespace.as_str();
    let namespace = reference.namespace.unwrap_or(own);
    let subject = GrantSubject {
        group: "gateway.networking.k8s.io",
        kind: &object.kind,
        namespace: own,
    };
    let target = GrantTarget {
        group,
        kind,
        namespace,
        name,
    };
    // Asked before anything else: who may not refer to an object learns nothing about it either.
    if !ctx.grants.permits(subject, target) {
        let finding = object.error(
            reason::REF_NOT_PERMITTED,
            format!("{field}.namespace"),
            format!(
                "no ReferenceGrant in namespace {namespace} lets {}s of {own} refer to this {kind}",
                object.kind
            ),
            format!(
                "create a ReferenceGrant in {namespace} from {} in {own} to {kind} {name}",
                object.kind
            ),
        );
        return Err(finding.into());
    }
    let key = ObjectKey::new(namespace, name);
    let finding = |(message, remedy): Broken| {
        let message = format!("{kind} {key} {message}");
        object.error(reason::INVALID_CA_CERTIFICATE_REF, field, message, remedy)
    };
    let source = format!("{kind} {key}");
    let not_read = &ctx.resources.not_read;
    let not_read = match kind {
        "Secret" => &not_read.secrets,
        _ => &not_read.config_maps,
    };
    if let Some(not_read) = not_read.get(&key) {
        let (message, remedy) = not_read.told(kind, &key);
        return Err(Unresolved {
            finding: finding((message, remedy.into())),
            stand_in: Some(named(&source, "")),
        });
    }
    let pem = bundle(ctx, kind, &key).map_err(finding)?;
    Ok(named(&source, &pem))
}

fn bundle(ctx: &Context<'_>, kind: &str, key: &ObjectKey) -> Result<String, Broken> {
    let missing = || {
        (
            "does not exist".to_owned(),
            "create it, or correct the reference".into(),
        )
    };
    let entry = if kind == "Secret" {
        let secret = ctx.resources.secrets.get(key).ok_or_else(missing)?;
        let data = secret.data.as_ref().and_then(|data| data.get(ENTRY));
        data.map(|ByteString(bytes)| bytes.as_slice())
    } else {
        let map = ctx.resources.config_maps.get(key).ok_or_else(missing)?;
        let text = map.data.as_ref().and_then(|data| data.get(ENTRY));
        text.map(String::as_bytes).or_else(|| {
            let binary = map.binary_data.as_ref()?.get(ENTRY);
            binary.map(|ByteString(bytes)| bytes.as_slice())
        })
    };
    let Some(entry) = entry else {
        return Err((
            format!("has no {ENTRY}"),
            "put the PEM certificates of the CA there, under ca.crt".into(),
        ));
    };
    let text = std::str::from_utf8(entry).map_err(|_| {
        (
            format!("has a {ENTRY} that is not text"),
            "put PEM there, not DER".into(),
        )
    })?;
    let pem = certificates(text);
    check(&pem).map_err(|message| {
        (
            format!("has a {ENTRY} {message}"),
            "put the PEM certificates of the CA there".into(),
        )
    })?;
    Ok(pem)
}

/// Only the certificates of a PEM text: the table has no use for what people write between them, least of all for a private
/// key that got there by mistake.
fn certificates(text: &str) -> String {
    let parts = text.split_inclusive(END);
    let certificates = parts.filter_map(|part| part.rfind(BEGIN).map(|at| &part[at..]));
    certificates.flat_map(|one| [one, "\n"]).collect()
}

fn check(pem: &str) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("that is not PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("with a certificate that cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err("without a certificate".to_owned());
    }
    Ok(())
}
