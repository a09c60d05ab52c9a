//! Whom a proxy trusts, and with what, while something of it cannot be used.

use portcullis_routing::{
    EntryKey, SubjectAltName,
    ca::named,
    egress::Entry,
    listener::{ClientValidation, ClientValidationMode},
};
use serde_json::{Value, json};

use super::*;

/// The controller does not know at present whom clients are to be verified with; that is no change of it.
#[test]
fn a_listener_whose_ca_could_not_be_read_asks_as_before() {
    let ca = certificate().chain_pem;
    let asking = |source: &str, ca_pem: &str, mode| {
        changed(&table(1, 1), |table| {
            https(certificate())(table);
            let mut value = Listener::clone(&table.listeners[&listener("tls")]);
            if let Some(tls) = &mut value.tls {
                let ca_pem = vec![named(source, ca_pem)];
                tls.client_validation = Some(ClientValidation { ca_pem, mode });
            }
            table.listeners.insert(listener("tls"), Arc::new(value));
        })
    };
    let key = listener("tls");
    let refused = [(ResourceKind::Listener, key.as_str())];
    let served = |state: &TableState| {
        let served = snapshot(state);
        served
            .compiled
            .table()
            .listeners
            .get(&listener("tls"))
            .cloned()
    };
    let strict = ClientValidationMode::AllowValidOnly;
    let unread = asking("ConfigMap ns/ca", "", strict);

    let serving = state();
    let known = asking("ConfigMap ns/ca", &ca, strict);
    serving.apply(Arc::clone(&known)).unwrap();
    assert_eq!(
        rejected(&serving.apply(Arc::clone(&unread)).unwrap()),
        refused
    );
    assert_eq!(served(&serving).as_ref(), known.listeners.get(&key));

    // One that let in whom the new one may shut out is no stand-in, and who serves none opens none.
    let insecure = ClientValidationMode::AllowInsecureFallback;
    let others = [
        asking("ConfigMap ns/ca", &ca, insecure),
        asking("ConfigMap ns/revoked", &ca, strict),
    ];
    let others = others.map(|table| {
        let state = state();
        state.apply(table).unwrap();
        state
    });
    for state in others.into_iter().chain([state()]) {
        assert_eq!(
            rejected(&state.apply(Arc::clone(&unread)).unwrap()),
            refused
        );
        let ports = snapshot(&state)
            .compiled
            .ports()
            .map(CompiledPort::port)
            .collect::<Vec<_>>();
        assert_eq!(ports, [8000]);
    }
}

/// Both may be unread at once, and nothing else is another: it is served with the ones from before.
#[test]
fn a_listener_of_which_nothing_could_be_read_asks_as_before() {
    let key = listener("tls");
    let asking = |ca_pem: &str, mode, is_read: bool| {
        changed(&table(1, 1), |table| {
            https(certificate())(table);
            let mut value = Listener::clone(&table.listeners[&listener("tls")]);
            if let Some(tls) = &mut value.tls {
                let ca_pem = vec![named(CA, ca_pem)];
                tls.client_validation = Some(ClientValidation { ca_pem, mode });
            }
            table.listeners.insert(listener("tls"), value.into());
            if !is_read {
                table.certificates.clear();
            }
        })
    };
    let ca = certificate().chain_pem;
    let strict = ClientValidationMode::AllowValidOnly;
    let insecure = ClientValidationMode::AllowInsecureFallback;
    for (mode, is_served) in [(strict, true), (insecure, false)] {
        let state = state();
        let known = asking(&ca, mode, true);
        state.apply(Arc::clone(&known)).unwrap();
        // However often.
        for number in 1..3 {
            let unread = changed(&asking("", strict, false), |table| {
                let route = path_route(number, PathMatch::Prefix("/new".into()));
                table.routes.insert(self::route(number), route);
                table.clusters.insert(cluster(number), Arc::default());
            });
            state.apply(unread).unwrap();
            let served = snapshot(&state);
            assert_eq!(served.compiled.port(8443).is_some(), is_served, "{mode:?}");
            assert_eq!(served.tls.config(&key).is_some(), is_served);
            if is_served {
                let table = served.compiled.table();
                assert_eq!(table.listeners[&key], known.listeners[&key]);
            }
        }
    }
}

