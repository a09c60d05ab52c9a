//! Gateways of our classes: listeners, settings, table and status.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use gateway_api::apis::experimental::{
    gateways::Gateway, listenersets::ListenerSet, tlsroutes::TlsRoute,
};
use portcullis_routing::{
    Direction, GatewayKey, ListenerProtocol, Route, RouteKey, RoutingTable, frame::MAX_FRAME,
};

use super::{
    Backends, Context,
    certificate::Certificates,
    class::{ClassParameters, Classes, direction},
    client_certificate::ClientCertificate,
    egress::Egress,
    frontend::Frontend,
    listener::{Entry, ListenerState, find_conflicts},
    listener_set::{self, ListenerSetState, ListenerSets},
    namespaces::Namespaces,
    parameters::{self, Parameters},
    route::RouteObject,
    sources, table_length,
};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::{
        ConditionSet, ConditionStatus, GatewayStatus, ListenerSetStatus, Observed, condition::kind,
        reason,
    },
};

/// A controller's name this many edits away from ours is a slip of the pen.
const MAX_SLIP: usize = 3;
/// More classes of ours than this are not named where one is missing.
const CLASSES_NAMED: usize = 5;

/// A Gateway of ours, while routes are attached to it.
#[derive(Debug)]
pub(crate) struct GatewayState<'a> {
    pub(crate) object: ObjectRef,
    pub(crate) key: GatewayKey,
    gateway: &'a Gateway,
    /// Which way its traffic goes.
    pub(crate) direction: Direction,
    /// Everything that the table has listeners for: first the Gateway's own, then those of its ListenerSets, in the order
    /// of precedence.
    pub(crate) listeners: Vec<ListenerState<'a>>,
    /// The ListenerSets that name it.
    sets: BTreeMap<ObjectKey, ListenerSetState>,
    frontend: Frontend,
    /// What it is served with; `None` if nothing good is known, be it that nothing can be read.
    parameters: Option<Arc<Parameters>>,
    /// What is wrong with the parameters that are asked for. It is not accepted then, and goes on with the last good ones.
    broken_parameters: Option<Finding>,
    /// Why it is not accepted and not served, whatever its parameters.
    refused: Option<Finding>,
    /// References of the Gateway itself that lead nowhere.
    unresolved: Option<Finding>,
    client_certificate: Option<ClientCertificate>,
    /// What is wrong with its `allowedListeners`.
    allowed_listeners: Option<Finding>,
    routes: BTreeMap<RouteKey, Arc<Route>>,
    /// Services that its routes refer to.
    services: BTreeSet<ObjectKey>,
    /// CredentialInjections that its routes refer to.
    credentials: BTreeSet<ObjectKey>,
    /// Why its table cannot be sent as a whole.
    too_long: Option<String>,
    /// Which namespaces have more in it than they may.
    beyond_quota: Option<Finding>,
}

/// The Gateways of our classes.
pub(crate) fn collect<'a>(
    ctx: &Context<'a>,
    classes: &Classes<'a>,
) -> BTreeMap<ObjectKey, GatewayState<'a>> {
    let mut certificates = Certificates::default();
    let mut gateways = BTreeMap::new();
    let mut sets = ListenerSets::new(ctx);
    for (key, gateway) in &ctx.resources.gateways {
        if let Some(class) = classes.get(&gateway.spec.gateway_class_name) {
            let mut state = GatewayState::new(ctx, key, gateway, class, &mut certificates);
            state.add_sets(ctx, sets.take(key), &mut certificates);
            find_conflicts(&mut state.listeners);
            gateways.insert(key.clone(), state);
        } else {
            let class = &gateway.spec.gateway_class_name;
            ctx.report(not_served(ctx, key, class, classes));
        }
    }
    sets.report(ctx);
    gateways
}

