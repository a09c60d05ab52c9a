//! What is told of objects that cannot be read, and that all others are.

use super::{Error, Loaded, Note};

fn load(text: &str) -> Loaded {
    let mut loaded = Loaded::default();
    loaded.read_text("test.yaml", text);
    loaded
}

fn told(loaded: &Loaded) -> Vec<String> {
    let problems = loaded.problems.iter();
    problems
        .map(|problem| format!("{}: {}", problem.field, problem.message))
        .collect()
}

#[test]
fn what_is_wrong_with_a_secret_is_told_without_its_values() {
    for (fields, expected) in [
        (
            "stringData: {tls.key: 31337}",
            "stringData.tls.key: must be a string",
        ),
        ("data: 'a, expected 31337'", "data: must be a map"),
        ("data: {tls.key: '31337!'}", "data.tls.key: must be base64"),
    ] {
        let loaded = load(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, {fields}}}"
        ));
        assert_eq!(told(&loaded), [expected], "{fields}");
        assert!(loaded.resources.is_empty(), "{fields}");
    }
}

#[test]
fn what_was_read_can_be_printed_without_keys() {
    let secret =
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {tls.key: hunter2}}";
    let printed = format!("{:?}", load(secret));
    assert!(printed.contains("[redacted]"), "{printed}");
    let bytes = format!("{:?}", b"hunter2");
    for key in ["hunter2", bytes.trim_matches(['[', ']']), "aHVudGVyMg"] {
        assert!(!printed.contains(key), "{printed}");
    }
}

