//! `spec.tls.frontend` of a Gateway: the client certificates that its HTTPS listeners ask for, by port.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::gateways::{
    Gateway, GatewayTlsFrontendDefaultValidationMode, GatewayTlsFrontendPerPortTlsValidationMode,
};
use portcullis_routing::listener::{ClientValidation, ClientValidationMode};

use super::{
    Context,
    ca::{self, CaReference},
};
use crate::{
    finding::{Finding, ObjectRef},
    status::reason,
};

/// What the listeners of a Gateway ask of their clients.
#[derive(Debug, Default)]
pub(crate) struct Frontend {
    default: Option<ClientCertificates>,
    /// In force on its port in place of the default, also if it asks for nothing.
    per_port: BTreeMap<i32, Option<ClientCertificates>>,
}

/// One `validation`.
#[derive(Debug)]
pub(crate) struct ClientCertificates {
    /// Its path in the Gateway.
    field: String,
    mode: ClientValidationMode,
    /// What of `caCertificateRefs` could be resolved, PEM.
    ca_pem: Vec<String>,
    /// What could not.
    pub(crate) unresolved: Vec<Finding>,
}

/// The crate has two types of one shape.
macro_rules! client_certificates {
    ($ctx:expr, $object:expr, $field:expr, $validation:expr, $mode:ident) => {{
        let mode = match $validation.mode {
            Some($mode::AllowInsecureFallback) => ClientValidationMode::AllowInsecureFallback,
            Some($mode::AllowValidOnly) | None => ClientValidationMode::AllowValidOnly,
        };
        let references = $validation.ca_certificate_refs.iter();
        let references = references.map(|reference| CaReference {
            group: &reference.group,
            kind: &reference.kind,
            namespace: reference.namespace.as_deref(),
            name: &reference.name,
            invalid_kind: reason::INVALID_CA_CERTIFICATE_KIND,
        });
        ClientCertificates::new($ctx, $object, $field, mode, references)
    }};
}

impl Frontend {
    /// Reads it of the Gateway `object`.
    pub(crate) fn new(ctx: &Context<'_>, object: &ObjectRef, gateway: &Gateway) -> Self {
        let tls = gateway.spec.tls.as_ref();
        let Some(frontend) = tls.and_then(|tls| tls.frontend.as_ref()) else {
            return Self::default();
        };
        let default = frontend.default.validation.as_ref().map(|validation| {
            let field = "spec.tls.frontend.default.validation".to_owned();
            client_certificates!(
                ctx,
                object,
                field,
                validation,
                GatewayTlsFrontendDefaultValidationMode
            )
        });
        let mut per_port = BTreeMap::new();
        for (index, entry) in frontend.per_port.iter().flatten().enumerate() {
            per_port.entry(entry.port).or_insert_with(|| {
                let validation = entry.tls.validation.as_ref()?;
                let field = format!("spec.tls.frontend.perPort[{index}].tls.validation");
                Some(client_certificates!(
                    ctx,
                    object,
                    field,
                    validation,
                    GatewayTlsFrontendPerPortTlsValidationMode
                ))
            });
        }
        Self { default, per_port }
    }

    /// What HTTPS listeners of `port` ask for; `None` if nothing.
    pub(crate) fn of_port(&self, port: i32) -> Option<&ClientCertificates> {
        self.per_port.get(&port).unwrap_or(&self.default).as_ref()
    }

    /// Where clients are let in whatever they show.
    pub(crate) fn insecure(&self) -> Option<&str> {
        let insecure = self
            .all()
            .find(|asked| asked.mode == ClientValidationMode::AllowInsecureFallback);
        insecure.map(|asked| asked.field.as_str())
    }

    /// What is hardly meant, given the ports of the Gateway's HTTPS listeners.
    pub(crate) fn warnings(&self, object: &ObjectRef, https_ports: &[i32]) -> Vec<Finding> {
        let insecure = self
            .all()
            .filter(|asked| asked.mode == ClientValidationMode::AllowInsecureFallback)
            .map(|asked| {
                object.warning(
                    "InsecureFrontendValidationMode",
                    format!("{}.mode", asked.field),
                    "clients are let in whatever certificate they show, or none",
                    "use mode AllowValidOnly once all clients have certificates",
                )
            });
        let idle = self.per_port.iter().filter_map(|(port, asked)| {
            let asked = asked.as_ref().filter(|_| !https_ports.contains(port))?;
            Some(object.warning(
                reason::UNSUPPORTED_VALUE,
                asked.field.clone(),
                format!(
                    "no HTTPS listener has port {port}, so nobody is asked for these certificates"
                ),
                "correct the port, or remove the entry",
            ))
        });
        insecure.chain(idle).collect()
    }

    fn all(&self) -> impl Iterator<Item = &ClientCertificates> {
        self.default.iter().chain(self.per_port.values().flatten())
    }
}

impl ClientCertificates {
    fn new<'r>(
        ctx: &Context<'_>,
        object: &ObjectRef,
        field: String,
        mode: ClientValidationMode,
        references: impl Iterator<Item = CaReference<'r>>,
    ) -> Self {
        let references = references.enumerate().map(|(index, reference)| {
            let field = format!("{field}.caCertificateRefs[{index}]");
            ca::resolve(ctx, object, &field, &reference)
        });
        let (ca_pem, unresolved) = ca::collect(references);
        Self {
            field,
            mode,
            ca_pem,
            unresolved,
        }
    }

    /// What the table says of it. An error refuses the listener at `field` of `object`: without a CA it would let nobody in, or
    /// everybody.
    pub(crate) fn validation(
        &self,
        object: &ObjectRef,
        field: &str,
    ) -> Result<ClientValidation, Finding> {
        if self.ca_pem.is_empty() {
            return Err(object.error(
                reason::NO_VALID_CA_CERTIFICATE,
                field,
                "clients have to show a certificate, and there is no CA to verify it with; the listener is not served",
                format!("correct {}.caCertificateRefs of the Gateway", self.field),
            ));
        }
        Ok(ClientValidation {
            ca_pem: self.ca_pem.clone(),
            mode: self.mode,
        })
    }
}
