//! GatewayParameters that break while they are in use: what is served goes on with the last good ones.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::ByteString;
use portcullis_controller::{
    ca::Identity,
    publish::{Limits, Publisher},
};
use portcullis_routing::{EndpointHost, Frame, RoutingTable};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::{
    fake_api::FakeApi,
    support::{CLASS, CONTROLLER_HOST, EDGE, Replica, SHOP, Tables, condition},
};

const PARAMETERS: (&str, &str) = ("GatewayParameters", "shop/all");
const SERVICE: (&str, &str) = ("Service", "shop/edge-portcullis");
const DEPLOYMENT: (&str, &str) = ("Deployment", "shop/edge-portcullis");
const IDENTITY: (&str, &str) = ("Secret", "shop/edge-portcullis-identity");
const SLICE: (&str, &str) = ("EndpointSlice", "shop/web-1");

/// GatewayParameters that the class, or the Gateway, may refer to.
fn parameters(trusted_hops: u32) -> Value {
    json!({
        "kind": "GatewayParameters", "metadata": { "name": "all", "namespace": "shop" },
        "spec": {
            "proxy": { "clientAddress": { "trustedHops": trusted_hops } }, "workload": { "replicas": 3 },
        },
    })
}

/// A cluster in which the class refers to [`parameters`], with one trusted hop.
async fn shop() -> FakeApi {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.create(&parameters(1));
    let reference = json!({
        "group": "portcullis.dev", "kind": "GatewayParameters", "name": "all", "namespace": "shop",
    });
    api.patch(CLASS, &json!({ "spec": { "parametersRef": reference } }));
    api
}

/// Waits until everything is made for the Gateway, and it has an address.
async fn until_made(api: &FakeApi) {
    api.until("it is made", |api| {
        let all = [SERVICE, DEPLOYMENT, IDENTITY];
        all.into_iter().all(|object| !api.get(object).is_null())
    })
    .await;
    let ingress = json!([{ "ip": "192.0.2.1" }]);
    api.patch(
        SERVICE,
        &json!({ "status": { "loadBalancer": { "ingress": ingress } } }),
    );
    api.until("it has an address", |api| {
        api.get(EDGE)["status"]["addresses"][0]["value"] == "192.0.2.1"
    })
    .await;
}

fn conditions(api: &FakeApi, of: (&str, &str), kind: &str) -> Value {
    condition(&api.get(of)["status"]["conditions"], kind).clone()
}

/// Waits until class and Gateway say that the parameters are broken, and the Gateway these words of it.
async fn until_told(api: &FakeApi, words: &str) {
    api.until("class and Gateway tell", |api| {
        let [class, edge] = [CLASS, EDGE].map(|of| conditions(api, of, "Accepted"));
        [&class, &edge]
            .into_iter()
            .all(|it| it["status"] == "False" && it["reason"] == "InvalidParameters")
            && edge["message"].to_string().contains(words)
    })
    .await;
}

/// Trusted hops and addresses of endpoints in the table, if there is one.
fn served(tables: &Tables) -> Option<(u32, Vec<EndpointHost>)> {
    let table = tables.values().next()?;
    let endpoints = table.endpoints.values().flat_map(|it| &it.endpoints);
    let endpoints = endpoints.map(|endpoint| endpoint.host.clone());
    Some((
        table.settings.client_address.trusted_hops,
        endpoints.collect(),
    ))
}

/// The table that a proxy gets that was just started with the certificate that is there.
async fn of_new_proxy(api: &FakeApi, replica: &Replica) -> RoutingTable {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let publisher = Publisher::new(
        Arc::clone(&replica.tls),
        Limits::default(),
        Arc::clone(&replica.metrics),
    );
    let serving = tokio::spawn(publisher.serve(listener, replica.tables.clone()));

    let data: BTreeMap<String, ByteString> =
        serde_json::from_value(api.get(IDENTITY)["data"].clone()).unwrap();
    let identity = Identity::from_data(&data).unwrap();
    let mut roots = RootCertStore::empty();
    let authorities = CertificateDer::pem_slice_iter(identity.authorities.as_bytes());
    roots.add_parsable_certificates(authorities.flatten());
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.flatten().collect(), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let host = CONTROLLER_HOST.try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(host, stream);
    let stream = TokioIo::new(stream.await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!(
        "https://{CONTROLLER_HOST}/v1/gateways/shop/edge/table"
    ));
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    serving.abort();
    let lines = body.split(|byte| *byte == b'\n');
    let frames = lines.map(Frame::parse);
    let mut tables = frames.filter_map(|frame| match frame {
        Ok(Frame::Snapshot(table)) => Some(table),
        _ => None,
    });
    Arc::unwrap_or_clone(tables.next().unwrap())
}