const CA: &str = "ConfigMap ns/ca";

/// There is something, but no certificate in it.
fn broken_pem(source: &str) -> String {
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    named(source, pem)
}

fn secure(server_name: &str, ca_pem: &str) -> Cluster {
    let tls = ClusterTls {
        server_name: server_name.into(),
        ca_pem: vec![ca_pem.into()],
        ..ClusterTls::default()
    };
    Cluster {
        tls: Some(tls),
        ..Cluster::default()
    }
}

#[test]
fn a_backend_that_cannot_be_verified_is_reached_as_before() {
    let state = state();
    let known = Arc::new(secure("up.example", &named(CA, &certificate().chain_pem)));
    let broken = Arc::new(secure("up.example", &broken_pem(CA)));
    let first = changed(&table(1, 2), |table| {
        table.clusters.insert(cluster(0), known);
    });
    state.apply(Arc::clone(&first)).unwrap();
    let second = changed(&first, |table| {
        table.clusters.insert(cluster(0), Arc::clone(&broken));
        table.clusters.insert(cluster(1), broken);
    });
    let (key, other) = (cluster(0), cluster(1));
    let expected = [
        (ResourceKind::Cluster, key.as_str()),
        (ResourceKind::Cluster, other.as_str()),
    ];
    assert_eq!(
        rejected(&state.apply(Arc::clone(&second)).unwrap()),
        expected
    );
    assert_eq!(
        snapshot(&state).compiled.table().clusters[&key],
        first.clusters[&key]
    );

    // Nothing about them changed, but they are still bad.
    let third = changed(&second, |table| drop(table.routes.remove(&route(1))));
    assert_eq!(rejected(&state.apply(third).unwrap()), expected);
}

/// What was sent to a backend in clear text, or by another name, says nothing of whom to trust with what is sent now.
#[test]
fn a_backend_that_cannot_be_verified_is_not_reached_in_another_way() {
    let pem = certificate().chain_pem;
    let known = |source: &str| named(source, &pem);
    let clear = Cluster::default();
    let good = secure("up.example", &known(CA));
    let with_name = |name: &str| {
        let mut cluster = good.clone();
        if let Some(tls) = &mut cluster.tls {
            tls.subject_alt_names = vec![SubjectAltName::Hostname(name.into())];
        }
        cluster
    };
    let impatient = |cluster: &Cluster| Cluster {
        connect_timeout: Millis(0),
        ..cluster.clone()
    };
    let unread = secure("up.example", &named(CA, ""));
    let broken = secure("up.example", &broken_pem(CA));
    let by_number = secure("backend.1", &known(CA));
    let unmarked = secure("up.example", &pem);
    let cases = [
        (&good, &unread, true),
        (
            &secure("up.example", &known("Secret ns/ca")),
            &unread,
            false,
        ),
        (&secure("other.example", &known(CA)), &unread, false),
        (&clear, &unread, false),
        (&good, &broken, true),
        (&clear, &broken, false),
        (&clear, &by_number, false),
        (&good, &by_number, false),
        (&clear, &with_name("x.1"), false),
        (&good, &with_name("x.1"), false),
        (&clear, &with_name("*.1"), false),
        (&good, &impatient(&good), true),
        (&unmarked, &impatient(&unmarked), true),
        (&clear, &impatient(&good), false),
        (&clear, &impatient(&clear), true),
    ];
    for (before, wanted, is_kept) in cases {
        let state = state();
        let with = |cluster: &Cluster| {
            changed(&table(1, 1), |table| {
                let cluster = Arc::new(cluster.clone());
                table.clusters.insert(self::cluster(0), cluster);
            })
        };
        state.apply(with(before)).unwrap();
        let key = cluster(0);
        let expected = [(ResourceKind::Cluster, key.as_str())];
        assert_eq!(rejected(&state.apply(with(wanted)).unwrap()), expected);
        let served = snapshot(&state);
        let served = &served.compiled.table().clusters[&key];
        let expected = if is_kept { before } else { wanted };
        assert_eq!(**served, *expected, "{before:?} {wanted:?}");
    }
}

