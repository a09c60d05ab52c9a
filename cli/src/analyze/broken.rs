//! Objects whose documents are broken: to references they look as if they were not there, and creating them is no remedy.

use portcullis_controller::{Severity, manifests::LoadProblem};

use crate::report::Issue;

/// Kinds of routes.
pub(crate) const ROUTES: [&str; 2] = ["HTTPRoute", "TLSRoute"];

/// Says in the issues that miss an object which document describes it, but is broken.
pub(crate) fn point_out(issues: &mut [Issue], problems: &[LoadProblem]) {
    point_to_missing(issues, problems);
    point_to_routes(issues, problems);
}

fn point_to_missing(issues: &mut [Issue], problems: &[LoadProblem]) {
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
                issue.message = issue
                    .message
                    .replace("there is no ", "there is no usable ")
                    .replace("does not exist", "cannot be used");
                issue.remedy = format!(
                    "mend {kind} {namespace}/{name} first: {} describes it, but is broken",
                    problem.place()
                );
            }
        }
    }
}

fn namespace(key: &str) -> Option<&str> {
    Some(key.split_once('/')?.0)
}

/// A listener may have no route because the document of the route is broken. It is looked for in the same namespace.
fn point_to_routes(issues: &mut [Issue], problems: &[LoadProblem]) {
    let is_route =
        |it: &&LoadProblem| it.severity == Severity::Error && ROUTES.contains(&it.kind.as_str());
    let bare = |it: &&mut Issue| it.code == "ListenerWithoutRoutes";
    for issue in issues.iter_mut().filter(bare) {
        let own = issue.object.split(' ').next_back().and_then(namespace);
        let mut routes = problems.iter().filter(is_route);
        let Some(problem) = routes.find(|it| namespace(&it.name) == own) else {
            continue;
        };
        issue.remedy = format!(
            "if {} {} is meant for it, mend that: {} describes it, but is broken. Else {}",
            problem.kind,
            problem.name,
            problem.place(),
            issue.remedy
        );
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
    fn a_listener_without_routes_points_to_a_route_that_is_broken() {
        let gateway = MANIFESTS.split("---").next().unwrap();
        let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n\
                     spec: {parentRefs: [{name: edge}], hostname: [a.example]}\n";
        let texts = [("a.yaml".to_owned(), format!("{gateway}{route}"))];
        let issues = Configuration::of_texts(&texts).issues;
        let hint = issues
            .iter()
            .find(|it| it.code == "ListenerWithoutRoutes")
            .unwrap();
        let expected = "if HTTPRoute default/r is meant for it, mend that: a.yaml:11 describes it, but is broken. Else add an";
        assert!(hint.remedy.starts_with(expected), "{}", hint.remedy);
    }

    #[test]
    fn what_is_described_but_broken_is_to_be_mended_not_created() {
        let texts = [("a.yaml".to_owned(), MANIFESTS.to_owned())];
        let remedies: Vec<String> = Configuration::of_texts(&texts)
            .issues
            .into_iter()
            .filter(|issue| issue.place.is_none())
            .inspect(|issue| {
                let is_described = issue.remedy.contains("but is broken");
                assert!(
                    !is_described || !issue.message.contains("not exist"),
                    "{issue:?}"
                );
            })
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
