//! What is served in place of listeners and certificates that a proxy cannot use.

use portcullis_routing::{CertificateKey, EntryKey};

use super::{
    egress::{opens_egress, shut_hosts, wrong_entry},
    *,
};

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
