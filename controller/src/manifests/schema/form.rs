//! Forms of texts: what a pattern means in words, and what may have been meant by a text that is not of it.

use std::net::IpAddr;

use portcullis_crds::{
    credential_injection::{KEY, PREFIX},
    egress_policy::{CIDR, METHOD, NAMESPACE, RANGE, SERVICE_ACCOUNT},
    gateway_parameters::{SOCKET, TRUST_DOMAIN},
};
use portcullis_routing::egress::host::Host;

/// The pattern of durations (GEP-2257), which says little to most people.
const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// Digits of one number of a duration.
const MAX_DIGITS: usize = 5;
/// Numbers of a duration.
const MAX_PARTS: usize = 4;

/// The patterns of hostnames that may have a wildcard, and of those that may not, which is that of other names too.
const HOSTNAME: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// What is wrong with a text that does not match a pattern.
pub(super) fn complaint(text: &str, pattern: &str) -> String {
    match pattern {
        DURATION => format!(
            "{text:?} is no duration: whole numbers with the units h, m, s or ms, such as 300ms or 1m30s"
        ),
        HOSTNAME => format!("{text:?} is no hostname: {}", form_of_names(text)),
        NAME => format!("{text:?} is no name: {}", form_of_names(text)),
        CIDR => format!(
            "{text:?} is no range of addresses: an address and the length of its prefix, such as 10.1.0.0/16 or 2001:db8::/32"
        ),
        RANGE => format!(
            "{text:?} is no address and no range of them: write 10.1.0.7 or 10.1.0.0/16, 2001:db8::7 or 2001:db8::/32, say"
        ),
        NAMESPACE => format!(
            "{text:?} is no namespace: lower-case letters and digits, with '-' inside, such as shop; without the field it is every one"
        ),
        SERVICE_ACCOUNT => format!(
            "{text:?} is no service account: NAME or NAMESPACE/NAME in lower case, such as web or shop/web"
        ),
        // Names of headers have the same form.
        METHOD => format!(
            "{text:?} is no word of HTTP: one word of letters, digits and !#$%&'*+-.^_`|~, such as GET or X-Api-Key"
        ),
        SOCKET => format!(
            "{text:?} is no address with its port, such as 192.0.2.53:53 or [2001:db8::53]:53"
        ),
        TRUST_DOMAIN => format!(
            "{text:?} is no trust domain: lower-case letters, digits, '.', '_' and '-', such as cluster.local"
        ),
        PREFIX => format!(
            "{text:?} cannot begin the value of a header: visible ASCII, and spaces but for the first character"
        ),
        KEY => format!("{text:?} is no key of a Secret: letters, digits, '-', '_' and '.' only"),
        other => format!("{text:?} does not match {other}"),
    }
}

/// What to do about a text that does not match a pattern, or a number in its place, if that is known.
pub(super) fn remedy(text: &str, pattern: &str) -> Option<String> {
    match pattern {
        DURATION => Some(remedy_of_duration(text)),
        HOSTNAME => remedy_of_hostname(text),
        _ => None,
    }
}

/// What is wrong with a text that is to be a hostname, or a name of that form.
fn form_of_names(text: &str) -> &'static str {
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if bare.unwrap_or(text).parse::<IpAddr>().is_ok() {
        "it is an address, and names only are taken here"
    } else if text.contains('/') {
        "write the name alone, without scheme, path or range"
    } else if let Some(Ok(_)) = port {
        "a hostname has no port"
    } else if text.contains('*') {
        "a wildcard stands for the first labels, as in *.shop.example"
    } else {
        "use lower-case letters, digits, '-' and '.', as in shop.example"
    }
}

/// What to write in place of `*`, or the normal form of a hostname that is written otherwise: in upper case, with a dot at its end, in
/// letters of other alphabets.
fn remedy_of_hostname(text: &str) -> Option<String> {
    if text == "*" {
        let names = "write names, such as shop.example or *.shop.example";
        return Some(format!(
            "{names}; for every one leave the field out if it need not be there"
        ));
    }
    let (wildcard, rest) = text
        .strip_prefix("*.")
        .map_or(("", text), |rest| ("*.", rest));
    match Host::parse(rest) {
        Ok(Host::Name(name)) if !name.contains('_') => Some(format!("write {wildcard}{name}")),
        _ => None,
    }
}