/// Why a Gateway of this class is not served.
fn not_served(ctx: &Context<'_>, key: &ObjectKey, class: &str, classes: &Classes<'_>) -> Finding {
    let object = ObjectRef::new("Gateway", key.clone());
    let field = "spec.gatewayClassName";
    let own = &ctx.options.controller_name;
    let Some(known) = ctx
        .resources
        .gateway_classes
        .get(&ObjectKey::cluster(class))
    else {
        // Without a cluster, nothing can run already.
        let hence = if ctx.options.implied_classes.is_empty() {
            ": proxies that this Gateway has serve on with what they have, and nothing changes until the class is there"
        } else {
            ", so nobody serves this Gateway"
        };
        let message = format!("GatewayClass {class:?} does not exist{hence}");
        let create = format!("create the GatewayClass, with controllerName {own:?}");
        let ours: Vec<_> = classes.names().take(CLASSES_NAMED).collect();
        let remedy = if ours.is_empty() {
            format!("{create}, or name another class")
        } else {
            format!("write gatewayClassName: {}, or {create}", ours.join(" or "))
        };
        return object.error("GatewayClassNotFound", field, message, remedy);
    };
    let theirs = &known.spec.controller_name;
    if theirs == own {
        return object.error(
            reason::UNSUPPORTED_VALUE,
            field,
            format!("GatewayClass {class:?} is not accepted, so nobody serves this Gateway"),
            "see the condition Accepted of the GatewayClass",
        );
    }
    let message = format!(
        "GatewayClass {class:?} is of controller {theirs:?}, so this Gateway is not served here"
    );
    if strsim::damerau_levenshtein(theirs, own) <= MAX_SLIP {
        let remedy = format!("did you mean controllerName {own:?} in the GatewayClass?");
        object.error("ForeignGateway", field, message, remedy)
    } else {
        let remedy = "nothing to do if that controller serves it; else name another class";
        object.note("ForeignGateway", field, message, remedy)
    }
}

impl<'a> GatewayState<'a> {
    fn new(
        ctx: &Context<'a>,
        key: &ObjectKey,
        gateway: &'a Gateway,
        class: &ClassParameters<'a>,
        certificates: &mut Certificates,
    ) -> Self {
        let object = ObjectRef::new("Gateway", key.clone());
        let table_key = GatewayKey::of(&key.namespace, &key.name);
        let frontend = Frontend::new(ctx, &object, gateway);
        let direction = direction(&gateway.spec.gateway_class_name);
        let listeners = Entry::of_gateway(&object, &table_key, gateway)
            .map(|entry| ListenerState::new(ctx, entry, direction, &frontend, certificates))
            .collect();
        let refused = unsupported_address(&object, gateway);
        let (parameters, broken_parameters) = parameters::in_force(ctx, &object, gateway, class);
        let (client_certificate, unresolved) =
            ClientCertificate::resolve(ctx, &object, gateway, certificates);
        Self {
            object,
            key: table_key,
            gateway,
            direction,
            listeners,
            sets: BTreeMap::new(),
            frontend,
            parameters,
            broken_parameters,
            refused,
            unresolved,
            client_certificate,
            allowed_listeners: None,
            routes: BTreeMap::new(),
            services: BTreeSet::new(),
            credentials: BTreeSet::new(),
            too_long: None,
            beyond_quota: None,
        }
    }

    /// Notes the Services that a route of the Gateway refers to.
    pub(crate) fn use_services(&mut self, services: &BTreeSet<ObjectKey>) {
        self.services.extend(services.iter().cloned());
    }

    /// Whether a route of the Gateway refers to this Service.
    pub(crate) fn uses(&self, service: &ObjectKey) -> bool {
        self.services.contains(service)
    }

    /// Notes that a route of this Gateway refers to these CredentialInjections.
    pub(crate) fn use_credentials(&mut self, credentials: &BTreeSet<ObjectKey>) {
        self.credentials.extend(credentials.iter().cloned());
    }

    /// Whether a route of this Gateway refers to a CredentialInjection.
    pub(crate) fn uses_credential(&self, credential: &ObjectKey) -> bool {
        self.credentials.contains(credential)
    }

