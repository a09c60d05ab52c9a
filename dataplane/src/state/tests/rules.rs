//! What is served in place of rules that a proxy cannot use.

use portcullis_routing::{Route, RouteKey, RouteMatch};

use super::*;

/// A match that nobody understands.
fn unreadable() -> RouteMatch {
    RouteMatch {
        path: PathMatch::Regex("(".into()),
        method: None,
        headers: vec![],
        query: vec![],
    }
}

#[test]
fn a_rejected_route_is_served_as_it_was_before() {
    let state = state();
    let first = table(1, 2);
    state.apply(Arc::new(first.clone())).unwrap();

    let second = changed(&first, |table| {
        table.routes.insert(route(0), broken(0));
        table
            .routes
            .insert(route(2), path_route(2, PathMatch::Exact("/new".into())));
        table.clusters.remove(&cluster(0));
        table.clusters.insert(cluster(2), Arc::default());
    });
    let report = state.apply(Arc::clone(&second)).unwrap();
    assert_eq!(report.version, second.version);
    let key = route(0);
    assert_eq!(rejected(&report), [(ResourceKind::Route, key.as_str())]);
    assert_eq!(
        winner(&state, "/r0"),
        Some(route(0).to_string()),
        "as it was before"
    );
    assert_eq!(
        winner(&state, "/r1"),
        Some(route(1).to_string()),
        "not touched"
    );
    assert_eq!(
        winner(&state, "/new"),
        Some(route(2).to_string()),
        "not held up by the bad one"
    );
    let served = snapshot(&state);
    assert!(
        served.compiled.table().clusters.contains_key(&cluster(0)),
        "its backend stays with it"
    );

    // Still bad in the next table: still served as it was.
    let third = changed(&second, |table| drop(table.routes.remove(&route(1))));
    state.apply(third).unwrap();
    assert_eq!(winner(&state, "/r0"), Some(route(0).to_string()));
    assert_eq!(winner(&state, "/r1"), None);

    // Mended: the new one is served, and nothing of the old one is left.
    let fourth = changed(&second, |table| {
        table
            .routes
            .insert(route(0), path_route(1, PathMatch::Exact("/mended".into())));
    });
    assert_eq!(rejected(&state.apply(Arc::clone(&fourth)).unwrap()), []);
    assert_eq!(winner(&state, "/mended"), Some(route(0).to_string()));
    assert_eq!(winner(&state, "/r0"), None);
    assert_eq!(**snapshot(&state).compiled.table(), *fourth);
}

#[test]
fn a_rejected_resource_without_a_predecessor_stops_nothing() {
    let state = state();
    let first = changed(&table(1, 1), |table| {
        table.routes.insert(route(1), broken(1));
    });
    let report = state.apply(first).unwrap();
    let key = route(1);
    assert_eq!(rejected(&report), [(ResourceKind::Route, key.as_str())]);
    assert_eq!(winner(&state, "/r0"), Some(route(0).to_string()));
}

/// An unchanged route is its own predecessor.
#[test]
fn a_route_whose_cluster_is_missing_is_served_as_it_was_before() {
    let state = state();
    let first = table(1, 2);
    state.apply(Arc::new(first.clone())).unwrap();
    let second = changed(&first, |table| {
        table.clusters.remove(&cluster(0));
    });
    let report = state.apply(second).unwrap();
    let key = route(0);
    assert_eq!(rejected(&report), [(ResourceKind::Route, key.as_str())]);
    let served = snapshot(&state);
    let table = served.compiled.table();
    assert_eq!(table.routes.get(&key), first.routes.get(&key));
    assert!(table.clusters.contains_key(&cluster(0)));
}

/// What a rule protects must not fall to a broader one because the rule is broken.
#[test]
fn a_rejected_route_without_a_predecessor_refuses() {
    let bad = |path: &str| {
        let mut route = (*path_route(0, PathMatch::Prefix(path.into()))).clone();
        route.matches.push(unreadable());
        route.policy.retry = Some(Retry {
            codes: vec![99],
            attempts: 1,
            backoff: Millis(1),
        });
        Arc::new(route)
    };
    let state = state();
    let first = changed(&table(1, 0), |table| {
        table
            .routes
            .insert(route(1), path_route(1, PathMatch::Prefix("/".into())));
        table.clusters.insert(cluster(1), Arc::default());
        table.routes.insert(route(0), bad("/admin"));
    });
    let key = route(0);
    let expected = [(ResourceKind::Route, key.as_str())];
    assert_eq!(
        rejected(&state.apply(Arc::clone(&first)).unwrap()),
        expected
    );
    assert_eq!(answer(&state, "/admin").as_deref(), Some(REFUSED));
    assert_eq!(winner(&state, "/x"), Some(route(1).to_string()));

    // A refusal is no predecessor that would be worth keeping.
    let second = changed(&first, |table| {
        table.routes.insert(route(0), bad("/moved"));
    });
    assert_eq!(rejected(&state.apply(second).unwrap()), expected);
    assert_eq!(answer(&state, "/moved").as_deref(), Some(REFUSED));
    assert_eq!(winner(&state, "/admin"), Some(route(1).to_string()));

    // Hosts that cannot be understood must not become every host.
    let third = changed(&first, |table| {
        let mut route = (*bad("/")).clone();
        route.hostnames = vec!["not a name".into()];
        table.routes.insert(self::route(0), Arc::new(route));
        _ = table.routes.remove(&self::route(1));
    });
    assert_eq!(rejected(&state.apply(third).unwrap()), expected);
    assert_eq!(winner(&state, "/admin"), None);
}