#[test]
fn base64_may_be_wrapped_and_nothing_else() {
    let secret = |value: &str| {
        load(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, data: {{a: \"{value}\"}}}}"
        ))
    };
    let wrapped = secret(r"aGVs\r\nbG8=\n");
    assert_eq!(told(&wrapped), [""; 0]);
    let read = wrapped.resources.secrets.values().next().unwrap();
    assert_eq!(read.data.as_ref().unwrap()["a"].0, b"hello");
    assert_eq!(told(&secret("aGVs bG8=")), ["data.a: must be base64"]);
}

#[test]
fn a_kind_that_is_not_read_is_told_by_what_it_may_be() {
    for (api_version, kind, expected) in [
        (
            "gateway.networking.k8s.io/v1",
            "HTTPRout",
            "did you mean HTTPRoute?",
        ),
        ("gateway.networking.k8s.io/v1", "HttpRoute", "kind"),
        (
            "gateway.networking.k8s.io/v1",
            "GRPCRout",
            "did you mean GRPCRoute?",
        ),
        (
            "gateway.networking.k8s.io/v1",
            "TCPRoute",
            "not supported yet",
        ),
        (
            "gateway.networking.k8s.io/v1",
            "Anything",
            "not supported yet",
        ),
        ("v1", "Servise", "did you mean Service?"),
        (
            "v1",
            "HTTPRoute",
            "write apiVersion: gateway.networking.k8s.io/v1",
        ),
        (
            "networking.k8s.io/v1",
            "Gateway",
            "write apiVersion: gateway.networking.k8s.io/v1",
        ),
        (
            "gateway.networking.k8s.oi/v1",
            "Gateway",
            "write apiVersion: gateway.networking.k8s.io/v1",
        ),
        ("discovery.k8s.io/v1", "Service", "write apiVersion: v1"),
        (
            "gateway.networking.k8s.io/v1",
            "GatewayClasses",
            "did you mean GatewayClass?",
        ),
        ("v1", "Services", "did you mean Service?"),
    ] {
        let loaded = load(&format!(
            "{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: a}}}}"
        ));
        let problem = &loaded.problems[0];
        let told = format!("{} {}; {}", problem.field, problem.message, problem.remedy);
        assert!(told.contains(expected), "{kind} of {api_version}: {told}");
        assert_eq!(problem.severity, Error, "{kind} of {api_version}");
    }
    for (api_version, kind) in [
        ("v1", "ServiceAccount"),
        ("v1", "Job"),
        ("v1", "Endpoints"),
        ("apps/v1", "Deployment"),
        ("networking.istio.io/v1", "Gateway"),
        ("serving.knative.dev/v1", "Service"),
    ] {
        let loaded = load(&format!(
            "{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: a}}}}"
        ));
        assert_eq!(loaded.problems[0].severity, Note, "{kind} of {api_version}");
    }
}

#[test]
fn what_may_be_an_egress_policy_is_no_note() {
    for (api_version, kind, remedy) in [
        (
            "portcullis.dev/v1alpha1",
            "EgresPolicys",
            "did you mean EgressPolicy?",
        ),
        (
            "portcullis.dev/v1alpha1",
            "egresspolicies",
            "did you mean EgressPolicy?",
        ),
        (
            "portcullis.dev/v1alpha1",
            "Policy",
            "did you mean EgressPolicy?",
        ),
        (
            "portcullis.dev/v1",
            "Rule",
            "did you mean GatewayParameters or EgressPolicy or CredentialInjection?",
        ),
        (
            "portcullis.io/v1alpha1",
            "EgressPolicy",
            "write apiVersion: portcullis.dev/v1alpha1",
        ),
        (
            "portcullis/v1alpha1",
            "EgressPolicy",
            "write apiVersion: portcullis.dev/v1alpha1",
        ),
        (
            "v1alpha1",
            "EgressPolicy",
            "write apiVersion: portcullis.dev/v1alpha1",
        ),
        (
            "networking.istio.io/v1",
            "EgressPolicy",
            "write apiVersion: portcullis.dev/v1alpha1",
        ),
        (
            "portcullis.example/v1",
            "EgressPolicies",
            "write apiVersion: portcullis.dev/v1alpha1, and kind: EgressPolicy",
        ),
    ] {
        let loaded = load(&format!(
            "{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: a}}}}"
        ));
        let [problem] = &loaded.problems[..] else {
            panic!("{kind} of {api_version}: {:?}", loaded.problems);
        };
        let told = (problem.severity, problem.meant, &*problem.remedy);
        assert_eq!(
            told,
            (Error, Some("EgressPolicy"), remedy),
            "{kind} of {api_version}"
        );
    }
    for (api_version, kind) in [
        ("cilium.io/v2", "CiliumEgressGatewayPolicy"),
        ("crd.antrea.io/v1beta1", "Egress"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("policy.example/v1", "IngressPolicy"),
        ("egressgateway.spidernet.io/v1beta1", "EgressPolicy"),
    ] {
        let loaded = load(&format!(
            "{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: a}}}}"
        ));
        let told = (loaded.problems[0].severity, loaded.problems[0].meant);
        assert_eq!(told, (Note, None), "{kind} of {api_version}");
    }
}

#[test]
fn a_service_entry_is_read_in_all_its_versions() {
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let loaded = load(&format!(
            "{{apiVersion: networking.istio.io/{version}, kind: ServiceEntry, metadata: {{name: api}}, \
             spec: {{hosts: [api.example], resolution: DNS, location: MESH_EXTERNAL, \
             ports: [{{number: 443, name: https, protocol: HTTPS}}]}}}}"
        ));
        assert_eq!(told(&loaded), [""; 0], "{version}");
        assert_eq!(loaded.resources.service_entries.len(), 1, "{version}");
    }
    let loaded = load(
        "{apiVersion: networking.istio.io/v1alpha1, kind: ServiceEntry, metadata: {name: api}}",
    );
    assert_eq!(loaded.problems[0].remedy, "write it as v1");
}

#[test]
fn what_is_wrong_with_a_service_entry_is_told_with_its_field() {
    for (spec, expected) in [
        ("{}", "spec.hosts: is missing"),
        (
            "{hosts: ['*']}",
            "spec.hosts: name the hosts, such as api.example or *.example: * alone would be all of them",
        ),
        (
            "{hosts: [a.example], resolution: DSN}",
            "spec.resolution: \"DSN\" is none of \"NONE\", \"STATIC\", \"DNS\", \"DNS_ROUND_ROBIN\"",
        ),
        (
            "{hosts: [a.example], ports: [{number: 0, name: a}]}",
            "spec.ports[0].number: 0 is not from 1 to 65535",
        ),
        (
            "{hosts: [a.example], ports: [{number: 80, name: a}, {number: 80, name: b}]}",
            "spec.ports: every port number can be there once only",
        ),
        (
            "{hosts: [a.example], endpoints: [{address: 192.0.2.1}]}",
            "spec: endpoints need a resolution other than NONE, such as STATIC or DNS",
        ),
        (
            "{hosts: [a.example], resolution: DNS, addresses: [192.0.2.0/24]}",
            "spec: ranges in addresses need resolution NONE or STATIC",
        ),
        (
            "{hosts: [a.example], resolution: STATIC, endpoints: [{labels: {a: b}}]}",
            "spec.endpoints[0]: an endpoint needs an address",
        ),
    ] {
        let loaded = load(&format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: api}}, spec: {spec}}}"
        ));
        assert_eq!(told(&loaded), [expected], "{spec}");
        assert!(loaded.resources.is_empty(), "{spec}");
    }
}

#[test]
fn a_choice_that_is_misspelt_is_told_as_it_is_spelt() {
    for (resolution, remedy) in [
        ("dns", "write it as \"DNS\""),
        ("Dns-Round-Robin", "write it as \"DNS_ROUND_ROBIN\""),
        ("DSN", "did you mean \"DNS\"?"),
        ("elsewhere", "use one of these"),
        // Nobody is led to what is refused then.
        ("DYNAMIC_DSN", "use one of these"),
        (
            "5",
            "use one of \"NONE\", \"STATIC\", \"DNS\", \"DNS_ROUND_ROBIN\"",
        ),
    ] {
        let loaded = load(&format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: api}}, \
             spec: {{hosts: [a.example], resolution: {resolution}}}}}"
        ));
        assert_eq!(loaded.problems[0].field, "spec.resolution", "{resolution}");
        assert_eq!(loaded.problems[0].remedy, remedy, "{resolution}");
    }
}

