//! The policies of one scope, found by the hosts that they name: a question looks at those that may be about it, however many hosts the
//! others list. They are indexed as entries are.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{
    about::Asked,
    callers::{Selects, at_most, selects},
    decide::{Caller, DecisionReason, Destination},
    policy::{DestinationMatch, Policy, PolicyAction, PolicyMode},
};
use crate::{
    endpoint::EndpointHost,
    hostname::{HostMap, HostPattern},
    key::PolicyKey,
};

/// Most steps that one decision takes to find what denies the other hosts that a destination may stand for: one for each label of such a
/// host, and one for each place where a policy names it. Of more the worse is assumed.
const MOST_STEPS: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// By key.
    policies: Vec<(PolicyKey, Arc<Policy>)>,
    /// Some only report.
    pub(super) reports: bool,
    /// The numbers of those that allow.
    allowing: Vec<usize>,
    allow: Destinations,
    deny: Destinations,
    /// The places of the names that are denied, by name from its end.
    denied: Box<[(Box<str>, Place)]>,
}

/// Why policies refuse.
#[derive(Debug)]
pub(super) struct Objection<'t> {
    pub(super) reason: DecisionReason,
    /// Which does.
    pub(super) policy: Option<&'t PolicyKey>,
    /// Another method or path might be allowed.
    pub(super) by_request: bool,
}

/// A destination of a policy: the number of the policy, and of one of its `to`.
#[derive(Clone, Copy, Debug)]
struct Place {
    policy: u32,
    to: u32,
}

/// Places by host.
#[derive(Debug, Default)]
struct Destinations {
    /// Whatever the host.
    anywhere: Vec<Place>,
    addresses: HashMap<IpAddr, Vec<Place>, RandomState>,
    names: HostMap<Vec<Place>>,
}

impl Destinations {
    /// `policies` are in their order.
    fn new<'a>(policies: impl Iterator<Item = (usize, &'a Arc<Policy>)>) -> Self {
        let mut all = Self::default();
        let mut names: BTreeMap<HostPattern<'_>, Vec<Place>> = BTreeMap::new();
        for (place, to) in policies.flat_map(|(number, policy)| places(number, policy)) {
            let hosts = to.map_or(&[][..], |to| &to.hosts);
            if hosts.is_empty() {
                all.anywhere.push(place);
            }
            for host in hosts {
                let places = match host.parse() {
                    Ok(address) => all.addresses.entry(address).or_default(),
                    Err(_) => names.entry(HostPattern::new(Some(host))).or_default(),
                };
                places.push(place);
            }
        }
        for (name, mut places) in names {
            places.shrink_to_fit();
            all.names.insert(name, places);
        }
        all
    }

    /// The places of what names a destination.
    fn of(&self, destination: Destination<'_>) -> impl Iterator<Item = &Place> {
        let (name, address) = match destination {
            Destination::Name(name) => (Some(name), None),
            Destination::Address(address) => (None, self.addresses.get(&address)),
        };
        let names = name.into_iter().flat_map(|name| self.names.matching(name));
        names.chain(address).flatten()
    }
}

/// What a policy names, with its places; everything is `None`.
fn places(
    number: usize,
    policy: &Policy,
) -> impl Iterator<Item = (Place, Option<&DestinationMatch>)> {
    let everything = policy.to.is_none().then_some(None);
    let listed = policy.to.iter().flatten().map(Some);
    let all = everything.into_iter().chain(listed).enumerate();
    all.filter_map(move |(to, named)| {
        let place = Place {
            policy: number.try_into().ok()?,
            to: to.try_into().ok()?,
        };
        Some((place, named))
    })
}

impl Scope {
    /// `policies` are in their order.
    pub(super) fn new(policies: Vec<(PolicyKey, Arc<Policy>)>) -> Self {
        Self {
            allow: Destinations::new(with(&policies, PolicyAction::Allow)),
            ..Self::of_unknown(policies)
        }
    }

