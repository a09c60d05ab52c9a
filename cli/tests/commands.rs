//! Commands that answer and end: output forms, exit codes, words.

mod common;

use std::fs;

use common::{config, portcullis, run, stderr, stdout};
use portcullis_controller::Resources;
use serde_json::Value;

fn sample(name: &str) -> String {
    config()
        .join("samples")
        .join(name)
        .to_str()
        .expect("UTF-8")
        .to_owned()
}

#[test]
fn exit_codes_are_0_1_and_2() {
    assert_eq!(
        run(&["analyze", &sample("mirror.yaml")]).status.code(),
        Some(0)
    );
    assert_eq!(
        run(&["analyze", &sample("faults/missing-service.yaml")])
            .status
            .code(),
        Some(1)
    );
    assert_eq!(
        run(&["analyze", "/no/such/directory"]).status.code(),
        Some(2)
    );
    assert_eq!(run(&["analyze"]).status.code(), Some(2));
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
}

#[test]
fn an_error_says_what_to_do_next() {
    let empty = tempfile::tempdir().expect("a directory");
    let error = stderr(&run(&["analyze", empty.path().to_str().expect("UTF-8")]));
    assert!(
        error.contains("put manifests there, in files named .yaml, .yml or .json"),
        "{error}"
    );
}

#[test]
fn an_option_that_cannot_be_meant_is_told_with_its_remedy() {
    for (option, value, expected) in [
        ("--workers", "0", "write a number of threads from 1 on"),
        (
            "--map-port",
            "80=99999",
            "ports are numbers from 1 to 65535",
        ),
        ("--map-port", "8080", "write SPEC=BIND, such as 80=8080"),
    ] {
        let output = run(&["run", "--config", &sample("mirror.yaml"), option, value]);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{option} {value}");
        assert!(
            error.contains(option) && error.contains(expected),
            "{error}"
        );
    }
}

/// `run --check` of a text.
fn check(text: &str, options: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("a.yaml"), text).expect("written");
    let path = directory.path().to_str().expect("UTF-8");
    let output = run(&[&["run", "--check", "--config", path], options].concat());
    (output.status.code(), stdout(&output) + &stderr(&output))
}

#[test]
fn a_check_fails_where_something_is_not_served() {
    let good = fs::read_to_string(sample("mirror.yaml")).expect("readable");
    assert_eq!(check(&good, &[]).0, Some(0));
    for (from, to, code) in [
        (
            "    - name: shop\n  hostnames",
            "    - name: shopp\n  hostnames",
            "GatewayNotFound",
        ),
        (
            "    - name: shop\n  hostnames",
            "    - name: shop\n      kind: Gatway\n  hostnames",
            "ParentNotServed",
        ),
        (
            "gatewayClassName: portcullis",
            "gatewayClassName: portculis",
            "GatewayClassNotFound",
        ),
        ("kind: HTTPRoute", "kind: HTTPRout", "UnknownKind"),
        ("kind: Gateway\n", "kind: Gatewy\n", "NothingServed"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{from} is not in the sample");
        let (status, told) = check(&bad, &[]);
        assert_eq!(status, Some(1), "{code}: {told}");
        assert!(told.contains(code), "{code}: {told}");
    }
}

#[test]
fn a_check_fails_where_all_is_somebody_elses() {
    let class = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: portcullis}\n\
        spec: {controllerName: example.com/controller}\n";
    let good = fs::read_to_string(sample("mirror.yaml")).expect("readable");
    let (status, told) = check(&(good + class), &[]);
    assert_eq!(status, Some(1), "{told}");
    for code in [
        "note    ForeignGateway",
        "note    ParentNotServed",
        "error   NothingServed",
    ] {
        assert!(told.contains(code), "{code}: {told}");
    }
}

#[test]
fn a_check_names_the_class_that_the_objects_need() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: api}\n\
        spec: {hosts: [api.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}\n";
    let (status, told) = check(entry, &[]);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("of class portcullis-egress is"), "{told}");
    let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web}\n\
        spec: {parentRefs: [{name: edge}]}\n";
    let (_, told) = check(route, &[]);
    assert!(told.contains("of class portcullis is"), "{told}");
    let (_, told) = check(&(entry.to_owned() + route), &[]);
    assert!(told.contains("portcullis or portcullis-egress"), "{told}");
}