#[test]
fn what_is_wrong_with_an_egress_policy_is_told_with_its_field() {
    for (spec, expected) in [
        ("{}", ""),
        (
            "{from: [{serviceAccounts: [shop/web, web]}, {podSelector: {matchLabels: {a: b}}}], \
             to: [{hosts: ['*.example'], ports: [443], methods: [GET], paths: [{value: /v1}]}], action: Deny}",
            "",
        ),
        (
            "{allowPrivate: [10.0.0.0/8, 'fd00::/8', 127.0.0.1, '::1']}",
            "",
        ),
        (
            "{action: Deny, allowPrivate: [10.0.0.0/8]}",
            "spec: allowPrivate opens ranges, so it goes with action Allow only",
        ),
        (
            "{to: [{paths: [{value: /a/../b}]}]}",
            "spec.to[0].paths[0]: a path begins with / and has no //, /./, /../, %2F, ? or #: no request is matched as such",
        ),
        ("{to: [{hosts: []}]}", "spec.to[0].hosts: has no entry"),
        ("{to: []}", ""),
        (
            "{to: [], action: Deny}",
            "spec: a list of no destinations goes with action Allow only; to deny everything, leave `to` out",
        ),
        ("{from: []}", "spec.from: has no entry"),
        (
            "{targetRefs: [{kind: Service, name: a}]}",
            "spec.targetRefs[0].kind: \"Service\" is none of \"Gateway\"",
        ),
        (
            "{mode: Warn}",
            "spec.mode: \"Warn\" is none of \"Enforce\", \"Report\"",
        ),
    ] {
        let loaded = load(&format!(
            "{{apiVersion: portcullis.dev/v1alpha1, kind: EgressPolicy, metadata: {{name: p}}, spec: {spec}}}"
        ));
        let wanted: Vec<_> = [expected].into_iter().filter(|it| !it.is_empty()).collect();
        assert_eq!(told(&loaded), wanted, "{spec}");
        let read = loaded.resources.egress_policies.len();
        assert_eq!(read, usize::from(expected.is_empty()), "{spec}");
    }
}

/// Nobody but a file says who calls where there is no cluster.
#[test]
fn a_pod_a_node_and_a_service_keep_their_addresses() {
    let loaded = load(
        "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, \
         spec: {containers: [], serviceAccountName: shop}, status: {podIP: 192.0.2.7}}\n---\n\
         {apiVersion: v1, kind: Node, metadata: {name: one}, spec: {podCIDRs: [10.1.0.0/24]}, \
         status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}\n---\n\
         {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}, \
         status: {loadBalancer: {ingress: [{ip: 192.0.2.2}]}}}",
    );
    assert_eq!(told(&loaded), [""; 0]);
    let pod = loaded.resources.pods.values().next().unwrap();
    assert_eq!(pod.service_account, "shop");
    assert_eq!(pod.addresses.len(), 1);
    let node = loaded.resources.nodes.values().next().unwrap();
    assert_eq!((node.addresses.len(), node.pod_cidrs.len()), (1, 1));
    let service = loaded.resources.services.values().next().unwrap();
    assert!(service.status.is_some());
    let broken = load(
        "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [], hostNetwork: 3}}",
    );
    assert!(
        told(&broken)[0].starts_with("spec.hostNetwork: "),
        "{broken:?}"
    );
}

#[test]
fn items_of_a_list_are_told_by_their_place() {
    let route = "apiVersion: gateway.networking.k8s.io/v1, metadata: {name: r}";
    let loaded = load(&format!(
        "{{apiVersion: v1, kind: List, items: [{{{route}}}, 3, {{kind: Secret, apiVersion: v1}}, \
         {{apiVersion: v1, kind: List, items: [{{kind: HTTPRoute}}]}}]}}"
    ));
    assert_eq!(
        told(&loaded),
        [
            "items[0].kind: is missing",
            "items[1]: is no object",
            "items[2].metadata.name: is missing",
            "items[3].items[0].apiVersion: is missing",
        ]
    );
}

#[test]
fn items_of_a_typed_list_are_what_the_list_says() {
    let loaded = load("{apiVersion: v1, kind: SecretList, items: [{metadata: {name: s}}]}");
    assert_eq!(told(&loaded), [""; 0]);
    assert_eq!(loaded.resources.secrets.len(), 1);
}

#[test]
fn a_name_that_is_no_text_is_not_taken_for_none() {
    for field in ["name", "namespace"] {
        let metadata = format!("{{name: a, {field}: 1}}").replace("name: a, name", "name");
        let loaded = load(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {metadata}}}"
        ));
        assert_eq!(
            told(&loaded),
            [format!("metadata.{field}: must be a string, not 1")]
        );
        assert!(loaded.resources.is_empty(), "{field}");
    }
}
