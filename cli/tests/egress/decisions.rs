//! `portcullis egress denied` and `learn` by logs.

use std::{fs, io::Write, process::Stdio};

use serde_json::Value;

use crate::{
    GATEWAY, assert_golden,
    common::{portcullis, run, stderr, stdout},
    testdata,
};

/// A log with all that a proxy writes, and what it never would.
fn log() -> String {
    testdata("decisions.log")
        .to_str()
        .expect("UTF-8")
        .to_owned()
}

#[test]
fn refusals_are_counted_by_caller_destination_and_reason() {
    let output = run(&["egress", "denied", "--log", &log()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_golden("denied.txt", &stdout(&output));
}

#[test]
fn nothing_that_a_log_holds_reaches_the_terminal_unescaped() {
    for arguments in [
        &["egress", "denied", "--log", &log()][..],
        &["egress", "denied", "-o", "json", "--log", &log()],
        &["egress", "denied", "-o", "yaml", "--log", &log()],
        &["egress", "learn", "--log", &log()],
    ] {
        let said = stdout(&run(arguments));
        assert!(said.contains("pwned"), "{said}");
        let is_wild = |one: char| one != '\n' && !(one.is_ascii_graphic() || one == ' ');
        assert!(!said.contains(is_wild), "{said:?}");
        assert!(!said.lines().any(|line| line == "kind: Secret"), "{said}");
    }
}

#[test]
fn a_filter_a_limit_and_the_rest() {
    let said = |arguments: &[&str]| -> Value {
        let output = run(&[
            &["egress", "denied", "-o", "json", "--log", &log()],
            arguments,
        ]
        .concat());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let cron = said(&["--from", "shop/cron"]);
    assert_eq!(cron["groups"].as_array().map(Vec::len), Some(1));
    assert_eq!(cron["groups"][0]["caller"]["serviceAccount"], "cron");
    let top = said(&["--top", "1"]);
    assert_eq!(top["groups"][0]["count"], 3);
    let all = said(&[]);
    let counts = all["groups"].as_array().expect("groups").iter();
    let counts: u64 = counts.filter_map(|it| it["count"].as_u64()).sum();
    assert_eq!(top["others"].as_u64(), Some(counts - 3));
    assert_eq!(said(&["--since", "1h"])["decisions"], 0);
}

#[test]
fn nothing_refused_is_well() {
    let output = run(&["egress", "denied", "--from", "nobody", "--log", &log()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("nothing was refused"));
}

#[test]
fn mistakes_of_the_command_line_say_what_to_write() {
    for (arguments, expected) in [
        (
            &["denied", "--gateway", "egress"][..],
            "NAMESPACE/NAME, such as egress-system/egress",
        ),
        (&["denied", "--from", "a/b/c"], "shop or shop/web"),
        (&["denied", "--since", "0s"], "30m, 24h or 1h30m"),
        (&["denied", "--since", "long"], "30m, 24h or 1h30m"),
        (
            &["denied", "--log", "Cargo.toml"],
            "no line of what --log names is one that a proxy writes",
        ),
        (
            &["denied", "--log", "/no/such/file"],
            "cannot read /no/such/file",
        ),
        (
            &["learn", "--log", "a", "--gateway", "a/b"],
            "cannot be used with",
        ),
        (
            &["denied", "--log", "a", "--context", "b"],
            "cannot be used with",
        ),
    ] {
        let output = run(&[&["egress"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn what_was_learned_is_as_before() {
    let output = run(&["egress", "learn", "--log", &log()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("2 lines that no proxy writes"));
    assert_golden("learned.yaml", &stdout(&output));
}

/// What was learned stands the checks of this program, as it is.
#[test]
fn what_was_learned_has_no_findings() {
    let learned = stdout(&run(&["egress", "learn", "--log", &log()]));
    let mut analyze = portcullis(&["analyze", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut input = analyze.stdin.take().expect("a pipe");
    input
        .write_all((learned + GATEWAY).as_bytes())
        .expect("it reads");
    drop(input);
    let output = analyze.wait_with_output().expect("it ends");
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("no findings"), "{said}");
}

#[test]
fn a_namespace_and_what_is_rare_can_be_left_out() {
    let learned = stdout(&run(&[
        "egress",
        "learn",
        "--namespace",
        "shop",
        "--min-count",
        "3",
        "--log",
        &log(),
    ]));
    let objects: Vec<Value> = serde_saphyr::from_multiple(&learned).expect("YAML");
    let hosts = objects.iter().map(|object| match object["kind"].as_str() {
        Some("ServiceEntry") => object["spec"]["hosts"].clone(),
        _ => object["spec"]["to"][0]["hosts"].clone(),
    });
    let only = serde_json::json!(["api.payments.example"]);
    assert_eq!(hosts.collect::<Vec<_>>(), [only.clone(), only]);
    assert!(learned.contains("seen less than 3 times"));
    assert!(!learned.contains("buckets"));
}

/// What is refused for its method or path may be allowed with another one.
#[test]
fn refusals_of_requests_are_counted_by_their_method_and_path() {
    let line = |method: &str, path: &str| {
        let line = serde_json::json!({
            "kind": "egress", "time": "2026-01-31T12:00:00Z", "gateway": "infra/out",
            "caller": {"namespace": "shop", "service_account": "web", "ip": "10.4.0.17"},
            "form": "absolute", "host": "api.example", "port": 80, "verdict": "refuse",
            "reason": "denied_by_policy", "policy": "egresspolicy/shop/web", "method": method, "path": path,
        });
        format!("{line}\n")
    };
    let log = [
        line("POST", "/v1"),
        line("POST", "/v1"),
        line("GET", "/a b\u{1b}"),
    ]
    .concat();
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), log).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let denied =
        |form: &[&str]| stdout(&run(&[&["egress", "denied", "--log", path], form].concat()));
    let table = denied(&[]);
    assert!(table.contains("POST api.example:80/v1 "), "{table}");
    assert!(
        table.contains("GET api.example:80/a\\u{20}b\\u{1b} "),
        "{table}"
    );
    for form in ["json", "yaml"] {
        let said: Value = serde_saphyr::from_str(&denied(&["-o", form])).expect("JSON, or YAML");
        let group = &said["groups"][0];
        assert_eq!(
            (&group["count"], &group["method"]),
            (&2.into(), &"POST".into())
        );
        assert_eq!(group["path"], "/v1");
    }
}
