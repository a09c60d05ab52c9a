//! BackendTLSPolicies: which Services and ServiceEntries they are in force for, and what their statuses say.

mod validation;

use std::collections::BTreeMap;

use gateway_api::apis::standard::backendtlspolicies::{
    BackendTlsPolicy, BackendTlsPolicyTargetRefs as TargetRef,
};
use portcullis_routing::ClusterTls;

use self::validation::Validated;
use super::{Context, age::created_at, egress, gateway::GatewayState, sources};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::{
        ConditionSet, ConditionStatus, PolicyAncestorStatus, PolicyStatus, condition::kind, reason,
    },
};

/// All policies, and which of them is in force where.
#[derive(Debug)]
pub(crate) struct BackendTlsPolicies<'a> {
    policies: BTreeMap<&'a ObjectKey, Policy>,
    in_force: BTreeMap<Section<'a>, &'a ObjectKey>,
}

/// The kinds that a policy may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TargetKind {
    /// A Service of the cluster.
    Service,
    /// A ServiceEntry, for hosts beyond it.
    ServiceEntry,
}

impl TargetKind {
    fn of(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            ("", "Service") => Some(Self::Service),
            (egress::GROUP, egress::KIND) => Some(Self::ServiceEntry),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::ServiceEntry => egress::KIND,
        }
    }
}

/// A Service or ServiceEntry, or one port of it by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Section<'a> {
    kind: TargetKind,
    key: ObjectKey,
    port: Option<&'a str>,
}

#[derive(Debug)]
struct Policy {
    object: ObjectRef,
    generation: Option<i64>,
    validated: Validated,
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    kind: TargetKind,
    key: ObjectKey,
    /// Why the policy is not in force there.
    refused: Option<Finding>,
}

impl<'a> BackendTlsPolicies<'a> {
    /// Reads all policies. Of those for the same target the oldest is in force, then the first by name.
    pub(crate) fn collect(ctx: &Context<'a>) -> Self {
        let mut all = Self {
            policies: BTreeMap::new(),
            in_force: BTreeMap::new(),
        };
        let mut specs: Vec<_> = ctx.resources.backend_tls_policies.iter().collect();
        specs.sort_by_key(|(key, policy)| (created_at(&policy.metadata), *key));
        for (key, policy) in specs {
            all.add(ctx, key, policy);
        }
        all
    }

    fn add(&mut self, ctx: &Context<'a>, key: &'a ObjectKey, policy: &'a BackendTlsPolicy) {
        let object = ObjectRef::new("BackendTLSPolicy", key.clone());
        let targets = policy.spec.target_refs.iter().enumerate();
        let targets: Vec<_> = targets
            .filter_map(|(index, target)| self.target(ctx, &object, key, index, target))
            .collect();
        for option in policy.spec.options.iter().flatten().map(|(name, _)| name) {
            ctx.report(object.warning(
                reason::UNSUPPORTED_VALUE,
                format!("spec.options[{option:?}]"),
                "this option is not known, and has no effect",
                "remove it",
            ));
        }
        let policy = Policy {
            validated: validation::translate(
                ctx,
                &object,
                &policy.spec.validation,
                without(&targets),
            ),
            generation: policy.metadata.generation,
            object,
            targets,
        };
        self.policies.insert(key, policy);
    }

    /// A target, in force there or not; `None` if it is of another kind.
    fn target(
        &mut self,
        ctx: &Context<'a>,
        object: &ObjectRef,
        key: &'a ObjectKey,
        index: usize,
        target: &'a TargetRef,
    ) -> Option<Target> {
        let field = format!("spec.targetRefs[{index}]");
        let TargetRef {
            group, kind, name, ..
        } = target;
        let Some(target_kind) = TargetKind::of(group, kind) else {
            ctx.report(object.error(
                reason::INVALID_KIND,
                format!("{field}.kind"),
                format!(
                    "{kind} of group {group:?} cannot be the target; the policy has no effect on it"
                ),
                "refer to a Service (`group: \"\"`, `kind: Service`), or to a ServiceEntry of group networking.istio.io",
            ));
            return None;
        };
        let target_key = ObjectKey::new(&key.namespace, name);
        let section = Section {
            port: target
                .section_name
                .as_deref()
                .filter(|name| !name.is_empty()),
            kind: target_kind,
            key: target_key.clone(),
        };
        let found = exists(ctx, object, &field, &section);
        let refused = found.and_then(|()| self.claim(ctx, object, key, &field, section));
        Some(Target {
            kind: target_kind,
            key: target_key,
            refused: refused.err(),
        })
    }

