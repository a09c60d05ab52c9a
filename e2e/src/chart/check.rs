//! `cargo e2e chart check`: what the chart renders, and that `kubectl apply -k config/default` installs the same.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    expectations::{Expectation, SERVICE_ENTRY, expected, expected_of_everything},
    helm::Helm,
    objects::{self, Objects},
    repository,
};
use crate::support::report::Tally;

/// The release that is compared with the manifests for kustomize: those have its names.
const RELEASE: &str = "portcullis";
const NAMESPACE: &str = "portcullis-system";
/// Written by `--update`.
const MANIFESTS: &str = "config/controller/controller.yaml";
const HEADER: &str = "# Generated from charts/portcullis: cargo e2e chart check --update\n";
/// What has manifests of its own in config/crd and config/rbac.
const ELSEWHERE: [&str; 6] = [
    "ClusterRole ",
    "ClusterRoleBinding ",
    "CustomResourceDefinition ",
    "Role ",
    "RoleBinding ",
    "ServiceAccount ",
];

/// Runs all checks, after writing the generated manifests if `update`.
pub(super) async fn run(update: bool) -> Result<()> {
    let helm = Helm::new(None).await?;
    let mut check = Check {
        helm,
        tally: Tally::default(),
    };
    if update {
        check.update().await?;
    }
    check.lint().await;
    check.good_values().await?;
    check.bad_values().await;
    check.missing_gateway_api().await;
    check.installed_service_entry().await?;
    check.compare().await?;
    check.tally.close()
}

struct Check {
    helm: Helm,
    tally: Tally,
}

impl Check {
    async fn render(&self, arguments: &[&str]) -> Result<Objects> {
        let mut all = vec![
            "template",
            RELEASE,
            self.helm.chart(),
            "--namespace",
            NAMESPACE,
        ];
        all.extend(arguments);
        objects::parse(&self.helm.run(&all).await?)
    }

    fn verdict(&mut self, what: &str, failure: Option<String>) {
        let verdict = if failure.is_none() { "ok" } else { "FAILED" };
        println!("{what}: {verdict}");
        self.tally.check(failure.is_none(), || {
            format!("{what}: {}", failure.unwrap_or_default())
        });
    }

    async fn update(&self) -> Result<()> {
        let mut text = HEADER.to_owned();
        for (name, mut object) in self.render(&[]).await? {
            if ELSEWHERE.iter().any(|kind| name.starts_with(kind)) {
                continue;
            }
            objects::without_helm(&mut object);
            text += "---\n";
            text += &serde_saphyr::to_string(&object)?;
        }
        fs::write(repository(MANIFESTS), text).context(MANIFESTS)
    }

    async fn lint(&mut self) {
        let everything = everything();
        for (what, values) in [
            ("defaults", &[] as &[&str]),
            ("everything", &["--values", &everything]),
        ] {
            let mut arguments = vec!["lint", "--strict", self.helm.chart()];
            arguments.extend(values);
            let failure = self.helm.run(&arguments).await.err();
            self.verdict(
                &format!("lint, {what}"),
                failure.map(|error| format!("{error:#}")),
            );
        }
    }

    async fn good_values(&mut self) -> Result<()> {
        let everything = everything();
        let everything = self.render(&["--values", &everything]).await?;
        for expectation in expected_of_everything() {
            self.expect("everything", &everything, &expectation);
        }
        for (values, expectation) in expected() {
            let mut arguments = Vec::new();
            for value in values {
                arguments.extend(["--set", value]);
            }
            let objects = self.render(&arguments).await?;
            self.expect(&values.join(","), &objects, &expectation);
        }
        Ok(())
    }

    fn expect(
        &mut self,
        values: &str,
        objects: &Objects,
        (object, pointer, expected): &Expectation,
    ) {
        let found = objects
            .get(*object)
            .and_then(|object| object.pointer(pointer))
            .unwrap_or(&Value::Null);
        let failure = (found != expected).then(|| format!("is {found}, but should be {expected}"));
        self.verdict(&format!("[{values}] {object} {pointer}"), failure);
    }

