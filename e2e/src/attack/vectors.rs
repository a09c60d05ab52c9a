//! Reads the ambiguity table, `e2e/attack/vectors.txt`.

use anyhow::{Context, Result, bail};

/// One request, byte for byte.
pub(crate) struct Vector {
    pub(crate) name: &'static str,
    /// Sent in one write.
    pub(crate) bytes: Vec<u8>,
    /// Any of these status codes is a good answer; 200 alone means that it must be forwarded.
    pub(crate) answers: Vec<u16>,
}

/// An Upgrade request with a second request behind it: whoever switches protocols and whoever does not read the second
/// one differently, so it must never become a request of its own. What answers the first one is free.
pub(crate) const UPGRADE_WITH_PIPELINED_REQUEST: &[u8] = b"GET /first HTTP/1.1\r\nHost: a.example\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nGET /second HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// Every vector of the table.
pub(crate) fn all() -> Result<Vec<Vector>> {
    include_str!("../../attack/vectors.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| parse(line).with_context(|| line.to_owned()))
        .collect()
}

fn parse(line: &'static str) -> Result<Vector> {
    let mut parts = line.splitn(3, " | ");
    let (Some(answers), Some(name), Some(request)) = (parts.next(), parts.next(), parts.next())
    else {
        bail!("not of the form `answer | name | request`");
    };
    let answers = answers
        .split(',')
        .map(|code| Ok(code.trim().parse()?))
        .collect::<Result<_>>()?;
    Ok(Vector {
        name,
        bytes: unescape(request)?,
        answers,
    })
}

/// `\r`, `\n`, `\t`, `\0`, `\\` and `\xNN`.
fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(
            match (byte, if byte == b'\\' { rest.next() } else { None }) {
                (b'\\', Some(b'r')) => b'\r',
                (b'\\', Some(b'n')) => b'\n',
                (b'\\', Some(b't')) => b'\t',
                (b'\\', Some(b'0')) => 0,
                (b'\\', Some(b'\\')) => b'\\',
                (b'\\', Some(b'x')) => {
                    let digits: Vec<u8> = rest.by_ref().take(2).collect();
                    u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?
                }
                (b'\\', other) => bail!("unknown escape {other:?}"),
                (byte, _) => byte,
            },
        );
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{all, unescape};

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(unescape(r"a\r\n\t\0\\\x0b").unwrap(), b"a\r\n\t\0\\\x0b");
        assert!(unescape(r"\q").is_err());
    }

    #[test]
    fn every_line_is_a_vector() {
        let vectors = all().unwrap();
        assert!(
            vectors
                .iter()
                .filter(|vector| vector.answers == [200])
                .count()
                >= 5
        );
        assert!(
            vectors
                .iter()
                .filter(|vector| vector.answers.contains(&400))
                .count()
                >= 60
        );
    }
}
