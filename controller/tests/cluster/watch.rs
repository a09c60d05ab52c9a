//! What the watches make of what the API server says.

use serde_json::json;

use crate::{
    fake_api::FakeApi,
    support::{CLASS, EDGE, Replica, SHOP, Tables, condition, routes},
};

/// The worst that could happen: a controller that starts and tells every proxy to serve nothing.
#[tokio::test]
async fn nothing_is_published_before_everything_is_known() {
    let kinds = [
        "GatewayClass",
        "Gateway",
        "ListenerSet",
        "HTTPRoute",
        "TLSRoute",
        "BackendTLSPolicy",
        "ReferenceGrant",
        "GatewayParameters",
        "ServiceEntry",
        "EgressPolicy",
        "CredentialInjection",
        "Namespace",
        "Service",
        "EndpointSlice",
        "Secret",
        "ConfigMap",
    ];
    let api = FakeApi::start().await;
    api.apply(SHOP);
    for kind in kinds {
        api.hold(kind);
    }
    let mut replica = Replica::start(&api, "one");
    let store = replica.controller.store();
    for (released, kind) in kinds.iter().enumerate() {
        assert!(
            replica.tables.borrow_and_update().is_none(),
            "before {kind}"
        );
        api.release(kind);
        api.until("the kind is listed", |_| {
            store.unknown_kinds().len() < kinds.len() - released
        })
        .await;
        assert_eq!(
            store.snapshot().is_some(),
            released + 1 == kinds.len(),
            "{kind}"
        );
    }
    // The first that is heard is everything.
    replica.tables.changed().await.unwrap();
    let tables = replica.tables.borrow().clone().unwrap();
    assert_eq!(routes(&tables), 1);
}

/// Without its BackendTLSPolicies a backend would be spoken to in clear text.
#[tokio::test]
async fn a_kind_that_is_installed_and_cannot_be_listed_is_not_taken_for_empty() {
    for code in [403, 404, 500] {
        let api = FakeApi::start().await;
        api.apply(SHOP);
        api.refuse("BackendTLSPolicy", u32::MAX, code);
        let mut replica = Replica::start(&api, "one");
        let store = replica.controller.store();
        api.until("all others are listed, and this one in vain", |api| {
            store.unknown_kinds() == ["BackendTLSPolicy"]
                && api.count(|it| it.kind == "BackendTLSPolicy" && it.code == code) >= 4
        })
        .await;
        assert!(store.snapshot().is_none(), "{code}");
        assert!(replica.tables.borrow_and_update().is_none(), "{code}");
        assert_eq!(api.count(|it| it.status), 0, "{code}");
        api.refuse("BackendTLSPolicy", 0, code);
        replica
            .tables("the route", |tables| routes(tables) == 1)
            .await;
    }
}

/// CRDs of an earlier release may have TLSRoutes without the version that is read. All else goes on, and they are served once they
/// can be; what was known then is not forgotten.
#[tokio::test]
async fn tls_routes_of_an_earlier_release_are_none() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(TLS);
    api.refuse("TLSRoute", u32::MAX, 404);
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the route of the shop", |tables| routes(tables) == 1)
        .await;
    api.refuse("TLSRoute", 0, 404);
    replica
        .tables("the TLSRoute", |tables| routes(tables) == 2)
        .await;
    api.until("its status is written", |api| {
        let route = api.get(("TLSRoute", "shop/through"));
        let conditions = &route["status"]["parents"][0]["conditions"];
        condition(conditions, "Accepted")["status"] == "True"
    })
    .await;
}

/// A listener of TLS, and a route there.
const TLS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: through, namespace: shop}
spec:
  gatewayClassName: portcullis
  listeners: [{name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: through, namespace: shop}
spec:
  parentRefs: [{name: through}]
  hostnames: [shop.example]
  rules: [{backendRefs: [{name: web, port: 8080}]}]
";

/// Nor are the kinds that cannot be told apart from those that are not installed.
#[tokio::test]
async fn what_is_installed_has_to_be_known_first() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.refuse("CustomResourceDefinition", u32::MAX, 403);
    let mut replica = Replica::start(&api, "one");
    let store = replica.controller.store();
    api.until("it asks in vain", |api| {
        store.unknown_kinds().len() == 11
            && api.count(|it| it.kind == "CustomResourceDefinition" && it.code == 403) >= 3
    })
    .await;
    assert!(replica.tables.borrow_and_update().is_none());
    api.refuse("CustomResourceDefinition", 0, 403);
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    for number in 0..1201 {
        api.create(&json!({
            "kind": "Service",
            "metadata": { "name": format!("more-{number}"), "namespace": "shop" },
            "spec": { "ports": [{ "port": 80 }] },
        }));
    }
    let mut replica = Replica::start(&api, "one");
    replica.tables("all", |_| true).await;
    let services = replica
        .controller
        .store()
        .snapshot()
        .unwrap()
        .resources
        .services;
    assert_eq!(services.len(), 1202);
    let lists = api.count(|it| it.kind == "Service" && it.from.is_none());
    assert_eq!(lists, 3);
}

