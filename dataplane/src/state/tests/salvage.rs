//! What is served in place of what a table has and a proxy cannot use.

use portcullis_routing::{
    CertificateKey, CredentialKey, EntryKey, Filter, Route, RouteMatch, filter::Credential,
};

use super::{
    egress::{opens_egress, shut_hosts, wrong_entry},
    *,
};

/// A route that can match nothing because its expression is broken.
fn broken(number: usize) -> Arc<portcullis_routing::Route> {
    path_route(number, PathMatch::Regex("(".into()))
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

/// A listener that lost its certificate names another one now: the old one may have been revoked.
#[test]
fn a_certificate_that_is_named_no_more_is_not_shown_again() {
    let state = state();
    let first = changed(&table(1, 1), https(certificate()));
    state.apply(Arc::clone(&first)).unwrap();
    let second = changed(&first, |table| {
        let other = portcullis_routing::CertificateKey::secret("other", "cert");
        let mut value = Listener::clone(&table.listeners[&listener("tls")]);
        value.tls.as_mut().unwrap().certificates = vec![other];
        table.listeners.insert(listener("tls"), Arc::new(value));
        table.certificates.clear();
    });
    state.apply(second).unwrap();
    let served = snapshot(&state);
    assert!(served.certificates.get(&certificate_key()).is_none());
    assert!(served.compiled.port(8443).is_none());
}

#[test]
fn a_bad_certificate_leaves_the_one_before_in_use() {
    let state = state();
    let good = certificate();
    let first = changed(&table(1, 1), https(good.clone()));
    state.apply(Arc::clone(&first)).unwrap();
    let before = Arc::clone(
        snapshot(&state)
            .certificates
            .get(&certificate_key())
            .unwrap(),
    );

    let second = changed(&first, |table| {
        let bad = portcullis_routing::Certificate {
            key_pem: Secret::new("no key"),
            ..good
        };
        table.certificates.insert(certificate_key(), Arc::new(bad));
    });
    let report = state.apply(second).unwrap();
    let key = certificate_key();
    assert_eq!(
        rejected(&report),
        [(ResourceKind::Certificate, key.as_str())]
    );
    assert!(Arc::ptr_eq(
        &before,
        snapshot(&state)
            .certificates
            .get(&certificate_key())
            .unwrap()
    ));

    let third = changed(&first, |table| {
        _ = table
            .certificates
            .insert(certificate_key(), Arc::new(certificate()));
    });
    assert_eq!(rejected(&state.apply(third).unwrap()), []);
    assert!(!Arc::ptr_eq(
        &before,
        snapshot(&state)
            .certificates
            .get(&certificate_key())
            .unwrap()
    ));
}

/// A Secret whose content is broken is named, but its certificate does not come.
#[test]
fn a_certificate_that_is_missing_leaves_the_one_before_in_use() {
    let state = state();
    let first = changed(&table(1, 1), https(certificate()));
    state.apply(Arc::clone(&first)).unwrap();
    let (key, port) = (certificate_key(), listener("tls"));
    let before = Arc::clone(snapshot(&state).certificates.get(&key).unwrap());

    let expected = [
        (ResourceKind::Listener, port.as_str()),
        (ResourceKind::Certificate, key.as_str()),
    ];
    let mut broken = first;
    for path in ["/one", "/two"] {
        broken = changed(&broken, |table| {
            table.certificates.clear();
            table
                .routes
                .insert(route(0), path_route(0, PathMatch::Exact(path.into())));
        });
        assert_eq!(
            rejected(&state.apply(Arc::clone(&broken)).unwrap()),
            expected
        );
        let served = snapshot(&state);
        assert!(Arc::ptr_eq(&before, served.certificates.get(&key).unwrap()));
        assert!(served.tls.config(&port).is_some());
        assert_eq!(winner(&state, path), Some(route(0).to_string()));
    }

    // Without one before, the listener is not served, and its port not opened.
    let fresh = self::state();
    fresh.apply(broken).unwrap();
    let ports: Vec<_> = snapshot(&fresh)
        .compiled
        .ports()
        .map(CompiledPort::port)
        .collect();
    assert_eq!(ports, [8000]);
}

/// The controller knows nothing better of a Secret that it cannot read.
#[test]
fn a_credential_that_could_not_be_read_is_sent_on_as_it_was() {
    let name = CredentialKey::of("ns", "key");
    let with_value = |value: &str| {
        Arc::new(Credential {
            header: "x-api-key".into(),
            value: Secret::new(value),
            overwrite: true,
            secret: "ns/keys".into(),
        })
    };
    let first = changed(&table(1, 1), |table| {
        let mut named = (*path_route(0, PathMatch::Prefix("/r0".into()))).clone();
        named.filters = vec![Filter::Credential(name.clone())];
        table.routes.insert(route(0), Arc::new(named));
        table.credentials.insert(name.clone(), with_value("known"));
    });
    let unread = changed(&first, |table| {
        table.credentials.insert(name.clone(), with_value(""));
    });
    let key = route(0);
    let refusal = [
        (ResourceKind::Route, key.as_str()),
        (ResourceKind::Credential, name.as_str()),
    ];
    let sent = |state: &TableState| {
        let served = snapshot(state);
        let table = served.compiled.table();
        let named = table.routes[&route(0)].credentials().next().cloned();
        named.map(|name| table.credentials[&name].value.expose().to_owned())
    };

    let serving = state();
    serving.apply(first).unwrap();
    let report = serving.apply(Arc::clone(&unread)).unwrap();
    assert_eq!(rejected(&report), refusal);
    assert!(
        report.rejected[0]
            .message
            .contains("Secret ns/keys could not be read")
    );
    assert_eq!(sent(&serving).as_deref(), Some("known"));

    // Nothing is sent on without it.
    let new = state();
    assert_eq!(rejected(&new.apply(unread).unwrap()), refusal);
    assert_eq!(sent(&new), None);
    let served = snapshot(&new);
    assert!(matches!(
        &served.compiled.table().routes[&route(0)].action,
        RouteAction::Respond { status: 500, .. }
    ));
}

/// What a rule protects must not fall to a broader one because the rule is broken.
#[test]
fn a_rejected_route_without_a_predecessor_refuses() {
    let bad = |path: &str| {
        let mut route = (*path_route(0, PathMatch::Prefix(path.into()))).clone();
        let unreadable = path_route(0, PathMatch::Regex("(".into()));
        route.matches.extend(unreadable.matches.clone());
        route.policy.retry = Some(Retry {
            codes: vec![99],
            attempts: 1,
            backoff: Millis(1),
        });
        Arc::new(route)
    };
    let status = |state: &TableState, path: &str| {
        let key = winner(state, path)?;
        let served = snapshot(state);
        match &served.compiled.table().routes[key.as_str()].action {
            RouteAction::Respond { status, reason } => Some((*status, reason.clone())),
            _ => None,
        }
    };
    let refused = Some((500, "invalid_rule".to_owned()));
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
    assert_eq!(status(&state, "/admin"), refused);
    assert_eq!(winner(&state, "/x"), Some(route(1).to_string()));

    // A refusal is no predecessor that would be worth keeping.
    let second = changed(&first, |table| {
        table.routes.insert(route(0), bad("/moved"));
    });
    assert_eq!(rejected(&state.apply(second).unwrap()), expected);
    assert_eq!(status(&state, "/moved"), refused);
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

#[test]
fn a_rejected_listener_keeps_its_port_unless_another_one_wants_it() {
    let state = state();
    let first = table(1, 1);
    state.apply(Arc::new(first.clone())).unwrap();
    let bad = Arc::new(Listener {
        hostname: Some("not a name".into()),
        ..(*plain(8000)).clone()
    });
    let second = changed(&first, |table| {
        table.listeners.insert(listener("l0"), Arc::clone(&bad));
    });
    let key = listener("l0");
    assert_eq!(
        rejected(&state.apply(second).unwrap()),
        [(ResourceKind::Listener, key.as_str())]
    );
    assert_eq!(winner(&state, "/r0"), Some(route(0).to_string()));

    let third = changed(&first, |table| {
        table.listeners.insert(listener("l0"), bad);
        table.listeners.insert(listener("new"), plain(8000));
    });
    assert_eq!(
        rejected(&state.apply(third).unwrap()),
        [(ResourceKind::Listener, key.as_str())]
    );
    let served = snapshot(&state);
    let keys: Vec<_> = served
        .compiled
        .ports()
        .flat_map(CompiledPort::listeners)
        .map(|l| l.key().clone())
        .collect();
    assert_eq!(keys, [listener("new")]);
}

/// What a predecessor asks for and is there no more takes nothing else along.
#[test]
fn a_predecessor_whose_client_certificate_is_gone_leaves_others_mended() {
    let state = state();
    let own = CertificateKey::secret("infra", "one");
    let ca = certificate().chain_pem;
    let first = changed(&table(1, 2), |table| {
        opens_egress(table);
        table.certificates.insert(own.clone(), certificate().into());
        let tls = ClusterTls {
            server_name: "up.example".into(),
            ca_pem: vec![ca],
            client_certificate: Some(own.clone()),
            ..ClusterTls::default()
        };
        let cluster = Cluster {
            tls: Some(tls),
            ..Cluster::default()
        };
        table.clusters.insert(self::cluster(0), cluster.into());
    });
    state.apply(Arc::clone(&first)).unwrap();

    let second = changed(&first, |table| {
        table.certificates.clear();
        table.clusters.remove(&cluster(0));
        table.routes.insert(route(0), broken(0));
        table.routes.insert(route(1), broken(1));
        let entry = wrong_entry(&["api.example"]);
        table.entries.insert(EntryKey::of("ns", "e"), entry);
    });
    state.apply(second).unwrap();
    assert_eq!(shut_hosts(&state), Some(vec!["api.example".to_owned()]));
    for number in 0..2 {
        let path = format!("/r{number}");
        assert_eq!(winner(&state, &path), Some(route(number).to_string()));
    }
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

/// The others keep theirs.
#[test]
fn only_a_listener_whose_place_is_taken_is_closed() {
    let state = state();
    let first = table(3, 1);
    state.apply(Arc::new(first.clone())).unwrap();
    let second = changed(&first, |table| {
        for (name, port) in [("l0", 8000), ("l1", 8001), ("l2", 8002)] {
            let mut bad = Listener::clone(&plain(port));
            bad.hostname = Some("not a name".into());
            table.listeners.insert(listener(name), bad.into());
        }
        let mut tls = Listener::clone(&plain(8000));
        tls.protocol = ListenerProtocol::Tls;
        table.listeners.insert(listener("new"), tls.into());
        table.listeners.insert(listener("other"), plain(8001));
    });
    state.apply(second).unwrap();
    let served = snapshot(&state);
    let listeners = served.compiled.ports().flat_map(CompiledPort::listeners);
    let mut keys: Vec<_> = listeners.map(|it| it.key().clone()).collect();
    keys.sort();
    assert_eq!(keys, ["l2", "new", "other"].map(listener));
}

/// A rule that is broken still is not served at a listener only as long as that is gone, and refuses nothing that was never its own.
#[test]
fn a_rejected_route_is_served_as_before_at_the_listeners_that_it_has_now() {
    let state = state();
    let first = changed(&table(2, 1), |table| {
        let mut all = Route::clone(&path_route(1, PathMatch::Prefix("/".into())));
        all.listeners.push(listener("l1"));
        table.routes.insert(route(1), all.into());
        table.clusters.insert(cluster(1), Arc::default());
    });
    let with = |change: fn(&mut RoutingTable), listeners: &[&str]| {
        let mut broken = Route::clone(&broken(0));
        broken.listeners = listeners.iter().map(|name| listener(name)).collect();
        changed(&first, |table| {
            table.routes.insert(route(0), broken.into());
            change(table);
        })
    };
    let served = |state: &TableState| -> Vec<String> {
        let served = snapshot(state);
        let listeners = served.compiled.ports().flat_map(CompiledPort::listeners);
        let headers = HeaderMap::new();
        let takes = |listener: &portcullis_routing::CompiledListener<_>| {
            let found = listener.lookup(&RequestHead {
                host: "a.example",
                path: "/r0",
                query: None,
                method: &Method::GET,
                headers: &headers,
            });
            found.is_some_and(|found| *found.route.key() == route(0))
        };
        let mut keys: Vec<_> = listeners
            .filter(|it| takes(it))
            .map(|it| it.key().to_string())
            .collect();
        keys.sort();
        keys
    };
    let keys = |names: &[&str]| -> Vec<_> {
        let names = names.iter();
        names.map(|name| listener(name).to_string()).collect()
    };
    state.apply(Arc::clone(&first)).unwrap();
    assert_eq!(served(&state), keys(&["l0"]));
    let gone: fn(&mut RoutingTable) = |table| drop(table.listeners.remove("infra/edge/l1"));
    let both = ["l0", "l1"];
    for (change, named, expected) in [
        // It names another one now, and loses it, and has it back.
        ((|_| {}) as fn(&mut RoutingTable), &both[..], &both[..]),
        (gone, &both, &["l0"]),
        (|_| {}, &both, &both),
        // What it names no more it is not at.
        (|_| {}, &["l0"], &["l0"]),
        (|_| {}, &both, &both),
        (gone, &["l0"], &["l0"]),
        (|_| {}, &["l0"], &["l0"]),
    ] {
        state.apply(with(change, named)).unwrap();
        assert_eq!(served(&state), keys(expected), "{named:?}");
    }
}

/// What could not be served before is nothing to go back to.
#[test]
fn a_route_that_was_rejected_already_is_no_predecessor() {
    let state = state();
    let with = |matches: Vec<RouteMatch>| {
        changed(&table(1, 0), |table| {
            let all = path_route(1, PathMatch::Prefix("/".into()));
            table.routes.insert(route(1), all);
            table.clusters.insert(cluster(1), Arc::default());
            table.clusters.insert(cluster(0), Arc::default());
            let mut route = Route::clone(&broken(0));
            route.matches.extend(matches);
            table.routes.insert(self::route(0), route.into());
        })
    };
    state.apply(with(Vec::new())).unwrap();
    assert_eq!(winner(&state, "/admin"), Some(route(1).to_string()));
    let admin = path_route(0, PathMatch::Prefix("/admin".into()));
    state.apply(with(admin.matches.clone())).unwrap();
    assert_eq!(winner(&state, "/admin"), Some(route(0).to_string()));
    let served = snapshot(&state);
    let action = &served.compiled.table().routes[&route(0)].action;
    assert!(matches!(action, RouteAction::Respond { status: 500, .. }));
}
