//! What is learned from which decisions, and what never is.

use jiff::Timestamp;

use super::*;
use crate::egress::record::Line;

/// A decision about a destination of `shop/web`, with fields instead of the usual ones.
fn wish(fields: &str) -> Wish {
    let usual = r#""kind":"egress","time":"2026-01-31T12:00:00Z","host":"a.example","port":443,"form":"connect","verdict":"refuse","reason":"host_not_listed","caller":{"namespace":"shop","service_account":"web","ip":"10.0.0.1"}"#;
    let usual: serde_json::Value = serde_json::from_str(&format!("{{{usual}}}")).unwrap();
    let own: serde_json::Value = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
    let mut line = usual;
    for (field, value) in own.as_object().unwrap() {
        line[field] = value.clone();
    }
    match Line::read(&line.to_string()) {
        Line::Decision(record) => Wish::of(*record),
        other => panic!("{other:?}: {line}"),
    }
}

fn lesson(wishes: &[&str], min_count: u64) -> Lesson {
    let mut tally = Tally::default();
    for fields in wishes {
        tally.add(wish(fields), Timestamp::UNIX_EPOCH);
    }
    Lesson::new(tally, min_count)
}

#[test]
fn protocols_follow_from_what_was_seen() {
    for (fields, expected) in [
        (r#""form":"absolute","port":8080"#, Spoken::Http),
        (r#""form":"host""#, Spoken::Http),
        (r#""port":80"#, Spoken::Http),
        ("", Spoken::Tls),
        (r#""verdict":"report""#, Spoken::Tcp),
        (r#""verdict":"report","sni":"a.example""#, Spoken::Tls),
        (r#""port":5432"#, Spoken::Tcp),
        (r#""form":"sni","port":8443"#, Spoken::Tls),
        (r#""port":8443,"sni":"a.example""#, Spoken::Tls),
    ] {
        assert_eq!(wish(fields).spoken, expected, "{fields}");
    }
}

#[test]
fn what_is_not_certain_is_never_allowed() {
    for (fields, why) in [
        (
            r#""reason":"denied_by_policy","policy":"egresspolicy/shop/a""#,
            "a policy denies it (egresspolicy/shop/a)",
        ),
        (
            r#""reason":"not_allowed_by_policy""#,
            "other destinations only",
        ),
        (
            r#""reason":"bad_destination""#,
            "not a host with one meaning",
        ),
        (r#""reason":"address_refused""#, "not outside"),
        (r#""reason":"something_new""#, "something_new"),
        (
            r#""verdict":"allow","reason":"allowed","error":"sni_mismatch""#,
            "names another host",
        ),
        (
            r#""verdict":"allow","reason":"allowed","error":"dns_failed""#,
            "could not be resolved",
        ),
        (r#""caller":{"ip":"10.0.0.1"}"#, "who calls is not known"),
        (r#""port":null"#, "no port"),
        (r#""host":"A.example""#, "an odd spelling of a.example"),
        (r#""host":"a.example.""#, "an odd spelling"),
        (r#""host":"0x7f.1""#, "hides it"),
        (r#""host":"a@b.example""#, "user information"),
        (r#""host":"a.example\n- b""#, "no host with one meaning"),
        (r#""host":"192.0.2.1""#, "an address"),
        (r#""host":"redis""#, "a name of the inside"),
        (
            r#""host":"metadata.google.internal""#,
            "a name of the inside",
        ),
        (
            r#""host":"db.shop.svc.cluster.local""#,
            "a name of the inside",
        ),
        (r#""host":"a_b.example""#, "underscore"),
    ] {
        let lesson = lesson(&[fields], 1);
        assert!(lesson.allowed.is_empty(), "{fields}");
        let against: Vec<_> = lesson
            .refused
            .values()
            .flat_map(|seen| &seen.against)
            .collect();
        assert!(
            against.iter().any(|it| it.contains(why)),
            "{fields} {against:?}"
        );
    }
}

#[test]
fn one_look_inside_spoils_a_host_for_everybody() {
    let other = r#""caller":{"namespace":"apps","service_account":"x","ip":"10.0.0.2"}"#;
    let lesson = lesson(
        &[
            r#""reason":"address_refused""#,
            other,
            r#""host":"aa.example""#,
        ],
        1,
    );
    let hosts: Vec<_> = lesson
        .allowed
        .values()
        .flatten()
        .map(|((host, _), _)| &**host)
        .collect();
    assert_eq!(hosts, ["aa.example"]);
    assert_eq!(lesson.refused.len(), 2);
}

#[test]
fn what_is_rare_is_left_out_and_said() {
    let lesson = lesson(&["", "", r#""host":"b.example""#], 2);
    assert_eq!(lesson.allowed.values().flatten().count(), 1);
    let refused = lesson.refused.values().next().unwrap();
    assert!(refused.against.contains("seen less than 2 times"));
}

#[test]
fn what_an_entry_opens_already_needs_a_policy_only() {
    let open = r#""verdict":"allow","reason":"allowed""#;
    let text = write::text(&lesson(&[open], 1), &logs::Read::default()).unwrap();
    assert!(!text.contains("kind: ServiceEntry"), "{text}");
    assert!(text.contains("kind: EgressPolicy"), "{text}");
}

/// A ServiceEntry of an earlier lesson may have been mended since: it is left alone in its place. It opens to all accounts of the
/// namespace, so it makes no difference which of them it was seen with.
#[test]
fn what_an_entry_opens_since_needs_none() {
    let caller = |namespace: &str, account: &str| {
        format!(
            r#""caller":{{"namespace":"{namespace}","service_account":"{account}","ip":"10.0.0.2"}}"#
        )
    };
    let learned = |unlisted: i64, (open, by): (i64, &str)| {
        let open_by = format!(r#""verdict":"allow","reason":"allowed",{by}"#);
        let mut tally = Tally::default();
        for (fields, second) in [("", unlisted), (open_by.as_str(), open)] {
            tally.add(wish(fields), Timestamp::from_second(second).unwrap());
        }
        write::text(&Lesson::new(tally, 1), &logs::Read::default()).unwrap()
    };
    for account in ["web", "cron"] {
        let by = caller("shop", account);
        assert!(!learned(1, (2, &by)).contains("kind: ServiceEntry"));
        assert!(learned(2, (1, &by)).contains("kind: ServiceEntry"));
    }
    let by_another = caller("apps", "web");
    assert!(learned(1, (2, &by_another)).contains("kind: ServiceEntry"));
}

#[test]
fn a_caller_that_is_not_known_is_told_how_it_would_be() {
    let unknown = lesson(&[r#""caller":{"ip":"2001:db8::7"}"#], 1);
    let text = write::text(&unknown, &logs::Read::default()).unwrap();
    assert!(
        text.contains("#   status: {phase: Running, podIP: \"2001:db8::7\""),
        "{text}"
    );
    let known = write::text(&lesson(&[r#""port":null"#], 1), &logs::Read::default()).unwrap();
    assert!(!known.contains("kind: Pod"), "{known}");
}

/// Names that YAML would take for something else are names in it.
#[test]
fn names_are_strings() {
    let fields =
        r#""host":"1.e5","caller":{"namespace":"123","service_account":"null","ip":"10.0.0.2"}"#;
    let text = write::text(&lesson(&[fields], 1), &logs::Read::default()).unwrap();
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let [entry, policy] = &objects[..] else {
        panic!("{text}");
    };
    assert_eq!(entry["metadata"]["namespace"], "123");
    assert_eq!(entry["spec"]["hosts"][0], "1.e5");
    let name = policy["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("learned-null-"), "{name}");
    assert_eq!(policy["spec"]["from"][0]["serviceAccounts"][0], "null");
}

#[test]
fn no_entry_opens_what_was_not_seen() {
    let wishes = [
        "",
        r#""host":"b.example","port":80"#,
        r#""host":"c.example""#,
    ];
    let text = write::text(&lesson(&wishes, 1), &logs::Read::default()).unwrap();
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let entries = objects.iter().filter(|it| it["kind"] == "ServiceEntry");
    let entries: Vec<_> = entries
        .map(|it| (&it["spec"]["hosts"], &it["spec"]["ports"][0]["name"]))
        .collect();
    let hosts = [
        serde_json::json!(["b.example"]),
        serde_json::json!(["a.example", "c.example"]),
    ];
    assert_eq!(
        entries,
        [
            (&hosts[0], &"http-80".into()),
            (&hosts[1], &"tls-443".into())
        ]
    );
}

#[test]
fn a_wildcard_is_suggested_and_not_made() {
    let hosts: Vec<_> = (0..5)
        .map(|n| format!(r#""host":"b{n}.cdn.example""#))
        .collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let text = write::text(&lesson(&hosts, 1), &logs::Read::default()).unwrap();
    assert!(text.contains("5 of these end in .cdn.example"), "{text}");
    let bare = text.lines().filter(|line| !line.starts_with('#'));
    assert!(!bare.collect::<String>().contains('*'), "{text}");
}

/// A caller that tries every port makes entries that the API server takes, and no port is in two of them.
#[test]
fn entries_have_no_more_ports_than_one_may() {
    let ports: Vec<_> = (0..=300).map(|port| format!(r#""port":{port}"#)).collect();
    let ports: Vec<_> = ports.iter().map(String::as_str).collect();
    let text = write::text(&lesson(&ports, 1), &logs::Read::default()).unwrap();
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let entries = objects.iter().filter(|it| it["kind"] == "ServiceEntry");
    let ports = entries.map(|entry| entry["spec"]["ports"].as_array().unwrap().len());
    assert_eq!(ports.collect::<Vec<_>>(), [256, 44]);
    assert!(text.contains("no port was named"), "{text}");
}
