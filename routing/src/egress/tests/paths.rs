//! Paths of policies: no spelling of a path passes a Deny, or comes from an Allow to what that does not name.

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
            "p": {"scope": "Gateway", "action": action, "to": [{"paths": [{"Prefix": "/Admin/"}, {"Exact": "/One"}]}]},
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
    ] {
        let question = format!("a/x h 80 GET {asked}");
        check(path("Deny"), &[(&question, by_deny)]);
        check(path("Allow"), &[(&question, by_allow)]);
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
