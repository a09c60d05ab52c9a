//! The table of tricks with names: `testdata/egress/hosts.yaml`.

use std::{fmt::Display, net::Ipv4Addr};

use portcullis_routing::egress::host::{Authority, Host, HostError};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    hosts: Vec<Line>,
    authorities: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    trick: String,
    becomes: Option<String>,
    refused: Option<String>,
    hides: Option<Ipv4Addr>,
    twin: String,
}

/// What is wrong with a line of the table, if anything is.
fn fault<T: Display>(line: &Line, parse: impl Fn(&str) -> Result<T, HostError>) -> Option<String> {
    let outcome = |text: &str| match parse(text) {
        Ok(normal) => (Some(normal.to_string()), None, None),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let hidden = match error {
                HostError::AmbiguousAddress { address } => Some(address),
                _ => None,
            };
            (None, Some(error.code().to_owned()), hidden)
        }
    };
    let expected = (line.becomes.clone(), line.refused.clone(), line.hides);
    let found = outcome(&line.trick);
    let twin = outcome(&line.twin);
    if found != expected {
        Some(format!("{:?}: {found:?}, not {expected:?}", line.trick))
    } else if twin.0.as_ref() != Some(&line.twin) {
        Some(format!("{:?}, a twin: {twin:?}", line.twin))
    } else {
        None
    }
}

#[test]
fn tricks_with_names() {
    let corpus: Corpus = crate::corpus("hosts.yaml");
    assert!(corpus.hosts.len() >= 120 && corpus.authorities.len() >= 30);
    let hosts = corpus
        .hosts
        .iter()
        .filter_map(|line| fault(line, Host::parse));
    let authorities = corpus
        .authorities
        .iter()
        .filter_map(|line| fault(line, Authority::parse));
    let faults: Vec<_> = hosts.chain(authorities).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn lengths_are_bounded() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!(longest.len(), 253);
    assert_eq!(
        Host::parse(&longest),
        Ok(Host::Name(longest.as_str().into()))
    );
    // The dot at the end is no part of it.
    assert_eq!(Host::parse(&format!("{longest}.")), Host::parse(&longest));
    assert_eq!(Host::parse(&format!("{longest}a")), Err(HostError::TooLong));
    assert_eq!(Host::parse(&"a.".repeat(100_000)), Err(HostError::TooLong));
    // Each is few bytes of punycode, and together they are too many.
    assert_eq!(Host::parse(&"\u{fc}.".repeat(60)), Err(HostError::TooLong));
    assert_eq!(
        Host::parse(&"\u{ad}".repeat(100_000)),
        Err(HostError::TooLong)
    );
    assert_eq!(
        Host::parse(&format!("{}.test", "\u{4f8b}\u{3048}".repeat(30))),
        Err(HostError::LabelTooLong)
    );
}

#[test]
fn a_host_is_text_on_the_wire_and_no_other_text_is_a_host() {
    for text in ["api.example.com", "192.0.2.1", "2001:db8::1"] {
        let host: Host = serde_json::from_value(text.into()).unwrap();
        assert_eq!(serde_json::to_value(&host).unwrap(), text);
    }
    let error = serde_json::from_value::<Host>("0x7f.1".into()).unwrap_err();
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}
