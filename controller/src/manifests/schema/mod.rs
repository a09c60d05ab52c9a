//! Checks objects as the API server would: the schemas and rules of the released CRDs, defaults included.
//!
//! The files beside this one are those of Gateway API v1.7.0, experimental channel, without descriptions (`crdgen`
//! writes them). The schemas of the kinds that we bring along are those of their types.

mod check;
mod form;
mod rule;

use std::{
    collections::BTreeMap,
    sync::{LazyLock, OnceLock},
};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use self::rule::Rule;

/// The schemas, by kind.
static SCHEMAS: LazyLock<BTreeMap<String, Schema>> = LazyLock::new(|| {
    let released = [
        ("BackendTLSPolicy", include_str!("backendtlspolicy.json")),
        ("GatewayClass", include_str!("gatewayclass.json")),
        ("Gateway", include_str!("gateway.json")),
        ("HTTPRoute", include_str!("httproute.json")),
        ("ListenerSet", include_str!("listenerset.json")),
        ("ReferenceGrant", include_str!("referencegrant.json")),
        ("TLSRoute", include_str!("tlsroute.json")),
    ];
    let own = portcullis_crds::definitions().into_iter().map(|mut crd| {
        let schema = crd.spec.versions.swap_remove(0).schema;
        let schema = schema.and_then(|schema| schema.open_api_v3_schema);
        let schema = serde_json::to_value(schema).expect("a schema is JSON");
        (crd.spec.names.kind, schema)
    });
    released
        .into_iter()
        .map(|(kind, text)| {
            (
                kind.to_owned(),
                serde_json::from_str(text).expect("crdgen writes JSON"),
            )
        })
        .chain(own)
        .map(|(kind, schema)| {
            let mut schema = Schema::deserialize(schema).expect("a schema");
            // Every object has these, whether or not its schema says so.
            for field in ["apiVersion", "kind", "metadata"] {
                schema.properties.entry(field.into()).or_default();
            }
            (kind, schema)
        })
        .map(|(kind, mut schema)| {
            for (_, path) in UNSUPPORTED.iter().filter(|(of, _)| *of == kind) {
                schema.at(path).expect("a field of the schema").opaque = true;
            }
            for (_, path, value) in UNTOLD.iter().filter(|(of, ..)| *of == kind) {
                let field = schema.at(path).expect("a field of the schema");
                field.untold.push(value);
            }
            (kind, schema)
        })
        .collect()
});

/// Fields that are not supported at all, by kind: nobody looks into them.
const UNSUPPORTED: &[(&str, &[&str])] = &[("HTTPRoute", &["spec", "rules", "sessionPersistence"])];

/// Values that a schema has and nothing here serves, by kind and field: the translation refuses them, so nobody is told to choose
/// them.
const UNTOLD: &[(&str, &[&str], &str)] =
    &[("ServiceEntry", &["spec", "resolution"], "DYNAMIC_DNS")];

/// What a check has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Path of the field.
    pub(super) field: String,
    /// What is wrong.
    pub(super) message: String,
    /// What to do about it.
    pub(super) remedy: String,
    /// Whether it is only a field of an unknown name; those are taken out of the object.
    pub(super) unknown_field: bool,
}

/// Whether there is a schema for this kind.
pub(super) fn has(kind: &str) -> bool {
    SCHEMAS.contains_key(kind)
}

/// Fills in defaults, takes out unknown fields, and tells everything that the API server would tell. Objects of kinds
/// without a schema are left alone.
pub(super) fn check(kind: &str, object: &mut Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(schema) = SCHEMAS.get(kind) {
        schema.check(object, "", &mut problems);
        if problems.iter().all(|problem| problem.unknown_field) {
            schema.check_rules(object, "", &mut problems);
        }
    }
    problems
}

