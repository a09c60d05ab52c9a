//! Listeners of a Gateway and of its ListenerSets: what each one serves, which routes it takes, and what is wrong with
//! it.

mod allowed;
mod conflict;
mod entry;
mod overlap;
mod tls;

use std::{borrow::Cow, sync::Arc};

use gateway_api::apis::experimental::gateways::GatewayListeners;
use portcullis_routing::{
    CertificateKey, Direction, Listener, ListenerKey, ListenerProtocol, ListenerTls,
    validate::syntax,
};

use self::{allowed::AllowedRoutes, tls::Terminate};
pub(crate) use self::{conflict::find_conflicts, entry::Entry};
use super::{
    Context,
    certificate::{Certificates, ServerCertificate},
    frontend::Frontend,
};
use crate::{
    finding::{Finding, ObjectRef},
    status::{
        ConditionSet, ConditionStatus, ListenerStatus, RouteGroupKind, condition::kind, reason,
    },
};

/// A listener, and everything that its status says.
#[derive(Debug)]
pub(crate) struct ListenerState<'a> {
    /// The Gateway or ListenerSet that it stands in.
    pub(crate) object: ObjectRef,
    /// Path of the listener in that object.
    field: String,
    pub(crate) spec: Cow<'a, GatewayListeners>,
    pub(crate) key: ListenerKey,
    /// `None` if the protocol is not supported.
    protocol: Option<ListenerProtocol>,
    direction: Direction,
    /// In lower case.
    pub(crate) hostname: Option<String>,
    allowed: AllowedRoutes,
    tls: Terminate,
    /// Why it is not accepted.
    refused: Option<Finding>,
    /// Another listener that it cannot be told from. Such a listener is not accepted either.
    conflict: Option<Finding>,
    /// References of it that lead nowhere.
    unresolved: Vec<Finding>,
    /// Other HTTPS listeners of the port whose hostnames overlap with its own.
    overlap: Option<Finding>,
    /// Number of routes that are accepted on it.
    attached: usize,
}

