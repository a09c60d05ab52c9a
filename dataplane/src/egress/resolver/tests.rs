//! What is asked, what is given out meanwhile, and for how long.

use futures::future::join_all;
use hickory_resolver::proto::op::ResponseCode;
use tokio::task::LocalSet;

use super::{
    turns::{MAX_QUESTIONS, SHARE, TURN_TIMEOUT},
    *,
};
use crate::{
    telemetry::{Metrics, MetricsOptions},
    upstream::testing::dns::FakeDns,
};

const SECOND: Duration = Duration::from_secs(1);

fn answer(last: u8) -> Answer {
    let address = [192, 0, 2, last].into();
    Answer {
        addresses: Box::new([(address, AddressClass::of(address))]),
    }
}

/// What is to be done, in words.
fn step(name: &Name, now: Instant) -> String {
    match name.step(now, false) {
        Step::Done(Ok(answer), result) => format!("{} {result:?}", answer.addresses[0].0),
        Step::Done(Err(why), _) => why.to_string(),
        Step::Refresh(answer) => format!("{} and ask", answer.addresses[0].0),
        Step::Ask => "ask".to_owned(),
    }
}

#[test]
fn an_answer_holds_for_its_time_and_for_an_hour_more_while_the_servers_fail() {
    let (name, start) = (Name::default(), Instant::now());
    assert_eq!(step(&name, start), "ask");
    name.learn(Found::Answer(answer(1), 10 * SECOND), start);
    assert_eq!(step(&name, start + 9 * SECOND), "192.0.2.1 Cached");
    let over = start + 10 * SECOND;
    assert_eq!(step(&name, over), "ask");

    let failed = || Found::Failed("no server".to_owned());
    name.learn(failed(), over);
    assert_eq!(step(&name, over + SECOND), "192.0.2.1 Stale");
    assert_eq!(step(&name, over + PAUSE), "192.0.2.1 and ask");
    name.learn(failed(), over + MAX_STALE - SECOND);
    assert_eq!(step(&name, over + MAX_STALE), "ask");
    name.learn(failed(), over + MAX_STALE);
    assert_eq!(step(&name, over + MAX_STALE), "no server");
    assert_eq!(step(&name, over + MAX_STALE + PAUSE), "ask");

    name.learn(Found::Answer(answer(2), SECOND), over);
    assert_eq!(step(&name, over), "192.0.2.2 Cached");
    // Unlike a failure, this is an answer.
    name.learn(Found::Nothing("no name".to_owned(), SECOND), over);
    assert_eq!(step(&name, over), "no name");
    assert_eq!(step(&name, over + SECOND), "ask");
}

#[tokio::test]
async fn all_who_wait_share_one_question_and_what_there_is_not_is_known_too() {
    let metrics = Metrics::new(MetricsOptions::default());
    let resolver = Resolver::new(metrics.worker());
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let addresses = ["203.0.113.7", "2001:db8::7"].map(|it| it.parse().unwrap());
            let server = FakeDns::start(&addresses, 0).await;
            resolver.use_servers(&[server.address]);
            let all = join_all((0..10).map(|_| resolver.resolve("up.example.com", "ns"))).await;
            for found in all {
                let found = found.unwrap();
                assert_eq!(
                    found.addresses.iter().map(|it| it.0).collect::<Vec<_>>(),
                    addresses
                );
            }
            assert_eq!(server.questions(), 2, "one for each family");
            server.alias("up.example.net.", &addresses[..1]);
            let alias = resolver.resolve("www.example.com", "ns").await.unwrap();
            assert_eq!(alias.addresses[0].0, addresses[0]);
            resolver
                .resolve("my_bucket.example.com", "ns")
                .await
                .unwrap();
            let asked = server.questions();
            // Even with a TTL of 0.
            resolver.resolve("www.example.com", "ns").await.unwrap();
            assert_eq!(server.questions(), asked);

            server.fail(ResponseCode::NXDomain);
            for _ in 0..2 {
                let error = resolver
                    .resolve("none.example.com", "ns")
                    .await
                    .unwrap_err();
                assert_eq!(&*error, "there is no such name");
            }
            assert_eq!(server.questions(), asked + 2);
            server.fail(ResponseCode::ServFail);
            let error = resolver.resolve("bad.example.com", "ns").await.unwrap_err();
            assert!(
                error.contains("Server Failure") || error.contains("no "),
                "{error}"
            );

            // Other servers may know better.
            let other = FakeDns::start(&addresses, 60).await;
            resolver.use_servers(&[other.address]);
            resolver.resolve("none.example.com", "ns").await.unwrap();
        })
        .await;
}

