//! Who issues the tokens of service accounts, and the keys that verify them, as the API server publishes both (OpenID Connect
//! Discovery 1.0). Asked for while there is an egress Gateway, and again every few minutes: keys are published before the first
//! token is signed with them.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ConstantBuilder};
use http::Request;
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    ResourceStore,
    backoff::{Backoff, BackoffTimes},
    is, is_over,
};
use crate::{metrics::Metrics, translate::TokenIssuer};

/// What it is called beside the kinds that are watched.
pub(super) const NAME: &str = "ServiceAccountIssuer";

const CONFIGURATION: &str = "/.well-known/openid-configuration";
/// The API server serves its keys here, wherever else it says that they are.
const KEYS: &str = "/openid/v1/jwks";
/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Keys are asked for again after this and up to twice as long, so that replicas do not ask in step.
const REFRESH: Duration = Duration::from_mins(2);

/// What of the configuration is needed.
#[derive(Deserialize)]
struct Configuration {
    issuer: String,
}

/// A JSON Web Key Set (RFC 7517).
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// Keeps the store told for ever.
pub(super) async fn follow(
    client: Client,
    store: Arc<ResourceStore>,
    linger: Duration,
    times: BackoffTimes,
    metrics: Arc<Metrics>,
) {
    let (mut egress, mut over) = (store.egress(), store.egress());
    while is(&mut egress, true).await {
        tokio::select! {
            () = keep(&client, &store, &metrics, times) => {}
            () = is_over(&mut over, linger) => store.forget_issuer(),
        }
    }
}