impl<'a> ListenerState<'a> {
    /// Looks at a listener that a Gateway has by itself or by a ListenerSet. What it asks of its clients is the Gateway's.
    pub(crate) fn new(
        ctx: &Context<'a>,
        entry: Entry<'a>,
        direction: Direction,
        frontend: &Frontend,
        certificates: &mut Certificates,
    ) -> Self {
        let Entry {
            object,
            field,
            spec,
            key,
        } = entry;
        let (protocol, mut refused) = match protocol(&object, &field, &spec) {
            Ok(protocol) => (Some(protocol), None),
            Err(finding) => (None, Some(finding)),
        };
        if let Some(finding) = invalid_address(&object, &field, &spec) {
            refused.get_or_insert(finding);
        }
        let mut unresolved = Vec::new();
        let allowed =
            AllowedRoutes::new(&object, &field, &spec, protocol).unwrap_or_else(|finding| {
                refused.get_or_insert(finding);
                AllowedRoutes::default()
            });
        unresolved.extend(allowed.invalid_kinds.clone());
        let mut tls = Terminate::default();
        if protocol == Some(ListenerProtocol::Https) {
            match Terminate::new(ctx, &object, &field, &spec, certificates) {
                Ok(terminate) => tls = terminate,
                Err(finding) => drop(refused.get_or_insert(finding)),
            }
            unresolved.append(&mut tls.unresolved);
            if let Some(asked) = frontend.of_port(spec.port) {
                // They are references of the Gateway; whoever has a ListenerSet of it need not know them.
                if key.listener_set().is_none() {
                    unresolved.extend(asked.unresolved.clone());
                }
                match asked.validation(&object, &field) {
                    Ok(validation) => tls.client_validation = Some(validation),
                    Err(finding) => drop(refused.get_or_insert(finding)),
                }
            }
        }
        if protocol == Some(ListenerProtocol::Tls) {
            match tls::passthrough(&object, &field, &spec) {
                Ok(warnings) => tls.warnings = warnings,
                Err(finding) => drop(refused.get_or_insert(finding)),
            }
        }
        let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty());
        Self {
            hostname: hostname.map(|name| name.to_ascii_lowercase()),
            object,
            field,
            spec,
            key,
            protocol,
            direction,
            allowed,
            tls,
            refused,
            conflict: None,
            unresolved,
            overlap: None,
            attached: 0,
        }
    }

    /// Whether the listener is valid, so that `Accepted` is True.
    pub(crate) fn accepted(&self) -> bool {
        self.refused.is_none() && self.conflict.is_none()
    }

    /// Whether it stands in a Gateway, not in a ListenerSet.
    fn is_of_gateway(&self) -> bool {
        self.key.listener_set().is_none()
    }

    /// Whether it keeps others from its port or hostname. A Gateway holds what it asks for, even while it gets it itself
    /// only once it is mended. A ListenerSet holds what is accepted.
    fn holds_its_place(&self) -> bool {
        self.protocol.is_some() && (self.is_of_gateway() || self.accepted())
    }

    /// The port that infrastructure has to have for it, also while it is not served: a port that is taken away and given
    /// back is another one for whoever stands in front of it.
    pub(crate) fn port(&self) -> Option<(u16, ListenerProtocol)> {
        let protocol = self.protocol?;
        let port = u16::try_from(self.spec.port).ok().filter(|it| *it != 0)?;
        let has_port = self.conflict.is_none() && self.holds_its_place();
        has_port.then_some((port, protocol))
    }

    /// Whether its protocol is one that is served.
    pub(crate) fn has_known_protocol(&self) -> bool {
        self.protocol.is_some()
    }

    /// Whether all its references are resolved.
    pub(crate) fn resolved(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// Whether `allowedRoutes` admits a route of this kind from this namespace.
    pub(crate) fn allows(&self, ctx: &Context<'_>, kind: &str, namespace: &str) -> bool {
        let own = &self.object.key.namespace;
        self.allowed.allows(ctx, own, kind, namespace)
    }

    /// Whether `allowedRoutes` admits routes from this namespace, of some kind: to those of others its name is not told.
    pub(crate) fn admits(&self, ctx: &Context<'_>, namespace: &str) -> bool {
        let own = &self.object.key.namespace;
        self.allowed.admits(ctx, own, namespace)
    }

    /// Whether clients speak TLS to it, terminated here.
    pub(crate) fn is_https(&self) -> bool {
        self.protocol == Some(ListenerProtocol::Https)
    }

    /// Whether it is one for routes of this kind, be they allowed or not.
    pub(crate) fn serves(&self, kind: &str) -> bool {
        allowed::possible_kinds(self.protocol).contains(&kind)
    }

    /// Counts a route that is accepted here.
    pub(crate) fn attach(&mut self) {
        self.attached += 1;
    }

    /// Whether any data plane can serve it. An HTTPS listener without any certificate cannot be, though it is accepted.
    pub(crate) fn served(&self) -> bool {
        self.in_table()
            && (self.protocol != Some(ListenerProtocol::Https) || self.tls.has_certificate())
    }

    /// Whether the table has it: also where its only certificates are broken, for a data plane that has earlier ones.
    pub(crate) fn in_table(&self) -> bool {
        let complete = match self.protocol {
            Some(ListenerProtocol::Http | ListenerProtocol::Tls) => true,
            Some(ListenerProtocol::Https) => !self.tls.certificates.is_empty(),
            None => false,
        };
        complete && self.accepted()
    }

    /// The listener as it stands in the table, if it does.
    pub(crate) fn table_entry(&self) -> Option<Listener> {
        let protocol = self.protocol.filter(|_| self.in_table())?;
        let tls = (protocol == ListenerProtocol::Https).then(|| ListenerTls {
            certificates: self
                .tls
                .certificates
                .iter()
                .map(|(key, _)| key.clone())
                .collect(),
            min_version: self.tls.min_version,
            client_validation: self.tls.client_validation.clone(),
        });
        let port = u16::try_from(self.spec.port).ok()?;
        Some(Listener {
            port,
            protocol,
            hostname: self.hostname.clone(),
            tls,
            direction: self.direction,
        })
    }

    /// The certificates that the table needs for it.
    pub(crate) fn certificates(
        &self,
    ) -> impl Iterator<Item = (&CertificateKey, &Arc<ServerCertificate>)> {
        self.tls
            .certificates
            .iter()
            .filter_map(|(key, certificate)| Some((key, certificate.as_ref()?)))
    }

    /// Everything worth telling about it.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &Finding> {
        let own = self
            .refused
            .iter()
            .chain(&self.conflict)
            .chain(&self.overlap);
        own.chain(&self.unresolved).chain(&self.tls.warnings)
    }

    /// Its status. `Programmed` stays Unknown where that is for the data plane to say.
    pub(crate) fn status(&self, generation: Option<i64>, gateway_refused: bool) -> ListenerStatus {
        use ConditionStatus::{False, True, Unknown};
        let mut conditions = ConditionSet::new(generation);
        match (&self.conflict, &self.refused) {
            (Some(conflict), _) => {
                conditions.set_finding(kind::CONFLICTED, True, conflict);
                conditions.set_finding(kind::ACCEPTED, False, conflict);
                conditions.set_finding(kind::PROGRAMMED, False, conflict);
            }
            (None, Some(refused)) => {
                conditions.set(
                    kind::CONFLICTED,
                    False,
                    reason::NO_CONFLICTS,
                    "No conflicts",
                );
                conditions.set_finding(kind::ACCEPTED, False, refused);
                conditions.set(
                    kind::PROGRAMMED,
                    False,
                    reason::INVALID,
                    "The listener is not accepted",
                );
            }
            (None, None) => {
                conditions.set(
                    kind::CONFLICTED,
                    False,
                    reason::NO_CONFLICTS,
                    "No conflicts",
                );
                conditions.set(kind::ACCEPTED, True, reason::ACCEPTED, "Accepted");
                if gateway_refused {
                    conditions.set(
                        kind::PROGRAMMED,
                        False,
                        reason::INVALID,
                        "The Gateway is not accepted",
                    );
                } else if self.served() {
                    conditions.set(
                        kind::PROGRAMMED,
                        Unknown,
                        reason::PENDING,
                        "Waiting for the data plane",
                    );
                } else {
                    conditions.set(
                        kind::PROGRAMMED,
                        False,
                        reason::INVALID,
                        "No certificate can be served",
                    );
                }
            }
        }
        match self.unresolved.first() {
            None => conditions.set(
                kind::RESOLVED_REFS,
                True,
                reason::RESOLVED_REFS,
                "All references are resolved",
            ),
            Some(finding) => conditions.set_finding(kind::RESOLVED_REFS, False, finding),
        }
        if let Some(overlap) = &self.overlap {
            conditions.set_finding(kind::OVERLAPPING_TLS_CONFIG, True, overlap);
        }
        ListenerStatus {
            name: self.spec.name.clone(),
            attached_routes: i32::try_from(self.attached).unwrap_or(i32::MAX),
            supported_kinds: self
                .allowed
                .kinds
                .iter()
                .map(|kind| RouteGroupKind::gateway_api(kind))
                .collect(),
            conditions,
        }
    }
}

