//! Tests of the authority: a life of years, and what comes back from a Secret.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::*;
use crate::resources::ObjectKey;

const NAME: &str = "portcullis.portcullis-system.svc";

fn controller() -> Subject {
    Subject::Controller {
        names: vec![NAME.to_owned(), "other.example".to_owned()],
    }
}

fn gateway(name: &str) -> Subject {
    Subject::Gateway(SpiffeId {
        trust_domain: "cluster.local".to_owned(),
        gateway: ObjectKey::new("infra", name),
    })
}

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(24 * 365 * 56)
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(Result::unwrap)
        .collect()
}

fn roots(identity: &Identity) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&identity.authorities) {
        roots.add(authority).unwrap();
    }
    Arc::new(roots)
}

/// Whether a handshake between the two would succeed, both ways.
fn understand_each_other(
    controller: &Identity,
    data_plane: &Identity,
    now: SystemTime,
) -> Result<(), rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap());
    let server = certificates(&controller.certificate);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(controller), Arc::clone(&provider));
    let verifier = verifier.build().unwrap();
    // Replicas are clients of each other.
    for client in [&certificates(&data_plane.certificate), &server] {
        verifier.verify_client_cert(&client[0], &[], now)?;
    }
    WebPkiServerVerifier::builder_with_provider(roots(data_plane), provider)
        .build()
        .unwrap()
        .verify_server_cert(
            &server[0],
            &[],
            &ServerName::try_from(NAME).unwrap(),
            &[],
            now,
        )?;
    Ok(())
}

/// Three years in steps of half a day. A data plane, and then again the controller, learns of everything as late as it may.
#[test]
fn peers_that_learn_late_understand_each_other_through_every_rotation() {
    let step = HANDOVER / 2;
    let mut now = start();
    let mut authority = Authority::create(now).unwrap();
    let mut controller_now = authority.issue(&controller(), now).unwrap();
    let mut data_plane_now = authority.issue(&gateway("edge"), now).unwrap();
    let (mut controller_late, mut data_plane_late) =
        (controller_now.clone(), data_plane_now.clone());
    let (mut authorities, mut keys) = (1, 1);
    while now < start() + AUTHORITY_LIFETIME * 3 {
        now += step;
        (controller_late, data_plane_late) = (controller_now.clone(), data_plane_now.clone());
        if let Some(advanced) = authority.advanced(now).unwrap() {
            assert_eq!(advanced.advanced(now).unwrap(), None, "one step is enough");
            authorities +=
                usize::from(advanced.to_data()["tls.crt"] != authority.to_data()["tls.crt"]);
            authority = Authority::from_data(&advanced.to_data()).unwrap();
            assert_eq!(authority, advanced);
        }
        for (identity, subject) in [
            (&mut controller_now, controller()),
            (&mut data_plane_now, gateway("edge")),
        ] {
            if let Some(renewed) = authority.renewed(Some(identity), &subject, now).unwrap() {
                keys += usize::from(renewed.key != identity.key);
                *identity = Identity::from_data(&renewed.to_data()).unwrap();
            }
        }
        understand_each_other(&controller_now, &data_plane_now, now).unwrap();
        understand_each_other(&controller_now, &data_plane_late, now).unwrap();
        understand_each_other(&controller_late, &data_plane_now, now).unwrap();
    }
    assert_eq!(authorities, 5, "one signs for eight months");
    assert!((100..120).contains(&keys), "{keys}: two every twenty days");
    // Retired authorities do not pile up.
    assert!(certificates(&authority.bundle()).len() <= 3);
    let one_day_older =
        understand_each_other(&controller_late, &data_plane_late, now + IDENTITY_LIFETIME);
    assert!(one_day_older.is_err(), "certificates expire");
}

#[test]
fn a_new_authority_is_trusted_before_it_signs_and_the_old_one_afterwards() {
    let first = Authority::create(start()).unwrap();
    let old = first.issue(&gateway("edge"), start()).unwrap();
    let due = start() + AUTHORITY_LIFETIME * 2 / 3;
    assert_eq!(first.advanced(due - HANDOVER).unwrap(), None);

    let announced = first.advanced(due).unwrap().unwrap();
    assert_eq!(certificates(&announced.bundle()).len(), 2);
    let renewed = announced.issue(&gateway("edge"), due).unwrap();
    let first_authority = certificates(&old.authorities).remove(0);
    assert_eq!(certificates(&renewed.authorities)[0], first_authority);

    let signing = announced.advanced(due + HANDOVER).unwrap().unwrap();
    let bundle = certificates(&signing.bundle());
    assert_eq!(bundle.len(), 2);
    assert_eq!(bundle[1], first_authority);
    let end = signing
        .advanced(start() + AUTHORITY_LIFETIME)
        .unwrap()
        .unwrap();
    assert_eq!(certificates(&end.bundle()), bundle[..1]);
}

