//! `allowedRoutes`: which routes a listener takes, by kind and by namespace.

use gateway_api::apis::experimental::gateways::{
    GatewayListeners, GatewayListenersAllowedRoutesNamespacesFrom as From,
};
use portcullis_routing::ListenerProtocol;

use super::tls;
use crate::{
    finding::{Finding, ObjectRef},
    status::reason,
    translate::{Context, GATEWAY_GROUP, namespaces::Namespaces},
};

/// The kinds of routes that listeners of a protocol can take.
pub(super) fn possible_kinds(protocol: Option<ListenerProtocol>) -> &'static [&'static str] {
    match protocol {
        Some(ListenerProtocol::Http | ListenerProtocol::Https) => &["HTTPRoute"],
        Some(ListenerProtocol::Tls) => &["TLSRoute"],
        None => &[],
    }
}

/// Which routes a listener takes. The default takes none.
#[derive(Debug, Default)]
pub(super) struct AllowedRoutes {
    /// Kinds, all of the Gateway API's group.
    pub(super) kinds: Vec<&'static str>,
    /// Kinds that were asked for and cannot be taken.
    pub(super) invalid_kinds: Vec<Finding>,
    namespaces: Namespaces,
}

impl AllowedRoutes {
    pub(super) fn new(
        object: &ObjectRef,
        field: &str,
        spec: &GatewayListeners,
        protocol: Option<ListenerProtocol>,
    ) -> Result<Self, Finding> {
        let allowed = spec.allowed_routes.as_ref();
        let terminates_for_nobody =
            protocol == Some(ListenerProtocol::Tls) && !tls::passes_through(spec);
        let (possible, mode, mend) = if terminates_for_nobody {
            (&[][..], " that terminates TLS", "mend tls.mode")
        } else {
            (possible_kinds(protocol), "", "mend the protocol")
        };
        let mut result = Self::default();
        match allowed
            .and_then(|allowed| allowed.kinds.as_deref())
            .filter(|kinds| !kinds.is_empty())
        {
            None => result.kinds = possible.to_vec(),
            Some(wanted) => {
                for (index, wanted) in wanted.iter().enumerate() {
                    let group = wanted.group.as_deref().unwrap_or(GATEWAY_GROUP);
                    match possible
                        .iter()
                        .find(|kind| group == GATEWAY_GROUP && **kind == wanted.kind)
                    {
                        Some(kind) if result.kinds.contains(kind) => {}
                        Some(kind) => result.kinds.push(kind),
                        None => result.invalid_kinds.push(object.error(
                            reason::INVALID_ROUTE_KINDS,
                            format!("{field}.allowedRoutes.kinds[{index}]"),
                            format!(
                                "a listener of protocol {}{mode} cannot take {} of {group}",
                                spec.protocol, wanted.kind
                            ),
                            match possible {
                                [] => mend.to_owned(),
                                kinds => format!("name {}, or leave kinds out", kinds.join(" or ")),
                            },
                        )),
                    }
                }
            }
        }
        let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        result.namespaces = match namespaces.and_then(|namespaces| namespaces.from.as_ref()) {
            None | Some(From::Same) => Namespaces::Same,
            Some(From::All) => Namespaces::All,
            Some(From::Selector) => {
                let field = format!("{field}.allowedRoutes.namespaces.selector");
                let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
                Namespaces::selected(object, &field, selector)?
            }
        };
        Ok(result)
    }

    /// Whether an object of the namespace `own` takes a route of this kind from `namespace`.
    pub(super) fn allows(&self, ctx: &Context<'_>, own: &str, kind: &str, namespace: &str) -> bool {
        self.kinds.contains(&kind) && self.admits(ctx, own, namespace)
    }

    /// The same of routes of whatever kinds there are.
    pub(super) fn admits(&self, ctx: &Context<'_>, own: &str, namespace: &str) -> bool {
        self.namespaces.contain(ctx, own, namespace)
    }
}