/// Nor is anything outside: what else of an entry has changed may be whom it lets through, where it leads, or how it is verified.
#[test]
fn an_entry_that_cannot_be_verified_goes_on_only_as_it_is_now() {
    let key = EntryKey::of("ns", "e");
    let with = |ca_pem: &str, change: Value| {
        let mut entry = json!({
            "hosts": ["api.example"],
            "ports": [{"number": 80, "protocol": "HTTP", "target_port": 443, "tls": 0}],
            "tls": [{ "ca_pem": [ca_pem] }],
            "resolution": "Dns",
            "exported_to": {"Namespaces": ["a"]},
            "order": {"namespace": "ns", "name": "e", "rule": 0},
        });
        for (field, value) in change.as_object().unwrap() {
            entry[field] = value.clone();
        }
        let entry: Entry = serde_json::from_value(entry).unwrap();
        changed(&table(1, 1), |table| {
            Arc::make_mut(&mut table.settings).egress = Some(EgressSettings::default());
            table.entries.insert(key.clone(), entry.into());
        })
    };
    let port = |number: u16, protocol: &str| json!({"number": number, "protocol": protocol});
    let secure = json!({"number": 80, "protocol": "HTTP", "target_port": 443, "tls": 0});
    let known = named(CA, &certificate().chain_pem);
    for (before, is_shut) in [
        (json!({}), false),
        (json!({"hosts": ["api.example", "b.example"]}), true),
        (json!({"addresses": ["192.0.2.1/32"]}), true),
        (json!({"exported_to": {"Namespaces": ["a", "b"]}}), true),
        (json!({"exported_to": "All"}), true),
        (json!({"ports": [secure, port(8080, "HTTP")]}), true),
        (json!({"ports": [port(80, "HTTP")], "tls": []}), true),
        (json!({"ports": [port(80, "HTTPS")], "tls": []}), true),
        (json!({"ports": [port(80, "TCP")], "tls": []}), true),
        (json!({"resolution": "None"}), true),
        (
            json!({"resolution": "Static", "endpoints": [{"host": "192.0.2.1"}]}),
            true,
        ),
    ] {
        let unread = named(CA, "");
        let nowhere = json!({"resolution": "Static"});
        for (ca_pem, fault, is_shut) in [(&unread, json!({}), is_shut), (&known, nowhere, true)] {
            let state = state();
            let first = state.apply(with(&known, before.clone())).unwrap();
            assert_eq!(rejected(&first), []);
            // However often.
            for changed in ["one", "two"] {
                let table = self::changed(&with(ca_pem, fault.clone()), |table| {
                    let path = PathMatch::Exact(format!("/{changed}"));
                    table.routes.insert(route(0), path_route(0, path));
                });
                let report = state.apply(table).unwrap();
                assert_eq!(rejected(&report), [(ResourceKind::Entry, key.as_str())]);
                let served = snapshot(&state);
                let served = served.compiled.egress().unwrap().entry(&key).unwrap();
                assert_eq!(served.is_shut(), is_shut, "{before}");
            }
        }
    }
}

#[test]
fn a_listener_with_tls_does_not_fall_back_to_clear_text() {
    let state = state();
    let key = listener("tls");
    let clear = changed(&table(1, 1), |table| {
        table.listeners.insert(key.clone(), plain(8443));
    });
    state.apply(clear).unwrap();
    assert!(snapshot(&state).compiled.port(8443).is_some());
    let wrong = changed(&table(1, 1), |table| {
        https(certificate())(table);
        let mut value = Listener::clone(&table.listeners[&key]);
        value.hostname = Some("not a name".into());
        table.listeners.insert(key.clone(), Arc::new(value));
    });
    let report = state.apply(wrong).unwrap();
    assert_eq!(rejected(&report), [(ResourceKind::Listener, key.as_str())]);
    assert!(snapshot(&state).compiled.port(8443).is_none());
}
