//! Of several replicas one writes; all translate.

use std::time::Duration;

use serde_json::json;

use crate::{
    fake_api::FakeApi,
    support::{EDGE, Replica, SHOP, WEB, address, condition, routes},
};

const LEASE: (&str, &str) = ("Lease", "portcullis-system/portcullis-controller");

/// Of a Lease that a test waits for.
const SHORT: Duration = Duration::from_secs(4);

fn holder(api: &FakeApi) -> String {
    let holder = &api.get(LEASE)["spec"]["holderIdentity"];
    holder.as_str().unwrap_or_default().to_owned()
}

/// How many statuses this replica has written or tried to.
fn writes(api: &FakeApi, replica: &str) -> usize {
    api.count(|it| it.status && it.client == replica)
}

/// Whether the status is of the present generation of the Gateway.
fn up_to_date(api: &FakeApi) -> bool {
    let gateway = api.get(EDGE);
    let accepted = condition(&gateway["status"]["conditions"], "Accepted");
    accepted["observedGeneration"] == gateway["metadata"]["generation"]
}

fn change(api: &FakeApi, port: u16) {
    api.patch(
        EDGE,
        &json!({ "spec": { "listeners": [{ "name": "http", "port": port, "protocol": "HTTP" }] } }),
    );
}

#[tokio::test]
async fn one_of_two_replicas_writes_and_the_other_takes_over_in_peace() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let one = Replica::start(&api, "one");
    api.until("one leads and writes", |api| {
        holder(api) == "one" && up_to_date(api)
    })
    .await;
    let mut two = Replica::start(&api, "two");
    two.tables("two translates", |tables| routes(tables) == 1)
        .await;
    for port in [81, 82] {
        change(&api, port);
        let seen = move |tables: &crate::support::Tables| {
            let mut listeners = tables.values().flat_map(|table| table.listeners.values());
            listeners.any(|listener| listener.port == port)
        };
        two.tables("two follows", seen).await;
        api.until("one writes", up_to_date).await;
    }
    assert_eq!(writes(&api, "two"), 0);

    one.controller.shutdown().await;
    assert_eq!(holder(&api), "", "the Lease was given back");
    let before = writes(&api, "one");
    api.until("two leads", |api| holder(api) == "two").await;
    change(&api, 83);
    api.until("two writes", up_to_date).await;
    assert!(writes(&api, "two") > 0);
    assert_eq!(writes(&api, "one"), before);
    let lease = api.get(LEASE);
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

/// The others know where to tell of their data planes, whoever leads.
#[tokio::test]
async fn the_lease_says_where_the_leader_is() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let one = Replica::start(&api, "one");
    api.until("one leads", |api| holder(api) == "one").await;
    let two = Replica::start(&api, "two");
    let mut of_two = two.controller.leader();
    let found = of_two.wait_for(Option::is_some).await.unwrap().unwrap();
    assert_eq!(found, address("one"));
    let mut of_one = one.controller.leader();
    assert_eq!(*of_one.borrow_and_update(), None, "it is this one");

    one.controller.shutdown().await;
    of_two.wait_for(Option::is_none).await.unwrap();
    api.until("two leads", |api| holder(api) == "two").await;
    let three = Replica::start(&api, "three");
    let mut of_three = three.controller.leader();
    let found = of_three.wait_for(Option::is_some).await.unwrap().unwrap();
    assert_eq!(found, address("two"));
}

#[tokio::test]
async fn a_replica_that_dies_is_replaced_once_its_lease_has_run_out() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let one = Replica::with_lease(&api, "one", SHORT);
    api.until("one leads", |api| holder(api) == "one" && up_to_date(api))
        .await;
    let two = Replica::with_lease(&api, "two", SHORT);
    api.until("two knows of the Lease", |api| {
        api.count(|it| it.kind == "Lease" && it.client == "two") > 0
    })
    .await;
    let renewed = api.get(LEASE)["spec"]["renewTime"].clone();
    api.until("one renews", |api| {
        api.get(LEASE)["spec"]["renewTime"] != renewed
    })
    .await;
    assert!(!*two.controller.leads().borrow());

    drop(one);
    let dead = std::time::Instant::now();
    change(&api, 81);
    api.until("two leads and writes", |api| {
        holder(api) == "two" && up_to_date(api)
    })
    .await;
    assert!(
        dead.elapsed() > Duration::from_secs(1),
        "not before it has run out"
    );
}

/// Whoever cannot renew stops writing before anybody else may begin.
#[tokio::test]
async fn a_replica_that_cannot_renew_leads_no_more() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let one = Replica::with_lease(&api, "one", SHORT);
    let mut leads = one.controller.leads();
    leads.wait_for(|leads| *leads).await.unwrap();
    api.refuse("Lease", u32::MAX, 500);
    leads.wait_for(|leads| !*leads).await.unwrap();
    assert_eq!(holder(&api), "one", "it has not run out for others");
    change(&api, 81);
    let mut one = one;
    one.tables("it translates", |tables| {
        tables
            .values()
            .all(|table| table.listeners.values().all(|it| it.port == 81))
    })
    .await;
    api.refuse("Lease", 0, 500);
    leads.wait_for(|leads| *leads).await.unwrap();
    api.until("it writes again", up_to_date).await;
    assert_eq!(
        api.get(WEB)["status"]["parents"].as_array().map(Vec::len),
        Some(1)
    );
}
