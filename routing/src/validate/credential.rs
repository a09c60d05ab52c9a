//! Credentials. No message holds the value.

use super::{Check, ensure, syntax};
use crate::filter::{
    Credential,
    credential::{MAX_CREDENTIAL_BYTES, can_carry},
};

pub(crate) fn check(credential: &Credential) -> Check {
    let Credential {
        header,
        value,
        secret,
        ..
    } = credential;
    syntax::lower_header_name(header)?;
    ensure(can_carry(header), || {
        format!("header {header:?} cannot carry a credential")
    })?;
    let value = value.expose();
    ensure(!value.is_empty(), || {
        format!(
            "the credential for header {header:?} is not there: Secret {secret} could not be read"
        )
    })?;
    ensure(syntax::header_value(value).is_ok(), || {
        format!("the credential for header {header:?} is not a header value")
    })?;
    ensure(value.len() <= MAX_CREDENTIAL_BYTES, || {
        format!(
            "the credential for header {header:?} has {} bytes, more than {MAX_CREDENTIAL_BYTES}",
            value.len()
        )
    })
}