#[test]
fn after_a_long_absence_the_next_authority_signs_at_once() {
    let authority = Authority::create(start()).unwrap();
    let now = start() + AUTHORITY_LIFETIME * 2;
    let advanced = authority.advanced(now).unwrap().unwrap();
    assert_eq!(certificates(&advanced.bundle()).len(), 1);
    let stale = authority.issue(&gateway("edge"), start()).unwrap();
    let renewed = advanced.renewed(Some(&stale), &gateway("edge"), now);
    let controller = advanced.issue(&controller(), now).unwrap();
    understand_each_other(&controller, &renewed.unwrap().unwrap(), now).unwrap();
}

/// A certificate with the controller's names that no replica would take from another one.
fn for_servers_only(authority: &Authority) -> Identity {
    let data = authority.to_data();
    let text = |field: &str| String::from_utf8(data[field].0.clone()).unwrap();
    let key = KeyPair::from_pem(&text("tls.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&text("tls.crt"), key).unwrap();
    let Subject::Controller { names } = controller() else {
        unreachable!()
    };
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2025, 12, 1);
    params.not_after = date_time_ymd(2026, 12, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    Identity {
        certificate: params.signed_by(&key, &issuer).unwrap().pem(),
        key: portcullis_routing::Secret::new(key.serialize_pem()),
        authorities: authority.bundle(),
    }
}

#[test]
fn an_identity_is_replaced_when_it_does_not_fit() {
    let authority = Authority::create(start()).unwrap();
    let now = start() + Duration::from_hours(1);
    let issue = |subject: &Subject| authority.issue(subject, start()).unwrap();
    let renewed = |identity: &Identity, subject: &Subject| {
        authority.renewed(Some(identity), subject, now).unwrap()
    };
    for subject in [gateway("edge"), controller()] {
        assert_eq!(renewed(&issue(&subject), &subject), None);
        assert!(authority.renewed(None, &subject, now).unwrap().is_some());
    }
    let edge = issue(&gateway("edge"));
    assert!(renewed(&edge, &gateway("other")).is_some());
    assert!(renewed(&edge, &controller()).is_some());
    let other_name = Subject::Controller {
        names: vec!["other.example".to_owned()],
    };
    assert!(renewed(&issue(&controller()), &other_name).is_some());
    assert!(renewed(&for_servers_only(&authority), &controller()).is_some());
    let stranger = Authority::create(start()).unwrap();
    let foreign = stranger.issue(&gateway("edge"), start()).unwrap();
    assert!(renewed(&foreign, &gateway("edge")).is_some());
    let broken = Identity {
        certificate: "?".to_owned(),
        ..edge
    };
    assert!(renewed(&broken, &gateway("edge")).is_some());
}

#[test]
fn a_name_is_read_from_the_certificate_it_was_put_into() {
    let authority = Authority::create(start()).unwrap();
    let id = |subject| {
        let identity = authority.issue(&subject, start()).unwrap();
        SpiffeId::of_certificate(&certificates(&identity.certificate)[0])
    };
    let read = id(gateway("edge")).unwrap();
    assert_eq!(
        read.to_string(),
        "spiffe://cluster.local/ns/infra/gateway/edge"
    );
    assert_eq!(Subject::Gateway(read), gateway("edge"));
    assert!(id(controller()).unwrap_err().contains("no URI"));
    for wrong in [
        "https://cluster.local/ns/infra/gateway/edge",
        "spiffe://cluster.local/ns/infra/sa/edge",
        "spiffe://cluster.local/ns/infra/gateway/edge/more",
        "spiffe:///ns/infra/gateway/edge",
        "spiffe://cluster.local/ns//gateway/edge",
    ] {
        let error = wrong.parse::<SpiffeId>().unwrap_err();
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn what_a_secret_should_not_hold_is_named() {
    let authority = Authority::create(start()).unwrap();
    let identity = authority.issue(&gateway("edge"), start()).unwrap();
    let other = authority.issue(&gateway("edge"), start()).unwrap();
    let told = |field: &str, value: Option<&[u8]>| {
        let mut data = identity.to_data();
        data.remove(field);
        if let Some(value) = value {
            data.insert(field.to_owned(), k8s_openapi::ByteString(value.to_vec()));
        }
        Identity::from_data(&data).unwrap_err().to_string()
    };
    assert!(told("tls.crt", None).starts_with("tls.crt is missing; delete the Secret"));
    assert!(told("tls.key", Some(b"key")).starts_with("tls.key holds no private key"));
    assert!(told("ca.crt", Some(&[0xff])).starts_with("ca.crt is not PEM"));
    assert!(told("ca.crt", Some(b"")).starts_with("ca.crt holds no certificate"));
    let others = other.key.expose().as_bytes();
    assert!(told("tls.key", Some(others)).starts_with("tls.key is not the key of tls.crt"));
}

#[test]
fn no_key_is_printed() {
    let authority = Authority::create(start()).unwrap();
    let identity = authority.issue(&gateway("edge"), start()).unwrap();
    let printed = format!("{authority:?} {identity:?}");
    assert!(
        !printed.contains("PRIVATE KEY") && printed.contains("[redacted]"),
        "{printed}"
    );
}
