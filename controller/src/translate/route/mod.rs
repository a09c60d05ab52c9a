//! One route in, its rules as routes of the table out. What is the same for every kind stands here.

mod duration;
mod filter;
pub(crate) mod http;
mod matches;
mod object;
pub(crate) mod path;
mod retry;
mod rule;
mod scope;
mod timeouts;
pub(crate) mod tls;
mod weight;

use std::collections::{BTreeMap, BTreeSet};

use portcullis_routing::{Route, RouteKey, RouteOrder, RouteSource};

pub use self::object::RouteObject;
use self::{rule::Rule, scope::Scope};
use super::{
    Backends, Context, GATEWAY_GROUP, GrantSubject,
    age::created_at,
    backend::{Reach, Traffic},
    field::Field,
    hostname,
    problem::{Effect, Problem, Problems},
};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
};

/// What a route object becomes, independent of its parents. Everything in it has been reported already.
#[derive(Debug, Default)]
pub(crate) struct ConvertedRoute {
    /// The rules, also those that answer 500 (or refuse connections) because they cannot be carried out. `listeners` is still
    /// empty: attachment fills it in.
    pub(crate) rules: BTreeMap<RouteKey, Route>,
    /// Why the route as a whole is refused: `Accepted` False with the finding's code. Its `rules` still answer 500, so
    /// that no broader route gets its requests.
    pub(crate) refused: Option<Finding>,
    /// What is wrong with rules while others are good: `PartiallyInvalid` True, message "Dropped Rule ...". A match that
    /// is not valid itself cannot be served at all; the others of such a rule answer 500.
    pub(crate) dropped: Vec<Finding>,
    /// Services that the rules refer to, whether or not they exist.
    pub(crate) services: BTreeSet<ObjectKey>,
    /// CredentialInjections that they refer to, whether or not they exist.
    pub(crate) credentials: BTreeSet<ObjectKey>,
    /// References that lead nowhere: `ResolvedRefs` False with the code of the first one.
    pub(crate) unresolved: Vec<Finding>,
}

/// The rules of a route, and what they are converted with.
struct Conversion<'c, 'a, S> {
    rules: &'c [S],
    /// The name of a rule.
    name: fn(&S) -> Option<&str>,
    traffic: Traffic,
    /// The Gateways that the route is attached to.
    reach: &'c Reach,
    /// Collects the backends that the rules use.
    backends: &'c mut Backends<'a>,
}

/// Converts a route. `translate` makes what a rule becomes, or nothing if there is nothing to route.
fn convert<'a, R: RouteObject, S>(
    ctx: &Context<'a>,
    route: &R,
    conversion: Conversion<'_, 'a, S>,
    translate: impl Fn(&S, &Field<'_>, &mut Scope<'_, 'a>) -> Option<Rule>,
) -> ConvertedRoute {
    let Conversion {
        rules,
        name,
        traffic,
        reach,
        backends,
    } = conversion;
    let metadata = route.meta();
    let key = ObjectKey::of(route);
    let object = ObjectRef::new(R::KIND, key.clone());
    let from = GrantSubject {
        group: GATEWAY_GROUP,
        kind: R::KIND,
        namespace: &key.namespace,
    };
    let spec = Field::root("spec");
    let mut converted = ConvertedRoute::default();

    let mut problems = Problems::default();
    let hostnames = hostnames(route.hostnames(), &spec.child("hostnames"), &mut problems);
    let rules_field = spec.child("rules");
    let names = rule_names(rules.iter().map(name), &rules_field, &mut problems);
    let mut rejections = converted.sort(problems, &object, ctx);

    let mut rejected_rules = 0;
    for (index, (rule, rule_name)) in rules.iter().zip(names).enumerate() {
        let mut scope = Scope {
            ctx,
            backends: &mut *backends,
            from,
            traffic,
            reach,
            problems: Problems::default(),
        };
        let rule = translate(rule, &rules_field.at(index), &mut scope);
        rejected_rules += usize::from(scope.problems.reject_rule());
        rejections.extend(converted.sort(scope.problems, &object, ctx));
        if let Some(hostnames) = &hostnames
            && let Some(rule) = rule
        {
            let order = RouteOrder {
                created_at: created_at(metadata),
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                rule: index,
            };
            let route_key = RouteKey::of(R::KIND, &key.namespace, &key.name, index);
            let entry = table_entry(R::KIND, rule, hostnames.clone(), rule_name, order);
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
    kind: &str,
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
            kind: kind.into(),
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
fn hostnames(specs: &[String], field: &Field<'_>, problems: &mut Problems) -> Option<Vec<String>> {
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
fn rule_names<'n>(
    names: impl Iterator<Item = Option<&'n str>>,
    field: &Field<'_>,
    problems: &mut Problems,
) -> Vec<Option<String>> {
    let mut used = BTreeSet::new();
    let unique = |(index, name): (usize, Option<&str>)| {
        let name = name.filter(|name| !name.is_empty())?;
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
    names.enumerate().map(unique).collect()
}