fn remedy_of_duration(text: &str) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    let mut after_digit = false;
    for one in text.chars() {
        match parts.last_mut() {
            _ if one.is_whitespace() => {}
            Some((digits, _)) if one.is_ascii_digit() && after_digit => digits.push(one),
            _ if one.is_ascii_digit() => parts.push((one.into(), String::new())),
            Some((_, unit)) => unit.push(one.to_ascii_lowercase()),
            None => return GENERAL.to_owned(),
        }
        after_digit = one.is_ascii_digit();
    }
    if parts.len() > MAX_PARTS {
        return format!("write {MAX_PARTS} numbers at most, such as 1h30m15s");
    }
    if parts.iter().any(|(digits, _)| digits.len() > MAX_DIGITS) {
        return format!(
            "write numbers of {MAX_DIGITS} digits at most, with a larger unit if need be"
        );
    }
    let mut meant = String::new();
    for (index, (digits, unit)) in parts.iter().enumerate() {
        let previous = index.checked_sub(1).and_then(|it| parts.get(it));
        let unit = match (unit.as_str(), previous.map(|(_, unit)| unit.as_str())) {
            (unit @ ("h" | "m" | "s" | "ms"), _) => unit,
            ("", None) => {
                return format!("name the unit: {digits}s for seconds, {digits}ms for thousandths");
            }
            // The next smaller one, as in 1h30.
            ("", Some("h")) => "m",
            ("", Some("m")) => "s",
            _ => return GENERAL.to_owned(),
        };
        meant += digits;
        meant += unit;
    }
    if meant.is_empty() {
        return GENERAL.to_owned();
    }
    format!("write {meant}")
}

/// Where nobody knows what was meant.
const GENERAL: &str = "write a duration, such as 5s or 1m30s";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_proposed_where_it_is_clear_which_was_meant() {
        for (text, expected) in [
            ("5", "name the unit: 5s for seconds, 5ms for thousandths"),
            ("5 s", "write 5s"),
            ("5S ", "write 5s"),
            ("1h30", "write 1h30m"),
            ("1m 30", "write 1m30s"),
            ("1s5", GENERAL),
            ("1h 30 m", "write 1h30m"),
            ("5 5s", "name the unit: 5s for seconds, 5ms for thousandths"),
            ("1.5s", GENERAL),
            ("1d", GENERAL),
            ("5 seconds", GENERAL),
            ("", GENERAL),
            ("s", GENERAL),
            ("-1s", GENERAL),
            ("true", GENERAL),
            (
                "100000s",
                "write numbers of 5 digits at most, with a larger unit if need be",
            ),
            ("1s1s1s1s1s", "write 4 numbers at most, such as 1h30m15s"),
        ] {
            assert_eq!(remedy(text, DURATION).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(remedy("5", NAME), None);
    }

    #[test]
    fn a_hostname_is_proposed_in_its_normal_form() {
        for (text, expected) in [
            ("A.Example", Some("write a.example")),
            ("*.A.Example.", Some("write *.a.example")),
            ("b\u{fc}cher.example", Some("write xn--bcher-kva.example")),
            ("a_b.Example", None),
            ("a.example:80", None),
            (
                "*",
                Some(
                    "write names, such as shop.example or *.shop.example; for every one leave the field out if it need not be there",
                ),
            ),
            ("2001:DB8::1", None),
        ] {
            assert_eq!(remedy(text, HOSTNAME).as_deref(), expected, "{text}");
        }
        for text in ["2001:DB8::1", "[2001:db8::1]"] {
            assert!(
                complaint(text, HOSTNAME).contains("it is an address"),
                "{text}"
            );
        }
    }
}
