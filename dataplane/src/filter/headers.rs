//! RequestHeaderModifier and ResponseHeaderModifier.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use portcullis_routing::filter::{HeaderField, HeaderModifier};

/// A modifier whose names and values are parsed. Changes apply in the order set, add, remove.
#[derive(Debug)]
pub struct PreparedModifier(Box<[Change]>);

#[derive(Debug)]
enum Change {
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
    Remove(HeaderName),
}

impl PreparedModifier {
    /// Parses `modifier`. Fails on names and values that no header line can hold, and on names that frame the message.
    pub fn prepare(modifier: &HeaderModifier) -> Result<Self, String> {
        let mut changes =
            Vec::with_capacity(modifier.set.len() + modifier.add.len() + modifier.remove.len());
        for field in &modifier.set {
            let (name, value) = parse(field)?;
            changes.push(Change::Set(name, value));
        }
        for field in &modifier.add {
            let (name, value) = parse(field)?;
            // A second Host would make every parser behind us choose one of them.
            changes.push(if name == header::HOST {
                Change::Set(name, value)
            } else {
                Change::Add(name, value)
            });
        }
        for name in &modifier.remove {
            changes.push(Change::Remove(parse_name(name)?));
        }
        Ok(Self(changes.into()))
    }

    /// Changes the fields of a head.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for change in &self.0 {
            match change {
                Change::Set(name, value) => _ = headers.insert(name.clone(), value.clone()),
                Change::Add(name, value) => _ = headers.append(name.clone(), value.clone()),
                Change::Remove(name) => _ = headers.remove(name),
            }
        }
    }
}

fn parse(field: &HeaderField) -> Result<(HeaderName, HeaderValue), String> {
    let value = HeaderValue::from_str(&field.value).map_err(|_| {
        format!(
            "the value of header {:?} holds control characters",
            field.name
        )
    })?;
    Ok((parse_name(&field.name)?, value))
}

/// Headers that say where a message ends or how the hop works: changing them would break the framing.
const FRAMING: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
];

fn parse_name(name: &str) -> Result<HeaderName, String> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{name:?} is not a header name"))?;
    if FRAMING.contains(&parsed) {
        return Err(format!(
            "header {name:?} frames the message and may not be changed"
        ));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> HeaderField {
        HeaderField {
            name: name.into(),
            value: value.into(),
        }
    }

    #[test]
    fn sets_adds_and_removes() {
        let modifier = PreparedModifier::prepare(&HeaderModifier {
            set: vec![field("X-Set", "new")],
            add: vec![field("x-add", "2")],
            remove: vec!["x-gone".into()],
        })
        .unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-set", "a"), ("x-add", "1"), ("X-Gone", "1")] {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_static(value),
            );
        }
        headers.append("x-set", HeaderValue::from_static("b"));
        modifier.apply(&mut headers);
        assert_eq!(headers.get_all("x-set").iter().collect::<Vec<_>>(), ["new"]);
        assert_eq!(
            headers.get_all("x-add").iter().collect::<Vec<_>>(),
            ["1", "2"]
        );
        assert!(!headers.contains_key("x-gone"));
    }

    #[test]
    fn there_is_one_host() {
        let modifier = PreparedModifier::prepare(&HeaderModifier {
            add: vec![field("Host", "b")],
            ..HeaderModifier::default()
        })
        .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("a"));
        modifier.apply(&mut headers);
        assert_eq!(headers.get_all("host").iter().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn refuses_what_breaks_the_message() {
        for (name, value) in [
            ("Content-Length", "0"),
            ("Keep-Alive", "timeout=5"),
            ("bad name", "x"),
            ("x", "a\r\nb: c"),
        ] {
            let modifier = HeaderModifier {
                set: vec![field(name, value)],
                ..HeaderModifier::default()
            };
            assert!(PreparedModifier::prepare(&modifier).is_err(), "{name}");
        }
    }
}
