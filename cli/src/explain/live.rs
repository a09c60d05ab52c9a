//! The objects of a cluster, read once and translated as the controller does it.

use std::collections::BTreeSet;

use anyhow::{Context, anyhow};
use kube::api::DynamicObject;
use portcullis_controller::{
    ObjectKey, Options, manifests::Loaded, status::Observed, translate, watch::References,
};
use portcullis_routing::{GatewayKey, RoutingTable};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    args::ExplainArgs,
    cluster::{Cluster, Kind, Refusal, Scope},
};

/// A Gateway's table as it should be now.
pub(super) struct Live {
    pub(super) table: RoutingTable,
    pub(super) origin: Origin,
}

/// What the table was made of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Origin {
    /// Namespace and name.
    gateway: String,
    /// Status of the Gateway's condition of this name: whether proxies have acknowledged the table.
    programmed: String,
    /// What could not be read.
    notes: Vec<String>,
}

impl Origin {
    /// In words.
    pub(super) fn text(&self) -> String {
        let Self {
            gateway,
            programmed,
            notes,
        } = self;
        let state = match programmed.as_str() {
            "True" => "its proxies have acknowledged their table (Programmed is True)".to_owned(),
            other => format!(
                "its proxies may serve something else: Programmed is {other}, see `portcullis status`"
            ),
        };
        let mut text =
            format!("Computed from the objects of Gateway {gateway} in the cluster; {state}.");
        for note in notes {
            text = format!("{text}\nnote: {note}");
        }
        text
    }
}

/// Reads all that a translation reads.
pub(super) fn read(args: &ExplainArgs, gateway: &str) -> anyhow::Result<Live> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ask(args, gateway))
}

async fn ask(args: &ExplainArgs, gateway: &str) -> anyhow::Result<Live> {
    let (namespace, name) = gateway
        .split_once('/')
        .context("write --gateway as NAMESPACE/NAME, such as shop/edge")?;
    let mut reader = Reader {
        cluster: Cluster::new(&args.cluster).await?,
        loaded: Loaded::default(),
        notes: Vec::new(),
    };
    let found = reader.cluster.get_in(&Kind::GATEWAY, namespace, name).await;
    let found = found.map_err(|refusal| refusal.fatal(&Kind::GATEWAY))?;
    let found = found.with_context(|| format!("there is no Gateway {gateway} in the cluster"))?;
    reader.read_all(&args.controller_name).await?;
    let options = Options {
        controller_name: args.controller_name.clone(),
        observed: Observed::Standalone {
            addresses: Vec::new(),
        },
        ..Options::default()
    };
    let mut translation = translate(&reader.loaded.resources, &options);
    let table = translation.tables.remove(&GatewayKey::new(gateway));
    let table = table.ok_or_else(|| {
        anyhow!(
            "Gateway {gateway} is not served: its class is not of {}, or it is not accepted; `portcullis status gateways -n \
             {namespace}` says more. Parameters that the controller goes on with while what is asked for is broken are not known here",
            args.controller_name
        )
    })?;
    Ok(Live {
        table,
        origin: Origin {
            gateway: gateway.into(),
            programmed: programmed(&found),
            notes: reader.notes,
        },
    })
}

fn programmed(gateway: &DynamicObject) -> String {
    let conditions = gateway.data["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let condition = conditions.find(|condition| condition["type"] == "Programmed");
    let status = condition.and_then(|condition| condition["status"].as_str());
    status.unwrap_or("Unknown").into()
}

/// Reads objects as if they stood in a file.
struct Reader {
    cluster: Cluster,
    loaded: Loaded,
    notes: Vec<String>,
}

impl Reader {
    async fn read_all(&mut self, controller_name: &str) -> anyhow::Result<()> {
        for kind in [Kind::GATEWAY_CLASS, Kind::GATEWAY] {
            let listed = self.cluster.list(&kind, &Scope::All).await;
            self.load(&kind, listed.map_err(|refusal| refusal.fatal(&kind))?);
        }
        let [http_route, ..] = Kind::ROUTES;
        for kind in [
            http_route,
            Kind::LISTENER_SET,
            Kind::BACKEND_TLS_POLICY,
            Kind::REFERENCE_GRANT,
            Kind::GATEWAY_PARAMETERS,
            Kind::NAMESPACE,
            Kind::SERVICE,
            Kind::ENDPOINT_SLICE,
        ] {
            let listed = self.cluster.list(&kind, &Scope::All).await;
            let objects = self.allowed(listed)?.unwrap_or_default();
            self.load(&kind, objects);
        }
        let References {
            secrets,
            config_maps,
        } = References::of(&self.loaded.resources, controller_name);
        self.referenced(&Kind::SECRET, &secrets).await?;
        self.referenced(&Kind::CONFIG_MAP, &config_maps).await
    }

    async fn referenced(&mut self, kind: &Kind, keys: &BTreeSet<ObjectKey>) -> anyhow::Result<()> {
        for ObjectKey { namespace, name } in keys {
            let got = self.cluster.get_in(kind, namespace, name).await;
            let object = self.allowed(got)?.flatten();
            self.load(kind, object.into_iter().collect());
        }
        Ok(())
    }

    /// What may not be read is not there, and that is noted.
    fn allowed<T>(&mut self, answer: Result<T, Refusal>) -> anyhow::Result<Option<T>> {
        match answer {
            Ok(objects) => Ok(Some(objects)),
            Err(Refusal::NotInstalled) => Ok(None),
            Err(Refusal::Forbidden(message)) => {
                self.notes
                    .push(format!("as if it were not there: {message}"));
                Ok(None)
            }
            Err(Refusal::Failed(error)) => Err(error),
        }
    }

    /// The API server does not repeat in a list what kind its objects are of.
    fn load(&mut self, kind: &Kind, objects: Vec<DynamicObject>) {
        for object in objects {
            let mut document = object.data;
            if let Value::Object(fields) = &mut document {
                fields.insert("apiVersion".into(), kind.api_version().into());
                fields.insert("kind".into(), kind.name.into());
                fields.insert("metadata".into(), json!(object.metadata));
            }
            self.loaded.read_text("the cluster", &document.to_string());
        }
    }
}