#[test]
fn the_summary_says_that_an_egress_gateway_only_reports() {
    let good = fs::read_to_string(sample("egress/allow-list.yaml")).expect("readable");
    let (_, told) = check(&good, &[]);
    assert!(!told.contains("Report"), "{told}");
    let class = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: portcullis-egress}\n\
        spec:\n  controllerName: portcullis.dev/gateway-controller\n\
        \x20 parametersRef: {group: portcullis.dev, kind: GatewayParameters, name: out, namespace: egress}\n\
        ---\napiVersion: portcullis.dev/v1alpha1\nkind: GatewayParameters\nmetadata: {name: out, namespace: egress}\n\
        spec: {proxy: {egress: {mode: Report}}}\n";
    let (status, told) = check(&(good + class), &[]);
    assert_eq!(status, Some(0), "{told}");
    assert!(
        told.contains("egress in mode Report, hosts that nothing opens pass"),
        "{told}"
    );
    assert!(told.contains("note    ReportOnly"), "{told}");
}

#[test]
fn a_mapped_port_that_no_listener_has_is_told() {
    let good = fs::read_to_string(sample("mirror.yaml")).expect("readable");
    let (status, told) = check(&good, &["--map-port", "80=8080,81=8081"]);
    assert_eq!(status, Some(0), "{told}");
    assert!(
        told.contains("--map-port 81=8081: no listener has port 81"),
        "{told}"
    );
    assert!(!told.contains("80=8080"), "{told}");
}

#[test]
fn a_mapped_port_of_a_listener_that_is_not_served_has_a_listener() {
    let text = fs::read_to_string(sample("faults/missing-certificate.yaml")).expect("readable");
    let (status, told) = check(&text, &["--map-port", "443=28443"]);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("InvalidCertificateRef"), "{told}");
    assert!(!told.contains("443=28443"), "{told}");
}

#[test]
fn colours_are_for_terminals_and_can_be_refused() {
    let faulty = sample("faults/missing-service.yaml");
    let coloured = |set: Option<(&str, &str)>| {
        let mut command = portcullis(&["analyze", &faulty]);
        command.env_remove("NO_COLOR").envs(set);
        stdout(&command.output().expect("the binary starts")).contains('\u{1b}')
    };
    assert!(!coloured(None), "a pipe is no terminal");
    assert!(coloured(Some(("CLICOLOR_FORCE", "1"))));
    assert!(!coloured(Some(("NO_COLOR", "1"))));
}

#[test]
fn translate_prints_the_same_as_json_and_yaml_and_no_key() {
    let tls = sample("tls-redirect.yaml");
    let json: Value =
        serde_json::from_str(&stdout(&run(&["translate", &tls, "-o", "json"]))).expect("JSON");
    let text = stdout(&run(&["translate", &tls, "-o", "yaml"]));
    let yaml: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(json, yaml);
    assert!(!text.contains("PRIVATE KEY"));
    let certificate = &json["tables"]["tls-redirect/shop"]["certificates"]["secret/tls-redirect/shop-certificate"];
    assert_eq!(certificate["key_pem"], "[redacted]");
    let conditions =
        &json["statuses"]["httpRoutes"]["tls-redirect/shop"]["parents"][0]["conditions"];
    assert_eq!(conditions[0]["type"], "Accepted");
    let table = stdout(&run(&["translate", &tls]));
    assert!(
        table.contains("tls-redirect/shop/https  https port 443"),
        "{table}"
    );
}

