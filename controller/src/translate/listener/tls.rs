//! `tls` of a listener: termination with certificates from Secrets (HTTPS), or none at all where TLS passes through.

use std::sync::Arc;

use gateway_api::apis::experimental::gateways::{
    GatewayListeners, GatewayListenersTls, GatewayListenersTlsMode,
};
use portcullis_routing::{
    CertificateKey,
    listener::{ClientValidation, TlsVersion},
};

use crate::{
    finding::{Finding, ObjectRef},
    status::reason,
    translate::{
        Context,
        certificate::{Certificates, ServerCertificate, Unresolved},
    },
};

/// The key of `tls.options` that sets the lowest version accepted: `1.2` (the default) or `1.3`.
const MIN_VERSION_OPTION: &str = "portcullis.dev/tls-min-version";

/// How an HTTPS listener terminates TLS.
#[derive(Debug, Default)]
pub(super) struct Terminate {
    /// In the order of the references; `None` where the Secret is there, but cannot be read or is broken.
    pub(super) certificates: Vec<(CertificateKey, Option<Arc<ServerCertificate>>)>,
    pub(super) min_version: TlsVersion,
    /// `None` asks for no client certificate.
    pub(super) client_validation: Option<ClientValidation>,
    /// certificateRefs that lead nowhere.
    pub(super) unresolved: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

/// Whether a TLS listener leaves TLS to its backends.
pub(super) fn passes_through(spec: &GatewayListeners) -> bool {
    let mode = spec.tls.as_ref().and_then(|tls| tls.mode.as_ref());
    mode == Some(&GatewayListenersTlsMode::Passthrough)
}

/// Checks `tls` of a TLS listener at `field`, and gives what has no effect in it. An error refuses the listener.
pub(super) fn passthrough(
    object: &ObjectRef,
    field: &str,
    spec: &GatewayListeners,
) -> Result<Vec<Finding>, Finding> {
    let tls = spec.tls.as_ref();
    if !passes_through(spec) {
        return Err(object.error(
            reason::UNSUPPORTED_VALUE,
            format!("{field}.tls.mode"),
            "a TLS listener passes TLS through, and does not terminate it",
            "write mode: Passthrough; to terminate TLS use protocol HTTPS",
        ));
    }
    let has_no_effect = |name: &str| {
        object.warning(
            reason::UNSUPPORTED_VALUE,
            format!("{field}.tls.{name}"),
            "TLS passes through this listener, so this has no effect",
            "remove it",
        )
    };
    let certificates = tls.and_then(|tls| tls.certificate_refs.as_ref());
    let certificates = certificates.filter(|references| !references.is_empty());
    let options = tls.and_then(|tls| tls.options.as_ref());
    let options = options.filter(|options| !options.is_empty());
    let names = certificates.map(|_| "certificateRefs").into_iter();
    let names = names.chain(options.map(|_| "options"));
    Ok(names.map(has_no_effect).collect())
}

impl Terminate {
    /// Whether there is a certificate that can be served.
    pub(super) fn has_certificate(&self) -> bool {
        self.certificates
            .iter()
            .any(|(_, certificate)| certificate.is_some())
    }

    /// Reads `tls` of a listener at `field`. An error refuses the listener.
    pub(super) fn new(
        ctx: &Context<'_>,
        object: &ObjectRef,
        field: &str,
        spec: &GatewayListeners,
        certificates: &mut Certificates,
    ) -> Result<Self, Finding> {
        let field = format!("{field}.tls");
        let absent = GatewayListenersTls::default();
        let tls = spec.tls.as_ref().unwrap_or(&absent);
        if tls.mode == Some(GatewayListenersTlsMode::Passthrough) {
            return Err(object.error(
                reason::UNSUPPORTED_VALUE,
                format!("{field}.mode"),
                "an HTTPS listener cannot pass TLS through",
                "use mode Terminate",
            ));
        }
        let mut result = Self::default();
        result.read_options(object, &field, tls)?;
        let references = tls.certificate_refs.as_deref().unwrap_or_default();
        if references.is_empty() {
            result.unresolved.push(object.error(
                reason::INVALID_CERTIFICATE_REF,
                format!("{field}.certificateRefs"),
                format!("listener {:?} has no certificate", spec.name),
                "refer to a Secret of type kubernetes.io/tls",
            ));
        }
        for (index, reference) in references.iter().enumerate() {
            let field = format!("{field}.certificateRefs[{index}]");
            match certificates.resolve(ctx, object, &field, reference) {
                Ok((key, certificate)) => result.certificates.push((key, Some(certificate))),
                Err(Unresolved { finding, broken }) => {
                    result.unresolved.push(finding);
                    result.certificates.extend(broken.map(|key| (key, None)));
                }
            }
        }
        if let Some(hostname) = spec
            .hostname
            .as_deref()
            .filter(|hostname| !hostname.is_empty())
        {
            result.warn_of_other_names(object, &field, &hostname.to_ascii_lowercase());
        }
        Ok(result)
    }

    fn read_options(
        &mut self,
        object: &ObjectRef,
        field: &str,
        tls: &GatewayListenersTls,
    ) -> Result<(), Finding> {
        for (key, value) in tls.options.iter().flatten() {
            match (key.as_str(), value.as_str()) {
                (MIN_VERSION_OPTION, "1.2") => self.min_version = TlsVersion::V1_2,
                (MIN_VERSION_OPTION, "1.3") => self.min_version = TlsVersion::V1_3,
                (MIN_VERSION_OPTION, other) => {
                    return Err(object.error(
                        reason::UNSUPPORTED_VALUE,
                        format!("{field}.options[{key}]"),
                        format!("{other:?} is no version of TLS that is supported"),
                        "use \"1.2\" or \"1.3\"",
                    ));
                }
                _ => self.warnings.push(object.warning(
                    reason::UNSUPPORTED_VALUE,
                    format!("{field}.options[{key}]"),
                    "this option is not known here and has no effect",
                    format!("remove it; the known option is {MIN_VERSION_OPTION}"),
                )),
            }
        }
        Ok(())
    }

    fn warn_of_other_names(&mut self, object: &ObjectRef, field: &str, hostname: &str) {
        let mut good = self
            .certificates
            .iter()
            .filter_map(|(_, certificate)| certificate.as_ref())
            .peekable();
        if good.peek().is_some() && !good.any(|certificate| certificate.covers(hostname)) {
            self.warnings.push(object.warning(
                "CertificateNameMismatch",
                format!("{field}.certificateRefs"),
                format!("no certificate is valid for the listener's hostname {hostname:?}, so clients will refuse it"),
                "add a certificate that names this host",
            ));
        }
    }
}
