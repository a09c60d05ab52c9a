//! Paths and methods of policies: no spelling of one passes a Deny, or comes from an Allow to what that does not name.

use serde_json::json;

use super::{super::*, check, compiled, with_policies};

/// What servers may read as `/admin`.
const SPELLINGS: [&str; 12] = [
    "//admin",
    "/public//admin",
    "/public/..;/admin",
    "/admin;x=1",
    "/admin%2Fx",
    "/public%2F..%2Fadmin",
    "/%252e%252e/admin",
    "/%2561dmin",
    "/%C0%AE%C0%AE/admin",
    "/admin%20",
    "/admin.",
    "/admin%3Fx",
];

#[test]
fn a_deny_is_passed_by_no_spelling_and_an_allow_is_left_by_none() {
    let deny = with_policies(json!({
        "p": {"scope": "Gateway", "action": "Deny", "to": [{"hosts": ["h"], "paths": [{"Prefix": "/admin"}]}]},
    }));
    let allow = with_policies(json!({
        "p": {"scope": "Gateway", "action": "Allow", "to": [
            {"hosts": ["h"], "paths": [{"Prefix": "/public"}]},
            {"hosts": ["g"]},
        ]},
    }));
    for path in SPELLINGS {
        let api = format!("a/x h 80 GET {path}");
        let www = format!("a/x g 80 GET {path}");
        let denied = "refuse denied_by_policy through e by p";
        let shut_in = "refuse not_allowed_by_policy through e by p";
        // What no path of a policy speaks of passes in every spelling.
        let fine = "allow allowed through e";
        check(deny.clone(), &[(&api, denied), (&www, fine)]);
        check(allow.clone(), &[(&api, shut_in), (&www, fine)]);
    }
}

#[test]
fn a_deny_takes_no_notice_of_case_and_an_allow_does() {
    let path = |action| {
        with_policies(json!({
            "p": {"scope": "Gateway", "action": action, "to": [{"paths": [{"Prefix": "/Admin/"}, {"Exact": "/One"}, {"Prefix": "/%C3%89t%C3%A9/%CE%A3"}, {"Exact": "/stra%C3%9Fe"}]}]},
        }))
    };
    let denied = "refuse denied_by_policy through e by p";
    let shut_in = "refuse not_allowed_by_policy through e by p";
    let fine = "allow allowed through e";
    for (asked, by_deny, by_allow) in [
        ("/Admin", denied, fine),
        ("/admin", denied, shut_in),
        ("/ADMIN/x", denied, shut_in),
        ("/administrator", fine, shut_in),
        ("/One", denied, fine),
        ("/one", denied, shut_in),
        ("/one/", fine, shut_in),
        ("/%C3%A9", fine, shut_in),
        ("/e%CC%81t%C3%A9/%CF%83", denied, shut_in),
        ("/%C3%89t%C3%A9/%CE%A3", denied, fine),
        ("/%C3%A9T%C3%89/%CF%83/x", denied, shut_in),
        ("/%C3%A9t%C3%A9/%CF%82", denied, shut_in),
        ("/%C3%A9t%C3%A9/%CF%83%CF%83", fine, shut_in),
        ("/adm%C4%B1n", denied, shut_in),
        ("/adm%C4%B0n", denied, shut_in),
        ("/stra%C3%9Fe", denied, fine),
        ("/STRA%E1%BA%9EE", denied, shut_in),
        ("/STRASSE", denied, shut_in),
    ] {
        let question = format!("a/x h 80 GET {asked}");
        check(path("Deny"), &[(&question, by_deny)]);
        check(path("Allow"), &[(&question, by_allow)]);
    }
}

#[test]
fn so_it_is_with_methods() {
    let policy = |action, mode| {
        with_policies(json!({
            "p": {"scope": "Gateway", "action": action, "mode": mode, "to": [{"methods": ["DELETE", "purge"]}]},
        }))
    };
    let fine = "allow allowed through e";
    for (asked, is_denied, is_allowed) in [
        ("DELETE", true, true),
        ("delete", true, false),
        ("Delete", true, false),
        ("PURGE", true, false),
        ("purge", true, true),
        ("DELET", false, false),
        ("GET", false, false),
    ] {
        let question = format!("a/x h 80 {asked} /");
        for (mode, verdict) in [("Enforce", "refuse"), ("Report", "report")] {
            let denied = format!("{verdict} denied_by_policy through e by p");
            let by_deny = if is_denied { &denied } else { fine };
            check(policy("Deny", mode), &[(&question, by_deny)]);
            let shut_in = format!("{verdict} not_allowed_by_policy through e by p");
            let by_allow = if is_allowed { fine } else { &shut_in };
            check(policy("Allow", mode), &[(&question, by_allow)]);
        }
    }
}