    /// Takes the ListenerSets that it allows; they come in the order of precedence.
    fn add_sets(
        &mut self,
        ctx: &Context<'a>,
        sets: Vec<(&ObjectKey, &ListenerSet)>,
        certificates: &mut Certificates,
    ) {
        let (allowed, broken) = listener_set::allowed_namespaces(&self.object, self.gateway);
        self.allowed_listeners = broken;
        for (key, set) in sets {
            let object = ObjectRef::new(listener_set::KIND, key.clone());
            let state = if allowed.contain(ctx, &self.object.key.namespace, &key.namespace) {
                let before = self.listeners.len();
                let entries = Entry::of_set(&object, &self.key, set);
                let (direction, frontend) = (self.direction, &self.frontend);
                let listeners = entries
                    .map(|entry| ListenerState::new(ctx, entry, direction, frontend, certificates));
                self.listeners.extend(listeners);
                ListenerSetState::taken(set, before..self.listeners.len())
            } else {
                ListenerSetState::refused(&object, set, &self.object.key)
            };
            self.sets.insert(key.clone(), state);
        }
    }

    /// Whether it lets traffic out of the cluster.
    pub(crate) fn is_egress(&self) -> bool {
        self.direction == Direction::Egress
    }

    /// Whether there may be ListenerSets of its.
    pub(crate) fn takes_sets(&self) -> bool {
        let (allowed, _) = listener_set::allowed_namespaces(&self.object, self.gateway);
        !matches!(allowed, Namespaces::None)
    }

    /// Whether it has a listener that TLSRoutes attach to.
    pub(crate) fn has_tls(&self) -> bool {
        let mut listeners = self.listeners.iter();
        listeners.any(|listener| listener.serves(TlsRoute::KIND))
    }

    /// Whether it goes by GatewayParameters, its own or those of its class.
    pub(crate) fn names_parameters(&self, ctx: &Context<'_>) -> bool {
        parameters::are_named(ctx, self.gateway)
    }

    fn own_listeners(&self) -> Range<usize> {
        0..self.gateway.spec.listeners.len()
    }

    /// The places of its own listeners, or of those of one of its ListenerSets. `None` if it does not take that.
    pub(crate) fn listeners_of(&self, set: Option<&ObjectKey>) -> Option<Range<usize>> {
        match set {
            None => Some(self.own_listeners()),
            Some(set) => self.sets.get(set)?.listeners(),
        }
    }

    /// Adds a rule to the table.
    pub(crate) fn add_route(&mut self, key: RouteKey, route: Route) {
        self.routes.insert(key, Arc::new(route));
    }

    /// Reports everything worth telling about the Gateway.
    pub(crate) fn report(&self, ctx: &Context<'_>) {
        let listeners = self.listeners.iter().flat_map(ListenerState::findings);
        let sets = self.sets.values().filter_map(ListenerSetState::finding);
        let own = self.refused.iter().chain(&self.broken_parameters);
        own.chain(&self.unresolved)
            .chain(&self.allowed_listeners)
            .chain(listeners)
            .chain(sets)
            .cloned()
            .for_each(|finding| ctx.report(finding));
        let https = self.listeners.iter().filter(|listener| listener.is_https());
        let https_ports: Vec<_> = https.map(|listener| listener.spec.port).collect();
        let warnings = self.frontend.warnings(&self.object, &https_ports);
        let idle = parameters::idle_node_ports(ctx, &self.object, self.gateway, &self.listeners);
        let idle_egress = (!self.is_egress())
            .then(|| parameters::idle_egress(ctx, &self.object, self.gateway))
            .flatten();
        for finding in warnings
            .into_iter()
            .chain(idle)
            .chain(idle_egress)
            .chain(self.overruled_egress())
            .chain(default_scope(&self.object, self.gateway))
        {
            ctx.report(finding);
        }
    }

    /// What its own parameters say in vain, while they are good.
    fn overruled_egress(&self) -> Option<Finding> {
        let is_asked_for = self.is_egress() && self.broken_parameters.is_none();
        let parameters = self.parameters.as_ref().filter(|_| is_asked_for)?;
        parameters::overruled_egress(&self.object, self.gateway, parameters)
    }

