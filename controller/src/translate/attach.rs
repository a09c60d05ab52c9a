//! Attachment: which listeners a route reaches through its parentRefs, and what its status says about each parent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use gateway_api::apis::experimental::tlsroutes::TlsRoute;

use super::{
    Backends, Context, GATEWAY_GROUP,
    backend::Reach,
    gateway::GatewayState,
    hostname,
    listener::ListenerState,
    listener_set,
    route::{ConvertedRoute, RouteObject},
    sources,
};
use crate::{
    finding::{Finding, ObjectRef},
    near::nearest,
    resources::{ObjectKey, Objects},
    status::{
        ConditionSet, ConditionStatus, ParentReference, RouteParentStatus, RouteStatus,
        condition::kind, reason,
    },
};

/// What attachment needs to know of a route, of whatever kind.
struct Attachment<'a> {
    object: ObjectRef,
    generation: Option<i64>,
    hostnames: &'a [String],
    parents: Vec<ParentReference>,
}

/// Attaches routes of a kind to Gateways of ours and their ListenerSets; `convert` gives the rules of one. Those without a parent
/// among them have no status.
pub(crate) fn attach_all<'a, R: RouteObject>(
    ctx: &Context<'a>,
    routes: &Objects<R>,
    convert: impl Fn(&R, &Reach, &mut Backends<'a>) -> ConvertedRoute,
    gateways: &mut BTreeMap<ObjectKey, GatewayState<'_>>,
    backends: &mut Backends<'a>,
) -> BTreeMap<ObjectKey, RouteStatus> {
    let attached = routes.iter().filter_map(|(key, route)| {
        let convert = |reach: &Reach| convert(route, reach, backends);
        let status = attach(ctx, key, &**route, convert, gateways)?;
        Some((key.clone(), status))
    });
    attached.collect()
}

fn attach<R: RouteObject>(
    ctx: &Context<'_>,
    key: &ObjectKey,
    route: &R,
    convert: impl FnOnce(&Reach) -> ConvertedRoute,
    gateways: &mut BTreeMap<ObjectKey, GatewayState<'_>>,
) -> Option<RouteStatus> {
    let attachment = Attachment {
        object: ObjectRef::new(R::KIND, key.clone()),
        generation: route.meta().generation,
        hostnames: route.hostnames(),
        parents: route.parents(),
    };
    if route.wants_default_gateways() {
        ctx.report(attachment.object.warning(
            reason::UNSUPPORTED_VALUE,
            "spec.useDefaultGateways",
            "default Gateways are not supported yet; this has no effect",
            "name the Gateways in parentRefs",
        ));
    }
    let parents = attachment.own_parents(ctx, gateways);
    let is_partial = attachment.may_have_others(ctx);
    let mut status = RouteStatus {
        is_partial,
        ..RouteStatus::default()
    };
    if parents.is_empty() {
        return is_partial.then_some(status);
    }
    let own = parents
        .iter()
        .filter_map(|parent| gateways.get(&parent.gateway));
    let reach = Reach::of(own.map(|it| (it.direction, it.object.key.namespace.as_str())));
    let converted = convert(&reach);
    let mut reached = BTreeMap::<ObjectKey, BTreeSet<usize>>::new();
    for parent in parents {
        let Some(gateway) = gateways.get(&parent.gateway) else {
            continue;
        };
        let index = parent.index;
        let refused = match attachment.select(ctx, &parent, gateway) {
            Ok(listeners) => {
                reached.entry(parent.gateway).or_default().extend(listeners);
                converted.refused.clone()
            }
            Err(finding) => {
                ctx.report(finding.clone());
                Some(finding)
            }
        };
        status.parents.push(RouteParentStatus {
            parent_ref: attachment.parents[index].clone(),
            controller_name: ctx.options.controller_name.clone(),
            conditions: conditions(attachment.generation, refused.as_ref(), &converted),
        });
    }
    for (key, listeners) in reached {
        if let Some(gateway) = gateways.get_mut(&key) {
            gateway.use_services(&converted.services);
            gateway.use_credentials(&converted.credentials);
            add_rules(gateway, &listeners, &converted);
        }
    }
    Some(status)
}