#[tokio::test]
async fn changes_are_followed() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let mut replica = Replica::start(&api, "one");
    let tables = replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;

    api.patch(
        ("HTTPRoute", "shop/web"),
        &json!({ "spec": { "hostnames": ["shop.example"] } }),
    );
    let host = |tables: &Tables| {
        let route = tables
            .values()
            .next()
            .unwrap()
            .routes
            .values()
            .next()
            .unwrap();
        !route.hostnames.is_empty()
    };
    let after = replica.tables("the hostname", host).await;
    assert_ne!(tables, after);

    api.delete(("HTTPRoute", "shop/web"));
    replica
        .tables("no route", |tables| routes(tables) == 0)
        .await;
    api.delete(("Gateway", "shop/edge"));
    replica
        .tables("no Gateway", |tables| tables.is_empty())
        .await;
}

#[tokio::test]
async fn a_watch_that_expires_is_listed_again_and_never_empties_the_tables() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;

    let lists = |api: &FakeApi| api.count(|it| it.kind == "HTTPRoute" && it.method == "GET");
    let before = lists(&api);
    api.hold("HTTPRoute");
    api.forget_history();
    api.apply(
        &SHOP
            .rsplit("---")
            .next()
            .unwrap()
            .replace("name: web, namespace", "name: two, namespace"),
    );
    api.until("other kinds are listed again", |api| {
        api.count(|it| it.kind == "Service" && it.method == "GET") >= 4
    })
    .await;
    assert_eq!(
        routes(replica.tables.borrow().as_ref().unwrap()),
        1,
        "while it lists"
    );
    api.release("HTTPRoute");
    replica
        .tables("both routes", |tables| routes(tables) == 2)
        .await;
    assert!(lists(&api) > before);
}

#[tokio::test]
async fn a_watch_that_is_refused_as_expired_is_listed_again() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    api.refuse_expired();
    api.forget_history();
    api.until("a watch is refused", |api| {
        api.count(|it| it.kind == "HTTPRoute" && it.code == 410) > 0
    })
    .await;
    api.delete(("HTTPRoute", "shop/web"));
    replica
        .tables("no route", |tables| routes(tables) == 0)
        .await;
}

#[tokio::test]
async fn failures_change_nothing_and_are_got_over() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    let seen = replica.tables.clone();
    for code in [500, 403, 410, 429] {
        api.refuse("HTTPRoute", 3, code);
        api.cut_watches();
        let before = api.count(|it| it.code == code);
        api.until("it is refused", |api| {
            api.count(|it| it.code == code) >= before + 3
        })
        .await;
    }
    assert!(!seen.has_changed().unwrap(), "nothing was published");
    api.delete(("HTTPRoute", "shop/web"));
    replica
        .tables("it works again", |tables| routes(tables) == 0)
        .await;
    let metrics = String::from_utf8(replica.metrics.encode().unwrap()).unwrap();
    assert!(metrics.contains("portcullis_controller_watch_failures_total{kind=\"HTTPRoute\"}"));
}

#[tokio::test]
async fn a_watch_goes_on_from_the_last_bookmark() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    let requests = |api: &FakeApi| api.count(|it| it.kind == "Namespace");
    let before = requests(&api);
    // Only Services change, and the watch of the Namespaces is told that time goes on.
    api.patch(
        ("Service", "shop/web"),
        &json!({ "metadata": { "labels": { "a": "b" } } }),
    );
    let now = api.version();
    api.cut_watches();
    api.until("it watches again", |api| requests(api) > before)
        .await;
    let log = api.log();
    let from = log.iter().rfind(|it| it.kind == "Namespace").unwrap().from;
    assert!(from >= Some(now), "from {from:?}, the bookmark was {now}");
}

#[tokio::test]
async fn only_secrets_that_are_referred_to_are_read_and_again_when_they_change() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let secret = |name: &str| {
        let certificate = rcgen::generate_simple_self_signed([format!("{name}.example")]).unwrap();
        json!({
            "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": { "name": name, "namespace": "shop" },
            "data": {
                "tls.crt": base64(&certificate.cert.pem()),
                "tls.key": base64(&certificate.signing_key.serialize_pem()),
            },
        })
    };
    for name in ["other", "tls"] {
        api.create(&secret(name));
    }
    api.patch(
        EDGE,
        &json!({ "spec": { "listeners": [{
        "name": "https", "port": 443, "protocol": "HTTPS",
        "tls": { "certificateRefs": [{ "name": "tls" }, { "name": "later" }] },
    }] } }),
    );
    let mut replica = Replica::start(&api, "one");
    let chains = |tables: &Tables| -> Vec<String> {
        let certificates = tables
            .values()
            .flat_map(|table| table.certificates.values());
        certificates.map(|it| it.chain_pem.clone()).collect()
    };
    let first = replica
        .tables("a certificate", |tables| chains(tables).len() == 1)
        .await;
    assert_eq!(
        api.count(|it| it.kind == "Secret" && !it.name.is_empty()),
        1
    );

    api.patch(
        ("Secret", "shop/tls"),
        &json!({ "data": secret("tls")["data"] }),
    );
    let first = chains(&first);
    replica
        .tables("another certificate", |tables| {
            chains(tables).len() == 1 && chains(tables) != first
        })
        .await;
    // One that can be read only at the second try, and one that is deleted.
    api.refuse("Secret", 1, 500);
    api.create(&secret("later"));
    replica
        .tables("both", |tables| chains(tables).len() == 2)
        .await;
    api.delete(("Secret", "shop/tls"));
    replica
        .tables("one", |tables| chains(tables).len() == 1)
        .await;
    let read = api
        .log()
        .into_iter()
        .filter(|it| it.kind == "Secret" && it.code == 200);
    let mut names: Vec<_> = read
        .map(|it| it.name)
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    assert_eq!(names, ["later", "tls", "tls"]);
}