    /// What it is served with, or was before it was refused; `None` if nothing good is known.
    pub(crate) fn parameters(&self) -> Option<&Arc<Parameters>> {
        self.parameters.as_ref()
    }

    /// Its table: only its own listeners and those of its ListenerSets, its routes, clusters, endpoints, certificates and
    /// settings, and what egress needs if it is one of that. `None` if the Gateway is not served, or nothing new of it may be yet.
    pub(crate) fn table(
        &mut self,
        ctx: &Context<'_>,
        backends: &Backends<'_>,
        egress: &Egress,
    ) -> Option<RoutingTable> {
        let routes = std::mem::take(&mut self.routes);
        let parameters = self.parameters.as_ref();
        let parameters = parameters.filter(|_| !self.stands_still() && self.has_listener())?;
        if sources::hold_back(ctx, self) {
            return None;
        }
        let mut table = RoutingTable::new(self.key.clone());
        table.settings = Arc::clone(&parameters.settings);
        table.routes = routes;
        for listener in &self.listeners {
            let Some(entry) = listener.table_entry() else {
                continue;
            };
            table
                .listeners
                .insert(listener.key.clone(), Arc::new(entry));
            for (key, certificate) in listener.certificates() {
                table
                    .certificates
                    .insert(key.clone(), certificate.certificate.clone());
            }
        }
        backends.fill(&mut table, self.direction);
        ctx.credentials.fill(&mut table);
        if self.is_egress() {
            egress.fill(&self.object.key, &parameters.egress, &mut table);
            self.beyond_quota = egress.beyond_quota(&self.object);
            self.beyond_quota
                .iter()
                .for_each(|it| ctx.report(it.clone()));
        }
        if let Some(certificate) = &self.client_certificate {
            certificate.fill(&mut table);
        }
        let length = table.seal();
        // A proxy in this process is not sent anything.
        if length > MAX_FRAME && matches!(ctx.options.observed, Observed::Cluster(_)) {
            let finding = table_length::too_long(&self.object, length, &table);
            self.too_long = Some(finding.text());
            ctx.report(finding);
        }
        Some(table)
    }

    /// The ports that its infrastructure has to have.
    pub(crate) fn ports(&self) -> BTreeMap<u16, ListenerProtocol> {
        let ports = self.listeners.iter().filter_map(ListenerState::port);
        ports.collect()
    }

    /// Whether there is a listener that is accepted.
    fn has_listener(&self) -> bool {
        self.listeners.iter().any(ListenerState::accepted)
    }

    /// Whether it is refused, so that nothing new of it is served. While only its parameters are broken all else of it is as ever.
    fn stands_still(&self) -> bool {
        self.refused.is_some() || self.parameters.is_none() && self.broken_parameters.is_some()
    }

    /// Its status and those of its ListenerSets. `Programmed` stays Unknown where that is for the data plane to say.
    pub(crate) fn statuses(
        &self,
        ctx: &Context<'_>,
    ) -> (GatewayStatus, BTreeMap<ObjectKey, ListenerSetStatus>) {
        let is_partial = sources::hold_back(ctx, self);
        let sets = self.sets.iter();
        let sets: BTreeMap<_, _> = sets
            .map(|(key, set)| {
                let status = ListenerSetStatus {
                    is_partial,
                    ..set.status(&self.listeners, self.stands_still())
                };
                (key.clone(), status)
            })
            .collect();
        let accepted = sets.values();
        let accepted = accepted.filter(|status| status.conditions.is_true(kind::ACCEPTED));
        let attached = i32::try_from(accepted.count()).unwrap_or(i32::MAX);
        let mut status = GatewayStatus {
            is_partial,
            ..self.status(attached)
        };
        sources::state(ctx, self, &mut status.conditions);
        (status, sets)
    }

