//! The lines of a head, request or response: found as they arrive, so that a fault is answered at once and not when
//! the head is complete.

use super::violation::Violation;

/// Bytes of a request line around the target: the longest method, two spaces, the version.
const REQUEST_LINE_EXTRA: usize = MAX_METHOD + 10;
/// Longest method name.
pub(super) const MAX_METHOD: usize = 32;

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head. Beyond: [`Violation::HeadTooLong`].
    pub bytes: usize,
    /// Header fields, at most [`MAX_FIELDS`]. Beyond: [`Violation::TooManyFields`].
    pub fields: usize,
    /// Bytes of the request target. Beyond: [`Violation::TargetTooLong`].
    pub target: usize,
}

/// Fields that a head can have at most, whatever the settings say: what the session's parser takes.
pub const MAX_FIELDS: usize = 256;

impl HeadLimits {
    /// What a backend's response may have: more than any server sends.
    pub const RESPONSE: Self = Self {
        bytes: 256 * 1024,
        fields: MAX_FIELDS,
        target: usize::MAX / 2,
    };
}

/// Where the search for the end of a head stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScanner {
    searched: usize,
    line_start: usize,
    lines: usize,
}

impl HeadScanner {
    /// Looks through what is new in `buffer`. `Some` is the length of the head, the empty line included.
    pub(super) fn scan(
        &mut self,
        buffer: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, Violation> {
        while let Some(offset) =
            memchr::memchr(b'\n', buffer.get(self.searched..).unwrap_or_default())
        {
            let end = self.searched + offset;
            let line = buffer
                .get(self.line_start..end)
                .unwrap_or_default()
                .strip_suffix(b"\r")
                .ok_or(Violation::BareLf)?;
            self.searched = end + 1;
            self.line_start = end + 1;
            self.lines += 1;
            if self.lines == 1 {
                check_start_line(line.len(), limits)?;
            }
            if end >= limits.bytes {
                return Err(Violation::HeadTooLong);
            }
            if line.is_empty() {
                return Ok(Some(end + 1));
            }
            // The start line is no field.
            if self.lines > limits.fields.min(MAX_FIELDS) + 1 {
                return Err(Violation::TooManyFields);
            }
        }
        self.searched = buffer.len();
        if self.lines == 0 {
            check_start_line(buffer.len(), limits)?;
        }
        if buffer.len() > limits.bytes {
            return Err(Violation::HeadTooLong);
        }
        Ok(None)
    }
}

fn check_start_line(length: usize, limits: &HeadLimits) -> Result<(), Violation> {
    if length > limits.target + REQUEST_LINE_EXTRA {
        Err(Violation::TargetTooLong)
    } else {
        Ok(())
    }
}

/// How a message's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Gathers the fields that decide about framing.
#[derive(Debug, Default)]
pub(super) struct FramingFields<'a> {
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
}

impl<'a> FramingFields<'a> {
    /// Takes note of a field.
    pub(super) fn add(&mut self, name: &str, value: &'a [u8]) -> Result<(), Violation> {
        if name.eq_ignore_ascii_case("content-length") && self.length.replace(value).is_some() {
            return Err(Violation::ContentLength);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") && self.coding.replace(value).is_some() {
            return Err(Violation::TransferEncoding);
        }
        Ok(())
    }

    /// Decides (RFC 9112 6.3), leaving nothing to interpretation. `None`: neither field is there.
    pub(super) fn framing(&self, http_1_1: bool) -> Result<Option<Framing>, Violation> {
        match (self.length, self.coding) {
            (Some(_), Some(_)) => Err(Violation::LengthAndCoding),
            (Some(length), None) => {
                content_length(length).map(|length| Some(Framing::Length(length)))
            }
            (None, Some(coding)) => {
                if !http_1_1 {
                    return Err(Violation::TransferEncoding);
                }
                chunked_only(coding).map(|()| Some(Framing::Chunked))
            }
            (None, None) => Ok(None),
        }
    }
}

/// Digits, and nothing else: no sign, no list.
fn content_length(value: &[u8]) -> Result<u64, Violation> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Violation::ContentLength);
    }
    let digits = std::str::from_utf8(value).map_err(|_| Violation::ContentLength)?;
    digits.parse().map_err(|_| Violation::ContentLength)
}

fn chunked_only(coding: &[u8]) -> Result<(), Violation> {
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = coding
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .rev();
    let ends_in_chunked = codings
        .next()
        .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    if ends_in_chunked
        && codings.all(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"chunked"))
    {
        // Well-formed, but there is a coding that we cannot undo.
        return Err(Violation::TransferCoding);
    }
    Err(Violation::TransferEncoding)
}

/// Whether a value is a list of tokens (RFC 9110 5.6.1), of which some may be empty.
pub(crate) fn is_token_list(value: &[u8]) -> bool {
    let mut elements = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    elements.all(|element| element.iter().copied().all(is_token_byte))
}

/// Whether a token, such as a method or a field's name, can have this byte (RFC 9110 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Our words for the parser's.
pub(super) fn syntax(error: httparse::Error) -> Violation {
    match error {
        httparse::Error::HeaderName => Violation::Syntax("header name"),
        httparse::Error::HeaderValue => Violation::Syntax("header value"),
        httparse::Error::NewLine => Violation::Syntax("line end"),
        httparse::Error::Status => Violation::Syntax("status"),
        httparse::Error::Token => Violation::Syntax("start line"),
        httparse::Error::TooManyHeaders => Violation::TooManyFields,
        httparse::Error::Version => Violation::Version,
    }
}