/// Servers decode both what is asked for and, where a policy was made from it, what that names.
#[test]
fn what_is_encoded_is_what_it_stands_for_in_policies_and_in_requests() {
    let path = |action: &str, mode: &str, path: &str| {
        with_policies(json!({
            "p": {"scope": "Gateway", "action": action, "mode": mode, "to": [{"paths": [{"Exact": path}]}]},
            "q": {"scope": "Gateway", "action": action, "mode": mode, "to": [{"paths": [{"Prefix": format!("{path}/more")}]}]},
        }))
    };
    let denied = "refuse denied_by_policy through e by p";
    let shut_in = "refuse not_allowed_by_policy through e by p";
    let fine = "allow allowed through e";
    // What a path may hold as it is (RFC 3986 3.3), and what it may not and proxies pass on all the same.
    for sign in ":@!$&'()*+,=-[]^|{}\" é".chars() {
        let bytes = sign.to_string().into_bytes();
        let codes: Vec<_> = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
        let plain = format!("/v1/X{sign}delete");
        let encoded = format!("/v1/X{}delete", codes.concat());
        let is_sent_plain = sign.is_ascii_graphic();
        for named in [&plain, &encoded] {
            let asked = [Some(&encoded), is_sent_plain.then_some(&plain)];
            for asked in asked.into_iter().flatten() {
                let exact = format!("a/x h 80 GET {asked}");
                let below = format!("a/x h 80 GET {asked}/more/still");
                let beside = format!("a/x h 80 GET {asked}d");
                let q = |answer: &str| answer.replace("by p", "by q");
                let deny = path("Deny", "Enforce", named);
                check(
                    deny,
                    &[(&exact, denied), (&below, &q(denied)), (&beside, fine)],
                );
                let report = path("Deny", "Report", named);
                let told = denied.replace("refuse", "report");
                check(report, &[(&exact, &told), (&beside, fine)]);
                let allow = path("Allow", "Enforce", named);
                check(allow, &[(&exact, fine), (&below, fine), (&beside, shut_in)]);
            }
        }
        let lower = format!("a/x h 80 GET {}", encoded.replace('X', "x"));
        check(path("Deny", "Enforce", &plain), &[(&lower, denied)]);
        check(path("Allow", "Enforce", &plain), &[(&lower, shut_in)]);
    }
}

/// What a policy names literally does not make servers agree about it.
#[test]
fn no_allow_opens_what_servers_read_differently_by_naming_it() {
    for named in [
        "/a;b", "/a%3Bb", "/a%2Fb", "/a%25b", "/a%3Fb", "/a%23b", "/a%FF", "/a//b", "/a.",
    ] {
        let policy = |action| {
            with_policies(json!({
                "p": {"scope": "Gateway", "action": action, "to": [{"paths": [{"Exact": named}]}]},
            }))
        };
        for asked in ["/a;b", "/a%3Bb", "/a%2Fb", "/a%25b", "/a%3Fb", named] {
            let question = format!("a/x h 80 GET {asked}");
            let denied = "refuse denied_by_policy through e by p";
            let shut_in = "refuse not_allowed_by_policy through e by p";
            check(policy("Deny"), &[(&question, denied)]);
            check(policy("Allow"), &[(&question, shut_in)]);
        }
        // And by no Deny is it more than what it names.
        let other = "a/x h 80 GET /a/b";
        check(policy("Deny"), &[(other, "allow allowed through e")]);
    }
}

#[test]
fn a_refusal_says_whether_it_is_for_the_request() {
    let get = Seen::Request {
        method: "GET",
        path: "/admin",
        encrypted: false,
    };
    let by_request = |policy: serde_json::Value, seen: Seen<'_>| {
        let compiled = compiled(with_policies(json!({ "p": policy })));
        let egress = compiled.egress().unwrap();
        let caller = Caller {
            namespace: "a",
            service_account: "x",
            labels: None,
        };
        let decision = egress.decide(&Question {
            destination: Destination::Name("h"),
            port: if seen == get { 80 } else { 443 },
            caller: Some(caller),
            seen,
        });
        assert_ne!(decision.verdict, Verdict::Allow);
        decision.by_request
    };
    let policy = |action: &str, to: serde_json::Value| json!({"scope": "Gateway", "action": action, "to": to});
    let admin = || json!({"hosts": ["h"], "paths": [{"Prefix": "/admin"}]});
    let posts = || json!({"methods": ["POST"]});
    let elsewhere = || json!({"hosts": ["g"], "methods": ["POST"]});
    for (action, to, expected) in [
        ("Deny", json!([admin()]), true),
        ("Deny", json!([admin(), {"hosts": ["h"]}]), false),
        ("Deny", json!([{"ports": [80]}, elsewhere()]), false),
        ("Deny", serde_json::Value::Null, false),
        ("Allow", json!([posts()]), true),
        ("Allow", json!([elsewhere()]), false),
        ("Allow", json!([{"hosts": ["g"]}]), false),
    ] {
        assert_eq!(
            by_request(policy(action, to.clone()), get),
            expected,
            "{action} {to}"
        );
    }
    // For what nobody sees there.
    let https = policy("Allow", json!([posts()]));
    assert!(by_request(https, Seen::Tls));
}