/// A parent of ours: a Gateway, or a ListenerSet of one.
struct Parent {
    /// Its place among the parentRefs.
    index: usize,
    gateway: ObjectKey,
    set: Option<ObjectKey>,
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.set {
            None => write!(f, "Gateway {}", self.gateway),
            Some(set) => write!(f, "{} {set}", listener_set::KIND),
        }
    }
}

impl Attachment<'_> {
    /// The parents that are ours.
    fn own_parents(
        &self,
        ctx: &Context<'_>,
        gateways: &BTreeMap<ObjectKey, GatewayState<'_>>,
    ) -> Vec<Parent> {
        let parent = |index| match self.parent(ctx, gateways, index) {
            Ok(parent) => Some(parent),
            Err(finding) => {
                ctx.report(finding);
                None
            }
        };
        (0..self.parents.len()).filter_map(parent).collect()
    }

    /// Whether it names ListenerSets while nothing is known of these.
    fn may_have_others(&self, ctx: &Context<'_>) -> bool {
        sources::is_unknown(ctx, listener_set::KIND)
            && self.parents.iter().any(|it| it.kind == listener_set::KIND)
    }

    /// The parent of parentRef number `index`, or why it is not ours.
    fn parent(
        &self,
        ctx: &Context<'_>,
        gateways: &BTreeMap<ObjectKey, GatewayState<'_>>,
        index: usize,
    ) -> Result<Parent, Finding> {
        let ParentReference {
            group,
            kind,
            namespace,
            name,
            ..
        } = &self.parents[index];
        let namespace = namespace.as_ref().unwrap_or(&self.object.key.namespace);
        let key = ObjectKey::new(namespace, name);
        let (gateway, set) = match (&**group, &**kind) {
            (GATEWAY_GROUP, "Gateway") => (Some(key.clone()), None),
            (GATEWAY_GROUP, listener_set::KIND) => {
                let Some(set) = ctx.resources.listener_sets.get(&key) else {
                    return Err(self.parent_not_found(ctx, index, &key));
                };
                (listener_set::gateway_of(&key, set), Some(key.clone()))
            }
            _ => return Err(self.parent_of_another_kind(index)),
        };
        match gateway {
            Some(gateway) if gateways.contains_key(&gateway) => Ok(Parent {
                index,
                gateway,
                set,
            }),
            None | Some(_) if set.is_none() && !ctx.resources.gateways.contains_key(&key) => {
                Err(self.parent_not_found(ctx, index, &key))
            }
            None | Some(_) => Err(self.object.note(
                "ParentNotServed",
                format!("spec.parentRefs[{index}]"),
                format!("{kind} {key} is not served here, so the route is not either"),
                format!("the finding of the {kind} says why"),
            )),
        }
    }

    fn parent_not_found(&self, ctx: &Context<'_>, index: usize, key: &ObjectKey) -> Finding {
        let kind = &self.parents[index].kind;
        let (code, remedy) = if kind == listener_set::KIND {
            let remedy = instead(ctx, key, &ctx.resources.listener_sets);
            ("ListenerSetNotFound", remedy)
        } else {
            (
                "GatewayNotFound",
                instead(ctx, key, &ctx.resources.gateways),
            )
        };
        self.object.error(
            code,
            format!("spec.parentRefs[{index}].name"),
            format!("there is no {kind} {key}, so the route is not served there"),
            remedy,
        )
    }

    /// Other kinds of the Gateway API are ours to serve; a Service, say, is the parent of a mesh's routes.
    fn parent_of_another_kind(&self, index: usize) -> Finding {
        let ParentReference { group, kind, .. } = &self.parents[index];
        let field = format!("spec.parentRefs[{index}].kind");
        let code = "ParentNotServed";
        if group == GATEWAY_GROUP {
            let message = format!("parents of kind {kind:?} are not supported");
            let remedy = "name a Gateway or a ListenerSet; without `kind` it is a Gateway";
            self.object.error(code, field, message, remedy)
        } else {
            let message = format!(
                "{kind} of group {group:?} is no Gateway, so the route is not served there"
            );
            let remedy =
                "nothing to do if another program serves it, such as a mesh; else name a Gateway";
            self.object.note(code, field, message, remedy)
        }
    }

    /// The listeners that a parentRef reaches.
    fn select(
        &self,
        ctx: &Context<'_>,
        parent: &Parent,
        gateway: &GatewayState<'_>,
    ) -> Result<Vec<usize>, Finding> {
        let reference = &self.parents[parent.index];
        let field = format!("spec.parentRefs[{}]", parent.index);
        let Some(range) = gateway.listeners_of(parent.set.as_ref()) else {
            return Err(self.object.error(
                reason::NO_MATCHING_PARENT,
                field,
                format!("{parent} is not allowed at its Gateway, so the route is not served there"),
                "the finding of the ListenerSet says why",
            ));
        };
        let all = || range.clone().zip(&gateway.listeners[range.clone()]);
        let named: Vec<_> = all()
            .filter(|(_, listener)| reference.selects(&listener.spec.name, listener.spec.port))
            .collect();
        let (namespace, kind) = (&self.object.key.namespace, &self.object.kind);
        // What others may use is none of this route's business.
        let is_told = |listener: &ListenerState<'_>| listener.admits(ctx, namespace);
        if named.is_empty() {
            let known: Vec<_> = all()
                .filter(|(_, listener)| is_told(listener))
                .map(|(_, l)| format!("{} (port {})", l.spec.name, l.spec.port))
                .collect();
            let remedy = if known.is_empty() {
                format!(
                    "ask its owner for a listener that allows routes from namespace {namespace}"
                )
            } else {
                format!("choose one of {}", known.join(", "))
            };
            return Err(self.object.error(
                reason::NO_MATCHING_PARENT,
                field,
                format!("{parent} has no listener {}", reference.wanted_listener()),
                remedy,
            ));
        }
        if !named.iter().any(|(_, it)| it.has_known_protocol()) {
            let known: Vec<_> = named
                .iter()
                .filter(|(_, listener)| is_told(listener))
                .map(|(_, it)| format!("{:?} ({})", it.spec.name, it.spec.protocol))
                .collect();
            let known = if known.is_empty() {
                String::new()
            } else {
                format!(": {}", known.join(", "))
            };
            return Err(self.object.error(
                reason::NOT_ALLOWED_BY_LISTENERS,
                field,
                format!(
                    "the route reaches only listeners of {parent} whose protocol is not supported{known}"
                ),
                "mend their protocol, or name another listener",
            ));
        }
        if !named.iter().any(|(_, listener)| listener.serves(kind)) {
            return Err(self.of_no_use(parent, field));
        }
        let allowed: Vec<_> = named
            .into_iter()
            .filter(|(_, listener)| listener.allows(ctx, kind, namespace))
            .collect();
        if allowed.is_empty() {
            return Err(self.object.error(
                reason::NOT_ALLOWED_BY_LISTENERS,
                field,
                format!("no listener of {parent} allows {kind} from namespace {namespace}"),
                "extend allowedRoutes of the listener, or move the route",
            ));
        }
        let matching: Vec<_> = allowed
            .into_iter()
            .filter(|(_, listener)| self.shares_hostname(listener.hostname.as_deref()))
            .map(|(index, _)| index)
            .collect();
        if matching.is_empty() {
            return Err(self.object.error(
                reason::NO_MATCHING_LISTENER_HOSTNAME,
                "spec.hostnames",
                format!(
                    "no listener of {parent} that this route may use serves {}",
                    self.hostnames.join(" or ")
                ),
                "use a hostname that a listener serves",
            ));
        }
        Ok(matching)
    }

    /// Why listeners that are for routes of other kinds only take none of this.
    fn of_no_use(&self, parent: &Parent, field: String) -> Finding {
        let kind = &self.object.kind;
        let (message, remedy) = if kind == TlsRoute::KIND {
            (
                format!(
                    "the route reaches only listeners of {parent} that TLS does not pass through, so no {kind} is served there"
                ),
                "name a listener of protocol TLS with tls.mode Passthrough",
            )
        } else {
            (
                format!(
                    "TLS passes through the listeners of {parent} that the route reaches, so no {kind} is served there"
                ),
                "name a listener of protocol HTTP or HTTPS",
            )
        };
        self.object
            .error(reason::NOT_ALLOWED_BY_LISTENERS, field, message, remedy)
    }

    fn shares_hostname(&self, listener: Option<&str>) -> bool {
        match listener {
            Some(listener) if !self.hostnames.is_empty() => self
                .hostnames
                .iter()
                .any(|own| hostname::intersects(own, listener)),
            _ => true,
        }
    }
}

