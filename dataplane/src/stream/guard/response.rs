//! The check of a response's head: a backend that can be read in two ways is no backend to trust with the next request.
//! It is read in the same go: nobody parses it after us.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderName, StatusCode, Version, response};
use pingora_http::header_value_from_raw;

use super::{
    head::{Framing, FramingFields, MAX_FIELDS, syntax},
    violation::Violation,
};
use crate::message::response_head;

/// Fields that are set on the way to the client, as a rule: date, connection, and some of a filter.
const ADDED_FIELDS: usize = 4;

/// What follows a good response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// This was a 1xx head: another head.
    AnotherHead,
    /// `101`: whatever the new protocol says.
    Tunnel,
    /// A body, delimited like this.
    Body(Framing),
}

/// Reads a whole head, the empty line included; values share its memory. `to_head` says that the request's method was
/// HEAD.
pub(super) fn read(head: &Bytes, to_head: bool) -> Result<(response::Parts, Follows), Violation> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        head,
        &mut fields,
    );
    match parsed {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        Ok(_) => return Err(Violation::Syntax("line end")),
        Err(error) => return Err(syntax(error)),
    }
    let status = StatusCode::from_u16(response.code.unwrap_or_default())
        .map_err(|_| Violation::Syntax("status"))?;
    let http_1_1 = response.version == Some(1);
    let mut parts = response_head(status);
    if !http_1_1 {
        parts.version = Version::HTTP_10;
    }
    parts.headers.reserve(response.headers.len() + ADDED_FIELDS);
    let mut framing = FramingFields::default();
    for field in response.headers.iter() {
        framing.add(field.name, field.value)?;
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Violation::Syntax("header name"))?;
        let value = header_value_from_raw(head.slice_ref(field.value));
        parts.headers.append(name, value);
    }
    let framing = framing.framing(http_1_1)?;
    let follows = match status.as_u16() {
        101 => Follows::Tunnel,
        100..=199 => Follows::AnotherHead,
        204 | 304 => Follows::Body(Framing::Length(0)),
        _ if to_head => Follows::Body(Framing::Length(0)),
        _ => Follows::Body(framing.unwrap_or(Framing::UntilClose)),
    };
    Ok((parts, follows))
}