#[test]
fn a_name_with_very_many_addresses_has_none() {
    let address = |number| IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
    let found = |count| Found::addresses((0..count).map(address).collect(), SECOND);
    assert!(
        matches!(found(MAX_ADDRESSES), Found::Answer(answer, _) if answer.addresses.len() == MAX_ADDRESSES)
    );
    let Found::Nothing(why, _) = found(MAX_ADDRESSES + 1) else {
        panic!("an answer of any length");
    };
    assert_eq!(why, "it has more than 128 addresses");
}

#[tokio::test(start_paused = true)]
async fn questions_wait_for_their_turn_and_not_for_long() {
    let metrics = Metrics::new(MetricsOptions::default());
    let resolver = Resolver::new(metrics.worker());
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            // Nobody answers there.
            let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            resolver.use_servers(&[silent.local_addr().unwrap()]);
            let names: Vec<_> = (0..=SHARE).map(|n| format!("{n}.example.com")).collect();
            let all = join_all(names.iter().map(|name| resolver.resolve(name, "ns"))).await;
            let busy = "too many names are being looked up";
            let is_busy =
                |found: &&Result<_, NoAnswer>| found.as_ref().is_err_and(|it| &**it == busy);
            assert_eq!(all.iter().filter(is_busy).count(), 1);
            assert!(all.iter().all(Result::is_err));
            // All of them are over.
            let again: Vec<_> = (0..SHARE).map(|_| resolver.turns.try_take("ns")).collect();
            assert!(again.iter().all(Option::is_some));
        })
        .await;
}

#[tokio::test]
async fn one_namespace_that_asks_for_what_is_never_answered_takes_dns_from_nobody_else() {
    let metrics = Metrics::new(MetricsOptions::default());
    let resolver = Rc::new(Resolver::new(metrics.worker()));
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let server = FakeDns::start(&["203.0.113.7".parse().unwrap()], 60).await;
            server.except(|query| query.name().to_utf8().contains("evil"), None);
            resolver.use_servers(&[server.address]);
            for number in 0..2 * MAX_QUESTIONS {
                let resolver = Rc::clone(&resolver);
                spawn_local(async move {
                    let name = format!("{number}.evil.example");
                    resolver.resolve(&name, "evil").await
                });
            }
            while resolver.turns.try_take("evil").is_some() {
                tokio::task::yield_now().await;
            }
            resolver.resolve("up.example.com", "good").await.unwrap();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_given_out_when_its_turn_does_not_come() {
    let metrics = Metrics::new(MetricsOptions::default());
    let resolver = Resolver::new(metrics.worker());
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let entry = resolver.names.borrow_mut().entry("a.example.com", "ns");
            entry.learn(Found::Answer(answer(1), SECOND), Instant::now());
            tokio::time::advance(2 * SECOND).await;
            let _taken: Vec<_> = (0..MAX_QUESTIONS)
                .map(|number| resolver.turns.try_take(&number.to_string()).unwrap())
                .collect();
            let asked = Instant::now();
            let found = resolver.resolve("a.example.com", "ns").await;
            assert_eq!(*found.unwrap(), answer(1));
            assert_eq!(asked.elapsed(), TURN_TIMEOUT);
            // Nobody else waits.
            let asked = Instant::now();
            resolver.resolve("a.example.com", "ns").await.unwrap();
            assert_eq!(asked.elapsed(), Duration::ZERO);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_has_an_old_answer_does_not_wait_for_servers_that_are_gone() {
    let metrics = Metrics::new(MetricsOptions::default());
    let resolver = Resolver::new(metrics.worker());
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            // Nobody answers there.
            let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            resolver.use_servers(&[silent.local_addr().unwrap()]);
            let entry = resolver.names.borrow_mut().entry("a.example.com", "ns");
            entry.learn(Found::Answer(answer(1), SECOND), Instant::now());
            tokio::time::advance(2 * SECOND).await;
            let asked = Instant::now();
            let first = resolver.resolve("a.example.com", "ns").await.unwrap();
            assert_eq!(*first, answer(1));
            assert_eq!(asked.elapsed(), PATIENCE);
            // The same question is still under way.
            let asked = Instant::now();
            assert_eq!(resolver.resolve("a.example.com", "ns").await, Ok(first));
            assert_eq!(asked.elapsed(), Duration::ZERO);
            assert!(entry.is_asked.get());
            // One that was never known has nothing else to wait for.
            let asked = Instant::now();
            resolver.resolve("b.example.com", "ns").await.unwrap_err();
            assert!(asked.elapsed() > PATIENCE);
        })
        .await;
}
