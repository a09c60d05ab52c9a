//! Tokens of service accounts, and the keys that sign them, as an API server has them. Nothing of what verifies is used here.

use std::time::SystemTime;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
pub(crate) const AUDIENCE: &str = "portcullis-egress";

/// A key of the API server.
pub(crate) struct Signer {
    id: String,
    key: Key,
}

enum Key {
    Rsa(RsaKeyPair),
    Curve(EcdsaKeyPair, &'static str, &'static str),
}

impl Signer {
    pub(crate) fn rsa(id: &str) -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self {
            id: id.to_owned(),
            key: Key::Rsa(key),
        }
    }

    pub(crate) fn p256(id: &str) -> Self {
        Self::curve(id, &ECDSA_P256_SHA256_FIXED_SIGNING, "ES256", "P-256")
    }

    pub(crate) fn p384(id: &str) -> Self {
        Self::curve(id, &ECDSA_P384_SHA384_FIXED_SIGNING, "ES384", "P-384")
    }

    fn curve(
        id: &str,
        algorithm: &'static EcdsaSigningAlgorithm,
        name: &'static str,
        curve: &'static str,
    ) -> Self {
        let key = EcdsaKeyPair::generate(algorithm).unwrap();
        Self {
            id: id.to_owned(),
            key: Key::Curve(key, name, curve),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Rsa(_) => "RS256",
            Key::Curve(_, algorithm, _) => algorithm,
        }
    }

    /// The public key.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Rsa(key) => {
                let public = key.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({
                    "kty": "RSA",
                    "n": base64(n.big_endian_without_leading_zero()),
                    "e": base64(e.big_endian_without_leading_zero()),
                })
            }
            Key::Curve(key, _, curve) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)})
            }
        };
        jwk["use"] = "sig".into();
        jwk["kid"] = self.id.clone().into();
        jwk["alg"] = self.algorithm().into();
        jwk
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(
            &json!({"alg": self.algorithm(), "kid": self.id, "typ": "JWT"}),
            claims,
        )
    }

    /// The same with another header, whatever that says.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let signature = match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let random = SystemRandom::new();
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    message.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
            Key::Curve(key, ..) => {
                let signature = key.sign(&SystemRandom::new(), message.as_bytes());
                signature.unwrap().as_ref().to_vec()
            }
        };
        format!("{message}.{}", base64(&signature))
    }
}

/// What of a token is signed.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |part: &Value| base64(part.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key set of these.
pub(crate) fn jwks(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({"keys": keys}).to_string()
}

/// What Kubernetes says in the token of a pod that runs as this account: good from `now` for an hour.
pub(crate) fn claims(namespace: &str, account: &str, now: u64) -> Value {
    json!({
        "iss": ISSUER, "aud": [AUDIENCE], "iat": now, "nbf": now, "exp": now + 3600, "jti": "1",
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": {"name": account, "uid": "2"},
            "pod": {"name": format!("{account}-0"), "uid": "3"},
            "node": {"name": "n", "uid": "4"},
        },
    })
}

/// The time, in seconds of Unix time.
pub(crate) fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}