/// A structural schema (Kubernetes' subset of `OpenAPI` v3), as far as CRDs of the kinds here use it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Schema {
    #[serde(rename = "type")]
    kind: Option<Kind>,
    nullable: bool,
    default: Option<Value>,
    #[serde(rename = "enum")]
    values: Vec<Value>,
    properties: BTreeMap<String, Schema>,
    additional_properties: Option<Box<Schema>>,
    required: Vec<String>,
    max_properties: Option<usize>,
    items: Option<Box<Schema>>,
    min_items: Option<usize>,
    max_items: Option<usize>,
    #[serde(rename = "x-kubernetes-list-type")]
    list_type: Option<String>,
    #[serde(rename = "x-kubernetes-list-map-keys")]
    list_map_keys: Vec<String>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    pattern: Option<Pattern>,
    format: Option<String>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    one_of: Vec<Schema>,
    any_of: Vec<Schema>,
    not: Option<Box<Schema>>,
    #[serde(rename = "x-kubernetes-validations")]
    rules: Vec<Rule>,
    /// What it holds is not looked into, and counts as an empty object. Its fields differ from release to release of the
    /// API; that the whole is not supported is the one thing to tell, and the translation does.
    #[serde(skip)]
    opaque: bool,
    /// Those of `values` that nobody is told to choose.
    #[serde(skip)]
    untold: Vec<&'static str>,
}

