//! Objects whose documents are broken: to references they look as if they were not there, and creating them is no remedy.

use portcullis_controller::{Severity, manifests::LoadProblem};

use crate::report::Issue;

/// Says in the issues that miss an object which document describes it, but is broken.
pub(crate) fn point_out(issues: &mut [Issue], problems: &[LoadProblem]) {
    for problem in problems {
        let Some((namespace, name)) = problem.name.split_once('/') else {
            continue;
        };
        if problem.severity != Severity::Error || problem.kind.is_empty() {
            continue;
        }
        let kind = &problem.kind;
        // The ways in which findings name what they miss.
        let names = [
            format!("{kind} {namespace}/{name} "),
            format!("{kind} {namespace}/{name}, "),
            format!("{kind} {name:?} in namespace {namespace:?} "),
        ];
        for issue in issues.iter_mut() {
            let message = format!("{} ", issue.message);
            if issue.severity == Severity::Error && names.iter().any(|name| message.contains(name))
            {
                issue.remedy = format!(
                    "mend {kind} {namespace}/{name} first: {} describes it, but is broken",
                    problem.place()
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::source::Configuration;

    const MANIFESTS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: portcullis
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: cert}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: edge}, {name: broken}]
  rules: [{backendRefs: [{name: svc, port: 80}, {name: svc-2, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: broken}
spec: {gatewayClassName: portcullis}
---
apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {ports: [{port: eighty}]}
---
apiVersion: v1
kind: Secret
metadata: {name: cert}
data: {tls.crt: "%%%"}
"#;

    #[test]
    fn what_is_described_but_broken_is_to_be_mended_not_created() {
        let texts = [("a.yaml".to_owned(), MANIFESTS.to_owned())];
        let remedies: Vec<String> = Configuration::of_texts(&texts)
            .issues
            .into_iter()
            .filter(|issue| issue.place.is_none())
            .map(|issue| format!("{} {}", issue.field, issue.remedy))
            .collect();
        assert_eq!(
            remedies,
            [
                "spec.listeners[1].tls.certificateRefs[0] mend Secret default/cert first: a.yaml:28 describes it, but is broken",
                "spec.parentRefs[1].name mend Gateway default/broken first: a.yaml:18 describes it, but is broken",
                "spec.rules[0].backendRefs[0].name mend Service default/svc first: a.yaml:23 describes it, but is broken",
                "spec.rules[0].backendRefs[1].name create the Service, or correct the name or namespace",
            ]
        );
    }
}
