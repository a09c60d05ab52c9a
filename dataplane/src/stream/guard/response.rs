//! The check of a response's head: a backend that can be read in two ways is no backend to trust with the next request.

use std::mem::MaybeUninit;

use super::{
    head::{Framing, FramingFields, MAX_FIELDS, syntax},
    violation::Violation,
};

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

/// Checks a whole head, the empty line included. `to_head` says that the request's method was HEAD.
pub(super) fn check(head: &[u8], to_head: bool) -> Result<Follows, Violation> {
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
    let mut framing = FramingFields::default();
    for field in response.headers.iter() {
        framing.add(field.name, field.value)?;
    }
    let framing = framing.framing(response.version == Some(1))?;
    Ok(match response.code.unwrap_or_default() {
        101 => Follows::Tunnel,
        100..=199 => Follows::AnotherHead,
        204 | 304 => Follows::Body(Framing::Length(0)),
        _ if to_head => Follows::Body(Framing::Length(0)),
        _ => Follows::Body(framing.unwrap_or(Framing::UntilClose)),
    })
}
