//! CredentialInjection: a resource of the table, which filters name.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Most bytes that a value may have, whatever stands before the secret in it included.
pub const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;

/// Headers that cannot carry a credential: they say where a message ends, where it goes or how the hop works. None that begins with
/// [`OF_PROXIES`] can either.
const OF_THE_HOP: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What is said to a proxy is not passed on.
const OF_PROXIES: &str = "proxy-";

/// Most of them that a rule may name, its backends' included.
pub const MAX_CREDENTIALS: usize = 32;

/// Gives the rule's backends a header that the client does not know. It is set after every other change of the request, copies of
/// the request (mirrors) do not have it, and nothing that is meant for people shows its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Field name, lower case; one that [`can_carry`] takes.
    pub header: String,
    /// Field value, with what stands before the secret. At most [`MAX_CREDENTIAL_BYTES`]. Empty while the Secret cannot be read, which
    /// is not valid: a proxy goes on with the value that it has, if nothing else of the credential has changed, and answers 500 without one.
    pub value: Secret,
    /// Whether it takes the place of what the request has under that name; else such a request keeps what it has. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub overwrite: bool,
    /// The Secret that it is from, `namespace/name`, for people.
    pub secret: String,
    /// Which key of that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What stands before the secret, such as `Bearer `.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

impl Credential {
    /// Whether both say the same but for the value.
    pub fn is_same_but_for_value(&self, other: &Self) -> bool {
        let rest = |credential: &Self| Self {
            value: Secret::new(""),
            ..credential.clone()
        };
        rest(self) == rest(other)
    }
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_yes(overwrite: &bool) -> bool {
    *overwrite
}

/// Whether a header, in lower case, may be set to a credential.
pub fn can_carry(header: &str) -> bool {
    !OF_THE_HOP.contains(&header) && !header.starts_with(OF_PROXIES)
}
