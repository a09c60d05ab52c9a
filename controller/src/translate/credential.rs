//! CredentialInjections: each with the value that its Secret holds, or what is wrong with it. No message holds a value.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::Secret as SecretObject;
use portcullis_crds::{CredentialInjection, CredentialInjectionSpec};
use portcullis_routing::{
    Secret,
    filter::{
        Credential,
        credential::{MAX_CREDENTIAL_BYTES, can_carry},
    },
};

use super::Context;
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::{ConditionSet, ConditionStatus, condition::kind, reason},
};

/// The kind, and its group.
pub(crate) const KIND: &str = "CredentialInjection";
/// See [`KIND`].
pub(crate) const GROUP: &str = "portcullis.dev";

/// Why there is no credential.
pub(crate) enum Fault {
    /// The object is not valid.
    Refused(Finding),
    /// Its Secret holds nothing that could be used.
    Unresolved(Finding),
}

impl Fault {
    /// The same in words.
    pub(crate) fn finding(&self) -> &Finding {
        let (Self::Refused(finding) | Self::Unresolved(finding)) = self;
        finding
    }
}

/// The conditions of all CredentialInjections, used or not. Reports what is wrong with them.
pub(super) fn conditions(ctx: &Context<'_>) -> BTreeMap<ObjectKey, ConditionSet> {
    let all = ctx.resources.credential_injections.iter();
    all.map(|(key, object)| (key.clone(), state(ctx, key, object)))
        .collect()
}

fn state(ctx: &Context<'_>, key: &ObjectKey, object: &CredentialInjection) -> ConditionSet {
    use ConditionStatus::{False, True};
    let mut conditions = ConditionSet::new(object.metadata.generation);
    let fault = read(ctx, key, &object.spec).err();
    if let Some(fault) = &fault {
        ctx.report(fault.finding().clone());
    }
    match &fault {
        Some(Fault::Refused(finding)) => {
            conditions.set_finding(kind::ACCEPTED, False, finding);
            return conditions;
        }
        Some(Fault::Unresolved(finding)) => {
            conditions.set_finding(kind::RESOLVED_REFS, False, finding);
        }
        None => conditions.set(
            kind::RESOLVED_REFS,
            True,
            reason::RESOLVED_REFS,
            "The Secret holds a credential",
        ),
    }
    conditions.set(kind::ACCEPTED, True, reason::ACCEPTED, "Accepted");
    conditions
}

/// The credential of the object `key`.
pub(crate) fn read(
    ctx: &Context<'_>,
    key: &ObjectKey,
    spec: &CredentialInjectionSpec,
) -> Result<Credential, Fault> {
    let object = ObjectRef::new(KIND, key.clone());
    let header = header(&object, &spec.header)?;
    let prefix = prefix(&object, spec.prefix.as_deref().unwrap_or_default())?;
    let reference = &spec.secret_ref;
    let secret = ObjectKey::new(&key.namespace, &reference.name);
    let unresolved = |field: &str, (message, remedy): Broken| {
        let field = format!("spec.secretRef.{field}");
        let message = format!("Secret {secret} {message}");
        Fault::Unresolved(object.error(reason::INVALID_CREDENTIAL, field, message, remedy))
    };
    let Some(found) = ctx.resources.secrets.get(&secret) else {
        return Err(unresolved("name", missing(&secret)));
    };
    let value = value(found, &reference.key, prefix).map_err(|broken| unresolved("key", broken))?;
    Ok(Credential {
        header,
        value,
        overwrite: spec.overwrite,
        secret: secret.to_string(),
    })
}

/// The name in lower case.
fn header(object: &ObjectRef, name: &str) -> Result<String, Fault> {
    let refused = |message| {
        Fault::Refused(object.error(
            reason::UNSUPPORTED_VALUE,
            "spec.header",
            message,
            "name the header that the backend looks for, such as Authorization or X-Api-Key",
        ))
    };
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| refused(format!("{name:?} is not a valid header name")))?;
    let header = parsed.as_str();
    if can_carry(header) {
        Ok(header.to_owned())
    } else {
        Err(refused(format!(
            "the header {header} belongs to the connection or the message, and cannot carry a credential"
        )))
    }
}

fn prefix<'p>(object: &ObjectRef, prefix: &'p str) -> Result<&'p str, Fault> {
    if is_plain(prefix) && prefix.trim_start() == prefix {
        return Ok(prefix);
    }
    Err(Fault::Refused(object.error(
        reason::UNSUPPORTED_VALUE,
        "spec.prefix",
        "no value of a header can begin like that",
        "write plain text such as `Bearer `, with no space before it",
    )))
}

/// Whether it is a line that every server reads in the same way.
fn is_plain(text: &str) -> bool {
    text.is_ascii() && HeaderValue::from_str(text).is_ok()
}

/// What is wrong with a Secret, and what to do about it.
type Broken = (String, String);

fn missing(ObjectKey { namespace, name }: &ObjectKey) -> Broken {
    (
        "does not exist, so there is no credential".into(),
        format!("create it in namespace {namespace}, or correct the name {name:?}"),
    )
}

/// The value of the header. White space around the secret is cut off: nobody could tell it from that of the header line, and a line
/// end at the end is what `echo` writes.
fn value(secret: &SecretObject, key: &str, prefix: &str) -> Result<Secret, Broken> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    let Some(bytes) = bytes else {
        return Err((
            format!("has no key {key:?}"),
            "add the key to the Secret, or name the one that holds the credential".into(),
        ));
    };
    let text = std::str::from_utf8(bytes.0.trim_ascii())
        .ok()
        .filter(|text| !text.is_empty() && is_plain(text));
    let Some(text) = text else {
        return Err((
            format!("holds under {key:?} nothing that the value of a header can hold"),
            "put one line of plain ASCII there, without control characters; white space around it is cut off"
                .into(),
        ));
    };
    let value = [prefix, text].concat();
    if value.len() > MAX_CREDENTIAL_BYTES {
        return Err((
            format!(
                "holds under {key:?} a credential that is longer than {MAX_CREDENTIAL_BYTES} bytes with its prefix"
            ),
            "put the credential alone there".into(),
        ));
    }
    Ok(Secret::new(value))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn of(bytes: &[u8], prefix: &str) -> Result<String, Broken> {
        let secret = SecretObject {
            data: Some([("credential".into(), ByteString(bytes.into()))].into()),
            ..SecretObject::default()
        };
        value(&secret, "credential", prefix).map(|value| value.expose().to_owned())
    }

    #[test]
    fn a_line_end_is_no_part_of_a_credential() {
        for (bytes, prefix, expected) in [
            (&b"key"[..], "", "key"),
            (b"key\n", "Bearer ", "Bearer key"),
            (b" a b \r\n", "", "a b"),
        ] {
            assert_eq!(of(bytes, prefix).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_no_header_can_hold_is_told_without_the_value() {
        let long = vec![b'h'; MAX_CREDENTIAL_BYTES];
        for bytes in [
            &b""[..],
            b" \n",
            b"hidden\nhidden",
            b"hidden\0",
            b"hidden\xff",
            "hidd\u{e9}n".as_bytes(),
            &long,
        ] {
            let (message, remedy) = of(bytes, "Bearer ").unwrap_err();
            assert!(!format!("{message}{remedy}").contains("hidd"), "{message}");
        }
    }
}
