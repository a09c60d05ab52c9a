//! What holds of every decision, whatever entries and policies there are.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;

fn caller_match() -> impl Strategy<Value = CallerMatch> {
    let namespaces = option::of(select(&["a", "b"][..]));
    let account = option::of((select(&["a", "b"][..]), select(&["x", "y"][..])));
    let label = option::of(select(&["x", "y"][..]));
    let unclear = select(&[false, false, false, true][..]);
    (namespaces, account, label, unclear).prop_map(|(namespace, account, label, unclear)| {
        CallerMatch {
            unclear,
            namespaces: namespace.map(|it| vec![it.to_owned()]),
            service_accounts: account.map(|(a, b)| vec![(a.to_owned(), b.to_owned())]),
            labels: label.map(|it| {
                LabelSelector(vec![LabelRequirement::NotIn(
                    "app".to_owned(),
                    vec![it.to_owned()],
                )])
            }),
        }
    })
}

fn destination_match() -> impl Strategy<Value = DestinationMatch> {
    let hosts = vec(select(&["h", "g", "*.h"][..]), 0..2);
    let ports = vec(select(&[80_u16, 443][..]), 0..2);
    let methods = vec(select(&["GET", "POST"][..]), 0..2);
    (hosts, ports, methods).prop_map(|(hosts, ports, methods)| DestinationMatch {
        hosts: hosts.into_iter().map(str::to_owned).collect(),
        ports,
        methods: methods.into_iter().map(str::to_owned).collect(),
        paths: vec![],
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let scope = select(&[None, None, Some("a"), Some("b")][..]);
    let action = select(&[PolicyAction::Allow, PolicyAction::Deny][..]);
    let mode = select(&[PolicyMode::Enforce, PolicyMode::Enforce, PolicyMode::Report][..]);
    let from = option::of(vec(caller_match(), 0..3));
    let to = option::of(vec(destination_match(), 0..3));
    (scope, from, to, action, mode).prop_map(|(scope, from, to, action, mode)| Policy {
        scope: scope.map_or(PolicyScope::Gateway, |it| {
            PolicyScope::Namespace(it.to_owned())
        }),
        from,
        to,
        action,
        mode,
        allow_private: vec![],
    })
}

const QUESTIONS: &[&str] = &[
    "h 80 GET /",
    "h 80 POST /",
    "h 443 tls",
    "h 443 tunnel",
    "h 80 tunnel",
    "g 80 GET /",
    "g 443 tunnel",
    "other 80 GET /",
];
const CALLERS: &[&str] = &["a/x", "a/y", "b/x", "b/y", "c/x"];

/// The entries of [`BOTH`], in a namespace, and leading elsewhere or not.
fn entries() -> impl Strategy<Value = Value> {
    let home = select(&["a", "b", "c", "gateways"][..]);
    let target = select(&[None, Some(25_u16), Some(443)][..]);
    let asked = select(&[None, Some("g"), Some("bait.example")][..]);
    (home, any::<bool>(), target, asked).prop_map(|(home, is_led, target, asked)| {
        let mut entries: Value = serde_json::from_str(BOTH).unwrap();
        let entry = &mut entries["e"];
        entry["order"] = json!({"created_at": 0, "namespace": home, "name": "e", "rule": 0});
        entry["ports"][0]["target_port"] = json!(target);
        if let Some(name) = asked {
            entry["ports"][0]["tls"] = json!(0);
            entry["tls"] = json!([{"server_name": name}]);
        }
        if is_led {
            entry["resolution"] = json!("Dns");
            entry["endpoints"] = json!([{"host": "bait.example"}]);
        }
        entries
    })
}

fn with_these(entries: &Value, policies: impl IntoIterator<Item = Policy>) -> RoutingTable {
    let mut table = table(entries.clone(), json!({}));
    for (number, policy) in policies.into_iter().enumerate() {
        let key = PolicyKey::of("a", &format!("p{number}"));
        table.policies.insert(key, Arc::new(policy));
    }
    table
}

/// What is worse comes later.
fn rank(answer: &str) -> Option<usize> {
    let verdicts = ["allow", "report", "refuse"];
    verdicts.iter().position(|it| answer.starts_with(it))
}

proptest! {
    /// Not being known is never of use: what an unknown caller may, everybody may.
    #[test]
    fn nobody_gains_by_hiding(entries in entries(), policies in vec(policy(), 0..5)) {
        let compiled = compiled(with_these(&entries, policies));
        for question in QUESTIONS {
            let hidden = ask(&compiled, &format!("? {question}"));
            for caller in CALLERS {
                let known = ask(&compiled, &format!("{caller} {question}"));
                prop_assert!(rank(&known) <= rank(&hidden), "{caller} {question}: {known}, hidden: {hidden}");
            }
        }
    }

    /// One more Deny, or one more destination shut, never opens anything.
    #[test]
    fn a_denial_only_takes_away(entries in entries(), policies in vec(policy(), 0..5), mut denial in policy()) {
        denial.action = PolicyAction::Deny;
        let table = with_these(&entries, policies);
        let before = compiled(table.clone());
        let mut table = table;
        table.policies.insert(PolicyKey::of("a", "more"), Arc::new(denial));
        let after = compiled(table);
        for question in QUESTIONS {
            for caller in CALLERS.iter().chain(&["?"]) {
                let question = format!("{caller} {question}");
                if ask(&before, &question).starts_with("refuse") {
                    prop_assert!(ask(&after, &question).starts_with("refuse"), "{question}");
                }
            }
        }
    }

    /// Whoever leads hosts elsewhere gets nothing that he would not get by leading them to where they are.
    #[test]
    fn nobody_gains_by_leading_elsewhere(entries in entries(), policies in vec(policy(), 0..5)) {
        let mut plain: Value = serde_json::from_str(BOTH).unwrap();
        plain["e"]["order"] = entries["e"]["order"].clone();
        let plain = compiled(with_these(&plain, policies.clone()));
        let led = compiled(with_these(&entries, policies));
        for question in QUESTIONS {
            for caller in CALLERS.iter().chain(&["?"]) {
                let question = format!("{caller} {question}");
                prop_assert!(rank(&ask(&plain, &question)) <= rank(&ask(&led, &question)), "{question}");
            }
        }
    }
}