/// The listener would leave the table without its certificate, and proxies would close the port.
#[tokio::test]
async fn a_certificate_that_cannot_be_read_keeps_its_key() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.create(&json!({
        "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "tls", "namespace": "shop" },
    }));
    api.patch(
        EDGE,
        &json!({ "spec": { "listeners": [{
        "name": "https", "port": 443, "protocol": "HTTPS",
        "tls": { "certificateRefs": [{ "name": "tls" }] },
    }] } }),
    );
    api.refuse_reads("Secret", 403);
    let mut replica = Replica::start(&api, "one");
    let tables = replica
        .tables("the Gateway", |tables| tables.len() == 1)
        .await;
    let listeners = tables.values().flat_map(|table| table.listeners.values());
    let tls: Vec<_> = listeners.filter_map(|it| it.tls.as_ref()).collect();
    assert_eq!(tls.len(), 1);
    assert_eq!(tls[0].certificates[0].to_string(), "secret/shop/tls");
    api.until("the listener says so", |api| {
        let listener = &api.get(EDGE)["status"]["listeners"][0];
        let said = condition(&listener["conditions"], "ResolvedRefs")["message"].to_string();
        said.contains("Secret shop/tls is there, but cannot be read")
    })
    .await;
}

fn base64(text: &str) -> String {
    let data = k8s_openapi::ByteString(text.as_bytes().to_vec());
    serde_json::to_value(data)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn an_object_that_cannot_be_read_spares_the_others() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.create(&json!({
        "kind": "HTTPRoute",
        "metadata": { "name": "from-the-future", "namespace": "shop" },
        "spec": { "parentRefs": "edge" },
    }));
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the good route", |tables| routes(tables) == 1)
        .await;
    // What it was when it could be read stays in force.
    api.patch(
        ("HTTPRoute", "shop/web"),
        &json!({ "spec": { "rules": 5 } }),
    );
    api.patch(
        ("Gateway", "shop/edge"),
        &json!({ "spec": { "listeners": [
        { "name": "http", "port": 8080, "protocol": "HTTP" },
    ] } }),
    );
    let port = |tables: &Tables| {
        tables
            .values()
            .all(|table| table.listeners.values().all(|it| it.port == 8080))
    };
    let tables = replica.tables("the other port", port).await;
    assert_eq!(routes(&tables), 1);
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_told_and_watched_once_it_is() {
    let api = FakeApi::bare().await;
    for kind in ["GatewayClass", "Gateway"] {
        api.install(kind);
    }
    for document in SHOP.split("\n---\n").filter(|it| !it.contains("HTTPRoute")) {
        api.apply(document);
    }
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the Gateway", |tables| {
            tables.len() == 1 && routes(tables) == 0
        })
        .await;
    let message = |api: &FakeApi| {
        let class = api.get(CLASS);
        condition(&class["status"]["conditions"], "SupportedVersion")["message"].to_string()
    };
    api.until("the GatewayClass tells", |api| {
        message(api)
            .contains("not served: BackendTLSPolicy, CredentialInjection, EgressPolicy, GatewayParameters, HTTPRoute, ListenerSet, ReferenceGrant, ServiceEntry, TLSRoute")
    })
    .await;

    api.install("HTTPRoute");
    api.apply(SHOP.split("\n---\n").last().unwrap());
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    api.until("the GatewayClass tells", |api| {
        message(api).contains(
            "not served: BackendTLSPolicy, CredentialInjection, EgressPolicy, GatewayParameters, ListenerSet, ReferenceGrant, ServiceEntry, TLSRoute",
        )
    })
    .await;

    let crd = (
        "CustomResourceDefinition",
        "httproutes.gateway.networking.k8s.io",
    );
    api.delete(("HTTPRoute", "shop/web"));
    api.delete(crd);
    replica
        .tables("no route", |tables| routes(tables) == 0)
        .await;
}