/// With defaults in place of what the class says a proxy would, say, read the PROXY protocol as HTTP; standing still it would
/// send requests to servers that are gone.
#[tokio::test]
async fn while_those_of_the_class_are_broken_the_last_good_ones_stay_in_force() {
    let api = shop().await;
    let mut replica = Replica::provisioning(&api, "one");
    until_made(&api).await;
    let deployment = api.get(DEPLOYMENT);
    assert_eq!(deployment["spec"]["replicas"], 3);

    api.delete(PARAMETERS);
    until_told(&api, "until then the last good ones stay in force").await;
    assert_eq!(api.get(DEPLOYMENT), deployment);

    // Servers come and go.
    let moved =
        json!({ "endpoints": [{ "addresses": ["10.0.0.2"], "conditions": { "ready": true } }] });
    api.patch(SLICE, &moved);
    let there = vec![EndpointHost::Ip(Ipv4Addr::new(10, 0, 0, 2).into())];
    let now = Some((1, there.clone()));
    let tables = replica
        .tables("the new endpoint", |tables| served(tables) == now)
        .await;
    // So do proxies, their certificates and what runs them.
    let table = of_new_proxy(&api, &replica).await;
    assert_eq!(table.version, tables.values().next().unwrap().version);
    let identity = api.get(IDENTITY)["data"].clone();
    api.delete(IDENTITY);
    api.until("there is a new certificate", |api| {
        let made = &api.get(IDENTITY)["data"];
        made.is_object() && *made != identity
    })
    .await;
    api.delete(DEPLOYMENT);
    api.until("the Deployment is back", |api| {
        api.get(DEPLOYMENT)["spec"]["replicas"] == 3
    })
    .await;
    // And the status says what proxies serve.
    replica.acknowledge();
    api.until("it is programmed", |api| {
        conditions(api, EDGE, "Programmed")["status"] == "True"
    })
    .await;
    assert_eq!(conditions(&api, EDGE, "Accepted")["status"], "False");

    api.create(&parameters(2));
    replica
        .tables("what is asked for now", |tables| {
            served(tables) == Some((2, there.clone()))
        })
        .await;
    api.until("both are accepted", |api| {
        [CLASS, EDGE]
            .into_iter()
            .all(|of| conditions(api, of, "Accepted")["reason"] == "Accepted")
    })
    .await;
}

/// What was good before is not known to it, and nothing is made up.
#[tokio::test]
async fn a_controller_that_starts_while_they_are_broken_lets_everything_stand() {
    let api = shop().await;
    let before = Replica::provisioning(&api, "before");
    until_made(&api).await;
    before.controller.shutdown().await;
    let made = [SERVICE, DEPLOYMENT, IDENTITY].map(|object| api.get(object));

    let broken = json!({ "spec": { "proxy": { "drainTimeout": "soon" } } });
    api.patch(PARAMETERS, &broken);
    let mut replica = Replica::provisioning(&api, "one");
    until_told(&api, "there were no good ones since the start").await;
    replica
        .tables("nothing new", |tables| tables.is_empty())
        .await;
    assert_eq!(
        [SERVICE, DEPLOYMENT, IDENTITY].map(|object| api.get(object)),
        made
    );
    assert_eq!(
        api.get(EDGE)["status"]["addresses"][0]["value"],
        "192.0.2.1"
    );

    api.patch(
        PARAMETERS,
        &json!({ "spec": { "proxy": { "drainTimeout": null } } }),
    );
    replica
        .tables("they are good again", |tables| {
            served(tables).is_some_and(|(hops, _)| hops == 1)
        })
        .await;
}

#[tokio::test]
async fn while_the_gateways_own_are_broken_the_last_good_ones_stay_in_force() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.create(&parameters(1));
    let refer = |name: &str| {
        let reference =
            json!({ "group": "portcullis.dev", "kind": "GatewayParameters", "name": name });
        api.patch(
            EDGE,
            &json!({ "spec": { "infrastructure": { "parametersRef": reference } } }),
        );
    };
    refer("all");
    let mut replica = Replica::provisioning(&api, "one");
    until_made(&api).await;
    // A slip of the pen, and a new listener with it.
    refer("al");
    let listeners = json!([
        { "name": "http", "port": 80, "protocol": "HTTP" },
        { "name": "other", "port": 8080, "protocol": "HTTP" },
    ]);
    api.patch(EDGE, &json!({ "spec": { "listeners": listeners } }));
    let tables = replica
        .tables("the listener is there", |tables| {
            tables.values().any(|table| table.listeners.len() == 2)
        })
        .await;
    assert!(served(&tables).is_some_and(|(hops, _)| hops == 1));
    api.until("so is its port", |api| {
        let service = api.get(SERVICE);
        service["spec"]["ports"].as_array().map(Vec::len) == Some(2)
    })
    .await;
    assert_eq!(api.get(DEPLOYMENT)["spec"]["replicas"], 3);
    api.until("it is told", |api| {
        let accepted = conditions(api, EDGE, "Accepted");
        let message = accepted["message"].to_string();
        accepted["reason"] == "InvalidParameters"
            && message.contains("spec.infrastructure.parametersRef.name")
            && message.contains("until then the last good ones stay in force")
    })
    .await;
}
