//! The manifests of `config/quickstart`, made ready for this machine: with a fresh certificate and with the ports that
//! are really in use.

use rustls::pki_types::CertificateDer;
use serde_json::json;

/// The manifests as they stand in the repository.
const FILES: [(&str, &str); 4] = [
    (
        "gateway.yaml",
        include_str!("../../../config/quickstart/gateway.yaml"),
    ),
    (
        "routes.yaml",
        include_str!("../../../config/quickstart/routes.yaml"),
    ),
    (
        "backends.yaml",
        include_str!("../../../config/quickstart/backends.yaml"),
    ),
    (
        "egress.yaml",
        include_str!("../../../config/quickstart/egress.yaml"),
    ),
];

/// Ports of the manifests.
pub(crate) const HTTP: u16 = 8080;
pub(crate) const HTTPS: u16 = 8443;
pub(crate) const PROXY: u16 = 3128;
/// Ports of `echo-v1` and `echo-v2` in the manifests.
pub(crate) const ECHO: [u16; 2] = [3001, 3002];

/// The manifests with every `port: X` replaced as `ports` says, as pairs of file name and text.
pub(crate) fn manifests(ports: &[(u16, u16)]) -> Vec<(String, String)> {
    FILES
        .iter()
        .map(|(file, text)| (format!("config/quickstart/{file}"), with_ports(text, ports)))
        .collect()
}

fn with_ports(text: &str, ports: &[(u16, u16)]) -> String {
    let replaced = |line: &str| {
        let (key, port) = line.rsplit_once("ort: ")?;
        let port: u16 = port.parse().ok()?;
        let (_, real) = ports.iter().find(|(known, _)| *known == port)?;
        Some(format!("{key}ort: {real}"))
    };
    text.lines()
        .map(|line| replaced(line).unwrap_or_else(|| line.to_owned()) + "\n")
        .collect()
}

/// A self-signed certificate for this machine, and the Secret that the Gateway wants it in.
pub(crate) struct FreshCertificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) secret: String,
}

/// Makes a certificate for `localhost`.
pub(crate) fn certificate() -> anyhow::Result<FreshCertificate> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let made = rcgen::generate_simple_self_signed(names)?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "demo-certificate", "namespace": "demo" },
        "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem() },
    });
    Ok(FreshCertificate {
        der: made.cert.der().clone(),
        secret: secret.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_ports_and_nothing_else() {
        let text = "  port: 8080\n  targetPort: 3001\n  name: \"8080\"\n  port: 80\n";
        let expected = "  port: 9\n  targetPort: 7\n  name: \"8080\"\n  port: 80\n";
        assert_eq!(with_ports(text, &[(8080, 9), (3001, 7)]), expected);
    }

    #[test]
    fn every_port_to_replace_is_in_the_manifests() {
        let all: String = manifests(&[]).into_iter().map(|(_, text)| text).collect();
        for port in [HTTP, HTTPS, PROXY, ECHO[0], ECHO[1]] {
            assert!(all.contains(&format!("ort: {port}\n")), "{port}");
        }
    }
}
