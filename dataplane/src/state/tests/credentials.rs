//! What is served of rules whose credentials a proxy cannot use.

use portcullis_routing::{
    CredentialKey, EntryKey, Filter, Route, RouteKey, egress::Entry, filter::Credential,
};
use serde_json::json;

use super::*;

fn name() -> CredentialKey {
    CredentialKey::of("shop", "key")
}

/// The credential, of a Secret. An empty value is one that could not be read.
fn credential(value: &str, secret: &str) -> Arc<Credential> {
    Arc::new(Credential {
        header: "x-api-key".into(),
        value: Secret::new(value),
        overwrite: true,
        secret: secret.into(),
        key: "prod".into(),
        prefix: String::new(),
    })
}

fn key(number: usize) -> RouteKey {
    RouteKey::of("HTTPRoute", "shop", "r", number)
}

/// One of the rules of an object: its path, the number of its cluster, and whether it has the credential.
type Rule = (&'static str, usize, bool);

fn with(rules: &[Rule], credential: Arc<Credential>) -> Arc<RoutingTable> {
    changed(&table(1, 0), |table| {
        for (number, (path, cluster, is_with)) in rules.iter().enumerate() {
            let mut rule = Route::clone(&path_route(*cluster, PathMatch::Prefix((*path).into())));
            rule.order.name = "r".into();
            rule.order.rule = number;
            if *is_with {
                rule.filters = vec![Filter::Credential(name())];
            }
            table.routes.insert(key(number), rule.into());
            table
                .clusters
                .insert(self::cluster(*cluster), Arc::default());
        }
        table.credentials.insert(name(), credential);
    })
}

/// What a request for `path` is given on its way.
fn given(state: &TableState, path: &str) -> Option<String> {
    let rule = found(state, 8000, path)?;
    let named = rule.route().credentials().next()?;
    let served = snapshot(state);
    let table = served.compiled.table();
    Some(table.credentials[named].value.expose().to_owned())
}

/// The controller knows nothing better of a Secret that it cannot read.
#[test]
fn a_credential_that_could_not_be_read_is_sent_on_as_it_was() {
    let rules: &[Rule] = &[("/r", 0, true)];
    let unread = with(rules, credential("", "shop/keys"));
    let (rule, name) = (key(0), name());
    let refusal = [
        (ResourceKind::Route, rule.as_str()),
        (ResourceKind::Credential, name.as_str()),
    ];
    let serving = state();
    serving
        .apply(with(rules, credential("known", "shop/keys")))
        .unwrap();
    let report = serving.apply(Arc::clone(&unread)).unwrap();
    assert_eq!(rejected(&report), refusal);
    assert!(
        report.rejected[0]
            .message
            .contains("Secret shop/keys could not be read")
    );
    assert_eq!(given(&serving, "/r").as_deref(), Some("known"));

    // Nothing is sent on without it.
    let new = state();
    assert_eq!(rejected(&new.apply(unread).unwrap()), refusal);
    assert_eq!(answer(&new, "/r").as_deref(), Some(REFUSED));
}

/// All else of a rule is as it is sent, however often.
#[test]
fn a_rule_whose_credential_could_not_be_read_is_served_as_it_is_now() {
    let state = state();
    let unread = || credential("", "shop/keys");
    let known = credential("known", "shop/keys");
    state.apply(with(&[("/one", 0, true)], known)).unwrap();
    state.apply(with(&[("/two", 1, true)], unread())).unwrap();
    let last: &[Rule] = &[("/new", 3, false), ("/three", 2, true)];
    state.apply(with(last, unread())).unwrap();
    assert_eq!(answer(&state, "/three"), Some(cluster(2).to_string()));
    assert_eq!(given(&state, "/three").as_deref(), Some("known"));
    assert_eq!(answer(&state, "/new"), Some(cluster(3).to_string()));
    assert_eq!(given(&state, "/new"), None);
    for gone in ["/one", "/two"] {
        assert_eq!(answer(&state, gone), None);
    }
}

/// What had the number of such a rule before is nothing that could stand in for it.
#[test]
fn a_rule_whose_credential_is_not_known_brings_no_other_back() {
    let (all, last) = (cluster(2).to_string(), cluster(3).to_string());
    let cases = [
        (
            &[("/", 0, false)][..],
            &[("/new", 1, true), ("/", 2, false)][..],
            &[("/new", REFUSED), ("/", &all)][..],
        ),
        (
            &[("/a", 0, false), ("/b", 1, false), ("/", 2, false)],
            &[("/b", 1, true), ("/", 2, false)],
            &[("/a", &all), ("/b", REFUSED), ("/", &all)],
        ),
        (
            &[("/b", 0, false), ("/", 3, false)],
            &[("/b", 0, true), ("/", 3, false)],
            &[("/b", REFUSED), ("/", &last)],
        ),
        // The value of another Secret, of another of its keys or after another prefix is none of this one's.
        (
            &[("/b", 0, true), ("/", 3, false)],
            &[("/b", 0, true), ("/", 3, false)],
            &[("/b", REFUSED), ("/", &last)],
        ),
    ];
    let known = credential("known", "shop/keys");
    let others = [
        credential("known", "shop/old"),
        Arc::new(Credential {
            key: "sandbox".into(),
            ..Credential::clone(&known)
        }),
        Arc::new(Credential {
            prefix: "Basic ".into(),
            ..Credential::clone(&known)
        }),
    ];
    let pairs = cases
        .iter()
        .flat_map(|case| others.iter().map(move |other| (case, other)));
    for (&(before, now, expected), other) in pairs {
        let state = state();
        state.apply(with(before, Arc::clone(other))).unwrap();
        state.apply(with(now, credential("", "shop/keys"))).unwrap();
        for (path, expected) in expected {
            assert_eq!(answer(&state, path).as_deref(), Some(*expected), "{path}");
        }
    }
}

fn led_by() -> EntryKey {
    EntryKey::of("mallory", "e")
}

/// A table with a rule of a host that somebody else lists, and with a credential. The value is known to proxies if there is one.
fn outward(
    value: &str,
    address: Option<&str>,
    change: impl FnOnce(&mut Route),
) -> Arc<RoutingTable> {
    let base = with(&[("/", 0, true)], credential(value, "shop/keys"));
    changed(&base, |table| {
        Arc::make_mut(&mut table.settings).egress = Some(EgressSettings::default());
        let protocol = if address.is_some() { "HTTP" } else { "HTTPS" };
        let endpoints = address.map(|address| json!([{ "host": address }]));
        let entry = json!({
            "hosts": ["api.bank.example"],
            "ports": [{"number": 443, "protocol": protocol}],
            "resolution": if address.is_some() { "Static" } else { "Dns" },
            "endpoints": endpoints.unwrap_or_else(|| json!([])),
            "order": {"namespace": "mallory", "name": "e", "rule": 0},
        });
        let entry: Entry = serde_json::from_value(entry).unwrap();
        table.entries.insert(led_by(), entry.into());
        let mut rule = Route::clone(&table.routes[&key(0)]);
        if let RouteAction::Forward(backends) = &mut rule.action {
            backends[0].backend = Backend::External {
                entry: led_by(),
                host: Some("api.bank.example".into()),
                port: 443,
            };
        }
        change(&mut rule);
        table.routes.insert(key(0), rule.into());
    })
}

/// The controller judges by the table that it sends to whom a credential may go.
#[test]
fn a_credential_follows_no_entry_that_it_is_not_for_now() {
    let state = state();
    state.apply(outward("known", None, |_| {})).unwrap();
    assert_eq!(answer(&state, "/"), Some(led_by().to_string()));
    let unread = outward("", Some("192.0.2.66"), |rule| {
        if let RouteAction::Forward(backends) = &mut rule.action {
            let reason = "BackendNotFound".into();
            backends[0].backend = Backend::Invalid { reason };
        }
    });
    state.apply(unread).unwrap();
    assert_eq!(answer(&state, "/").as_deref(), Some("BackendNotFound"));
}

/// Whatever else is wrong with the rule.
#[test]
fn a_rejected_rule_with_a_credential_goes_on_by_the_same_entry_only() {
    let broken = |rule: &mut Route| rule.policy = self::broken(0).policy.clone();
    let led = led_by().to_string();
    for (value, address, expected) in [
        ("known", None, led.as_str()),
        ("new", None, &led),
        ("", None, &led),
        ("known", Some("192.0.2.66"), REFUSED),
        ("", Some("192.0.2.66"), REFUSED),
    ] {
        let state = state();
        state.apply(outward("known", None, |_| {})).unwrap();
        state.apply(outward(value, address, broken)).unwrap();
        assert_eq!(answer(&state, "/").as_deref(), Some(expected), "{value}");
    }
}

/// One that gives other credentials, or none, does something else.
#[test]
fn a_rejected_rule_goes_on_with_the_same_credentials_only() {
    let known = || credential("known", "shop/keys");
    for (had, has, is_served) in [
        (true, true, true),
        (false, false, true),
        (true, false, false),
        (false, true, false),
    ] {
        let state = state();
        state.apply(with(&[("/", 0, had)], known())).unwrap();
        let wrong = changed(&with(&[("/", 0, has)], known()), |table| {
            let mut rule = Route::clone(&table.routes[&key(0)]);
            rule.policy = broken(0).policy.clone();
            table.routes.insert(key(0), rule.into());
        });
        state.apply(wrong).unwrap();
        let served = cluster(0).to_string();
        let expected = if is_served { &served } else { REFUSED };
        assert_eq!(
            answer(&state, "/").as_deref(),
            Some(expected),
            "{had} {has}"
        );
    }
}
