//! `portcullis egress denied` and `learn` by logs.

use std::{fs, io::Write, process::Stdio};

use serde_json::Value;

use crate::{
    GATEWAY, assert_golden, checked_by,
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

/// As some editors and shells write them.
#[test]
fn a_byte_order_mark_takes_no_line_away() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let marked = format!("\u{feff}{}", fs::read_to_string(log()).expect("a log"));
    fs::write(file.path(), marked.replace('\n', "\r\n")).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let denied = |log: &str| stdout(&run(&["egress", "denied", "--log", log]));
    assert_eq!(denied(path), denied(&log()));
}

#[test]
fn mistakes_of_the_command_line_say_what_to_write() {
    for (arguments, expected) in [
        (
            &["denied", "--gateway", "egress"][..],
            "NAMESPACE/NAME, such as shop/edge",
        ),
        (&["denied", "--from", "a/b/c"], "\"b/c\" is no name"),
        (&["denied", "--from", "A"], "\"A\" is no namespace"),
        (&["learn", "--namespace", "a/b"], "\"a/b\" is no namespace"),
        (&["denied", "--since=-5m"], "30m, 24h or 1h30m"),
        (
            &["denied", "--since", "--log", "x"],
            "a value is required for '--since <TIME>'",
        ),
        (
            &["denied", "--log", "Cargo.toml", "--log", "./Cargo.toml"],
            "./Cargo.toml is named twice",
        ),
        (&["learn", "--log", "-", "--log", "-"], "- is named twice"),
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

/// A log file with a decision about each host, of this minute. Who calls from an address alone is not known.
fn log_of(minute: u32, caller: &Value, hosts: &[&str]) -> tempfile::NamedTempFile {
    let lines = hosts.iter().map(|host| {
        let line = serde_json::json!({
            "kind": "egress", "time": format!("2026-01-31T12:{minute:02}:00Z"), "gateway": "infra/out", "caller": caller,
            "form": "absolute", "host": host, "port": 80, "verdict": "refuse", "reason": "host_not_listed",
        });
        format!("{line}\n")
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), lines.collect::<String>()).expect("written");
    file
}

/// What is applied of one lesson is replaced by none of another, whatever has been changed in it since.
#[test]
fn two_lessons_have_no_name_in_common() {
    let web = serde_json::json!({"namespace": "shop", "service_account": "web", "ip": "10.4.0.17"});
    let named = |minute: u32, hosts: &[&str]| {
        let log = log_of(minute, &web, hosts);
        let path = log.path().to_str().expect("UTF-8");
        let learned = stdout(&run(&["egress", "learn", "--log", path]));
        let objects: Vec<Value> = serde_saphyr::from_multiple(&learned).expect("YAML");
        assert_eq!(objects.len(), 2, "{learned}");
        let names = objects.iter().map(|it| it["metadata"]["name"].to_string());
        names.collect::<Vec<_>>()
    };
    let first = named(1, &["a.example"]);
    assert_eq!(first, named(1, &["a.example"]));
    for other in [named(1, &["b.example"]), named(2, &["a.example"])] {
        assert!(other.iter().all(|name| !first.contains(name)), "{other:?}");
    }
}

/// On a laptop there are no pods until somebody writes one down.
#[test]
fn callers_that_are_not_known_are_told_how_to_be() {
    let log = log_of(1, &serde_json::json!({"ip": "127.0.0.1"}), &["a.example"]);
    let path = log.path().to_str().expect("UTF-8");
    let output = run(&["egress", "learn", "--log", path]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("callers that are not known; a comment says how"));
    let learned = stdout(&output);
    let pod = learned
        .lines()
        .skip_while(|line| !line.ends_with("apiVersion: v1"));
    let pod = pod.filter_map(|line| line.strip_prefix("#   "));
    let pod = pod.collect::<Vec<_>>().join("\n");
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(file.path(), format!("{pod}\n{GATEWAY}")).expect("written");
    let manifests = file.path().to_str().expect("UTF-8");
    let asked = [
        "--pod",
        "default/this-machine",
        "http://a.example/",
        "-o",
        "json",
    ];
    let output = run(&[&["egress", "check", "-f", manifests], &asked[..]].concat());
    let said: Value = serde_json::from_slice(&output.stdout).expect(&learned);
    assert_eq!(said["caller"], "default/default");
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

/// Who was not seen may use what was learned, until the policy in the comment is applied and all are enforced.
#[test]
fn the_policy_in_the_comment_shuts_in_who_was_not_seen() {
    let web = serde_json::json!({"namespace": "shop", "service_account": "web", "ip": "10.4.0.17"});
    let log = log_of(1, &web, &["a.example"]);
    let path = log.path().to_str().expect("UTF-8");
    let learned = stdout(&run(&["egress", "learn", "--log", path]));
    let (_, closing) = learned.split_once("\n#---\n").expect("a policy");
    let closing = closing.lines().map(|line| line.strip_prefix('#'));
    let closing: Vec<_> = closing.map(|line| line.expect("a comment")).collect();
    let applied = format!("{learned}\n---\n{}\n{GATEWAY}", closing.join("\n"));
    let enforced = applied.replace("  mode: Report\n", "");
    for (manifests, account, verdict) in [
        (&format!("{learned}{GATEWAY}"), "shop/other", "allow"),
        (&applied, "shop/web", "allow"),
        (&applied, "shop/other", "report"),
        (&enforced, "shop/web", "allow"),
        (&enforced, "shop/other", "refuse"),
        (&enforced, "apps/web", "refuse"),
    ] {
        let asking = ["--from", account, "http://a.example/", "-o", "json"];
        let (_, said) = checked_by(manifests, &asking);
        let said: Value = serde_json::from_str(&said).expect(&said);
        assert_eq!(
            said["answers"][0]["verdict"], verdict,
            "{account} {manifests}"
        );
    }
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(file.path(), enforced).expect("written");
    let said = stdout(&run(&["analyze", file.path().to_str().expect("UTF-8")]));
    assert!(said.contains("no findings"), "{said}");
}
