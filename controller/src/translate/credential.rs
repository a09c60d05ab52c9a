//! CredentialInjections: each with the value that its Secret holds, or what is wrong with it. No message holds a value.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::apis::experimental::httproutes::HttpRoute;
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::Secret as SecretObject;
use portcullis_crds::{CredentialInjection, CredentialInjectionSpec};
use portcullis_routing::{
    CredentialKey, RoutingTable, Secret,
    filter::{
        Credential,
        credential::{MAX_CREDENTIAL_BYTES, can_carry},
    },
};

use super::{Context, gateway::GatewayState, listener_set, sources};
use crate::{
    finding::{Finding, ObjectRef},
    resources::{ObjectKey, Resources},
    status::{
        ConditionSet, ConditionStatus, PolicyAncestorStatus, PolicyStatus, condition::kind, reason,
    },
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
    /// Its Secret is there, but could not be read.
    NotRead {
        finding: Finding,
        /// The credential without its value, which no proxy takes: one that has the value goes on with that.
        credential: Arc<Credential>,
    },
}

impl Fault {
    /// The same in words.
    pub(crate) fn finding(&self) -> &Finding {
        let (Self::Refused(finding) | Self::Unresolved(finding) | Self::NotRead { finding, .. }) =
            self;
        finding
    }
}

/// Those that the rules of a route refer to, whether or not they exist.
pub(crate) fn of_route(key: &ObjectKey, route: &HttpRoute) -> BTreeSet<ObjectKey> {
    let rules = route.spec.rules.iter().flatten();
    let names = rules.flat_map(|rule| {
        let of_rule = rule.filters.iter().flatten();
        let of_rule = of_rule.filter_map(|filter| filter.extension_ref.as_ref());
        let of_rule = of_rule.map(|it| (&it.group, &it.kind, &it.name));
        let backends = rule.backend_refs.iter().flatten();
        let of_backends = backends.flat_map(|backend| backend.filters.iter().flatten());
        let of_backends = of_backends.filter_map(|filter| filter.extension_ref.as_ref());
        of_rule.chain(of_backends.map(|it| (&it.group, &it.kind, &it.name)))
    });
    names
        .filter(|(group, kind, _)| (group.as_str(), kind.as_str()) == (GROUP, KIND))
        .map(|(_, _, name)| ObjectKey::new(&key.namespace, name))
        .collect()
}

/// All CredentialInjections, each read once however many rules name it.
#[derive(Default)]
pub(crate) struct Credentials(BTreeMap<CredentialKey, Result<Arc<Credential>, Fault>>);

impl Credentials {
    /// Reads all of them.
    pub(super) fn collect(resources: &Resources) -> Self {
        let all = resources.credential_injections.iter();
        let all = all.map(|(key, object)| {
            let credential = read(resources, key, &object.spec).map(Arc::new);
            (key_of(key), credential)
        });
        Self(all.collect())
    }

    /// The credential of an object; `None` if there is no such object.
    pub(crate) fn get(&self, key: &CredentialKey) -> Option<Result<&Arc<Credential>, &Fault>> {
        self.0.get(key).map(Result::as_ref)
    }

    /// What tables have of it: all of it, or all but its value.
    fn in_table(&self, key: &CredentialKey) -> Option<&Arc<Credential>> {
        match self.get(key)? {
            Ok(credential) | Err(Fault::NotRead { credential, .. }) => Some(credential),
            Err(Fault::Refused(_) | Fault::Unresolved(_)) => None,
        }
    }

    /// The header that a credential is for.
    pub(crate) fn header(&self, key: &CredentialKey) -> Option<&str> {
        self.in_table(key)
            .map(|credential| credential.header.as_str())
    }

    /// Adds to a table those that its routes name, and nothing else.
    pub(super) fn fill(&self, table: &mut RoutingTable) {
        for key in table.routes.values().flat_map(|route| route.credentials()) {
            if let Some(credential) = self.in_table(key)
                && !table.credentials.contains_key(key)
            {
                table
                    .credentials
                    .insert(key.clone(), Arc::clone(credential));
            }
        }
    }
}

