//! One decision of a proxy, as its log has it. Clients choose much of what is in it, and files may hold anything: nothing of
//! it is printed that is not visible ASCII: what a terminal would obey, and what would look like the next column.

use std::{borrow::Cow, fmt, net::IpAddr};

use jiff::Timestamp;
use portcullis_routing::egress::Verdict;
use serde::{Deserialize, Serialize, Serializer};

use crate::names::{is_name, is_namespace};

/// Longest text that is kept, bytes, as long as the longest host of a line.
const MAX_TEXT: usize = 256;

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) time: Timestamp,
    pub(super) caller: Caller,
    /// How the destination was named: `absolute`, `host`, `connect`, ...
    pub(super) form: Box<str>,
    pub(super) host: Box<str>,
    pub(super) port: Option<u16>,
    /// Whether a TLS greeting named a host.
    pub(super) has_sni: bool,
    pub(super) verdict: Verdict,
    pub(super) reason: Box<str>,
    /// The EgressPolicy that decided.
    pub(super) policy: Option<Box<str>>,
    /// Method and path that policies are against, where it is not the destination as such.
    pub(super) request: Option<(Box<str>, Box<str>)>,
    /// What went wrong with what was allowed.
    pub(super) error: Option<Box<str>>,
}

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Caller {
    /// Whoever uses this service account.
    Account {
        /// A name that a namespace can have.
        namespace: Box<str>,
        /// A name that an object can have.
        service_account: Box<str>,
    },
    /// Nobody that is known, at this address.
    Unknown(IpAddr),
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A decision.
    Decision(Box<Record>),
    /// Something else that proxies log.
    Other,
    /// Nothing that a proxy logs.
    Unread,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    caller: CallerFields<'a>,
    #[serde(borrow)]
    form: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(borrow, default)]
    sni: Option<Cow<'a, str>>,
    verdict: Verdict,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow, default)]
    policy: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    path: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct CallerFields<'a> {
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    service_account: Option<Cow<'a, str>>,
    ip: IpAddr,
}

impl Line {
    /// Reads one.
    pub(super) fn read(text: &str) -> Self {
        // A list would be read as the fields of an object in their order.
        if !text.trim_start().starts_with('{') {
            return Self::Unread;
        }
        match serde_json::from_str::<Kind<'_>>(text) {
            Err(_) => Self::Unread,
            Ok(Kind { kind }) if kind.as_deref() != Some("egress") => Self::Other,
            Ok(_) => {
                let fields = serde_json::from_str::<Fields<'_>>(text).ok();
                let record = fields.as_ref().and_then(Record::new).map(Box::new);
                record.map_or(Self::Unread, Self::Decision)
            }
        }
    }
}

impl Record {
    fn new(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            time: fields.time.parse().ok()?,
            caller: Caller::new(&fields.caller)?,
            form: plain(&fields.form),
            host: plain(&fields.host),
            port: fields.port,
            has_sni: fields.sni.is_some(),
            verdict: fields.verdict,
            reason: plain(&fields.reason),
            policy: fields.policy.as_deref().map(plain),
            request: fields
                .method
                .as_deref()
                .zip(fields.path.as_deref())
                .map(|(method, path)| (plain(method), plain(path))),
            error: fields.error.as_deref().map(plain),
        })
    }
}

/// Host and port, as far as that is known; IPv6 addresses in brackets.
pub(super) fn place(host: &str, port: Option<u16>) -> String {
    match port {
        Some(port) if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

impl Caller {
    /// `None` if it is called what no object can be called.
    fn new(fields: &CallerFields<'_>) -> Option<Self> {
        match (&fields.namespace, &fields.service_account) {
            (Some(own), Some(account)) => {
                (is_namespace(own) && is_name(account)).then(|| Self::Account {
                    namespace: (&**own).into(),
                    service_account: (&**account).into(),
                })
            }
            _ => Some(Self::Unknown(fields.ip.to_canonical())),
        }
    }

    /// Whether it is of a namespace and, if one is asked for, of a service account.
    pub(super) fn is_of(&self, wanted: &str, account: Option<&str>) -> bool {
        match self {
            Self::Account {
                namespace,
                service_account,
            } => {
                &**namespace == wanted
                    && account.is_none_or(|account| &**service_account == account)
            }
            Self::Unknown(_) => false,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account {
                namespace,
                service_account,
            } => write!(f, "{namespace}/{service_account}"),
            Self::Unknown(address) => write!(f, "{address} (not known)"),
        }
    }
}

impl Serialize for Caller {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase", untagged)]
        enum Form<'a> {
            #[serde(rename_all = "camelCase")]
            Account {
                namespace: &'a str,
                service_account: &'a str,
            },
            Unknown {
                address: &'a IpAddr,
            },
        }
        let form = match self {
            Self::Account {
                namespace,
                service_account,
            } => Form::Account {
                namespace,
                service_account,
            },
            Self::Unknown(address) => Form::Unknown { address },
        };
        form.serialize(serializer)
    }
}

