//! A role that lacks the right to a kind: older than the program, or somebody has cut it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    credentials::use_it,
    egress::EGRESS,
    fake_api::FakeApi,
    support::{EDGE, Replica, SHOP, Tables, WEB, condition, routes},
};

/// Gateways that go by kinds which not every Gateway goes by, each named like the kind, with what there is of it.
pub(crate) const OTHERS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tls-route, namespace: shop}
spec:
  gatewayClassName: portcullis
  listeners: [{name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: through, namespace: shop}
spec:
  parentRefs: [{name: tls-route}]
  hostnames: [shop.example]
  rules: [{backendRefs: [{name: web, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: listener-set, namespace: shop}
spec:
  gatewayClassName: portcullis
  allowedListeners: {namespaces: {from: Same}}
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more, namespace: shop}
spec:
  parentRef: {name: listener-set}
  listeners: [{name: more, port: 81, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: more, namespace: shop}
spec:
  parentRefs: [{kind: ListenerSet, name: more}]
  rules: [{backendRefs: [{name: web, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: parameters, namespace: shop}
spec:
  gatewayClassName: portcullis
  infrastructure: {parametersRef: {group: portcullis.dev, kind: GatewayParameters, name: own}}
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: portcullis.dev/v1alpha1
kind: GatewayParameters
metadata: {name: own, namespace: shop}
spec: {proxy: {clientAddress: {trustedHops: 1}}}";

/// The kinds, and the Gateways that go by them.
pub(crate) const KINDS: [(&str, &str); 3] = [
    ("TLSRoute", "shop/tls-route"),
    ("ListenerSet", "shop/listener-set"),
    ("GatewayParameters", "shop/parameters"),
];

const MORE: (&str, &str) = ("HTTPRoute", "shop/more");

/// What a Gateway says of the kinds that it goes by; empty if all can be read.
pub(crate) fn told(api: &FakeApi, gateway: &str) -> String {
    let gateway = api.get(("Gateway", gateway));
    let sources = condition(
        &gateway["status"]["conditions"],
        "portcullis.dev/SourcesReadable",
    );
    match sources {
        Value::Null => String::new(),
        sources => {
            assert_eq!(sources["status"], "False");
            sources["message"].as_str().unwrap().to_owned()
        }
    }
}

/// The status of a Gateway's condition.
fn stated(api: &FakeApi, gateway: &str, kind: &str) -> Value {
    let gateway = api.get(("Gateway", gateway));
    condition(&gateway["status"]["conditions"], kind)["status"].clone()
}

pub(crate) fn has_table(tables: &Tables, gateway: &str) -> bool {
    tables.keys().any(|key| key.to_string() == gateway)
}

fn is_accepted(api: &FakeApi, route: (&str, &str)) -> bool {
    let parent = &api.get(route)["status"]["parents"][0];
    condition(&parent["conditions"], "Accepted")["status"] == "True"
}

/// What there is to raise an alarm by.
async fn is_counted(replica: &Replica, kind: &str, so: u8) {
    let line = format!("portcullis_controller_kind_unreadable{{kind=\"{kind}\"}} {so}\n");
    let wait = async {
        while !String::from_utf8(replica.metrics.encode().unwrap())
            .unwrap()
            .contains(&line)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let counted = tokio::time::timeout(Duration::from_mins(1), wait).await;
    counted.unwrap_or_else(|_| panic!("waited in vain: {line}"));
}

/// Makes a change that has nothing to do with what cannot be read, and waits until it is in force.
pub(crate) async fn goes_on(api: &FakeApi, replica: &mut Replica, hostname: &str) -> Tables {
    api.patch(WEB, &json!({"spec": {"hostnames": [hostname]}}));
    let is_in_force = |tables: &Tables| {
        let mut routes = tables.values().flat_map(|table| table.routes.values());
        routes.any(|route| route.hostnames.iter().any(|name| name == hostname))
    };
    replica.tables("the hostname", is_in_force).await
}

/// Proxies may have more from a controller before this one, so that nothing takes the place of what they have.
#[tokio::test]
async fn what_was_never_known_stops_only_gateways_that_may_go_by_it() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(OTHERS);
    for (kind, _) in KINDS {
        api.refuse(kind, u32::MAX, 403);
    }
    // A controller before this one has said so.
    let parent = json!({
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "ListenerSet", "name": "more"},
        "controllerName": "portcullis.dev/gateway-controller",
        "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z"}],
    });
    api.patch(MORE, &json!({"status": {"parents": [parent]}}));
    let mut replica = Replica::hasty(&api, "one");
    let tables = goes_on(&api, &mut replica, "first.example").await;
    for (kind, gateway) in KINDS {
        assert!(!has_table(&tables, gateway), "{gateway}");
        api.until("the Gateway says which right is missing", |api| {
            let told = told(api, gateway);
            told.contains(&format!("{kind} cannot be read"))
                && told.contains("the verbs list and watch")
        })
        .await;
        let says = |kind| stated(&api, gateway, kind);
        assert_eq!(
            (says("Accepted"), says("Programmed")),
            ("True".into(), "Unknown".into())
        );
    }
    api.until("what goes by none of them is well", |api| {
        is_accepted(api, WEB)
    })
    .await;
    assert_eq!(told(&api, EDGE.1), "");
    assert!(is_accepted(&api, MORE));
    is_counted(&replica, "TLSRoute", 1).await;
    is_counted(&replica, "HTTPRoute", 0).await;
    api.until("the class says so to whoever has no Gateway yet", |api| {
        let class = api.get(("GatewayClass", "portcullis"));
        let version = condition(&class["status"]["conditions"], "SupportedVersion");
        let said = version["message"].as_str().unwrap_or_default();
        said.contains("TLSRoute cannot be read, so nothing new goes by it")
    })
    .await;

    for (kind, _) in KINDS {
        api.refuse(kind, 0, 403);
    }
    let tables = replica
        .tables("all Gateways", |tables| {
            let all = KINDS.iter().all(|(_, gateway)| has_table(tables, gateway));
            all && routes(tables) == 3
        })
        .await;
    let mut tables = tables.values();
    assert!(tables.any(|table| table.settings.client_address.trusted_hops == 1));
    api.until("nothing is missing", |api| {
        KINDS
            .iter()
            .all(|(_, gateway)| told(api, gateway).is_empty())
    })
    .await;
}

/// Whatever kind it is, and however much would be left without it.
#[tokio::test]
async fn what_was_known_stays_when_the_right_to_it_is_taken_away() {
    let others = [
        "HTTPRoute",
        "BackendTLSPolicy",
        "ReferenceGrant",
        "Service",
        "Secret",
        "ConfigMap",
    ];
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(OTHERS);
    let mut replica = Replica::hasty(&api, "one");
    replica
        .tables("everything", |tables| routes(tables) == 3)
        .await;
    let kinds = KINDS.iter().map(|(kind, _)| *kind);
    for kind in kinds.chain(others.into_iter().skip(1)) {
        api.refuse(kind, u32::MAX, 403);
    }
    api.cut_watches();
    for (kind, gateway) in KINDS {
        api.until("the Gateway says so", |api| {
            let told = told(api, gateway);
            let mut kinds = others.iter().skip(1).chain([&kind]);
            kinds.all(|kind| told.contains(&format!("{kind} cannot be read, so what was known")))
        })
        .await;
    }
    let tables = goes_on(&api, &mut replica, "second.example").await;
    assert_eq!((routes(&tables), tables.len()), (3, 4));

    api.refuse("HTTPRoute", u32::MAX, 403);
    api.cut_watches();
    api.until("the Gateway says so", |api| {
        told(api, EDGE.1).contains("HTTPRoute cannot be read")
    })
    .await;
    api.delete(("TLSRoute", "shop/through"));
    for (kind, _) in KINDS {
        api.refuse(kind, 0, 403);
    }
    let tables = replica
        .tables("what was deleted meanwhile is gone", |tables| {
            routes(tables) == 2
        })
        .await;
    assert_eq!(tables.len(), 4);
}

/// The right comes, and with it the answer that the CRD is of a release without the version that is read.
#[tokio::test]
async fn a_kind_that_is_not_served_is_told_so_no_more_once_that_may_be_known() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(OTHERS);
    let (kind, gateway) = KINDS[0];
    api.refuse(kind, u32::MAX, 403);
    let mut replica = Replica::hasty(&api, "one");
    api.until("the Gateway says so", |api| {
        told(api, gateway).contains(&format!("{kind} cannot be read"))
    })
    .await;
    api.refuse(kind, u32::MAX, 404);
    replica
        .tables("the Gateway", |tables| has_table(tables, gateway))
        .await;
    api.until("nothing is missing", |api| told(api, gateway).is_empty())
        .await;
}

/// Kinds whose CRDs come later, with objects that may not be read; and the Gateways that stand still then. For lack of the last one all do.
const LATER: [(&str, &str, &str); 4] = [
    ("EgressPolicy", "egresspolicies.portcullis.dev", "shop/out"),
    (
        "TLSRoute",
        "tlsroutes.gateway.networking.k8s.io",
        "shop/tls-route",
    ),
    (
        "ListenerSet",
        "listenersets.gateway.networking.k8s.io",
        "shop/listener-set",
    ),
    (
        "BackendTLSPolicy",
        "backendtlspolicies.gateway.networking.k8s.io",
        "shop/edge",
    ),
];

/// Else a policy that denies, or asks for TLS, would count as not there.
#[tokio::test]
async fn nothing_is_known_of_a_kind_that_was_not_installed_before_it_was_refused() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, OTHERS, EGRESS] {
        api.apply(manifests);
    }
    for (_, crd, _) in LATER {
        api.delete(("CustomResourceDefinition", crd));
    }
    let mut replica = Replica::hasty(&api, "one");
    replica
        .tables("all Gateways", |tables| tables.len() == 5)
        .await;
    for (kind, _, gateway) in LATER {
        api.refuse(kind, u32::MAX, 403);
        api.install(kind);
        api.until("the Gateway says so", |api| {
            told(api, gateway).contains(&format!("{kind} cannot be read, so nothing is known"))
        })
        .await;
        replica
            .tables("the Gateway stands still", |tables| {
                !has_table(tables, gateway)
            })
            .await;
    }
    for (kind, _, _) in LATER {
        api.refuse(kind, 0, 403);
    }
    replica
        .tables("all Gateways", |tables| tables.len() == 5)
        .await;
    for (_, _, gateway) in LATER {
        api.until("nothing is missing", |api| told(api, gateway).is_empty())
            .await;
    }
}

#[tokio::test]
async fn a_crd_without_the_version_that_is_read_is_told_with_what_helps() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let (kind, crd, gateway) = LATER[3];
    api.delete(("CustomResourceDefinition", crd));
    let mut replica = Replica::hasty(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    api.refuse(kind, u32::MAX, 404);
    api.install(kind);
    api.until("the Gateway says so", |api| {
        told(api, gateway)
            .contains("its CRD is there, but serves no version that is read here (v1)")
    })
    .await;
    let told = told(&api, gateway);
    let remedy = ": install the CRD of a release that has it";
    assert!(told.ends_with(remedy), "{told}");
}

#[tokio::test]
async fn a_kind_that_keeps_everything_from_being_published_is_counted_too() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.refuse("HTTPRoute", u32::MAX, 403);
    let mut replica = Replica::hasty(&api, "one");
    is_counted(&replica, "HTTPRoute", 1).await;
    is_counted(&replica, "TLSRoute", 0).await;
    assert!(replica.tables.borrow_and_update().is_none());
    api.refuse("HTTPRoute", 0, 403);
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    is_counted(&replica, "HTTPRoute", 0).await;
}