impl Schema {
    /// The schema of a field below this one, through lists.
    fn at(&mut self, path: &[&str]) -> Option<&mut Self> {
        path.iter().try_fold(self, |schema, name| {
            let next = schema.properties.get_mut(*name)?;
            Some(match next.kind {
                Some(Kind::Array) => next.items.as_mut()?,
                _ => next,
            })
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Object,
    Array,
    String,
    Integer,
    Boolean,
}

/// A pattern, compiled when it is first asked.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Pattern {
    text: String,
    #[serde(skip)]
    regex: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn is_match(&self, text: &str) -> bool {
        let regex = self.regex.get_or_init(|| Regex::new(&self.text).ok());
        regex.as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::{Rule, SCHEMAS, Schema, check};

    fn each<'a>(schema: &'a Schema, visit: &mut impl FnMut(&'a Schema)) {
        visit(schema);
        let nested = schema
            .properties
            .values()
            .chain(&schema.one_of)
            .chain(&schema.any_of);
        let boxed = [&schema.additional_properties, &schema.items, &schema.not];
        nested
            .chain(boxed.into_iter().filter_map(|schema| schema.as_deref()))
            .for_each(|schema| each(schema, visit));
    }

    fn keywords<'a>(schema: &'a Value, found: &mut BTreeSet<&'a str>) {
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            found.insert(keyword);
            match keyword.as_str() {
                "properties" => value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .for_each(|(_, s)| keywords(s, found)),
                "items" | "additionalProperties" | "not" => keywords(value, found),
                "oneOf" | "anyOf" => value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .for_each(|s| keywords(s, found)),
                _ => {}
            }
        }
    }

    /// A keyword that nobody carries out would be a check that silently does not happen.
    #[test]
    fn every_keyword_is_carried_out() {
        let known: BTreeSet<_> = "type nullable default enum properties additionalProperties required maxProperties items \
             minItems maxItems x-kubernetes-list-type x-kubernetes-list-map-keys minLength maxLength pattern format \
             minimum maximum oneOf anyOf not x-kubernetes-validations"
            .split_whitespace()
            // Merging of updates only.
            .chain(["x-kubernetes-map-type"])
            .collect();
        for text in [
            include_str!("backendtlspolicy.json"),
            include_str!("gatewayclass.json"),
            include_str!("gateway.json"),
            include_str!("httproute.json"),
            include_str!("listenerset.json"),
            include_str!("referencegrant.json"),
            include_str!("tlsroute.json"),
        ] {
            let schema: Value = serde_json::from_str(text).unwrap();
            let mut found = BTreeSet::new();
            keywords(&schema, &mut found);
            let unknown: Vec<_> = found.difference(&known).collect();
            assert!(unknown.is_empty(), "{unknown:?}");
        }
    }

    #[test]
    fn every_pattern_and_rule_can_be_carried_out() {
        let mut functions = BTreeSet::new();
        let mut rules = 0;
        for schema in SCHEMAS.values() {
            each(schema, &mut |schema| {
                if let Some(pattern) = &schema.pattern {
                    regex::Regex::new(&pattern.text).unwrap();
                }
                functions.extend(schema.rules.iter().flat_map(Rule::functions));
                rules += schema.rules.len();
            });
        }
        assert!(rules > 100, "{rules} rules");
        let known = [
            "contains",
            "duration",
            "endsWith",
            "isIP",
            "matches",
            "size",
            "split",
            "startsWith",
            "substring",
        ];
        // Of the rule about `addresses[].routability`, a field that is not supported yet.
        let not_needed = ["dns1123Subdomain", "hasValue", "validate"];
        let unknown: Vec<_> = functions
            .iter()
            .map(String::as_str)
            .filter(|name| name.starts_with(char::is_alphabetic))
            .filter(|name| !known.contains(name) && !not_needed.contains(name))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    /// Most people read no patterns.
    #[test]
    fn what_does_not_match_a_pattern_of_ours_is_told_in_words() {
        for crd in portcullis_crds::definitions() {
            each(&SCHEMAS[&crd.spec.names.kind], &mut |schema| {
                if let Some(pattern) = &schema.pattern {
                    let told = super::form::complaint(" ", &pattern.text);
                    assert!(!told.contains(&pattern.text), "{told}");
                }
            });
        }
    }

    fn route(rule: &Value) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
            "spec": {"parentRefs": [{"name": "g"}], "rules": [rule]},
        })
    }

    #[test]
    fn defaults_are_those_of_the_crd() {
        let mut object = route(&json!({"backendRefs": [{"name": "b", "port": 80}]}));
        assert_eq!(check("HTTPRoute", &mut object), []);
        assert_eq!(object["spec"]["parentRefs"][0]["kind"], "Gateway");
        assert_eq!(object["spec"]["rules"][0]["backendRefs"][0]["weight"], 1);
        assert_eq!(
            object["spec"]["rules"][0]["matches"][0]["path"],
            json!({"type": "PathPrefix", "value": "/"})
        );
    }

    /// Templates leave `hostnames:` without a value; the API server takes that for a field that is not there.
    #[test]
    fn null_is_as_good_as_absent() {
        let mut object = route(
            &json!({"filters": null, "matches": null, "backendRefs": [{"name": "b", "port": 80, "weight": null}]}),
        );
        object["spec"]["hostnames"] = Value::Null;
        assert_eq!(check("HTTPRoute", &mut object), []);
        assert!(object["spec"].get("hostnames").is_none());
        let rule = &object["spec"]["rules"][0];
        assert_eq!(rule["backendRefs"][0]["weight"], 1);
        assert_eq!(
            rule["matches"][0]["path"],
            json!({"type": "PathPrefix", "value": "/"})
        );
        let mut nameless = route(&json!({"backendRefs": [{"name": null, "port": 80}]}));
        assert_eq!(
            check("HTTPRoute", &mut nameless)[0].field,
            "spec.rules[0].backendRefs[0].name"
        );
        let mut in_a_list = route(&json!({"backendRefs": [null]}));
        assert_eq!(check("HTTPRoute", &mut in_a_list).len(), 1);
    }

    #[test]
    fn problems_name_the_field() {
        let mut gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"},
            "spec": {"gatewayClassName": "c", "listeners": [{"name": "l", "port": 80, "protocol": "HTTP", "tls": {}}]},
        });
        let telling = |problems: Vec<super::Problem>| -> Vec<_> {
            problems
                .into_iter()
                .map(|p| format!("{}: {}", p.field, p.message))
                .collect()
        };
        assert_eq!(
            telling(check("Gateway", &mut gateway)),
            [
                "spec.listeners: tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
                "spec.listeners[0].tls: certificateRefs or options must be specified when mode is Terminate",
            ]
        );
        for (rule, expected) in [
            (
                json!({"match": []}),
                "spec.rules[0].match: this field is not known",
            ),
            (
                json!({"backendRefs": [{"port": 80}]}),
                "spec.rules[0].backendRefs[0].name: is missing",
            ),
            (
                json!({"backendRefs": [{"name": "b", "port": "80"}]}),
                "spec.rules[0].backendRefs[0].port: must be an integer, not \"80\"",
            ),
            (
                json!({"backendRefs": [{"name": "b", "port": 0}]}),
                "spec.rules[0].backendRefs[0].port: 0 is not from 1 to 65535",
            ),
            (
                json!({"matches": [{"path": {"type": "Prefix", "value": "/"}}]}),
                "spec.rules[0].matches[0].path.type: \"Prefix\" is none of \"Exact\", \"PathPrefix\", \"RegularExpression\"",
            ),
            (
                json!({"matches": [{"path": {"value": "a"}}]}),
                "spec.rules[0].matches[0].path: value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']",
            ),
            (
                json!({"matches": [{"headers": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]}]}),
                "spec.rules[0].matches[0].headers[1]: has the same name as spec.rules[0].matches[0].headers[0]",
            ),
            (
                json!({"timeouts": {"request": "1s", "backendRequest": "2s"}}),
                "spec.rules[0].timeouts: backendRequest timeout cannot be longer than request timeout",
            ),
            (
                json!({"timeouts": {"request": "1 s"}}),
                "spec.rules[0].timeouts.request: \"1 s\" is no duration: whole numbers with the units h, m, s or ms, such as 300ms or 1m30s",
            ),
        ] {
            let found = telling(check("HTTPRoute", &mut route(&rule)));
            assert_eq!(found, [expected], "{rule}");
        }
    }

    #[test]
    fn a_hostname_says_which_form_it_has() {
        for (hostname, expected) in [
            (
                "shop.example:80",
                "\"shop.example:80\" is no hostname: a hostname has no port",
            ),
            (
                "https://shop.example",
                "\"https://shop.example\" is no hostname: write the name alone, without scheme, path or range",
            ),
            (
                "*",
                "\"*\" is no hostname: a wildcard stands for the first labels, as in *.shop.example",
            ),
            (
                "Shop.example",
                "\"Shop.example\" is no hostname: use lower-case letters, digits, '-' and '.', as in shop.example",
            ),
        ] {
            let mut object = route(&json!({}));
            object["spec"]["hostnames"] = json!([hostname]);
            let found = check("HTTPRoute", &mut object);
            let found: Vec<_> = found
                .iter()
                .map(|it| (it.field.as_str(), it.message.as_str()))
                .collect();
            assert_eq!(found, [("spec.hostnames[0]", expected)]);
        }
    }

    /// YAML reads On, Off, Yes and No as true and false.
    #[test]
    fn quotes_are_proposed_where_they_help() {
        for (kind, spec, remedy) in [
            (
                "GatewayParameters",
                json!({"proxy": {"egress": {"mode": false}}}),
                "use one of \"Enforce\", \"Report\"",
            ),
            (
                "EgressPolicy",
                json!({"to": [{"hosts": [8]}]}),
                "put it in quotes",
            ),
            (
                "EgressPolicy",
                json!({"to": [{"ports": ["443"]}]}),
                "write it without quotes",
            ),
            (
                "EgressPolicy",
                json!({"to": [{"ports": ["https"]}]}),
                "correct the value",
            ),
            (
                "GatewayParameters",
                json!({"proxy": {"drainTimeout": 5}}),
                "name the unit: 5s for seconds, 5ms for thousandths",
            ),
            (
                "GatewayParameters",
                json!({"proxy": {"drainTimeout": "1h30"}}),
                "write 1h30m",
            ),
        ] {
            let mut object = json!({
                "apiVersion": "portcullis.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec,
            });
            let found = check(kind, &mut object);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].remedy, remedy);
        }
    }

    #[test]
    fn a_range_of_addresses_says_which_form_it_has() {
        let mut object = json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "EgressPolicy", "metadata": {"name": "a"},
            "spec": {"allowPrivate": ["10.0.0.0/40"]},
        });
        let found = check("EgressPolicy", &mut object);
        assert_eq!(found[0].field, "spec.allowPrivate[0]");
        let complaint = "\"10.0.0.0/40\" is no address and no range of them: ";
        assert!(found[0].message.starts_with(complaint), "{found:?}");
    }

    #[test]
    fn an_address_must_be_of_its_type() {
        let gateway = |value: &str| {
            json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"},
                "spec": {
                    "gatewayClassName": "c", "addresses": [{"value": value}],
                    "listeners": [{"name": "l", "port": 80, "protocol": "HTTP"}],
                },
            })
        };
        assert_eq!(check("Gateway", &mut gateway("192.0.2.1")), []);
        assert_eq!(check("Gateway", &mut gateway("2001:db8::1")), []);
        assert_eq!(check("Gateway", &mut gateway("example.com")).len(), 1);
    }

    #[test]
    fn a_misspelt_field_is_suggested_and_taken_out() {
        let mut object = route(&json!({}));
        object["spec"]["hostname"] = json!(["a.example.com"]);
        let problems = check("HTTPRoute", &mut object);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].unknown_field);
        assert_eq!(
            problems[0].remedy,
            "did you mean hostnames? Otherwise remove the field"
        );
        assert!(object["spec"].get("hostname").is_none());
    }
}
