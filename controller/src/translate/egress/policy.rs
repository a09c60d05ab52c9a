//! One EgressPolicy in, a policy of the table out: one for Gateways of its own namespace, one for all others.

use std::{collections::BTreeSet, sync::Arc};

use ipnet::IpNet;
use portcullis_crds::{
    EgressPolicySpec,
    egress_policy::{Action, DestinationSelector, GatewayReference, Mode},
};
use portcullis_routing::egress::{Policy, PolicyAction, PolicyMode, PolicyScope};

use super::{
    destination,
    faults::{Fault, Faults},
    policies::EgressGateways,
    quota::{self, Amount},
    range, select,
};
use crate::{
    status::reason,
    translate::{Context, GATEWAY_GROUP, field::Field},
};

/// What a policy comes to.
#[derive(Debug, Default)]
pub(super) struct Translated {
    /// For these Gateways of its own namespace.
    pub(super) own_gateways: BTreeSet<String>,
    /// Where in `to` of the object each destination stands.
    pub(super) indices: Vec<usize>,
    /// `None` if there are none of them, or nothing of it is in force.
    pub(super) of_gateway: Option<Arc<Policy>>,
    /// For every egress Gateway of other namespaces.
    pub(super) of_namespace: Option<Arc<Policy>>,
    /// What it takes in tables.
    pub(super) amount: Amount,
}