/// Its requests must not fall to a broader rule, nor be refused where they can be answered.
#[test]
fn a_rejected_route_is_served_as_before_where_its_listeners_are_left() {
    let state = state();
    let first = changed(&table(2, 1), |table| {
        let mut route = Route::clone(&table.routes[&route(0)]);
        route.listeners.push(listener("l1"));
        table.routes.insert(self::route(0), route.into());
        let all = path_route(1, PathMatch::Prefix("/".into()));
        table.routes.insert(self::route(1), all);
        table.clusters.insert(cluster(1), Arc::default());
    });
    state.apply(Arc::clone(&first)).unwrap();
    let mut second = first;
    for path in ["/one", "/two"] {
        second = changed(&second, |table| {
            table.listeners.remove(&listener("l1"));
            table.routes.insert(route(0), broken(0));
            let new = path_route(2, PathMatch::Exact(path.into()));
            table.routes.insert(route(2), new);
            table.clusters.insert(cluster(2), Arc::default());
        });
        state.apply(Arc::clone(&second)).unwrap();
        assert_eq!(winner(&state, "/r0"), Some(route(0).to_string()));
        assert_eq!(winner(&state, path), Some(route(2).to_string()));
    }
}

/// What could not be served before is nothing to go back to.
#[test]
fn a_route_that_was_rejected_already_is_no_predecessor() {
    let state = state();
    let with = |matches: &[RouteMatch]| {
        changed(&table(1, 0), |table| {
            let all = path_route(1, PathMatch::Prefix("/".into()));
            table.routes.insert(route(1), all);
            table.clusters.insert(cluster(1), Arc::default());
            table.clusters.insert(cluster(0), Arc::default());
            let mut route = Route::clone(&broken(0));
            route.matches = [&[unreadable()], matches].concat();
            table.routes.insert(self::route(0), route.into());
        })
    };
    state.apply(with(&[])).unwrap();
    assert_eq!(winner(&state, "/admin"), Some(route(1).to_string()));
    let admin = path_route(0, PathMatch::Prefix("/admin".into()));
    state.apply(with(&admin.matches)).unwrap();
    assert_eq!(winner(&state, "/admin"), Some(route(0).to_string()));
    assert_eq!(answer(&state, "/admin").as_deref(), Some(REFUSED));
}

/// Rules go by their number: what had it before may be another one, or be gone.
#[test]
fn a_rule_with_other_matches_is_no_predecessor() {
    let rules = |rules: &[(&RouteMatch, bool)]| {
        changed(&table(1, 0), |table| {
            for (number, (one, is_good)) in rules.iter().enumerate() {
                let mut rule = Route::clone(&broken(number));
                rule.matches = vec![RouteMatch::clone(one)];
                rule.order.name = "r".into();
                rule.order.rule = number;
                if *is_good {
                    rule.policy = portcullis_routing::RoutePolicy::default();
                }
                let key = RouteKey::of("HTTPRoute", "shop", "r", number);
                table.routes.insert(key, rule.into());
                table.clusters.insert(cluster(number), Arc::default());
            }
        })
    };
    let of = |path: &str| path_route(0, PathMatch::Prefix(path.into())).matches[0].clone();
    let (all, a, b, new, unreadable) = (of("/"), of("/a"), of("/b"), of("/new"), unreadable());
    let (s0, s1) = (cluster(0).to_string(), cluster(1).to_string());
    for (before, now, expected) in [
        // One stands before it now.
        (
            &[(&all, true)][..],
            &[(&new, false), (&all, true)][..],
            &[("/new", REFUSED), ("/", &s1)][..],
        ),
        // One is gone.
        (
            &[(&a, true), (&b, true), (&all, true)],
            &[(&b, false), (&all, true)],
            &[("/a", &s1), ("/b", REFUSED), ("/", &s1)],
        ),
        (
            &[(&all, true)],
            &[(&unreadable, true), (&all, true)],
            &[("/", &s1)],
        ),
        (&[(&all, true)], &[(&all, false)], &[("/", &s0)]),
    ] {
        let state = state();
        state.apply(rules(before)).unwrap();
        state.apply(rules(now)).unwrap();
        for (path, expected) in expected {
            assert_eq!(answer(&state, path).as_deref(), Some(*expected), "{path}");
        }
    }
}

