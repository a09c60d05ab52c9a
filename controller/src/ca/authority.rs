//! The authority: what it signs, and how it hands over to the next one.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::ByteString;
use portcullis_routing::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::{
    CaError, Identity, SpiffeId, Validity, each_certificate,
    identity::{AUTHORITIES, CERTIFICATE, KEY, check_key, text},
};

const DAY: Duration = Duration::from_hours(24);

/// How long an authority's own certificate holds.
pub const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(365);

/// How long a certificate of the controller or of a data plane holds.
pub const IDENTITY_LIFETIME: Duration = DAY.saturating_mul(30);

/// How long a new authority is trusted before it signs: the time that every peer has to learn of it.
pub const HANDOVER: Duration = DAY;

/// Certificates hold from a little before they are made, for peers whose clocks are late.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The controller, under the DNS names of its Service.
    Controller {
        /// Such as `portcullis.portcullis-system.svc`.
        names: Vec<String>,
    },
    /// The data plane of a Gateway.
    Gateway(SpiffeId),
}

/// A certificate authority, with its successor once there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// Signs.
    active: Signer,
    /// Is trusted already and will sign soon.
    next: Option<Signer>,
    /// Certificates of authorities that do not sign any more but have signed what may still be in use.
    retired: Vec<String>,
}

/// The certificate of an authority and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
struct Signer {
    certificate: String,
    key: Secret,
    validity: Validity,
}

impl Signer {
    fn create(now: SystemTime) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(now, AUTHORITY_LIFETIME);
        // Told apart by name, so that a certificate's issuer is found by its name.
        let id = params.key_identifier(&key);
        let id = id
            .iter()
            .take(4)
            .fold(0_u32, |id, byte| id << 8 | u32::from(*byte));
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Portcullis authority {id:08x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Self::read(
            CERTIFICATE,
            certificate,
            KEY,
            Secret::new(key.serialize_pem()),
        )
    }

    fn read(
        certificate_field: &'static str,
        certificate: String,
        key_field: &'static str,
        key: Secret,
    ) -> Result<Self, CaError> {
        check_key(certificate_field, &certificate, key_field, &key)?;
        let validity = validity(certificate_field, &certificate)?;
        Ok(Self {
            certificate,
            key,
            validity,
        })
    }
}

impl Authority {
    /// A new authority that signs at once: for when there is none yet, so nobody has to learn of it first.
    pub fn create(now: SystemTime) -> Result<Self, CaError> {
        Ok(Self {
            active: Signer::create(now)?,
            next: None,
            retired: Vec::new(),
        })
    }

    /// What it must become at `now`; `None` if it stays as it is. First a successor is made, which is trusted but does
    /// not sign; after [`HANDOVER`] it signs; an authority that has expired is trusted no more.
    pub fn advanced(&self, now: SystemTime) -> Result<Option<Self>, CaError> {
        let mut advanced = self.clone();
        if advanced.next.is_none() && advanced.active.validity.is_due(now) {
            advanced.next = Some(Signer::create(now)?);
        }
        let signs = |next: &mut Signer| {
            now >= next.validity.not_before + CLOCK_SKEW + HANDOVER
                || advanced.active.validity.is_over(now)
        };
        if let Some(next) = advanced.next.take_if(signs) {
            let before = std::mem::replace(&mut advanced.active, next);
            advanced.retired.push(before.certificate);
        }
        let mut still_trusted = Vec::new();
        for certificate in advanced.retired {
            if !validity(AUTHORITIES, &certificate)?.is_over(now) {
                still_trusted.push(certificate);
            }
        }
        advanced.retired = still_trusted;
        Ok((advanced != *self).then_some(advanced))
    }

    /// Certificates of all authorities that are to be trusted, PEM.
    pub fn bundle(&self) -> String {
        let next = self.next.iter().map(|next| next.certificate.as_str());
        let retired = self.retired.iter().map(String::as_str);
        [self.active.certificate.as_str()]
            .into_iter()
            .chain(next)
            .chain(retired)
            .collect()
    }

    /// A new certificate for `subject`.
    pub fn issue(&self, subject: &Subject, now: SystemTime) -> Result<Identity, CaError> {
        let left = self.active.validity.not_after.duration_since(now);
        let mut params = params(now, IDENTITY_LIFETIME.min(left.unwrap_or_default()));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let (common_name, names, usages) = match subject {
            Subject::Controller { names } => {
                let names = names
                    .iter()
                    .map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
                (
                    "Portcullis controller",
                    names.collect::<Result<_, rcgen::Error>>()?,
                    // Its replicas are each other's clients.
                    vec![
                        ExtendedKeyUsagePurpose::ServerAuth,
                        ExtendedKeyUsagePurpose::ClientAuth,
                    ],
                )
            }
            Subject::Gateway(id) => (
                "Portcullis data plane",
                vec![SanType::URI(id.to_string().try_into()?)],
                vec![ExtendedKeyUsagePurpose::ClientAuth],
            ),
        };
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        params.extended_key_usages = usages;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let signing_key = KeyPair::from_pem(self.active.key.expose())?;
        let issuer = Issuer::from_ca_cert_pem(&self.active.certificate, signing_key)?;
        Ok(Identity {
            certificate: params.signed_by(&key, &issuer)?.pem(),
            key: Secret::new(key.serialize_pem()),
            authorities: self.bundle(),
        })
    }

