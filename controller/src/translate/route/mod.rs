//! One HTTPRoute in, its rules as routes of the table out.

mod duration;
mod filter;
mod matches;
pub(crate) mod path;
mod retry;
mod rule;
mod scope;
mod timeouts;

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::apis::experimental::httproutes::{HttpRoute, HttpRouteRules};
use portcullis_routing::{Route, RouteKey, RouteOrder, RouteSource};

use self::{rule::Rule, scope::Scope};
use super::{
    Backends, Context, GATEWAY_GROUP, GrantSubject,
    age::created_at,
    backend::Reach,
    field::Field,
    hostname,
    problem::{Effect, Problem, Problems},
};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
};

const KIND: &str = "HTTPRoute";

/// What a route object becomes, independent of its parents. Everything in it has been reported already.
#[derive(Debug, Default)]
pub(crate) struct ConvertedRoute {
    /// The rules, also those that answer 500 because they cannot be carried out. `listeners` is still empty: attachment
    /// fills it in.
    pub(crate) rules: BTreeMap<RouteKey, Route>,
    /// Why the route as a whole is refused: `Accepted` False with the finding's code. Its `rules` still answer 500, so
    /// that no broader route gets its requests.
    pub(crate) refused: Option<Finding>,
    /// What is wrong with rules while others are good: `PartiallyInvalid` True, message "Dropped Rule ...". A match that
    /// is not valid itself cannot be served at all; the others of such a rule answer 500.
    pub(crate) dropped: Vec<Finding>,
    /// Services that the rules refer to, whether or not they exist.
    pub(crate) services: BTreeSet<ObjectKey>,
    /// References that lead nowhere: `ResolvedRefs` False with the code of the first one.
    pub(crate) unresolved: Vec<Finding>,
}

/// Converts a route that is attached to Gateways of this `reach`. The backends that its rules use are collected in `backends`.
pub(crate) fn convert<'a>(
    ctx: &Context<'a>,
    route: &HttpRoute,
    reach: &Reach,
    backends: &mut Backends<'a>,
) -> ConvertedRoute {
    let key = ObjectKey::of(route);
    let object = ObjectRef::new(KIND, key.clone());
    let from = GrantSubject {
        group: GATEWAY_GROUP,
        kind: KIND,
        namespace: &key.namespace,
    };
    let spec = Field::root("spec");
    let mut converted = ConvertedRoute::default();

    let mut problems = Problems::default();
    let hostnames = hostnames(
        route.spec.hostnames.as_deref(),
        &spec.child("hostnames"),
        &mut problems,
    );
    let rules_field = spec.child("rules");
    let default_rule = [HttpRouteRules::default()];
    let rules = route
        .spec
        .rules
        .as_deref()
        .filter(|rules| !rules.is_empty())
        .unwrap_or(&default_rule);
    let names = rule_names(rules, &rules_field, &mut problems);
    let mut rejections = converted.sort(problems, &object, ctx);

    let mut rejected_rules = 0;
    for (index, (rule, rule_name)) in rules.iter().zip(names).enumerate() {
        let mut scope = Scope {
            ctx,
            backends,
            from,
            reach,
            problems: Problems::default(),
        };
        let rule = rule::translate(rule, &rules_field.at(index), &mut scope);
        rejected_rules += usize::from(scope.problems.reject_rule());
        rejections.extend(converted.sort(scope.problems, &object, ctx));
        if let Some(hostnames) = &hostnames
            && !rule.matches.is_empty()
        {
            let order = RouteOrder {
                created_at: created_at(&route.metadata),
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                rule: index,
            };
            let route_key = RouteKey::of(KIND, &key.namespace, &key.name, index);
            let entry = table_entry(rule, hostnames.clone(), rule_name, order);
            converted.rules.insert(route_key, entry);
        }
    }
    converted.services = backends.take_named();
    if hostnames.is_none() || rejected_rules == rules.len() {
        converted.refused = rejections.into_iter().next();
    } else {
        converted.dropped = rejections;
    }
    converted
}

impl ConvertedRoute {
    /// Reports all problems, keeps those of references, and gives back those that reject a rule.
    fn sort(&mut self, problems: Problems, object: &ObjectRef, ctx: &Context<'_>) -> Vec<Finding> {
        let mut rejections = Vec::new();
        for problem in problems.0 {
            let effect = problem.effect;
            let finding = problem.into_finding(object);
            ctx.report(finding.clone());
            match effect {
                Effect::RejectsRule => rejections.push(finding),
                Effect::BreaksReference => self.unresolved.push(finding),
                Effect::Warns => {}
            }
        }
        rejections
    }
}

fn table_entry(
    rule: Rule,
    hostnames: Vec<String>,
    rule_name: Option<String>,
    order: RouteOrder,
) -> Route {
    Route {
        listeners: Vec::new(),
        hostnames,
        matches: rule.matches,
        filters: rule.filters,
        action: rule.action,
        policy: rule.policy,
        source: RouteSource {
            kind: KIND.into(),
            namespace: order.namespace.clone(),
            name: order.name.clone(),
            rule: order.rule,
            rule_name,
        },
        order,
    }
}

/// The hostnames in lower case. Invalid ones are told and left out; if no other is left, there is nothing to serve, for
/// such a route must not serve every host.
fn hostnames(
    specs: Option<&[String]>,
    field: &Field<'_>,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    let specs = specs.unwrap_or_default();
    let hostnames: BTreeSet<_> = specs
        .iter()
        .filter(|name| is_hostname(name))
        .map(|name| name.to_ascii_lowercase())
        .collect();
    let none_left = hostnames.is_empty() && !specs.is_empty();
    for (index, name) in specs
        .iter()
        .enumerate()
        .filter(|(_, name)| !is_hostname(name))
    {
        let message = format!("{name:?} is not a hostname");
        let remedy = "write a name such as `www.example.com` or `*.example.com`, without port; IP addresses are not allowed";
        problems.tell(if none_left {
            Problem::unsupported(&field.at(index), message, remedy)
        } else {
            Problem::warning("InvalidHostname", &field.at(index), message, remedy)
        });
    }
    (!none_left).then(|| hostnames.into_iter().collect())
}

fn is_hostname(name: &str) -> bool {
    let is_ip = name.parse::<std::net::IpAddr>().is_ok();
    !is_ip && hostname::precise(name.strip_prefix("*.").unwrap_or(name)).is_some()
}

/// The names of the rules. An empty name is none, and a second rule of the same name has none.
fn rule_names(
    rules: &[HttpRouteRules],
    field: &Field<'_>,
    problems: &mut Problems,
) -> Vec<Option<String>> {
    let mut used = BTreeSet::new();
    let mut unique = |(index, rule): (usize, &HttpRouteRules)| {
        let name = rule.name.as_deref().filter(|name| !name.is_empty())?;
        if used.insert(name.to_owned()) {
            return Some(name.to_owned());
        }
        problems.tell(Problem::warning(
            "RepeatedRuleName",
            &field.at(index).child("name"),
            format!("an earlier rule of this route is called {name:?} too; this one is treated as unnamed"),
            "give every rule a name of its own",
        ));
        None
    };
    rules.iter().enumerate().map(&mut unique).collect()
}
