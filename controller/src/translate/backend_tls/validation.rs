//! `spec.validation`: what a connection to the backend has to prove.

use gateway_api::apis::standard::backendtlspolicies::{
    BackendTlsPolicyValidation as Validation,
    BackendTlsPolicyValidationCaCertificateRefs as CaCertificateRef,
    BackendTlsPolicyValidationSubjectAltNames as SubjectAltNameSpec,
    BackendTlsPolicyValidationSubjectAltNamesType as SubjectAltNameType,
};
use portcullis_routing::{ClusterTls, SubjectAltName, validate::syntax};

use crate::{
    finding::{Finding, ObjectRef},
    status::reason,
    translate::{
        Context,
        ca::{self, CaReference},
        hostname,
    },
};

/// The only well-known set of CA certificates: the trust store of the machine or image that the proxy runs on.
const SYSTEM: &str = "System";

/// What a `validation` comes to.
#[derive(Debug)]
pub(super) struct Validated {
    /// What to verify, or why the policy cannot be carried out.
    pub(super) tls: Result<ClusterTls, Finding>,
    /// `caCertificateRefs` that lead to no CA certificate.
    pub(super) unresolved: Vec<Finding>,
}

/// A policy, and what follows where it cannot be carried out.
#[derive(Clone, Copy)]
struct Subject<'a> {
    object: &'a ObjectRef,
    hence: &'a str,
}

/// Translates the `validation` of the policy `object`. `hence` says what follows where it cannot be carried out.
pub(super) fn translate(
    ctx: &Context<'_>,
    object: &ObjectRef,
    spec: &Validation,
    hence: &str,
) -> Validated {
    let references = spec.ca_certificate_refs.iter().flatten().enumerate();
    let (ca_pem, unresolved) = ca::collect(
        references.map(|(index, reference)| ca_certificate(ctx, object, index, reference)),
    );
    let subject = Subject { object, hence };
    let tls = trust(subject, spec, &ca_pem, &unresolved).and_then(|()| {
        Ok(ClusterTls {
            server_name: server_name(subject, spec)?,
            subject_alt_names: subject_alt_names(subject, spec)?,
            ca_pem,
            client_certificate: None,
        })
    });
    Validated { tls, unresolved }
}

fn ca_certificate(
    ctx: &Context<'_>,
    object: &ObjectRef,
    index: usize,
    reference: &CaCertificateRef,
) -> Result<String, ca::Unresolved> {
    let field = format!("spec.validation.caCertificateRefs[{index}]");
    let CaCertificateRef { group, kind, name } = reference;
    let reference = CaReference {
        group,
        kind,
        namespace: None,
        name,
        invalid_kind: reason::INVALID_KIND,
    };
    ca::resolve(ctx, object, &field, &reference)
}

/// Whether there is anything to trust. Without, nothing is: that must not become the trust store of the system.
fn trust(
    subject: Subject<'_>,
    spec: &Validation,
    ca_pem: &[String],
    unresolved: &[Finding],
) -> Result<(), Finding> {
    let well_known = spec.well_known_ca_certificates.as_deref();
    match (unresolved.first(), well_known.unwrap_or_default()) {
        (Some(first), _) if ca_pem.is_empty() => Err(subject.object.error(
            reason::NO_VALID_CA_CERTIFICATE,
            "spec.validation.caCertificateRefs",
            format!(
                "none of them leads to a CA certificate, so {} ({}: {})",
                subject.hence, first.field, first.message
            ),
            first.remedy.clone(),
        )),
        _ if !ca_pem.is_empty() => Ok(()),
        (_, SYSTEM) => Ok(()),
        (_, "") => Err(invalid(
            subject,
            "spec.validation",
            "names no CA certificates",
            "set caCertificateRefs, or wellKnownCACertificates: System",
        )),
        (_, other) => Err(invalid(
            subject,
            "spec.validation.wellKnownCACertificates",
            &format!("{other:?} is not a set of CA certificates that is known here"),
            "write System, or refer to a ConfigMap with caCertificateRefs",
        )),
    }
}

fn server_name(subject: Subject<'_>, spec: &Validation) -> Result<String, Finding> {
    let name = hostname::precise(&spec.hostname);
    let name = name.ok_or_else(|| format!("{:?} is not a hostname", spec.hostname));
    let name = name.and_then(|name| syntax::certificate_host(&name).map(|()| name));
    name.map_err(|message| {
        let remedy = "write the name that the backend's certificate is for, without port or `*`";
        invalid(subject, "spec.validation.hostname", &message, remedy)
    })
}

fn subject_alt_names(
    subject: Subject<'_>,
    spec: &Validation,
) -> Result<Vec<SubjectAltName>, Finding> {
    let names = spec.subject_alt_names.iter().flatten().enumerate();
    names
        .map(|(index, name)| {
            subject_alt_name(name).map_err(|(field, message)| {
                let field = format!("spec.validation.subjectAltNames[{index}].{field}");
                let remedy = "write a name as it stands in the backend's certificate";
                invalid(subject, &field, &message, remedy)
            })
        })
        .collect()
}

fn subject_alt_name(spec: &SubjectAltNameSpec) -> Result<SubjectAltName, (&'static str, String)> {
    match spec.r#type {
        SubjectAltNameType::Hostname => {
            let name = spec.hostname.as_deref().unwrap_or_default();
            let name = name.to_ascii_lowercase();
            syntax::certificate_host(&name).map_err(|message| ("hostname", message))?;
            Ok(SubjectAltName::Hostname(name))
        }
        SubjectAltNameType::Uri => {
            let uri = spec.uri.as_deref().unwrap_or_default();
            syntax::uri(uri).map_err(|message| ("uri", message))?;
            Ok(SubjectAltName::Uri(uri.to_owned()))
        }
    }
}

fn invalid(
    Subject { object, hence }: Subject<'_>,
    field: &str,
    message: &str,
    remedy: &str,
) -> Finding {
    let message = format!("{message}; {hence}");
    object.error(reason::INVALID, field, message, remedy)
}
