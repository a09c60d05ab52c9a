//! The kubeconfig, found as kubectl finds it, and in one sentence what is wrong with it.

use std::error::Error as _;

use anyhow::anyhow;
use kube::{
    Config,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::args::ClusterArgs;

const NAME_ANOTHER: &str = "name another one with --kubeconfig or KUBECONFIG";

/// Which context to take where they are not known.
const WHICHEVER: &str = "choose another context with --context";

/// Reads the one that is meant. In a pod without any it is the service account.
pub(super) async fn read(args: &ClusterArgs) -> anyhow::Result<Config> {
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    let (kubeconfig, name) = match (&args.kubeconfig, &args.context) {
        (Some(path), _) => {
            let name = format!("the kubeconfig {}", path.display());
            (Kubeconfig::read_from(path), name)
        }
        (None, Some(_)) => (Kubeconfig::read(), "the kubeconfig".to_owned()),
        (None, None) => return Config::infer().await.map_err(|error| nothing_found(&error)),
    };
    let kubeconfig = kubeconfig.map_err(|error| unusable(&error, &name, WHICHEVER))?;
    let choice = choice(&kubeconfig);
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(|error| unusable(&error, &name, &choice))
}

/// Neither a kubeconfig nor a service account can be used. If there is a kubeconfig, that is to be mended.
fn nothing_found(error: &InferConfigError) -> anyhow::Error {
    let cause = error.source();
    let cause = cause.and_then(|cause| cause.downcast_ref::<KubeconfigError>());
    match cause {
        Some(KubeconfigError::ReadConfig(error, path))
            if error.kind() == std::io::ErrorKind::NotFound =>
        {
            anyhow!(
                "no cluster to ask: there is no kubeconfig at {}; put one there, or {NAME_ANOTHER}",
                path.display()
            )
        }
        Some(cause) if !matches!(cause, KubeconfigError::FindPath) => {
            unusable(cause, "the kubeconfig", WHICHEVER)
        }
        _ => anyhow!(
            "no cluster to ask: name a kubeconfig with --kubeconfig or KUBECONFIG, or put it at ~/.kube/config"
        ),
    }
}

/// What is wrong with a kubeconfig of this name; `choice` says which contexts may be chosen instead.
fn unusable(error: &KubeconfigError, name: &str, choice: &str) -> anyhow::Error {
    match error {
        KubeconfigError::ReadConfig(error, path) => anyhow!(
            "cannot read the kubeconfig {}: {error}; {NAME_ANOTHER}",
            path.display()
        ),
        KubeconfigError::Parse(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let first = first.trim_start_matches("error: ");
            anyhow!("{name} is not valid: {first}; mend it, or {NAME_ANOTHER}")
        }
        KubeconfigError::CurrentContextNotSet => anyhow!("{name} has no current context; {choice}"),
        KubeconfigError::LoadContext(context) => {
            anyhow!("{name} has no context {context}; {choice}")
        }
        KubeconfigError::LoadClusterOfContext(cluster) => anyhow!(
            "{name} has no cluster {cluster}, which its context names; mend it, or {choice}"
        ),
        other => {
            let cause = other
                .source()
                .map_or_else(|| other.to_string(), ToString::to_string);
            anyhow!("cannot use {name}: {cause}; mend it, or {NAME_ANOTHER}")
        }
    }
}

/// For whoever has mistyped the name of a context.
fn choice(kubeconfig: &Kubeconfig) -> String {
    let contexts = kubeconfig.contexts.iter();
    let names: Vec<_> = contexts.map(|context| context.name.as_str()).collect();
    if names.is_empty() {
        format!("it has none at all, so {NAME_ANOTHER}")
    } else {
        format!(
            "choose one of its contexts with --context: {}",
            names.join(", ")
        )
    }
}
