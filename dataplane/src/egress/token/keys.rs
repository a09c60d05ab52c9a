//! Verifies the tokens of service accounts, by the keys that the API server publishes (RFC 7519, RFC 7517).
//!
//! What a token says of itself is believed of nothing but the key that it names: the algorithm is that of the key, so that
//! neither `none` nor a secret made of a public key gets anywhere.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use portcullis_routing::egress::TokenSettings;
use serde::Deserialize;

use crate::egress::caller::Account;

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 30;
/// Characters of a token's own words that are repeated to whoever sent it.
const MAX_QUOTED: usize = 64;

/// What verifies tokens. Made with the table, on the control thread.
#[derive(Debug)]
pub struct TokenKeys {
    settings: TokenSettings,
    by_id: HashMap<String, Key>,
}

/// A key, and the one algorithm that it is for.
#[derive(Debug)]
struct Key {
    decoding: DecodingKey,
    validation: Validation,
    proof: Arc<Proof>,
}

/// By what a token was believed. Who has shown it is known for as long as that stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    issuer: String,
    audience: String,
    key: Jwk,
}

/// What a token says that can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) account: Arc<Account>,
    /// Seconds of Unix time, the leeway included.
    pub(super) until: u64,
}

/// Why a token is not believed. Nothing of a token stands in it that would let somebody else use it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("there is more than one")]
    Repeated,
    #[error("it is neither Bearer with a token, nor Basic with one for password")]
    Scheme,
    #[error("it is not a JSON Web Token")]
    Malformed,
    #[error("it names extensions that are not known")]
    Critical,
    #[error("it names no key")]
    NoKeyId,
    #[error("the API server has no key {0:?}")]
    UnknownKey(String),
    #[error("it is not signed with the algorithm of its key")]
    Algorithm,
    #[error("its signature is not that of its key")]
    Signature,
    #[error("it lacks what tokens of service accounts have")]
    Claims,
    #[error("its issuer is {found:?} instead of {wanted:?}")]
    Issuer { found: String, wanted: String },
    #[error("its audience is {found:?} instead of {wanted:?}")]
    Audience { found: Vec<String>, wanted: String },
    #[error("it has no time of expiry")]
    Unlimited,
    #[error("it expired at {0}")]
    Expired(Timestamp),
    #[error("it is not valid before {0}")]
    Early(Timestamp),
    #[error("its subject is {0:?}, not the service account of its other claims")]
    Subject(String),
}

/// What is read of a token.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    iss: String,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    aud: Audience,
    exp: Option<u64>,
    nbf: Option<u64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

