//! Fatal alerts to clients that are refused before there is a handshake, as they stand on the wire (RFC 8446 6).

use rustls::{AlertDescription, ContentType, ProtocolVersion};

/// Level of an alert behind which nothing more comes.
const FATAL: u8 = 2;

/// The record of a fatal alert. It says TLS 1.2, as every record does to a peer of any version (RFC 8446 5.1): before a
/// handshake there is none to agree with.
pub(crate) fn fatal(description: AlertDescription) -> [u8; 7] {
    let [major, minor] = u16::from(ProtocolVersion::TLSv1_2).to_be_bytes();
    let kind = u8::from(ContentType::Alert);
    [kind, major, minor, 0, 2, FATAL, u8::from(description)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, crypto::aws_lc_rs};

    use super::*;

    #[test]
    fn stands_on_the_wire_as_the_rfc_has_it() {
        for (description, code) in [
            (AlertDescription::UnrecognisedName, 112),
            (AlertDescription::AccessDenied, 49),
            (AlertDescription::InternalError, 80),
        ] {
            assert_eq!(fatal(description), [21, 3, 3, 0, 2, 2, code]);
        }
    }

    #[test]
    fn a_client_of_any_version_is_told_why() {
        for version in rustls::ALL_VERSIONS {
            let config =
                ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .with_root_certificates(RootCertStore::empty())
                    .with_no_client_auth();
            let name = "www.example.com".try_into().unwrap();
            let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
            client.write_tls(&mut std::io::sink()).unwrap();
            let alert = fatal(AlertDescription::AccessDenied);
            client.read_tls(&mut alert.as_slice()).unwrap();
            assert_eq!(
                client.process_new_packets().unwrap_err(),
                Error::AlertReceived(AlertDescription::AccessDenied)
            );
        }
    }
}
