//! The certificate that a Gateway shows to its backends (`spec.tls.backend.clientCertificateRef`, GEP-3155).

use std::sync::Arc;

use gateway_api::apis::experimental::gateways::{Gateway, GatewayListenersTlsCertificateRefs};
use portcullis_routing::{Certificate, CertificateKey, RoutingTable};

use super::{
    Context,
    certificate::{Certificates, Unresolved},
};
use crate::{
    finding::{Finding, ObjectRef},
    status::reason,
};

const FIELD: &str = "spec.tls.backend.clientCertificateRef";

/// The client certificate of a Gateway.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    key: CertificateKey,
    /// `None` while the Secret is there, but cannot be read or is broken: a data plane that has an earlier pair of it shows that on.
    certificate: Option<Arc<Certificate>>,
}

impl ClientCertificate {
    /// Follows the reference of `gateway`, if it has one, and says what is wrong with it. Without a certificate, backends
    /// are shown none: those that need one refuse.
    pub(crate) fn resolve(
        ctx: &Context<'_>,
        object: &ObjectRef,
        gateway: &Gateway,
        certificates: &mut Certificates,
    ) -> (Option<Self>, Option<Finding>) {
        let backend = gateway
            .spec
            .tls
            .as_ref()
            .and_then(|tls| tls.backend.as_ref());
        let Some(reference) = backend.and_then(|tls| tls.client_certificate_ref.as_ref()) else {
            return (None, None);
        };
        let reference = GatewayListenersTlsCertificateRefs {
            group: reference.group.clone(),
            kind: reference.kind.clone(),
            name: reference.name.clone(),
            namespace: reference.namespace.clone(),
        };
        match certificates.resolve(ctx, object, FIELD, &reference) {
            Ok((key, certificate)) => {
                let certificate = Some(Arc::clone(&certificate.certificate));
                (Some(Self { key, certificate }), None)
            }
            Err(Unresolved { finding, broken }) => {
                let shown = match broken {
                    Some(_) => "backends are shown the one before, if there was one, else none",
                    None => "backends are shown no certificate",
                };
                let unread = broken.map(|key| Self {
                    key,
                    certificate: None,
                });
                (unread, Some(of_client(finding, shown)))
            }
        }
    }

    /// Gives the certificate to every backend of a table that is talked to in TLS, and to every such port of an entry of the
    /// Gateway's namespace: whoever may write another is not one for whose hosts the Gateway answers.
    pub(crate) fn fill(&self, table: &mut RoutingTable) {
        let mut is_used = false;
        let namespace = table.gateway.namespace();
        for cluster in table.clusters.values_mut() {
            if cluster.tls.is_none() {
                continue;
            }
            if let Some(tls) = &mut Arc::make_mut(cluster).tls {
                tls.client_certificate = Some(self.key.clone());
                is_used = true;
            }
        }
        for entry in table.entries.values_mut() {
            let is_own = entry.order.namespace == namespace;
            if !is_own || entry.tls.is_empty() {
                continue;
            }
            for tls in &mut Arc::make_mut(entry).tls {
                tls.client_certificate = Some(self.key.clone());
                is_used = true;
            }
        }
        if let (true, Some(certificate)) = (is_used, &self.certificate) {
            let certificate = Arc::clone(certificate);
            table.certificates.insert(self.key.clone(), certificate);
        }
    }
}

/// The same finding, of a client certificate.
fn of_client(finding: Finding, shown: &str) -> Finding {
    Finding {
        code: match finding.code {
            reason::INVALID_CERTIFICATE_REF => reason::INVALID_CLIENT_CERTIFICATE_REF,
            other => other,
        },
        message: format!("{}; {shown}", finding.message),
        ..finding
    }
}