/// The text as visible ASCII, of bounded length. Whatever else is in it is escaped, spaces too: nothing that is read has any.
fn plain(text: &str) -> Box<str> {
    let mut plain = String::new();
    for one in text.chars() {
        if plain.len() >= MAX_TEXT {
            plain.push_str("...");
            break;
        }
        if one.is_ascii_graphic() {
            plain.push(one);
        } else {
            plain.extend(one.escape_unicode());
        }
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A line as the proxy writes it.
    const LINE: &str = r#"{"kind":"egress","time":"2026-01-31T12:34:56.789Z","gateway":"infra/out","caller":{"namespace":"shop","service_account":"web","pod":"web-7c9d","ip":"10.4.0.17","identity":"pod"},"form":"absolute","host":"api.example.com","port":80,"verdict":"refuse","reason":"host_not_listed","bytes_in":0,"bytes_out":187,"duration_ms":0.052}"#;

    /// What becomes of the line with another value of a field, named by its path.
    fn with(field: &str, value: Value) -> Line {
        let mut line: Value = serde_json::from_str(LINE).unwrap();
        *line.pointer_mut(field).unwrap() = value;
        Line::read(&line.to_string())
    }

    fn record(line: Line) -> Record {
        match line {
            Line::Decision(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_of_the_proxy_is_a_decision() {
        let record = record(Line::read(LINE));
        assert_eq!(record.caller.to_string(), "shop/web");
        assert_eq!(place(&record.host, record.port), "api.example.com:80");
        assert_eq!(
            (record.verdict, &*record.reason),
            (Verdict::Refuse, "host_not_listed")
        );
        assert_eq!(record.time.to_string(), "2026-01-31T12:34:56.789Z");
        assert_eq!(record.request, None);
        assert!(!record.has_sni && record.policy.is_none() && record.error.is_none());
    }

    #[test]
    fn other_lines_are_told_from_what_is_none() {
        for other in ["{}", r#"{"kind":"x"}"#, r#"{"method":"GET","status":200}"#] {
            assert_eq!(Line::read(other), Line::Other, "{other}");
        }
        for unread in [
            "",
            "egress",
            "[]",
            "3",
            "null",
            r#"{"kind":7}"#,
            r#"{"kind":"egress"}"#,
            &LINE[..LINE.len() - 1],
            &LINE.replace("\"host\"", "\"kind\":\"egress\",\"host\""),
        ] {
            assert_eq!(Line::read(unread), Line::Unread, "{unread}");
        }
    }

    #[test]
    fn what_no_proxy_writes_is_not_read() {
        for (field, value) in [
            ("/time", json!("yesterday")),
            ("/time", json!(5)),
            ("/port", json!(65_536)),
            ("/port", json!("80")),
            ("/host", json!(["a"])),
            ("/verdict", json!("maybe")),
            ("/caller", json!("shop/web")),
            ("/caller/ip", json!("here")),
            ("/caller/namespace", json!("a.b")),
            ("/caller/namespace", json!("Shop")),
            ("/caller/namespace", json!("a\nb")),
            ("/caller/service_account", json!("-a")),
            ("/caller/service_account", json!("a/b")),
            ("/caller/service_account", json!("a".repeat(254))),
        ] {
            assert_eq!(with(field, value.clone()), Line::Unread, "{field} {value}");
        }
        let unknown = record(with("/caller", json!({ "ip": "::ffff:10.0.0.1" })));
        assert_eq!(unknown.caller.to_string(), "10.0.0.1 (not known)");
    }

    #[test]
    fn nothing_is_kept_that_a_terminal_would_obey() {
        let hostile = "a\u{1b}[31m\n\u{202e}\u{9b}2J\u{7f}é  b";
        for field in ["/host", "/reason", "/form"] {
            let record = record(with(field, json!(hostile)));
            let texts = [&record.host, &record.reason, &record.form];
            for text in texts {
                assert!(text.chars().all(|one| one.is_ascii_graphic()), "{text}");
            }
        }
        let long = record(with("/host", json!("\u{1b}".repeat(10_000))));
        assert!(long.host.len() < MAX_TEXT + 20, "{}", long.host.len());
    }
}
