//! The cluster that a command asks: kubeconfig, context and namespace as kubectl has them, and words for what goes wrong.

mod kind;
mod kubeconfig;
mod lease;

use std::{error::Error, time::Duration};

use anyhow::anyhow;
use futures::AsyncBufRead;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, LogParams},
};
use portcullis_controller::ObjectKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::ClusterArgs;

pub(crate) use self::{
    kind::Kind,
    lease::{Controller, Holder},
};

/// Time to get a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one answer to begin.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Objects of a list that are asked for at once, as `kubectl` does.
const PAGE: u32 = 500;

/// How to install what a cluster lacks.
pub(crate) const INSTALL_GATEWAY_API: &str = "kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.7.0/standard-install.yaml";

/// A connection to a cluster.
pub(crate) struct Cluster {
    client: Client,
    /// Where it is.
    server: String,
    /// The namespace of the context.
    pub(crate) namespace: String,
}

/// The version of Kubernetes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Version {
    /// Such as `33`; some distributions write `33+`.
    pub(crate) minor: String,
    /// In full.
    pub(crate) git_version: String,
}

/// Where objects are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In all namespaces.
    All,
    /// In one.
    Namespace(String),
}

/// Why a kind cannot be read.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The cluster does not know the kind.
    NotInstalled,
    /// The caller may not; in the words of the API server, which name the right that is missing.
    Forbidden(String),
    /// Nothing else will go better.
    Failed(anyhow::Error),
}