    /// Every value that is refused is refused by name.
    async fn bad_values(&mut self) {
        for (value, complaint) in [
            ("replicaCont=3", "'replicaCont' not allowed"),
            ("image.tagg=1", "'tagg' not allowed"),
            (
                "replicaCount=two",
                "at '/replicaCount': got string, want integer",
            ),
            (
                "logFormat=xml",
                "at '/logFormat': value must be one of 'text', 'json'",
            ),
            ("image.tag=a b", "at '/image/tag'"),
            ("image.digest=latest", "at '/image/digest'"),
            ("bindAddress=::", "at '/bindAddress'"),
            ("controllerName=portcullis", "at '/controllerName'"),
            ("gatewayClass.name=Not_A_Name", "at '/gatewayClass/name'"),
            (
                "egress.serviceEntryCRD=maybe",
                "at '/egress/serviceEntryCRD'",
            ),
            (
                "gatewayClass.parametersRef.name=x",
                "properties 'namespace' required",
            ),
            (
                "gatewayClass.parametersRef.name=x,gatewayClass.parametersRef.namespace=y,gatewayClass.parameters.proxy.drainTimeout=5s",
                "leave one of them out",
            ),
            (
                "podDisruptionBudget.maxUnavailable=some",
                "at '/podDisruptionBudget/maxUnavailable'",
            ),
            (
                "imagePullSecrets[0]=registry",
                "at '/imagePullSecrets/0': got string, want object",
            ),
            ("service.ipFamilies[0]=IPv5", "at '/service/ipFamilies/0'"),
            (
                "serviceMonitor.interval=often",
                "at '/serviceMonitor/interval'",
            ),
        ] {
            let arguments = ["template", RELEASE, self.helm.chart(), "--set", value];
            let failure = self.complains(&arguments, &[complaint]).await;
            self.verdict(&format!("[{value}] is refused"), failure);
        }
    }

    /// In a cluster without Gateway API, Helm says how to get it, unless no GatewayClass is wanted.
    async fn missing_gateway_api(&mut self) {
        const CLUSTER: &str = "--api-versions=apiregistration.k8s.io/v1";
        const THERE: &str = "--api-versions=gateway.networking.k8s.io/v1";
        let arguments = ["template", RELEASE, self.helm.chart(), CLUSTER];
        let remedy = [
            "kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.7.0/standard-install.yaml",
            "--set gatewayClass.create=false",
        ];
        let failure = self.complains(&arguments, &remedy).await;
        self.verdict(
            "without Gateway API it is refused, with the remedy",
            failure,
        );
        for (what, argument) in [
            ("with Gateway API it is rendered", THERE),
            (
                "without a GatewayClass it is rendered",
                "--set=gatewayClass.create=false",
            ),
        ] {
            let rendered = self.render(&[CLUSTER, argument]).await;
            self.verdict(what, rendered.err().map(|error| format!("{error:#}")));
        }
    }

    /// `None` if Helm refuses and says all of `words`.
    async fn complains(&self, arguments: &[&str], words: &[&str]) -> Option<String> {
        match self.helm.refusal(arguments).await {
            Err(error) => Some(format!("{error:#}")),
            Ok(told) => words
                .iter()
                .find(|word| !told.contains(**word))
                .map(|word| format!("`{word}` is not in: {told}")),
        }
    }

    /// Somebody else's CRD of ServiceEntry is left alone, also where there is no cluster to ask.
    async fn installed_service_entry(&mut self) -> Result<()> {
        const THERE: &str = "--api-versions=networking.istio.io/v1/ServiceEntry";
        for (value, is_rendered) in [("auto", false), ("true", true)] {
            let value = format!("egress.serviceEntryCRD={value}");
            let objects = self.render(&[THERE, "--set", &value]).await?;
            let failure = (objects.contains_key(SERVICE_ENTRY) != is_rendered)
                .then(|| format!("is rendered: {}", !is_rendered));
            self.verdict(
                &format!("[{value}] where Istio is: the CRD of ServiceEntry"),
                failure,
            );
        }
        Ok(())
    }

    /// The chart with its defaults and `config/default` are the same objects, but for the Namespace, which Helm makes, and the
    /// CRD of ServiceEntry, for kustomize cannot look whether it is there.
    async fn compare(&mut self) -> Result<()> {
        let chart = ["--include-crds", "--set=egress.serviceEntryCRD=false"];
        let chart = self.render(&chart).await?;
        let mut manifests = objects::of_kustomization(&repository("config/default"))?;
        let namespace = manifests.remove(&format!("Namespace /{NAMESPACE}"));
        self.verdict(
            "config/default has the Namespace",
            namespace.is_none().then(|| "it has not".to_owned()),
        );
        for name in chart
            .keys()
            .chain(manifests.keys().filter(|it| !chart.contains_key(*it)))
        {
            let failure = match (chart.get(name), manifests.get(name)) {
                (Some(one), Some(other)) => objects::difference(one, other),
                (Some(_), None) => Some("only the chart has it".to_owned()),
                (None, _) => Some("only config/default has it".to_owned()),
            };
            let failure = failure.map(|text| {
                format!("{text}; `cargo run -p portcullis-crds --bin crdgen` and `cargo e2e chart check --update` write what is generated")
            });
            self.verdict(&format!("chart and config/default: {name}"), failure);
        }
        Ok(())
    }
}

/// A values file that sets everything.
fn everything() -> String {
    repository("e2e/chart/everything.yaml")
        .to_string_lossy()
        .into_owned()
}