/// Translates a policy of the namespace `own`.
pub(super) fn translate(
    ctx: &Context<'_>,
    spec: &EgressPolicySpec,
    own: &str,
    (gateways, places): (&EgressGateways<'_>, &select::Places),
    faults: &mut Faults,
) -> Translated {
    let root = Field::root("spec");
    let field = |name| root.child(name);
    let own_gateways = own_gateways(ctx, spec, own, gateways, &field("targetRefs"), faults);
    let reaches_others = spec.target_refs.is_empty() && gateways.are_outside(own);
    if own_gateways.is_empty() && !reaches_others && !faults.is_refused() {
        let fault = Fault::not_found(
            "there is no egress Gateway, so the policy has no effect",
            "nothing to do if there will be one: a Gateway of class portcullis-egress",
        );
        faults.refuse(&field("targetRefs"), fault);
    }
    let is_of_gateway = !own_gateways.is_empty();
    let speaker = select::Speaker {
        own,
        of_own_only: !is_of_gateway,
    };
    let from = select::translate(places, &spec.from, speaker, &field("from"), faults);
    // The API server refuses a Deny of a list of none. One that is there all the same must not let everything pass.
    let is_nothing = |to: &&[DestinationSelector]| to.is_empty() && spec.action == Action::Deny;
    let destinations = spec.to.as_deref().filter(|to| !is_nothing(to));
    let to = destination::translate(destinations, spec.action, &field("to"), faults);
    let (indices, to) = to.unzip();
    let action = match spec.action {
        Action::Allow => PolicyAction::Allow,
        Action::Deny => PolicyAction::Deny,
    };
    let mode = match spec.mode {
        Mode::Enforce => PolicyMode::Enforce,
        Mode::Report => PolicyMode::Report,
    };
    let allow_private = allow_private(spec, is_of_gateway, &field("allowPrivate"), faults);
    if !is_of_gateway {
        select::tell_of_foreigners(&spec.from, own, &field("from"), faults);
    }
    let names_nothing = to.as_ref().is_some_and(Vec::is_empty);
    let is_meant = destinations.is_some_and(<[_]>::is_empty) && action == PolicyAction::Allow;
    if names_nothing && !is_meant {
        tell_of_nothing(action, &field("to"), faults);
    }
    // A Deny of nothing is as good as none; an Allow of nothing shuts its callers in until it is mended.
    let is_idle = names_nothing && action == PolicyAction::Deny;
    let policy = |scope, from, allow_private| {
        Arc::new(Policy {
            scope,
            from,
            to: to.clone(),
            action,
            mode,
            allow_private,
        })
    };
    let of_gateway = (is_of_gateway && !is_idle)
        .then(|| policy(PolicyScope::Gateway, from.clone(), allow_private));
    let of_namespace = (reaches_others && !is_idle).then(|| {
        let from = from.as_ref().map(|from| select::inside(from, own));
        policy(PolicyScope::Namespace(own.to_owned()), from, Vec::new())
    });
    let mut translated = Translated {
        own_gateways,
        indices: indices.unwrap_or_default(),
        of_gateway,
        of_namespace,
        amount: Amount::default(),
    };
    quota::measure(&mut translated, &root, faults);
    translated
}

impl Translated {
    /// One of the forms in which it is in force.
    pub(super) fn form(&self) -> Option<&Arc<Policy>> {
        self.of_gateway.as_ref().or(self.of_namespace.as_ref())
    }
}

/// None of the destinations is good. The policy is accepted if that is in force.
fn tell_of_nothing(action: PolicyAction, field: &Field<'_>, faults: &mut Faults) {
    let why = "none of the destinations is named in a way that is known";
    match action {
        PolicyAction::Allow => {
            let message = format!("{why}, so its callers reach nothing at all");
            faults.drop(field, Fault::invalid(message, "correct one of them"));
        }
        PolicyAction::Deny => {
            let remedy = "correct one of them; without `to` it denies everything";
            faults.refuse(
                field,
                Fault::invalid(format!("{why}, so it denies nothing"), remedy),
            );
        }
    }
}

/// The egress Gateways of its namespace that the policy is for.
fn own_gateways(
    ctx: &Context<'_>,
    spec: &EgressPolicySpec,
    own: &str,
    gateways: &EgressGateways<'_>,
    field: &Field<'_>,
    faults: &mut Faults,
) -> BTreeSet<String> {
    if spec.target_refs.is_empty() {
        return gateways.inside(own).map(str::to_owned).collect();
    }
    let targets = faults.keep_each(field, &spec.target_refs, |target| {
        target_gateway(ctx, target, own, gateways)
    });
    if targets.is_empty() {
        let fault = Fault::not_found(
            "none of the Gateways that the policy is for is an egress Gateway of its namespace, so it has no effect",
            "correct one of them; without targetRefs it is for all egress Gateways",
        );
        faults.refuse(field, fault);
    }
    targets.into_iter().collect()
}

fn target_gateway(
    ctx: &Context<'_>,
    target: &GatewayReference,
    own: &str,
    gateways: &EgressGateways<'_>,
) -> Result<String, Fault> {
    let GatewayReference { group, kind, name } = target;
    if (group.as_str(), kind.as_str()) != (GATEWAY_GROUP, "Gateway") {
        return Err(Fault::unsupported(
            format!("{kind} of group {group:?} cannot be the target"),
            "name a Gateway; without `group` and `kind` it is one",
        ));
    }
    if gateways.inside(own).any(|gateway| gateway == name) {
        return Ok(name.clone());
    }
    let is_there = ctx.resources.gateways.keys();
    let mut is_there = is_there.filter(|key| key.namespace == own && key.name == *name);
    Err(match is_there.next() {
        Some(_) => Fault::not_found(
            format!(
                "Gateway {own}/{name} is none of egress, as its class is not portcullis-egress"
            ),
            "name an egress Gateway; Gateways of ingress let nothing out",
        ),
        None => Fault::not_found(
            format!("there is no Gateway {own}/{name}"),
            "create it, or correct the name; a policy is for Gateways of its own namespace",
        ),
    })
}

/// The ranges that the policy opens, if it may open any.
fn allow_private(
    spec: &EgressPolicySpec,
    is_of_gateway: bool,
    field: &Field<'_>,
    faults: &mut Faults,
) -> Vec<IpNet> {
    let idle = if spec.allow_private.is_empty() {
        return Vec::new();
    } else if spec.action == Action::Deny {
        Some((
            "a policy that denies opens nothing",
            "remove it, or use action Allow",
        ))
    } else if !is_of_gateway {
        Some((
            "only a policy in the namespace of the Gateway opens ranges",
            "ask whoever runs the Gateway for a policy there",
        ))
    } else if spec.mode == Mode::Report {
        Some((
            "a policy that only reports opens nothing",
            "remove it, or use mode Enforce",
        ))
    } else {
        None
    };
    if let Some((why, remedy)) = idle {
        faults.warn(
            reason::UNSUPPORTED_VALUE,
            field,
            format!("the ranges have no effect: {why}"),
            remedy,
        );
        return Vec::new();
    }
    let ranges = faults.keep_each(field, &spec.allow_private, |text| {
        range::parse(text).ok_or_else(|| {
            Fault::invalid(
                format!("{text:?} is no address and no range of them"),
                "write an address such as 10.1.0.7, or a range such as 10.1.0.0/16",
            )
        })
    });
    let ranges: BTreeSet<_> = ranges.into_iter().collect();
    ranges.into_iter().collect()
}