#[test]
fn what_an_egress_gateway_lets_out_is_listed() {
    let egress = sample("egress/allow-list.yaml");
    let table = stdout(&run(&["translate", &egress]));
    for words in [
        "egress/weather  api.openweathermap.org  80 HTTP, 443 HTTPS",
        "80 HTTP (to 443, TLS)",
        "shop/payments  deny  namespace shop: pods with app!=checkout  payments.example",
        "ServiceEntry shop/payments",
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let address = "http://api.openweathermap.org:3128/";
    let output = run(&["explain", "--config", &egress, "GET", address]);
    let explained = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{explained}");
    assert!(
        explained
            .contains("which ServiceEntry and EgressPolicy decide, `portcullis egress check` says"),
        "{explained}"
    );
}

#[test]
fn one_table_is_printed_whole_as_the_proxy_reads_it() {
    let tls = sample("tls-redirect.yaml");
    let output = run(&["translate", &tls, "--table", "tls-redirect/shop"]);
    let table: portcullis_routing::RoutingTable =
        serde_json::from_str(&stdout(&output)).expect("a routing table");
    assert_eq!(table.version, table.computed_version());
    let certificate = table.certificates.values().next().expect("a certificate");
    assert!(certificate.key_pem.expose().contains("PRIVATE KEY"));
    let unknown = run(&["translate", &tls, "--table", "other/shop"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        stderr(&unknown).contains("choose one of tls-redirect/shop"),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn findings_of_translate_leave_the_output_clean() {
    let output = run(&[
        "translate",
        &sample("faults/missing-service.yaml"),
        "-o",
        "json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    serde_json::from_str::<Value>(&stdout(&output)).expect("JSON and nothing else");
    assert!(stderr(&output).contains("BackendNotFound"));
}

#[test]
fn slips_of_the_command_line_are_told_with_an_example() {
    for (arguments, told) in [
        (&["run", "m"][..], "`portcullis run --config m`"),
        (
            &["run", "--config", "m", "--admin", "9901"],
            "127.0.0.1:9901",
        ),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
    }
}

/// As with kubectl, and as of the other commands.
#[test]
fn manifests_are_named_by_either_letter() {
    let path = sample("mirror.yaml");
    for option in ["-c", "-f", "--config"] {
        let output = run(&["run", "--check", option, &path]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
fn a_broken_document_does_not_hide_the_good_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = fs::read_to_string(sample("mirror.yaml")).expect("readable");
    fs::write(
        directory.path().join("a.yaml"),
        format!("{good}\n---\nkind: [\n"),
    )
    .expect("written");
    let path = directory.path().to_str().expect("UTF-8");
    let output = run(&["analyze", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("Syntax"), "{}", stdout(&output));
    let answer = run(&["explain", "--config", path, "GET", "http://shop.example/"]);
    assert_eq!(answer.status.code(), Some(0));
}

#[test]
fn programs_are_told_that_nothing_but_a_broken_object_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("route.yaml");
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web}\nspec: {rules: 7}\n";
    fs::write(&file, route).expect("written");
    let path = file.to_str().expect("UTF-8");
    let output = run(&["analyze", path, "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let findings: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(findings[0]["code"], "Invalid");
    assert_eq!(run(&["analyze", path]).status.code(), Some(1));
    // Without any object there is nothing to say about one.
    fs::write(&file, "kind: ControllerRevision\napiVersion: apps/v1\n").expect("written");
    let output = run(&["analyze", path, "-o", "json"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn there_is_a_completion_script_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&run(&["completion", shell]));
        assert!(script.contains("explain"), "{shell}");
    }
}

#[test]
fn help_teaches_with_examples() {
    for command in [
        "demo",
        "run",
        "analyze",
        "explain",
        "translate",
        "completion",
    ] {
        let help = stdout(&run(&[command, "--help"]));
        assert!(help.contains("Examples:"), "{command}: {help}");
    }
}

/// What is left out counts as missing.
#[test]
fn the_cluster_is_analyzed_with_all_kinds_that_are_read() {
    let help = stdout(&run(&["analyze", "--help"]));
    let listed: Vec<_> = help
        .split_once("kinds=")
        .expect("a list of kinds")
        .1
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter_map(|word| word.split('.').next())
        .collect();
    for (kind, _) in Resources::default().counts() {
        let kind = kind.to_lowercase();
        let plural = match kind.strip_suffix('y') {
            Some(stem) if !stem.ends_with('a') => format!("{stem}ies"),
            None if kind.ends_with("ss") => format!("{kind}es"),
            None if kind.ends_with('s') => kind,
            _ => format!("{kind}s"),
        };
        assert!(listed.contains(&plural.as_str()), "{plural}: {help}");
    }
}

#[test]
fn manifests_may_come_from_standard_input() {
    let sample = fs::File::open(sample("faults/missing-service.yaml")).expect("readable");
    let output = portcullis(&["analyze", "-", "-o", "json"])
        .stdin(sample)
        .output()
        .expect("the binary starts");
    let findings: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(findings[0]["code"], "BackendNotFound");
}

#[test]
fn standard_input_without_objects_is_called_by_its_name() {
    let output = portcullis(&["analyze", "-"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the binary starts");
    let error = stderr(&output);
    assert!(
        error.contains("there is no object in standard input"),
        "{error}"
    );
}