/// One value or several (RFC 7519 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// What Kubernetes says of a service account and what its token is bound to.
#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    pod: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl TokenKeys {
    /// Keys that cannot be used are left out and told; then their tokens are of an unknown key. Those of the same settings are
    /// shared with `previous`.
    pub fn new(previous: Option<&Arc<Self>>, settings: &TokenSettings) -> Arc<Self> {
        let known = previous.filter(|previous| previous.settings == *settings);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let set: JwkSet = serde_json::from_str(&settings.jwks).unwrap_or_else(|error| {
            tracing::error!(%error, "the keys of service-account tokens cannot be read: no token is believed");
            JwkSet { keys: Vec::new() }
        });
        let mut by_id = HashMap::new();
        for jwk in set.keys {
            let Some(id) = jwk.common.key_id.clone() else {
                continue;
            };
            if let Some(key) = Key::new(settings, &jwk) {
                by_id.entry(id).or_insert(key);
            } else {
                tracing::warn!(
                    kid = id,
                    "a key of service-account tokens is of a kind that is not known here"
                );
            }
        }
        Arc::new(Self {
            settings: settings.clone(),
            by_id,
        })
    }

    /// The audience that tokens must be for.
    pub(crate) fn audience(&self) -> &str {
        &self.settings.audience
    }

    /// Whether a token that was believed by this still is.
    pub(crate) fn stand_by(&self, proof: &Arc<Proof>) -> bool {
        let mut keys = self.by_id.values();
        keys.any(|key| Arc::ptr_eq(&key.proof, proof) || key.proof == *proof)
    }

    /// What `token` says, if it can be believed at `now`, in seconds of Unix time.
    pub(super) fn verify(&self, token: &str, now: u64) -> Result<Verified, Fault> {
        let header = decode_header(token).map_err(|_| Fault::Malformed)?;
        // RFC 7515 4.1.11: whoever does not know what is critical must not go on.
        if header.crit.is_some() {
            return Err(Fault::Critical);
        }
        let id = header.kid.ok_or(Fault::NoKeyId)?;
        let Some(key) = self.by_id.get(&id) else {
            return Err(Fault::UnknownKey(quoted(&id)));
        };
        let claims = decode::<Claims>(token, &key.decoding, &key.validation)?.claims;
        self.check(claims, &key.proof, now)
    }

    fn check(&self, claims: Claims, proof: &Arc<Proof>, now: u64) -> Result<Verified, Fault> {
        let TokenSettings {
            issuer, audience, ..
        } = &self.settings;
        if claims.iss != *issuer {
            return Err(Fault::Issuer {
                found: quoted(&claims.iss),
                wanted: issuer.clone(),
            });
        }
        if !claims.aud.all().contains(audience) {
            let found = claims.aud.all().iter().take(4);
            return Err(Fault::Audience {
                found: found.map(|audience| quoted(audience)).collect(),
                wanted: audience.clone(),
            });
        }
        let until = claims.exp.ok_or(Fault::Unlimited)?;
        let until = until.saturating_add(LEEWAY);
        if until <= now {
            return Err(Fault::Expired(time(until - LEEWAY)));
        }
        if let Some(from) = claims.nbf.filter(|from| *from > now + LEEWAY) {
            return Err(Fault::Early(time(from)));
        }
        let kubernetes = claims.kubernetes.ok_or(Fault::Claims)?;
        let account = Account {
            namespace: kubernetes.namespace.into(),
            name: kubernetes.serviceaccount.name.into(),
            pod: kubernetes.pod.map(|pod| pod.name.into()),
            until: Some(until),
            proof: Some(Arc::clone(proof)),
        };
        let named = claims.sub.strip_prefix("system:serviceaccount:");
        let named = named.and_then(|named| named.split_once(':'));
        if named != Some((&account.namespace, &account.name)) {
            return Err(Fault::Subject(quoted(&claims.sub)));
        }
        Ok(Verified {
            account: Arc::new(account),
            until,
        })
    }
}

impl Key {
    /// `None` if it is for something else than signatures of a kind that is known.
    fn new(settings: &TokenSettings, jwk: &Jwk) -> Option<Self> {
        let signs = jwk.common.public_key_use.as_ref();
        if signs.is_some_and(|signs| *signs != PublicKeyUse::Signature) {
            return None;
        }
        let (family, usual) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (AlgorithmFamily::Rsa, Algorithm::RS256),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => (AlgorithmFamily::Ec, Algorithm::ES256),
                EllipticCurve::P384 => (AlgorithmFamily::Ec, Algorithm::ES384),
                _ => return None,
            },
            _ => return None,
        };
        let algorithm = match jwk.common.key_algorithm {
            Some(named) => Algorithm::try_from(named).ok()?,
            None => usual,
        };
        // On a curve there is one algorithm.
        if algorithm.family() != family || (family == AlgorithmFamily::Ec && algorithm != usual) {
            return None;
        }
        // Claims are checked here, where it can be said what is wrong with them.
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Some(Self {
            decoding: DecodingKey::from_jwk(jwk).ok()?,
            validation,
            proof: Arc::new(Proof {
                issuer: settings.issuer.clone(),
                audience: settings.audience.clone(),
                key: jwk.clone(),
            }),
        })
    }
}

impl Audience {
    fn all(&self) -> &[String] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Several(audiences) => audiences,
        }
    }
}

impl Default for Audience {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidAlgorithm => Self::Algorithm,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::Json(_) => Self::Claims,
            _ => Self::Malformed,
        }
    }
}

fn quoted(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}

/// In a form for people; a time that no calendar has is the end of it.
fn time(seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