/// Names of listeners in a message.
const SHOWN_NAMES: usize = 5;

/// The names of the listeners that `pick` chooses, for people: the first few, and how many more there are.
fn names(
    listeners: &[&ListenerState<'_>],
    pick: impl Fn(&ListenerState<'_>) -> bool,
) -> Option<String> {
    let picked: Vec<_> = listeners
        .iter()
        .filter(|listener| pick(listener))
        .map(|listener| format!("{:?}", listener.spec.name))
        .collect();
    let (shown, more) = picked.split_at(picked.len().min(SHOWN_NAMES));
    match more.len() {
        _ if shown.is_empty() => None,
        0 => Some(shown.join(", ")),
        more => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

fn protocol(
    object: &ObjectRef,
    field: &str,
    spec: &GatewayListeners,
) -> Result<ListenerProtocol, Finding> {
    match spec.protocol.as_str() {
        "HTTP" => Ok(ListenerProtocol::Http),
        "HTTPS" => Ok(ListenerProtocol::Https),
        "TLS" => Ok(ListenerProtocol::Tls),
        other => Err(object.error(
            reason::UNSUPPORTED_PROTOCOL,
            format!("{field}.protocol"),
            format!(
                "protocol {other:?} of listener {:?} is not supported",
                spec.name
            ),
            "use HTTP, HTTPS, or TLS with mode Passthrough",
        )),
    }
}

/// What an API server refuses, so that it cannot reach a table by another way: name, port or hostname of no valid form.
fn invalid_address(object: &ObjectRef, field: &str, spec: &GatewayListeners) -> Option<Finding> {
    let invalid = |name: &str, message: String, remedy: &str| {
        Some(object.error(
            reason::UNSUPPORTED_VALUE,
            format!("{field}.{name}"),
            message,
            remedy,
        ))
    };
    if syntax::hostname(&spec.name).is_err() {
        return invalid(
            "name",
            format!("{:?} is no valid name", spec.name),
            "use lower-case letters, digits, '-' and '.'",
        );
    }
    if !(1..=65_535).contains(&spec.port) {
        return invalid(
            "port",
            format!("{} is no port", spec.port),
            "use a number from 1 to 65535",
        );
    }
    let hostname = spec
        .hostname
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    match syntax::hostname_or_wildcard(&hostname) {
        Err(message) if !hostname.is_empty() => invalid(
            "hostname",
            message,
            "use a name such as www.example.com or *.example.com",
        ),
        _ => None,
    }
}