    fn claim(
        &mut self,
        ctx: &Context<'_>,
        object: &ObjectRef,
        key: &'a ObjectKey,
        field: &str,
        section: Section<'a>,
    ) -> Result<(), Finding> {
        let Some(winner) = self.in_force.get(&section).filter(|winner| **winner != key) else {
            self.in_force.insert(section, key);
            return Ok(());
        };
        let policies = &ctx.resources.backend_tls_policies;
        let age = |key: &ObjectKey| policies.get(key).map(|policy| created_at(&policy.metadata));
        let why = if age(winner) == age(key) {
            "comes first by name"
        } else {
            "is older"
        };
        Err(object.error(
            reason::CONFLICTED,
            field,
            format!("BackendTLSPolicy {winner} is for the same target and {why}, so it is the one in force"),
            "remove one of the two, or give them different targets (sectionName names a port)",
        ))
    }

    /// What the policy for a port asks of connections, or the reason why it cannot be carried out; `None` without a policy. One
    /// for the port by its name goes before one for the whole object.
    pub(crate) fn of(
        &self,
        kind: TargetKind,
        key: &ObjectKey,
        port: Option<&str>,
    ) -> Option<Result<&ClusterTls, &'static str>> {
        let find = |port| {
            let key = key.clone();
            self.in_force.get(&Section { kind, key, port })
        };
        let named = port.filter(|name| !name.is_empty());
        let key = named.and_then(|_| find(named)).or_else(|| find(None))?;
        let validated = &self.policies.get(*key)?.validated;
        Some(validated.tls.as_ref().map_err(|finding| finding.code))
    }

    /// The statuses of the policies that say something to a Gateway of ours: one of its routes refers to the Service, or it is
    /// one of egress, which has all ServiceEntries.
    pub(crate) fn statuses(
        &self,
        ctx: &Context<'_>,
        gateways: &BTreeMap<ObjectKey, GatewayState<'_>>,
    ) -> BTreeMap<ObjectKey, PolicyStatus> {
        let is_partial = sources::may_use_more(ctx);
        let mut statuses = BTreeMap::new();
        for (key, policy) in &self.policies {
            let ancestors: Vec<_> = gateways
                .iter()
                .filter_map(|(gateway, state)| policy.ancestor(ctx, gateway, state))
                .collect();
            let is_unused = ancestors.is_empty() && !is_partial;
            policy.report(ctx, is_unused);
            if !is_unused {
                let status = PolicyStatus {
                    ancestors,
                    is_partial,
                };
                statuses.insert(ObjectKey::clone(key), status);
            }
        }
        statuses
    }
}

impl Policy {
    fn report(&self, ctx: &Context<'_>, is_unused: bool) {
        let refused = self
            .targets
            .iter()
            .filter_map(|target| target.refused.as_ref());
        let Validated { tls, unresolved } = &self.validated;
        refused
            .chain(tls.as_ref().err())
            .chain(unresolved)
            .for_each(|finding| ctx.report(finding.clone()));
        if is_unused {
            ctx.report(self.object.note(
                "PolicyNotUsed",
                "spec.targetRefs",
                "no Gateway that is served here has a use for its target, so it has no effect: a Service needs a route that refers to it, \
                 a ServiceEntry an egress Gateway",
                "nothing to do if one will; else correct the name, or remove the policy",
            ));
        }
    }