impl Cluster {
    /// Reads the kubeconfig. Nothing is asked yet.
    pub(crate) async fn new(args: &ClusterArgs) -> anyhow::Result<Self> {
        let mut config = kubeconfig::read(args).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            anyhow!(
                "cannot log in at {server} as the kubeconfig says: {cause}; see that the command and the files that it names \
                 for its user are there"
            )
        })?;
        Ok(Self {
            client,
            server,
            namespace,
        })
    }

    /// The objects of a kind.
    pub(crate) async fn list(
        &self,
        kind: &Kind,
        scope: &Scope,
    ) -> Result<Vec<DynamicObject>, Refusal> {
        self.selected(kind, scope, &ListParams::default()).await
    }

    /// Those that have all of these labels, written `name=value,...`.
    pub(crate) async fn labelled(
        &self,
        kind: &Kind,
        scope: &Scope,
        labels: &str,
    ) -> Result<Vec<DynamicObject>, Refusal> {
        let selected = ListParams::default().labels(labels);
        self.selected(kind, scope, &selected).await
    }

    /// Those of this name.
    pub(crate) async fn named(
        &self,
        kind: &Kind,
        scope: &Scope,
        name: &str,
    ) -> Result<Vec<DynamicObject>, Refusal> {
        let selected = ListParams::default().fields(&format!("metadata.name={name}"));
        self.selected(kind, scope, &selected).await
    }

    async fn selected(
        &self,
        kind: &Kind,
        scope: &Scope,
        selected: &ListParams,
    ) -> Result<Vec<DynamicObject>, Refusal> {
        let resource = kind.resource();
        let client = self.client.clone();
        let api: Api<DynamicObject> = match scope {
            Scope::Namespace(namespace) if kind.namespaced => {
                Api::namespaced_with(client, namespace, &resource)
            }
            _ => Api::all_with(client, &resource),
        };
        let listed = in_pages(&api, selected).await;
        listed.map_err(|error| self.refusal(kind.plural, error))
    }

    /// One object of the whole cluster, if it is there.
    pub(crate) async fn get(
        &self,
        kind: &Kind,
        name: &str,
    ) -> Result<Option<DynamicObject>, Refusal> {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &kind.resource());
        let got = api.get_opt(name).await;
        got.map_err(|error| self.refusal(kind.plural, error))
    }

    /// One object of a namespace, if it is there.
    pub(crate) async fn get_in(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, Refusal> {
        let client = self.client.clone();
        let api = Api::<DynamicObject>::namespaced_with(client, namespace, &kind.resource());
        let got = api.get_opt(name).await;
        got.map_err(|error| self.refusal(kind.plural, error))
    }

    /// What a container of a pod has printed, as far as it is kept, in the last `since` seconds or ever.
    pub(crate) async fn log(
        &self,
        pod: &ObjectKey,
        container: &str,
        since: Option<i64>,
    ) -> anyhow::Result<impl AsyncBufRead + use<>> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace);
        let wanted = LogParams {
            container: Some(container.to_owned()),
            since_seconds: since,
            ..LogParams::default()
        };
        let log = pods.log_stream(&pod.name, &wanted).await;
        log.map_err(|error| match self.refusal("its log", error) {
            Refusal::NotInstalled => anyhow!("it is not there any more"),
            Refusal::Forbidden(message) => anyhow!(message),
            Refusal::Failed(error) => error,
        })
    }

    /// The version of Kubernetes.
    pub(crate) async fn version(&self) -> Result<Version, Refusal> {
        let request = http::Request::get("/version").body(Vec::new());
        let request = request.map_err(|error| Refusal::Failed(error.into()))?;
        let version = self.client.request(request).await;
        version.map_err(|error| self.refusal("its version", error))
    }

    /// Whether the caller has a right, in a namespace or, with none, in all of the cluster.
    pub(crate) async fn may(
        &self,
        verb: &str,
        (group, plural): (&str, &str),
        namespace: Option<&str>,
    ) -> Result<bool, Refusal> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "verb": verb, "group": group, "resource": plural, "namespace": namespace,
            } },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(review.to_string().into_bytes())
            .map_err(|error| Refusal::Failed(error.into()))?;
        let review: Value = self
            .client
            .request(request)
            .await
            .map_err(|error| self.refusal("your rights", error))?;
        Ok(review["status"]["allowed"] == true)
    }

    fn refusal(&self, what: &str, error: kube::Error) -> Refusal {
        match error {
            kube::Error::Api(status) if status.code == 404 => Refusal::NotInstalled,
            kube::Error::Api(status) if status.code == 403 => Refusal::Forbidden(status.message),
            kube::Error::Api(status) if status.code == 401 => Refusal::Failed(anyhow!(
                "{} does not know who you are (401): log in again, or choose another user or context; `kubectl auth whoami` \
                 asks the same",
                self.server
            )),
            kube::Error::Api(status) => Refusal::Failed(anyhow!(
                "{} refuses to tell of {what}: {} ({})",
                self.server,
                status.message,
                status.code
            )),
            error => Refusal::Failed(self.unreachable(&error)),
        }
    }

    fn unreachable(&self, error: &kube::Error) -> anyhow::Error {
        anyhow!(
            "cannot ask the API server at {}: {}. Is the cluster up, and is it the one you mean? `kubectl config \
             current-context` says which one it is, --context chooses another",
            self.server,
            innermost(error)
        )
    }
}

/// A whole list, of which no answer is too long for either side.
async fn in_pages(
    api: &Api<DynamicObject>,
    selected: &ListParams,
) -> kube::Result<Vec<DynamicObject>> {
    let mut page = selected.clone().limit(PAGE);
    let mut objects = Vec::new();
    loop {
        let listed = match api.list(&page).await {
            // What it was a minute or more ago is not known any more. As it is now it comes at once or not at all.
            Err(kube::Error::Api(status))
                if status.code == 410 && page.continue_token.is_some() =>
            {
                return Ok(api.list(selected).await?.items);
            }
            listed => listed?,
        };
        objects.extend(listed.items);
        page.continue_token = listed.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            return Ok(objects);
        }
    }
}

/// The innermost cause says most: `connection refused` rather than `service error`.
fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

impl Refusal {
    /// As the error of a command that cannot do without the kind.
    pub(crate) fn fatal(self, kind: &Kind) -> anyhow::Error {
        match self {
            Self::NotInstalled => anyhow!(
                "the cluster does not know the kind {}: install the CRDs of Gateway API: {INSTALL_GATEWAY_API}",
                kind.name
            ),
            Self::Forbidden(message) => anyhow!(
                "you may not list {}: {message}. Ask for a role with `get` and `list` of it, or look at a namespace of yours \
                 with -n",
                kind.plural
            ),
            Self::Failed(error) => error,
        }
    }
}