/// What tables call a CredentialInjection.
pub(crate) fn key_of(object: &ObjectKey) -> CredentialKey {
    CredentialKey::of(&object.namespace, &object.name)
}

/// The statuses of those that routes of Gateways of ours use, with an entry for each of these. Reports what is wrong with them,
/// and which ones nobody here uses: their Secrets are not looked into.
pub(super) fn statuses(
    ctx: &Context<'_>,
    gateways: &BTreeMap<ObjectKey, GatewayState<'_>>,
) -> BTreeMap<ObjectKey, PolicyStatus> {
    // Only HTTPRoutes use them, be it at a ListenerSet.
    let is_partial = sources::is_unknown(ctx, listener_set::KIND);
    let mut statuses = BTreeMap::new();
    for (key, object) in &ctx.resources.credential_injections {
        let users = gateways.iter();
        let mut users = users
            .filter(|(_, gateway)| gateway.uses_credential(key))
            .peekable();
        let mut status = PolicyStatus {
            is_partial,
            ..PolicyStatus::default()
        };
        if users.peek().is_some() {
            let conditions = conditions(ctx, key, object);
            let controller = &ctx.options.controller_name;
            let ancestors = users.map(|(gateway, _)| {
                PolicyAncestorStatus::at_gateway(gateway, controller, conditions.clone())
            });
            status.ancestors = ancestors.collect();
        } else if !is_partial {
            ctx.report(ObjectRef::new(KIND, key.clone()).note(
                "CredentialNotUsed",
                "metadata.name",
                "no rule of a route that is served here refers to it, so it has no effect",
                "nothing to do if one will; else correct the name, or remove it",
            ));
            continue;
        }
        statuses.insert(key.clone(), status);
    }
    statuses
}

fn conditions(ctx: &Context<'_>, key: &ObjectKey, object: &CredentialInjection) -> ConditionSet {
    use ConditionStatus::{False, True};
    let mut conditions = ConditionSet::new(object.metadata.generation);
    let fault = ctx.credentials.get(&key_of(key)).and_then(Result::err);
    if let Some(fault) = fault {
        ctx.report(fault.finding().clone());
    }
    match fault {
        Some(Fault::Refused(finding)) => {
            conditions.set_finding(kind::ACCEPTED, False, finding);
            return conditions;
        }
        Some(Fault::Unresolved(finding) | Fault::NotRead { finding, .. }) => {
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

fn read(
    resources: &Resources,
    key: &ObjectKey,
    spec: &CredentialInjectionSpec,
) -> Result<Credential, Fault> {
    let object = ObjectRef::new(KIND, key.clone());
    let header = header(&object, &spec.header)?;
    let prefix = prefix(&object, spec.prefix.as_deref().unwrap_or_default())?;
    let reference = &spec.secret_ref;
    let secret = ObjectKey::new(&key.namespace, &reference.name);
    let finding = |field: &str, (message, remedy): Broken| {
        let field = format!("spec.secretRef.{field}");
        let message = format!("Secret {secret} {message}");
        object.error(reason::INVALID_CREDENTIAL, field, message, remedy)
    };
    let credential = |value| Credential {
        header,
        value,
        overwrite: spec.overwrite,
        secret: secret.to_string(),
        key: reference.key.clone(),
        prefix: prefix.to_owned(),
    };
    if let Some(not_read) = resources.not_read.secrets.get(&secret) {
        return Err(Fault::NotRead {
            finding: finding("name", not_read.told("Secret", &secret)),
            credential: Arc::new(credential(Secret::new(""))),
        });
    }
    let Some(found) = resources.secrets.get(&secret) else {
        return Err(Fault::Unresolved(finding("name", missing(&secret))));
    };
    let value = value(found, &reference.key, prefix);
    let value = value.map_err(|broken| Fault::Unresolved(finding("key", broken)))?;
    Ok(credential(value))
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