/// What to do about a parent that is not there. A controller tells nobody of it, and spares itself the search.
pub(super) fn instead<T>(
    ctx: &Context<'_>,
    missing: &ObjectKey,
    known: &BTreeMap<ObjectKey, T>,
) -> String {
    let neighbours = known
        .range(ObjectKey::new(&*missing.namespace, "")..)
        .map(|(key, _)| key)
        .take_while(|key| key.namespace == missing.namespace && ctx.options.installed.is_none());
    match nearest(&missing.name, neighbours.map(|key| &*key.name)) {
        Some(meant) => format!("did you mean {meant}? Otherwise create it"),
        None => "create it, or correct the name and namespace".into(),
    }
}

impl ParentReference {
    fn selects(&self, listener: &str, port: i32) -> bool {
        self.section_name
            .as_deref()
            .is_none_or(|name| name == listener)
            && self.port.is_none_or(|wanted| wanted == port)
    }

    fn wanted_listener(&self) -> String {
        match (&self.section_name, self.port) {
            (Some(name), Some(port)) => format!("{name:?} on port {port}"),
            (Some(name), None) => format!("{name:?}"),
            (None, Some(port)) => format!("on port {port}"),
            (None, None) => "at all".into(),
        }
    }
}

fn conditions(
    generation: Option<i64>,
    refused: Option<&Finding>,
    converted: &ConvertedRoute,
) -> ConditionSet {
    use ConditionStatus::{False, True};
    let mut conditions = ConditionSet::new(generation);
    match refused {
        None => conditions.set(kind::ACCEPTED, True, reason::ACCEPTED, "Accepted"),
        Some(finding) => conditions.set_finding(kind::ACCEPTED, False, finding),
    }
    match converted.unresolved.first() {
        None => conditions.set(
            kind::RESOLVED_REFS,
            True,
            reason::RESOLVED_REFS,
            "All references are resolved",
        ),
        Some(first) => {
            let message = texts(&converted.unresolved);
            conditions.set(kind::RESOLVED_REFS, False, first.code, message);
        }
    }
    if refused.is_none() && !converted.dropped.is_empty() {
        let message = format!(
            "Dropped Rule (its valid matches answer 500): {}",
            texts(&converted.dropped)
        );
        conditions.set(
            kind::PARTIALLY_INVALID,
            True,
            reason::UNSUPPORTED_VALUE,
            message,
        );
    }
    conditions
}

fn texts(findings: &[Finding]) -> String {
    let texts: Vec<_> = findings.iter().map(Finding::text).collect();
    texts.join(". ")
}

/// Counts the route on the listeners unless it is refused, and adds its rules for those of them that the table has.
fn add_rules(
    gateway: &mut GatewayState<'_>,
    listeners: &BTreeSet<usize>,
    converted: &ConvertedRoute,
) {
    let mut served = Vec::new();
    for &index in listeners {
        let listener = &mut gateway.listeners[index];
        if converted.refused.is_none() {
            listener.attach();
        }
        if listener.in_table() {
            served.push(listener.key.clone());
        }
    }
    if served.is_empty() {
        return;
    }
    served.sort();
    for (key, rule) in &converted.rules {
        let mut rule = rule.clone();
        rule.listeners.clone_from(&served);
        gateway.add_route(key.clone(), rule);
    }
}