/// Nor is one of an object that was made anew.
#[test]
fn a_rule_of_another_age_is_no_predecessor() {
    let state = state();
    let first = table(1, 1);
    state.apply(Arc::new(first.clone())).unwrap();
    let second = changed(&first, |table| {
        let mut younger = Route::clone(&broken(0));
        younger.order.created_at += 1;
        table.routes.insert(route(0), younger.into());
    });
    state.apply(second).unwrap();
    assert_eq!(answer(&state, "/r0").as_deref(), Some(REFUSED));
}

/// What it did may not be for those whom another listener lets in.
#[test]
fn a_rejected_route_goes_on_where_it_was_and_refuses_where_it_is_new() {
    let state = state();
    let first = changed(&table(2, 1), |table| {
        let mut all = Route::clone(&path_route(1, PathMatch::Prefix("/".into())));
        all.listeners.push(listener("l1"));
        table.routes.insert(route(1), all.into());
        table.clusters.insert(cluster(1), Arc::default());
    });
    let with = |has_both: bool, listeners: &[&str]| {
        let mut broken = Route::clone(&broken(0));
        broken.listeners = listeners.iter().map(|name| listener(name)).collect();
        changed(&first, |table| {
            table.routes.insert(route(0), broken.into());
            if !has_both {
                table.listeners.remove(&listener("l1"));
            }
        })
    };
    state.apply(Arc::clone(&first)).unwrap();
    let (old, others) = (cluster(0).to_string(), cluster(1).to_string());
    let (old, others) = (Some(old.as_str()), Some(others.as_str()));
    let refused = Some(REFUSED);
    for (has_both, named, expected) in [
        // It names another one now, which goes and comes back.
        (true, &["l0", "l1"][..], [old, refused]),
        (false, &["l0", "l1"], [old, None]),
        (true, &["l0", "l1"], [old, refused]),
        // What it names no more it is not at.
        (true, &["l0"], [old, others]),
        (true, &["l1"], [others, refused]),
        (true, &["l0", "l1"], [refused, refused]),
    ] {
        let report = state.apply(with(has_both, named)).unwrap();
        let key = route(0);
        assert!(rejected(&report).contains(&(ResourceKind::Route, key.as_str())));
        let answers = [8000, 8001].map(|port| answer_at(&state, port, "/r0"));
        assert_eq!(
            answers.each_ref().map(Option::as_deref),
            expected,
            "{named:?}"
        );
    }
    // Nothing is left of it all.
    state.apply(Arc::clone(&first)).unwrap();
    assert_eq!(snapshot(&state).compiled.table().routes, first.routes);
}

/// Nor must its connections fall to a broader one.
#[test]
fn a_rejected_rule_of_connections_refuses_them() {
    let state = state();
    let of = |number: usize, host: &str, weight: u32| {
        let mut rule = Route::clone(&path_route(number, PathMatch::Prefix("/".into())));
        rule.matches.clear();
        rule.hostnames = vec![host.into()];
        if let RouteAction::Forward(backends) = &mut rule.action {
            backends[0].weight = weight;
        }
        Arc::new(rule)
    };
    let table = changed(&table(1, 2), |table| {
        let mut tls = Listener::clone(&plain(8000));
        tls.protocol = ListenerProtocol::Tls;
        table.listeners.insert(listener("l0"), tls.into());
        table.routes.insert(route(0), of(0, "a.example", u32::MAX));
        table.routes.insert(route(1), of(1, "*.example", 1));
    });
    let report = state.apply(table).unwrap();
    let key = route(0);
    assert_eq!(rejected(&report), [(ResourceKind::Route, key.as_str())]);
    let served = snapshot(&state);
    let port = served.compiled.port(8000).unwrap();
    let forwards = |name: &str| {
        let found = port.listener_for(name).unwrap().lookup_connection(name);
        let action = &found.unwrap().route().action;
        matches!(action, RouteAction::Forward(backends) if !backends.is_empty())
    };
    assert!(!forwards("a.example") && forwards("b.example"));
}