    /// One for callers who are not known, and so are allowed nothing.
    pub(super) fn of_unknown(policies: Vec<(PolicyKey, Arc<Policy>)>) -> Self {
        let denied = with(&policies, PolicyAction::Deny);
        let denied = denied.flat_map(|(number, policy)| places(number, policy));
        let denied = denied.flat_map(|(place, to)| {
            let hosts = to.map_or(&[][..], |to| &to.hosts);
            HostPattern::of_each(hosts).map(move |host| (host.name().into(), place))
        });
        let mut denied: Box<[(Box<str>, Place)]> = denied.collect();
        denied.sort_by(|(one, _), (other, _)| one.bytes().rev().cmp(other.bytes().rev()));
        let allowing = with(&policies, PolicyAction::Allow).map(|(number, _)| number);
        Self {
            reports: policies.iter().any(|(_, it)| it.mode == PolicyMode::Report),
            allowing: allowing.collect(),
            allow: Destinations::default(),
            deny: Destinations::new(with(&policies, PolicyAction::Deny)),
            denied,
            policies,
        }
    }

    /// Why the policies that count refuse.
    pub(super) fn objection(
        &self,
        asked: &Asked<'_>,
        counts: impl Fn(&Policy) -> bool,
    ) -> Option<Objection<'_>> {
        if let Some(denial) = self.denial(asked, &counts) {
            return Some(denial);
        }
        let (selected, key, policy) = self.shut_in(asked, &counts)?;
        if self.allows(asked, &counts) {
            return None;
        }
        let is_astray = asked.astray(policy).is_some();
        let is_led = is_astray && self.allows(&asked.as_named(), &counts);
        let sure = if is_led {
            DecisionReason::LedElsewhere
        } else {
            DecisionReason::NotAllowedByPolicy
        };
        let other_requests = |to: Option<&DestinationMatch>, policy: &Policy| {
            to.is_some_and(|to| to.is_of_requests() && asked.is_port(to, policy))
        };
        Some(Objection {
            reason: reason(sure, selected),
            policy: Some(key),
            by_request: !is_led && self.any_allows(asked, counts, other_requests),
        })
    }

    /// The first that denies.
    fn denial(&self, asked: &Asked<'_>, counts: impl Fn(&Policy) -> bool) -> Option<Objection<'_>> {
        let mut first: Option<(u32, Objection<'_>)> = None;
        let mut look_at = |place: &Place, is_led: bool| {
            let before = first.as_ref().map(|(before, _)| *before);
            let is_later = before.is_some_and(|before| before < place.policy);
            let Some((key, policy, to)) = self.at(*place).filter(|_| !is_later) else {
                return;
            };
            let is_about = counts(policy)
                && (!is_led || asked.astray(policy).is_some())
                && to.is_none_or(|to| asked.is_about(to, policy));
            if !is_about {
                return;
            }
            let by_request = to.is_some_and(DestinationMatch::is_of_requests);
            match &mut first {
                // It denies other requests too if one of its destinations does.
                Some((before, found)) if *before == place.policy => found.by_request &= by_request,
                _ => {
                    let selected = selects(policy, asked.question.caller);
                    let found = Objection {
                        reason: reason(DecisionReason::DeniedByPolicy, selected),
                        policy: Some(key),
                        by_request,
                    };
                    if selected != Selects::No {
                        first = Some((place.policy, found));
                    }
                }
            }
        };
        let named = self.deny.of(asked.question.destination);
        for place in self.deny.anywhere.iter().chain(named) {
            look_at(place, false);
        }
        // An address is as good as any host that its entry has: what is asked for once it is reached is not asked about again.
        let stands_for = asked.stands_for().map(|host| (host, false));
        let asked_for = asked.asked_for().map(|host| (host, true));
        let endpoints = asked.led_to().iter().map(|endpoint| &endpoint.host);
        let led_to = endpoints.clone().filter_map(EndpointHost::name);
        let led_to = led_to.map(|name| (HostPattern::Exact(name), true));
        let others = stands_for.chain(asked_for).chain(led_to);
        let steps = others.flat_map(|(host, is_led)| {
            let labels = host.name().split('.').map(|_| None);
            let places = self.denials_of(host).map(Some);
            labels.chain(places).map(move |place| (place, is_led))
        });
        for (number, (place, is_led)) in steps.enumerate() {
            if number == MOST_STEPS {
                // What is only told, or is about others, refuses nobody.
                if !self.denies_some(asked.question.caller, &counts) {
                    break;
                }
                return Some(Objection {
                    reason: DecisionReason::DeniedByPolicy,
                    policy: None,
                    by_request: false,
                });
            }
            if let Some(place) = place {
                look_at(place, is_led);
            }
        }
        for address in endpoints.filter_map(EndpointHost::address) {
            let places = self.deny.addresses.get(&address).into_iter().flatten();
            places.for_each(|place| look_at(place, true));
        }
        first.map(|(_, found)| found)
    }

    /// The places of what denies a host, or of a wildcard any host of it.
    fn denials_of(&self, host: HostPattern<'_>) -> impl Iterator<Item = &Place> {
        let below = self.denied_below(host).iter().map(|(_, place)| place);
        self.deny.names.covering(host).flatten().chain(below)
    }

    /// Whether a Deny that counts and names hosts may be about the caller.
    fn denies_some(&self, caller: Option<Caller<'_>>, counts: impl Fn(&Policy) -> bool) -> bool {
        let mut denying = self.policies.iter();
        denying.any(|(_, policy)| {
            let mut destinations = policy.to.iter().flatten();
            policy.action == PolicyAction::Deny
                && destinations.any(|to| !to.hosts.is_empty())
                && counts(policy)
                && selects(policy, caller) != Selects::No
        })
    }

    /// The places of the names that are denied and end in a wildcard's suffix, with a label at least before it.
    fn denied_below(&self, host: HostPattern<'_>) -> &[(Box<str>, Place)] {
        let HostPattern::Wildcard(suffix) = host else {
            return &[];
        };
        let end = || suffix.bytes().rev().chain([b'.']);
        let before = |name: &str| name.bytes().rev().lt(end());
        let ends = |name: &str| name.bytes().rev().take(suffix.len() + 1).eq(end());
        let first = self.denied.partition_point(|(name, _)| before(name));
        let rest = self.denied.get(first..).unwrap_or_default();
        let count = rest.partition_point(|(name, _)| ends(name));
        rest.get(..count).unwrap_or_default()
    }

    /// The first of the Allow policies that select the caller most surely.
    fn shut_in(
        &self,
        asked: &Asked<'_>,
        counts: impl Fn(&Policy) -> bool,
    ) -> Option<(Selects, &PolicyKey, &Policy)> {
        let caller = asked.question.caller;
        let mut surest: Option<(Selects, &PolicyKey, &Policy)> = None;
        let allowing = self.allowing.iter();
        let allowing = allowing.filter_map(|number| self.policies.get(*number));
        for (key, policy) in allowing.filter(|(_, policy)| counts(policy)) {
            let selected = selects(policy, caller);
            let before = surest.map_or(Selects::No, |(before, ..)| before);
            if selected > before {
                surest = Some((selected, key, policy));
            }
            if selected == at_most(&policy.scope, caller) {
                break;
            }
        }
        surest
    }

    /// Whether an Allow that counts is about what is asked, and surely selects the caller.
    pub(super) fn allows(&self, asked: &Asked<'_>, counts: impl Fn(&Policy) -> bool) -> bool {
        self.any_allows(asked, counts, |to, policy| {
            to.is_none_or(|to| asked.is_about(to, policy))
        })
    }

    /// Whether an Allow that counts, and surely selects the caller, names the host of what is asked and `is_about` holds of it.
    fn any_allows(
        &self,
        asked: &Asked<'_>,
        counts: impl Fn(&Policy) -> bool,
        is_about: impl Fn(Option<&DestinationMatch>, &Policy) -> bool,
    ) -> bool {
        let allows = |place: &Place, by_host: bool| {
            self.at(*place).is_some_and(|(_, policy, to)| {
                counts(policy)
                    && !(by_host && asked.has_hosts_astray(policy))
                    && is_about(to, policy)
                    && selects(policy, asked.question.caller) == Selects::Yes
            })
        };
        let mut named = self.allow.of(asked.question.destination);
        let mut anywhere = self.allow.anywhere.iter();
        anywhere.any(|place| allows(place, false)) || named.any(|place| allows(place, true))
    }

    fn at(&self, place: Place) -> Option<(&PolicyKey, &Policy, Option<&DestinationMatch>)> {
        let (key, policy) = self.policies.get(usize::try_from(place.policy).ok()?)?;
        let to = policy.to.as_ref();
        let to = to.and_then(|to| to.get(usize::try_from(place.to).ok()?));
        Some((key, policy, to))
    }
}

/// Those of an action, by number.
fn with(
    policies: &[(PolicyKey, Arc<Policy>)],
    action: PolicyAction,
) -> impl Iterator<Item = (usize, &Arc<Policy>)> {
    let policies = policies.iter().map(|(_, policy)| policy).enumerate();
    policies.filter(move |(_, policy)| policy.action == action)
}

fn reason(sure: DecisionReason, selected: Selects) -> DecisionReason {
    if selected >= Selects::Unclear {
        sure
    } else {
        DecisionReason::UnknownCaller
    }
}
