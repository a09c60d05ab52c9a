//! References to backends: whether they may be made, and what they lead to.

use gateway_api::apis::experimental::{
    httproutes::HttpRouteRulesBackendRefs, tlsroutes::TlsRouteRulesBackendRefs,
};
use k8s_openapi::api::core::v1::Service;
use serde::Deserialize;

use super::external::ExternalKind;
use crate::{
    resources::ObjectKey,
    status::reason,
    translate::{Context, GrantSubject, GrantTarget, egress, field::Field, problem::Problem},
};

/// A reference to a backend, of a rule's `backendRefs` or of a mirror.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BackendReference {
    group: Option<String>,
    kind: Option<String>,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    port: Option<i32>,
}

/// The API has a type for each kind of route, and all of them say the same.
macro_rules! from {
    ($($spec:ty),*) => {$(
        impl From<&$spec> for BackendReference {
            fn from(spec: &$spec) -> Self {
                Self {
                    group: spec.group.clone(),
                    kind: spec.kind.clone(),
                    name: spec.name.clone(),
                    namespace: spec.namespace.clone(),
                    port: spec.port,
                }
            }
        }
    )*};
}

from!(HttpRouteRulesBackendRefs, TlsRouteRulesBackendRefs);

/// A Service that a reference leads to, and the port it asks for.
pub(super) struct Target<'a> {
    pub(super) key: ObjectKey,
    pub(super) service: &'a Service,
    pub(super) port: u16,
}

impl BackendReference {
    /// The kind, if it is one of hosts beyond the cluster.
    pub(super) fn external(&self) -> Option<ExternalKind> {
        match (self.group.as_deref(), self.kind.as_deref()) {
            (Some(egress::GROUP), Some(egress::KIND)) => Some(ExternalKind::ServiceEntry),
            (Some(egress::GROUP), Some("Hostname")) => Some(ExternalKind::Hostname),
            _ => None,
        }
    }

    /// The name of the Service, if `from` may refer to it. That comes first: without it nothing is said about what exists
    /// in the other namespace.
    pub(super) fn service(
        &self,
        ctx: &Context<'_>,
        from: GrantSubject<'_>,
        field: &Field<'_>,
    ) -> Result<ObjectKey, Problem> {
        self.check_kind(field)?;
        let namespace = self.namespace.as_deref().unwrap_or(from.namespace);
        self.check_permission(ctx, from, namespace, field)?;
        Ok(ObjectKey::new(namespace, self.name.as_str()))
    }

    /// The Service `key`, if it exists, and its port.
    pub(super) fn target<'a>(
        &self,
        ctx: &Context<'a>,
        key: ObjectKey,
        field: &Field<'_>,
    ) -> Result<Target<'a>, Problem> {
        let service = ctx
            .resources
            .services
            .get(&key)
            .ok_or_else(|| self.no_service(&key.namespace, field))?;
        let port = self.port(field)?;
        Ok(Target { key, service, port })
    }

    fn check_kind(&self, field: &Field<'_>) -> Result<(), Problem> {
        let (group, kind) = (
            self.group.as_deref().unwrap_or(""),
            self.kind.as_deref().unwrap_or("Service"),
        );
        if (group, kind) == ("", "Service") {
            return Ok(());
        }
        let what = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind} of group {group:?}")
        };
        Err(Problem::reference(
            reason::INVALID_KIND,
            &field.child(if kind == "Service" { "group" } else { "kind" }),
            format!("{what} cannot be a backend"),
            "refer to a Service (`group: \"\"`, `kind: Service`)",
        ))
    }

    fn check_permission(
        &self,
        ctx: &Context<'_>,
        from: GrantSubject<'_>,
        namespace: &str,
        field: &Field<'_>,
    ) -> Result<(), Problem> {
        let to = GrantTarget {
            group: "",
            kind: "Service",
            namespace,
            name: &self.name,
        };
        if ctx.grants.permits(from, to) {
            return Ok(());
        }
        Err(Problem::reference(
            reason::REF_NOT_PERMITTED,
            &field.child("namespace"),
            format!(
                "no ReferenceGrant in namespace {namespace:?} lets {}s of namespace {:?} use the Service {:?}",
                from.kind, from.namespace, self.name
            ),
            format!(
                "create a ReferenceGrant in namespace {namespace:?}, or use a Service of the route's own namespace"
            ),
        ))
    }

    fn no_service(&self, namespace: &str, field: &Field<'_>) -> Problem {
        Problem::reference(
            reason::BACKEND_NOT_FOUND,
            &field.child("name"),
            format!(
                "there is no Service {:?} in namespace {namespace:?}",
                self.name
            ),
            "create the Service, or correct the name or namespace",
        )
    }

    pub(super) fn port(&self, field: &Field<'_>) -> Result<u16, Problem> {
        let field = field.child("port");
        let kind = self.kind.as_deref().unwrap_or("Service");
        let number = match self.external() {
            None => "`port`",
            Some(_) => "`number`",
        };
        let refused = |message: String| {
            Problem::reference(
                reason::BACKEND_NOT_FOUND,
                &field,
                message,
                format!(
                    "write the number of a port of the {kind} (its {number}, not its `targetPort`)"
                ),
            )
        };
        let port = self
            .port
            .ok_or_else(|| refused(format!("a reference to a {kind} needs a port")))?;
        u16::try_from(port)
            .ok()
            .filter(|&port| port > 0)
            .ok_or_else(|| refused(format!("{port} is not a port")))
    }
}
