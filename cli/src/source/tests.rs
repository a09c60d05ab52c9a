//! What is read again and again, while files are good and while they are not.

use std::fs;

use tempfile::TempDir;

use super::*;

const GATEWAY: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, protocol: HTTP, port: 80}]
";

fn route(name: &str, path: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{{name: edge}}]\n  rules:\n  - matches: [{{path: {{type: Exact, value: {path}}}}}]\n    \
         filters: [{{type: RequestRedirect, requestRedirect: {{hostname: example.org}}}}]\n"
    )
}

fn directory(files: &[(&str, &str)]) -> (TempDir, Source) {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(root.path().join(name), text).unwrap();
    }
    let source = Source::followed(&[root.path().to_owned()]).unwrap();
    (root, source)
}

fn routes(configuration: &Configuration) -> Vec<String> {
    configuration
        .translation
        .tables
        .values()
        .flat_map(|table| table.routes.values())
        .map(|route| format!("{} {:?}", route.source.name, route.matches[0].path))
        .collect()
}

fn codes(configuration: &Configuration) -> Vec<&str> {
    configuration
        .issues
        .iter()
        .map(|issue| issue.code.as_str())
        .collect()
}

#[test]
fn good_changes_are_taken_over() {
    let (root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("a.yaml", &route("a", "/1"))]);
    assert_eq!(routes(&source.load().unwrap()), [r#"a Exact("/1")"#]);
    fs::write(root.path().join("a.yaml"), route("a", "/2")).unwrap();
    fs::write(root.path().join("b.yaml"), route("b", "/3")).unwrap();
    assert_eq!(
        routes(&source.load().unwrap()),
        [r#"a Exact("/2")"#, r#"b Exact("/3")"#]
    );
    fs::remove_file(root.path().join("a.yaml")).unwrap();
    assert_eq!(routes(&source.load().unwrap()), [r#"b Exact("/3")"#]);
}

#[test]
fn a_broken_object_keeps_its_earlier_form_and_the_others_go_on() {
    let both = route("a", "/1") + &route("b", "/1");
    let (root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("routes.yaml", &both)]);
    source.load().unwrap();
    let broken = route("a", "/2").replace("Exact", "Wrong") + &route("b", "/2");
    fs::write(root.path().join("routes.yaml"), broken).unwrap();
    let configuration = source.load().unwrap();
    assert_eq!(
        routes(&configuration),
        [r#"a Exact("/1")"#, r#"b Exact("/2")"#]
    );
    assert_eq!(codes(&configuration), ["Invalid"]);
}

#[test]
fn a_document_that_is_no_yaml_keeps_what_the_file_held() {
    let both = route("a", "/1") + &route("b", "/1");
    let (root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("routes.yaml", &both)]);
    source.load().unwrap();
    fs::write(
        root.path().join("routes.yaml"),
        format!("---\nkind: [\n{}", route("b", "/2")),
    )
    .unwrap();
    let configuration = source.load().unwrap();
    assert_eq!(
        routes(&configuration),
        [r#"a Exact("/1")"#, r#"b Exact("/2")"#]
    );
    assert_eq!(codes(&configuration), ["Syntax"]);
    fs::write(root.path().join("routes.yaml"), route("b", "/2")).unwrap();
    assert_eq!(routes(&source.load().unwrap()), [r#"b Exact("/2")"#]);
}

#[test]
fn an_object_that_lost_its_kind_keeps_its_earlier_form() {
    let (root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("a.yaml", &route("a", "/1"))]);
    source.load().unwrap();
    let broken = route("a", "/2").replace("kind: HTTPRoute", "");
    fs::write(root.path().join("a.yaml"), broken).unwrap();
    let configuration = source.load().unwrap();
    assert_eq!(routes(&configuration), [r#"a Exact("/1")"#]);
    assert_eq!(codes(&configuration), ["NotAnObject"]);
}

#[test]
fn an_object_of_a_misspelt_kind_keeps_its_earlier_form() {
    let (root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("a.yaml", &route("a", "/1"))]);
    assert_eq!(source.load().unwrap().kept, []);
    let misspelt = route("a", "/2").replace("kind: HTTPRoute", "kind: HTTPRout");
    fs::write(root.path().join("a.yaml"), misspelt).unwrap();
    for again in 1..3 {
        let configuration = source.load().unwrap();
        assert_eq!(routes(&configuration), [r#"a Exact("/1")"#], "{again}");
        assert_eq!(codes(&configuration), ["UnknownKind"], "{again}");
        let kept: Vec<_> = configuration.kept.iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["HTTPRoute default/a"], "{again}");
    }
}

#[test]
fn what_is_broken_from_the_start_is_left_out_and_named() {
    let misspelt = GATEWAY.replace("port: 80", "port: 80, allowedRoute: {}, hostnam: a");
    let routes = route("a", "/1") + &route("a", "/2") + "---\nkind: [\n" + &route("b", "/1");
    let (root, mut source) = directory(&[("gateway.yaml", &misspelt), ("routes.yaml", &routes)]);
    let place = |name: &str| root.path().join(name).display().to_string();
    let left_out = source.load().unwrap().left_out;
    assert_eq!(
        left_out,
        [
            format!("Gateway default/edge ({}:1)", place("gateway.yaml")),
            format!("a document ({}:20)", place("routes.yaml")),
        ]
    );
    fs::write(root.path().join("gateway.yaml"), GATEWAY).unwrap();
    fs::write(root.path().join("routes.yaml"), route("a", "/1")).unwrap();
    assert_eq!(source.load().unwrap().left_out, [""; 0]);
    fs::write(root.path().join("gateway.yaml"), misspelt).unwrap();
    let configuration = source.load().unwrap();
    assert_eq!(configuration.left_out, [""; 0], "the earlier form stays");
    assert_eq!(configuration.kept.len(), 1);
}

#[test]
fn a_source_can_be_printed_without_keys() {
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: hunter2}}";
    let (_root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("s.yaml", secret)]);
    let configuration = source.load().unwrap();
    let printed = format!("{source:?} {configuration:?}");
    assert!(printed.contains("[redacted]"), "{printed}");
    let bytes = format!("{:?}", b"hunter2");
    for key in ["hunter2", bytes.trim_matches(['[', ']'])] {
        assert!(!printed.contains(key), "{printed}");
    }
}

#[test]
fn a_misnamed_file_is_told() {
    let (root, mut source) = directory(&[
        ("gateway.yaml", GATEWAY),
        ("a.yaml", &route("a", "/1")),
        ("a.yaml.txt", ""),
        (".b", ""),
    ]);
    let configuration = source.load().unwrap();
    assert_eq!(codes(&configuration), ["NotRead"]);
    let message = &configuration.issues[0].message;
    assert!(message.ends_with("not a.yaml.txt"), "{message}");
    fs::remove_file(root.path().join("a.yaml.txt")).unwrap();
    assert_eq!(codes(&source.load().unwrap()), [""; 0]);
}

#[test]
fn an_emptied_file_is_taken_for_one_that_is_being_written() {
    let (root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("a.yaml", &route("a", "/1"))]);
    source.load().unwrap();
    fs::write(root.path().join("a.yaml"), "").unwrap();
    let configuration = source.load().unwrap();
    assert_eq!(routes(&configuration), [r#"a Exact("/1")"#]);
    assert_eq!(codes(&configuration), ["EmptyFile"]);
}

#[test]
fn an_object_in_two_files_is_reported_and_the_first_is_used() {
    let (_root, mut source) = directory(&[
        ("a.yaml", &route("a", "/1")),
        ("b.yaml", &route("a", "/2")),
        ("gateway.yaml", GATEWAY),
    ]);
    let configuration = source.load().unwrap();
    assert_eq!(routes(&configuration), [r#"a Exact("/1")"#]);
    assert_eq!(codes(&configuration), ["Duplicate"]);
    let message = &configuration.issues[0].message;
    assert!(message.contains("a.yaml describes"), "{message}");
}

#[test]
fn while_parameters_are_broken_the_last_good_ones_stay_in_force() {
    let with_parameters = GATEWAY.to_owned()
        + "  infrastructure: {parametersRef: {group: portcullis.dev, kind: GatewayParameters, name: own}}\n";
    let parameters = |drain: &str| {
        format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: GatewayParameters\nmetadata: {{name: own}}\nspec: {{proxy: \
             {{drainTimeout: {drain}}}}}\n"
        )
    };
    let (root, mut source) = directory(&[
        ("gateway.yaml", &with_parameters),
        ("parameters.yaml", &parameters("1m")),
        ("a.yaml", &route("a", "/1")),
    ]);
    let drain = |configuration: &Configuration| {
        let mut tables = configuration.translation.tables.values();
        tables.next().map(|table| table.settings.drain_timeout.0.0)
    };
    assert_eq!(drain(&source.load().unwrap()), Some(60_000));
    fs::remove_file(root.path().join("parameters.yaml")).unwrap();
    fs::write(root.path().join("a.yaml"), route("a", "/2")).unwrap();
    for _ in 0..2 {
        let configuration = source.load().unwrap();
        assert_eq!(drain(&configuration), Some(60_000));
        assert_eq!(routes(&configuration), [r#"a Exact("/2")"#]);
        assert_eq!(codes(&configuration), ["InvalidParameters"]);
    }
    fs::write(root.path().join("parameters.yaml"), parameters("2m")).unwrap();
    assert_eq!(drain(&source.load().unwrap()), Some(120_000));
}

#[test]
fn a_gateway_whose_parameters_are_not_there_is_left_out_and_named() {
    let with_parameters = GATEWAY.to_owned()
        + "  infrastructure: {parametersRef: {group: portcullis.dev, kind: GatewayParameters, name: own}}\n";
    let (root, mut source) = directory(&[("gateway.yaml", &with_parameters)]);
    let configuration = source.load().unwrap();
    let place = root.path().join("gateway.yaml").display().to_string();
    assert_eq!(
        configuration.left_out,
        [format!("Gateway default/edge ({place})")]
    );
    let remedy = &configuration.issues[0].remedy;
    assert!(
        remedy.ends_with("; nothing of this Gateway is served until then"),
        "{remedy}"
    );
    let once = Source::new(&[root.path().to_owned()])
        .unwrap()
        .load()
        .unwrap();
    assert_eq!(once.issues[0].remedy, "create it, or correct the reference");
}

#[test]
fn what_is_in_force_or_cannot_be_mended_is_not_called_left_out() {
    let broken = route("a", "/2").replace("Exact", "Wrong");
    let not_yet = "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: t}\n";
    let namesake = route("a", "/3").replace("name: a}", "name: a, namespace: other}");
    let (root, mut source) = directory(&[
        ("a.yaml", &broken),
        ("b.yaml", &route("a", "/1")),
        ("gateway.yaml", GATEWAY),
        ("not-yet.yaml", not_yet),
    ]);
    let configuration = source.load().unwrap();
    assert_eq!(codes(&configuration), ["Invalid", "UnsupportedKind"]);
    assert_eq!(configuration.left_out, [""; 0]);
    fs::write(root.path().join("b.yaml"), namesake).unwrap();
    let left_out = source.load().unwrap().left_out;
    let place = root.path().join("a.yaml").display().to_string();
    assert_eq!(left_out, [format!("HTTPRoute default/a ({place}:2)")]);
}

#[test]
fn nothing_at_all_is_refused_and_forgets_nothing() {
    let (root, mut source) = directory(&[("gateway.yaml", GATEWAY), ("a.yaml", &route("a", "/1"))]);
    source.load().unwrap();
    let moved = root.path().with_extension("moved");
    fs::rename(root.path(), &moved).unwrap();
    assert!(source.load().is_err(), "the directory is gone");
    fs::create_dir(root.path()).unwrap();
    let error = source.load().unwrap_err().to_string();
    assert!(error.contains("there is no object in"), "{error}");
    fs::remove_dir(root.path()).unwrap();
    fs::rename(&moved, root.path()).unwrap();
    assert_eq!(routes(&source.load().unwrap()), [r#"a Exact("/1")"#]);
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let error = text(io::repeat(b'#')).unwrap_err().to_string();
    assert!(error.contains("256 MiB"), "{error}");
    assert_eq!(text(&b"kind: A"[..]).unwrap(), "kind: A");
}