    /// What comes of the policy at a Gateway; `None` if that has nothing to do with it.
    fn ancestor(
        &self,
        ctx: &Context<'_>,
        gateway: &ObjectKey,
        state: &GatewayState<'_>,
    ) -> Option<PolicyAncestorStatus> {
        let used = self.targets.iter().filter(|target| match target.kind {
            TargetKind::Service => state.uses(&target.key),
            TargetKind::ServiceEntry => state.is_egress(),
        });
        let used: Vec<_> = used.collect();
        (!used.is_empty()).then(|| {
            let controller = &ctx.options.controller_name;
            PolicyAncestorStatus::at_gateway(gateway, controller, self.conditions(&used))
        })
    }

    fn conditions(&self, targets: &[&Target]) -> ConditionSet {
        use ConditionStatus::{False, True};
        let mut conditions = ConditionSet::new(self.generation);
        let refused: Vec<_> = targets
            .iter()
            .filter_map(|target| target.refused.as_ref())
            .collect();
        let Validated { tls, unresolved } = &self.validated;
        match (refused.as_slice(), tls) {
            ([first, ..], _) if refused.len() == targets.len() => {
                conditions.set_finding(kind::ACCEPTED, False, first);
            }
            (_, Err(finding)) => conditions.set_finding(kind::ACCEPTED, False, finding),
            ([], Ok(_)) => conditions.set(kind::ACCEPTED, True, reason::ACCEPTED, "Accepted"),
            (some, Ok(_)) => {
                let texts: Vec<_> = some.iter().map(|finding| finding.text()).collect();
                let message = format!("Accepted, but not for every target: {}", texts.join(". "));
                conditions.set(kind::ACCEPTED, True, reason::ACCEPTED, message);
            }
        }
        match unresolved.first() {
            Some(finding) => conditions.set_finding(kind::RESOLVED_REFS, False, finding),
            None => conditions.set(
                kind::RESOLVED_REFS,
                True,
                reason::RESOLVED_REFS,
                "All references are resolved",
            ),
        }
        conditions
    }
}

/// What follows for the targets of a policy that cannot be carried out.
fn without(targets: &[Target]) -> &'static str {
    let is_for = |kind| targets.iter().any(|target| target.kind == kind);
    match (
        is_for(TargetKind::Service),
        is_for(TargetKind::ServiceEntry),
    ) {
        (false, true) => "the ports that it is for are not opened",
        (true, true) => {
            "requests to the backend get 500, and the ports of ServiceEntries that it is for are not opened"
        }
        (_, false) => "requests to the backend get 500",
    }
}

/// Whether the target of a policy is there.
fn exists(
    ctx: &Context<'_>,
    object: &ObjectRef,
    field: &str,
    section: &Section<'_>,
) -> Result<(), Finding> {
    let Section { kind, key, .. } = section;
    let kind = kind.as_str();
    let Some(names) = port_names(ctx, section) else {
        return Err(object.error(
            reason::TARGET_NOT_FOUND,
            format!("{field}.name"),
            format!("there is no {kind} {key}"),
            "create it, or correct the name; a policy is for objects of its own namespace",
        ));
    };
    match section.port {
        Some(port) if !names.contains(&port) => Err(object.error(
            reason::TARGET_NOT_FOUND,
            format!("{field}.sectionName"),
            format!("{kind} {key} has no port named {port:?} (it has {names:?})"),
            "write the name of one of its ports, or leave sectionName out for all of them",
        )),
        _ => Ok(()),
    }
}

/// The names of the target's ports; `None` if it is not there.
fn port_names<'a>(
    ctx: &Context<'a>,
    Section { kind, key, .. }: &Section<'_>,
) -> Option<Vec<&'a str>> {
    Some(match kind {
        TargetKind::Service => {
            let service = ctx.resources.services.get(key)?;
            let ports = service.spec.iter().flat_map(|spec| &spec.ports).flatten();
            ports.filter_map(|port| port.name.as_deref()).collect()
        }
        TargetKind::ServiceEntry => {
            let entry = ctx.resources.service_entries.get(key)?;
            let ports = entry.spec.ports.iter();
            ports.map(|port| port.name.as_str()).collect()
        }
    })
}