    /// What `identity` must become at `now`; `None` if it stays as it is. The key is changed when two thirds of its
    /// certificate's life are over, when the certificate is for somebody else than `subject`, or when its authority is
    /// not trusted; otherwise only the authorities to trust may change.
    pub fn renewed(
        &self,
        identity: Option<&Identity>,
        subject: &Subject,
        now: SystemTime,
    ) -> Result<Option<Identity>, CaError> {
        let Some(identity) = identity else {
            return self.issue(subject, now).map(Some);
        };
        let authorities = self.bundle();
        let trusted = each_certificate(AUTHORITIES, &authorities, |authority| {
            Ok(authority.subject().to_string())
        })?;
        let holds = each_certificate(CERTIFICATE, &identity.certificate, |certificate| {
            Ok(!Validity::of(certificate).is_due(now)
                && subject.is_of(certificate)
                && trusted.contains(&certificate.issuer().to_string()))
        });
        // One that cannot be read is replaced like one that does not fit.
        match holds.ok().and_then(|holds| holds.first().copied()) {
            Some(true) if identity.authorities == authorities => Ok(None),
            Some(true) => Ok(Some(Identity {
                authorities,
                ..identity.clone()
            })),
            _ => self.issue(subject, now).map(Some),
        }
    }

    /// For a Secret: `tls.crt`, `tls.key`, `ca.crt` (all that are trusted) and, while there is a successor, `next.crt`
    /// and `next.key`.
    pub fn to_data(&self) -> BTreeMap<String, ByteString> {
        let bundle = self.bundle();
        let mut fields = vec![
            (CERTIFICATE, self.active.certificate.as_str()),
            (KEY, self.active.key.expose()),
            (AUTHORITIES, bundle.as_str()),
        ];
        if let Some(next) = &self.next {
            fields.push((NEXT_CERTIFICATE, &next.certificate));
            fields.push((NEXT_KEY, next.key.expose()));
        }
        fields
            .into_iter()
            .map(|(field, text)| (field.to_owned(), ByteString(text.as_bytes().to_vec())))
            .collect()
    }

    /// From a Secret.
    pub fn from_data(data: &BTreeMap<String, ByteString>) -> Result<Self, CaError> {
        let signer = |certificate, key| {
            Signer::read(
                certificate,
                text(data, certificate)?,
                key,
                Secret::new(text(data, key)?),
            )
        };
        let active = signer(CERTIFICATE, KEY)?;
        let next = data
            .contains_key(NEXT_CERTIFICATE)
            .then(|| signer(NEXT_CERTIFICATE, NEXT_KEY))
            .transpose()?;
        let bundle = text(data, AUTHORITIES)?;
        each_certificate(AUTHORITIES, &bundle, |_| Ok(()))?;
        let retired = bundle
            .split_inclusive("-----END CERTIFICATE-----")
            .map(|pem| pem.trim_start().to_owned() + "\n")
            .filter(|pem| !pem.trim().is_empty());
        let is_known = |pem: &String| {
            let same = |known: &str| known.trim() == pem.trim();
            same(&active.certificate) || next.as_ref().is_some_and(|next| same(&next.certificate))
        };
        Ok(Self {
            retired: retired.filter(|pem| !is_known(pem)).collect(),
            active,
            next,
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("validity", &self.active.validity)
            .field("next", &self.next.as_ref().map(|next| next.validity))
            .field("retired", &self.retired.len())
            .finish()
    }
}

impl Subject {
    fn is_of(&self, certificate: &X509Certificate<'_>) -> bool {
        match self {
            Self::Gateway(id) => SpiffeId::of(certificate).as_ref() == Ok(id),
            Self::Controller { names } => {
                let usage = certificate.extended_key_usage().ok().flatten();
                let is_usable =
                    usage.is_some_and(|usage| usage.value.server_auth && usage.value.client_auth);
                let found = certificate.subject_alternative_name().ok().flatten();
                let found = found.map_or(&[][..], |found| &found.value.general_names);
                is_usable
                    && found.len() == names.len()
                    && found.iter().zip(names).all(|(found, name)| {
                        matches!(found, GeneralName::DNSName(found) if found == name)
                    })
            }
        }
    }
}

fn params(now: SystemTime, lifetime: Duration) -> CertificateParams {
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + since(now - CLOCK_SKEW);
    params.not_after = epoch + since(now + lifetime);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

fn validity(field: &'static str, pem: &str) -> Result<Validity, CaError> {
    let validities = each_certificate(field, pem, |certificate| Ok(Validity::of(certificate)))?;
    let first = validities.first().copied();
    first.ok_or_else(|| CaError::data(field, "holds no certificate"))
}
