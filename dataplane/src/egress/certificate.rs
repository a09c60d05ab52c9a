//! Callers by certificate: the service account that a SPIFFE ID names, as Istio and SPIRE write it.

use rustls_pki_types::CertificateDer;

use super::caller::Account;

/// Whose a certificate is that a client has proved to have: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, the one
/// URI among its names (SPIFFE X.509-SVID, section 2). `None` for everything else.
pub(crate) fn account(certificate: &CertificateDer<'_>, trust_domain: &str) -> Option<Account> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut uris = certificate.valid_uri_names();
    let uri = uris.next().filter(|_| uris.next().is_none())?;
    named(uri, trust_domain)
}

fn named(uri: &str, trust_domain: &str) -> Option<Account> {
    let path = uri.strip_prefix("spiffe://")?.strip_prefix(trust_domain)?;
    let (namespace, name) = path.strip_prefix("/ns/")?.split_once("/sa/")?;
    let is_part = |part: &str| !part.is_empty() && !part.contains('/');
    (is_part(namespace) && is_part(name)).then(|| Account {
        namespace: namespace.into(),
        name: name.into(),
        pod: None,
        until: None,
        proof: None,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    /// The account of a certificate with these names.
    fn of(names: Vec<SanType>) -> Option<Account> {
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        account(certificate.der(), "cluster.local")
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    #[test]
    fn the_one_uri_of_the_trust_domain_names_a_service_account() {
        let host = SanType::DnsName("a.example".try_into().unwrap());
        let account = of(vec![host, uri("spiffe://cluster.local/ns/team/sa/app")]);
        let wanted = Account {
            namespace: "team".into(),
            name: "app".into(),
            pod: None,
            until: None,
            proof: None,
        };
        assert_eq!(account, Some(wanted));
    }

    #[test]
    fn everything_else_names_nobody() {
        let good = "spiffe://cluster.local/ns/a/sa/x";
        assert_eq!(of(vec![]), None);
        assert_eq!(of(vec![uri(good), uri("https://example.com/")]), None);
        for text in [
            "spiffe://other/ns/a/sa/x",
            "spiffe://cluster.local.example/ns/a/sa/x",
            "spiffe://cluster/ns/a/sa/x",
            "https://cluster.local/ns/a/sa/x",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe://cluster.local/ns//sa/x",
            "spiffe://cluster.local/ns/a/sa/x/",
            "spiffe://cluster.local/ns/a/b/sa/x",
            "spiffe://cluster.local/ns/a/sa/b/sa/x",
            "spiffe://cluster.local/x/ns/a/sa/x",
            "spiffe://cluster.local/ns/a/gateway/x",
            "spiffe://cluster.local",
        ] {
            assert_eq!(of(vec![uri(text)]), None, "{text}");
        }
    }
}