/// Asks again and again. What is known stays in force while it cannot be had.
async fn keep(client: &Client, store: &ResourceStore, metrics: &Metrics, times: BackoffTimes) {
    let mut backoff = Backoff::new(times);
    let refreshes = ConstantBuilder::default().with_delay(REFRESH);
    let mut refreshes = refreshes.without_max_times().with_jitter().build();
    loop {
        let wait = match ask(client).await {
            Ok(issuer) => {
                backoff.reset();
                store.set_issuer(issuer);
                refreshes.next().unwrap_or(REFRESH)
            }
            Err(failure) => {
                metrics.watch_failed(NAME);
                let wait = backoff.wait();
                let error = &*failure.why;
                tracing::warn!(
                    error,
                    ?wait,
                    "cannot ask who issues tokens of service accounts; what is known stays in force"
                );
                // Tables of egress wait for an API server that is about to answer, or about to know our rights, but not for ever.
                if failure.is_final || backoff.is_lasting() {
                    store.no_issuer(failure.why);
                }
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Why the keys could not be had.
struct Failure {
    why: String,
    /// Whether another try will hardly help.
    is_final: bool,
}

impl Failure {
    fn lasting(why: String) -> Self {
        Self {
            why,
            is_final: true,
        }
    }
}

async fn ask(client: &Client) -> Result<TokenIssuer, Failure> {
    let configuration: Configuration = get(client, CONFIGURATION).await?;
    let mut set: KeySet = get(client, KEYS).await?;
    if configuration.issuer.is_empty() || set.keys.is_empty() {
        let why = format!("{CONFIGURATION} names no issuer, or {KEYS} no key");
        return Err(Failure::lasting(why));
    }
    // The same keys are the same text, whichever API server has answered.
    set.keys.sort_by_cached_key(Value::to_string);
    Ok(TokenIssuer {
        issuer: configuration.issuer,
        jwks: json!({ "keys": set.keys }).to_string(),
    })
}

async fn get<T: for<'a> Deserialize<'a>>(client: &Client, path: &str) -> Result<T, Failure> {
    let request = Request::get(path).body(Vec::new());
    let request = request.map_err(|error| Failure::lasting(error.to_string()))?;
    match timeout(TIMEOUT, client.request(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure {
            is_final: matches!(
                &error,
                kube::Error::Api(status) if status.code == 404
            ) || matches!(error, kube::Error::SerdeError(_)),
            why: format!("{path}: {error}"),
        }),
        Err(_) => Err(Failure {
            is_final: false,
            why: format!("{path}: the API server does not answer"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use http::{Response, StatusCode};
    use kube::client::Body;
    use tokio::time::Instant;
    use tower::service_fn;

    use super::*;

    /// An API server that answers with this: the status of all, the configuration, the keys.
    struct Api {
        says: Mutex<(u16, Value, Value)>,
        asked: AtomicUsize,
    }

    impl Api {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                says: Mutex::new((200, json!({"issuer": "i"}), keys(&["a"]))),
                asked: AtomicUsize::new(0),
            })
        }

        fn client(self: &Arc<Self>) -> Client {
            let api = Arc::clone(self);
            let answer = move |request: Request<Body>| {
                api.asked.fetch_add(1, Ordering::SeqCst);
                let (code, configuration, keys) = api.says.lock().unwrap().clone();
                let said = match request.uri().path() {
                    CONFIGURATION => configuration,
                    KEYS => keys,
                    other => panic!("{other}"),
                };
                let mut response = Response::new(Body::from(said.to_string().into_bytes()));
                *response.status_mut() = StatusCode::from_u16(code).unwrap();
                async move { Ok::<_, Infallible>(response) }
            };
            Client::new(service_fn(answer), "default")
        }

        fn say(&self, code: u16, configuration: Value, keys: Value) {
            *self.says.lock().unwrap() = (code, configuration, keys);
        }
    }

    /// Waits until this is known of the issuer.
    async fn until(store: &ResourceStore, holds: impl Fn(&Result<TokenIssuer, String>) -> bool) {
        while !store.issuer().as_ref().is_some_and(&holds) {
            store.changed().await;
        }
    }

    fn keys(names: &[&str]) -> Value {
        let keys: Vec<_> = names.iter().map(|kid| json!({"kid": kid})).collect();
        json!({"keys": keys, "more": 1})
    }

    fn known(names: &[&str]) -> TokenIssuer {
        let keys: Vec<_> = names.iter().map(|kid| json!({"kid": kid})).collect();
        TokenIssuer {
            issuer: "i".into(),
            jwks: json!({"keys": keys}).to_string(),
        }
    }

    #[tokio::test]
    async fn the_order_of_keys_says_nothing() {
        let api = Api::new();
        let client = api.client();
        for names in [["b", "a"], ["a", "b"]] {
            api.say(200, json!({"issuer": "i"}), keys(&names));
            assert_eq!(ask(&client).await.ok(), Some(known(&["a", "b"])));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_had_is_named_and_told_apart() {
        let api = Api::new();
        let client = api.client();
        let none = json!(null);
        for (code, configuration, keys, is_final, words) in [
            (
                403,
                none.clone(),
                none.clone(),
                false,
                "/.well-known/openid-configuration: ",
            ),
            (
                404,
                none.clone(),
                none.clone(),
                true,
                "/.well-known/openid-configuration: ",
            ),
            (
                503,
                none.clone(),
                none.clone(),
                false,
                "/.well-known/openid-configuration: ",
            ),
            (
                200,
                none.clone(),
                keys(&["a"]),
                true,
                "/.well-known/openid-configuration: ",
            ),
            (
                200,
                json!({"issuer": "i"}),
                none.clone(),
                true,
                "/openid/v1/jwks: ",
            ),
            (
                200,
                json!({"issuer": "i"}),
                json!({"keys": []}),
                true,
                "/.well-known/openid-configuration names no issuer",
            ),
            (
                200,
                json!({"issuer": ""}),
                keys(&["a"]),
                true,
                "/.well-known/openid-configuration names no issuer",
            ),
        ] {
            api.say(code, configuration, keys);
            let failure = ask(&client).await.err().unwrap();
            assert!(failure.why.starts_with(words), "{}", failure.why);
            assert_eq!(failure.is_final, is_final, "{code} {words}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_asked_for_again_and_kept_while_they_cannot_be_had() {
        let (api, metrics) = (Api::new(), Metrics::new().unwrap());
        let store = Arc::new(ResourceStore::for_issuer());
        let task = tokio::spawn({
            let (client, store) = (api.client(), Arc::clone(&store));
            async move { keep(&client, &store, &metrics, BackoffTimes::default()).await }
        });
        until(&store, |it| *it == Ok(known(&["a"]))).await;

        api.say(200, json!({"issuer": "i"}), keys(&["b"]));
        let start = Instant::now();
        until(&store, |it| *it == Ok(known(&["b"]))).await;
        assert!(
            (REFRESH..=2 * REFRESH).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );

        api.say(403, json!(null), json!(null));
        let asked = api.asked.load(Ordering::SeqCst);
        while api.asked.load(Ordering::SeqCst) < asked + 10 {
            tokio::time::sleep(REFRESH).await;
        }
        assert_eq!(store.issuer(), Some(Ok(known(&["b"]))));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn tables_wait_for_a_server_that_is_about_to_answer_but_not_for_ever() {
        for code in [503, 403] {
            waits_for_a_while(code).await;
        }
    }

    /// An API server says 403 also while it has not read its roles yet.
    async fn waits_for_a_while(code: u16) {
        let (api, metrics) = (Api::new(), Metrics::new().unwrap());
        api.say(code, json!(null), json!(null));
        let store = Arc::new(ResourceStore::for_issuer());
        let task = tokio::spawn({
            let (client, store) = (api.client(), Arc::clone(&store));
            async move { keep(&client, &store, &metrics, BackoffTimes::default()).await }
        });
        let start = Instant::now();
        until(&store, Result::is_err).await;
        assert!(start.elapsed() > Duration::from_secs(10));

        api.say(200, json!({"issuer": "i"}), keys(&["a"]));
        until(&store, |it| *it == Ok(known(&["a"]))).await;
        task.abort();
    }
}