/// Policies of what a Gateway that stands still may use, and of what another one uses.
const POLICIES: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  validation: {wellKnownCACertificates: System, hostname: web.example.com}
---
apiVersion: portcullis.dev/v1alpha1
kind: CredentialInjection
metadata: {name: key, namespace: shop}
spec: {header: X-Api-Key, secretRef: {name: keys, key: credential}}"#;

#[tokio::test]
async fn what_was_said_of_gateways_that_stand_still_stays() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, OTHERS, POLICIES] {
        api.apply(manifests);
    }
    use_it(&api);
    for (kind, _) in KINDS {
        api.refuse(kind, u32::MAX, 403);
    }
    // A controller before this one has said so.
    let ancestor = json!({
        "ancestorRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "shop", "name": "listener-set"},
        "controllerName": "portcullis.dev/gateway-controller",
        "conditions": [],
    });
    let policies = [
        ("BackendTLSPolicy", "shop/web"),
        ("CredentialInjection", "shop/key"),
    ];
    for policy in policies {
        api.patch(policy, &json!({"status": {"ancestors": [ancestor]}}));
    }
    let listener =
        json!({"name": "tls", "attachedRoutes": 1, "supportedKinds": [], "conditions": []});
    let [through, open] = ["shop/tls-route", "shop/listener-set"].map(|key| ("Gateway", key));
    api.patch(through, &json!({"status": {"listeners": [listener]}}));
    api.patch(open, &json!({"status": {"attachedListenerSets": 1}}));

    let _replica = Replica::hasty(&api, "one");
    for policy in policies {
        api.until("the Gateway that uses it is there", |api| {
            let ancestors = &api.get(policy)["status"]["ancestors"];
            let mut ancestors = ancestors.as_array().into_iter().flatten();
            ancestors.any(|it| it["ancestorRef"]["name"] == "edge")
        })
        .await;
        assert_eq!(api.get(policy)["status"]["ancestors"][0], ancestor);
    }
    for (_, gateway) in [through, open] {
        api.until("the Gateway says so", |api| !told(api, gateway).is_empty())
            .await;
    }
    assert_eq!(
        api.get(through)["status"]["listeners"][0]["attachedRoutes"],
        1
    );
    assert_eq!(api.get(open)["status"]["attachedListenerSets"], 1);
}

/// TLSRoutes have no filters.
#[tokio::test]
async fn tls_routes_that_cannot_be_read_use_no_credential() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, OTHERS, POLICIES] {
        api.apply(manifests);
    }
    let (kind, gateway) = KINDS[0];
    api.refuse(kind, u32::MAX, 403);
    let injection = ("CredentialInjection", "shop/key");
    let ancestor = json!({
        "ancestorRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "shop", "name": "tls-route"},
        "controllerName": "portcullis.dev/gateway-controller",
        "conditions": [],
    });
    api.patch(injection, &json!({"status": {"ancestors": [ancestor]}}));
    let _replica = Replica::hasty(&api, "one");
    api.until("the Gateway says so", |api| !told(api, gateway).is_empty())
        .await;
    api.until("no route uses it", |api| {
        api.get(injection)["status"]["ancestors"] == json!([])
    })
    .await;
}