    fn status(&self, attached_listener_sets: i32) -> GatewayStatus {
        use ConditionStatus::{False, True, Unknown};
        let generation = self.gateway.metadata.generation;
        let mut conditions = ConditionSet::new(generation);
        let invalid: Vec<_> = self.names(|listener| !listener.accepted());
        let overruled = self.overruled_egress();
        let told = overruled.iter().chain(&self.beyond_quota);
        let told: Vec<_> = told.map(|it| format!("; {}", it.message)).collect();
        let told = told.concat();
        match self.refused.as_ref().or(self.broken_parameters.as_ref()) {
            Some(finding) => conditions.set_finding(kind::ACCEPTED, False, finding),
            None if invalid.is_empty() => {
                let message = format!("Accepted{told}");
                conditions.set(kind::ACCEPTED, True, reason::ACCEPTED, message);
            }
            None => {
                let status = if self.has_listener() { True } else { False };
                let invalid = invalid.join(", ");
                let message = format!("Listeners that are not valid: {invalid}{told}");
                conditions.set(kind::ACCEPTED, status, reason::LISTENERS_NOT_VALID, message);
            }
        }
        let unresolved = self.names(|listener| !listener.resolved());
        match &self.unresolved {
            Some(finding) => conditions.set_finding(kind::RESOLVED_REFS, False, finding),
            None if unresolved.is_empty() => {
                conditions.set(
                    kind::RESOLVED_REFS,
                    True,
                    reason::RESOLVED_REFS,
                    "All references are resolved",
                );
            }
            None => {
                let message = format!(
                    "Listeners with references that are not resolved: {}",
                    unresolved.join(", ")
                );
                conditions.set(
                    kind::RESOLVED_REFS,
                    False,
                    reason::LISTENERS_NOT_RESOLVED,
                    message,
                );
            }
        }
        if let Some(field) = self.frontend.insecure() {
            conditions.set(
                kind::INSECURE_FRONTEND_VALIDATION_MODE,
                True,
                reason::CONFIGURATION_CHANGED,
                format!("{field}.mode: clients are let in whatever certificate they show, or none"),
            );
        }
        if self.stands_still() {
            conditions.set(
                kind::PROGRAMMED,
                False,
                reason::INVALID,
                "The Gateway is not accepted",
            );
        } else if self.listeners.iter().all(|listener| !listener.served()) {
            conditions.set(
                kind::PROGRAMMED,
                False,
                reason::INVALID,
                "No listener can be served",
            );
        } else {
            conditions.set(
                kind::PROGRAMMED,
                Unknown,
                reason::PENDING,
                "Waiting for the data plane",
            );
        }
        let listeners = self.listeners[self.own_listeners()]
            .iter()
            .map(|listener| listener.status(generation, self.stands_still()))
            .collect();
        GatewayStatus {
            conditions,
            listeners,
            attached_listener_sets,
            too_long: self.too_long.clone(),
            ..GatewayStatus::default()
        }
    }

    fn names(&self, pick: impl Fn(&ListenerState<'_>) -> bool) -> Vec<&str> {
        self.listeners[self.own_listeners()]
            .iter()
            .filter(|listener| pick(listener))
            .map(|listener| listener.spec.name.as_str())
            .collect()
    }
}

fn unsupported_address(object: &ObjectRef, gateway: &Gateway) -> Option<Finding> {
    let (index, kind) = gateway
        .spec
        .addresses
        .iter()
        .flatten()
        .map(|address| address.r#type.as_deref().unwrap_or("IPAddress"))
        .enumerate()
        .find(|(_, kind)| !matches!(*kind, "IPAddress" | "Hostname"))?;
    Some(object.error(
        reason::UNSUPPORTED_ADDRESS,
        format!("spec.addresses[{index}].type"),
        format!("addresses of type {kind:?} are not supported"),
        "use IPAddress or Hostname",
    ))
}

fn default_scope(object: &ObjectRef, gateway: &Gateway) -> Option<Finding> {
    gateway.spec.default_scope.as_ref()?;
    Some(object.warning(
        reason::UNSUPPORTED_VALUE,
        "spec.defaultScope",
        "default Gateways are not supported yet; this has no effect",
        "remove the field",
    ))
}
