//! The check of a request's head (RFC 9112 2 to 6, RFC 9110 7.2): whatever two parsers could read in two ways is refused.

use std::mem::MaybeUninit;

use super::{
    authority,
    head::{Framing, FramingFields, MAX_FIELDS, MAX_METHOD, is_token_byte, is_token_list, syntax},
    violation::Violation,
};

/// What the guard has to know of a good request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    pub(super) framing: Framing,
    /// An upgrade is asked for.
    pub(super) upgrade: bool,
    /// Where in the head the target writes the host in another case than `Host`, and how that does: the parser behind us takes
    /// them for two.
    pub(super) respelled: Option<(usize, Box<[u8]>)>,
}

/// Whether a request can begin with `byte`: anything else (a TLS record, say) is refused at once.
pub(super) fn can_begin_with(byte: u8) -> bool {
    is_token_byte(byte)
}

/// Checks a whole head, the empty line included. `connect` says that CONNECT is served.
pub(super) fn check(
    head: &[u8],
    max_target: usize,
    connect: bool,
) -> Result<RequestHead, Violation> {
    check_version(head)?;
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut fields) {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        Ok(_) => return Err(Violation::Syntax("line end")),
        // The version is good: it is the target that holds a space.
        Err(httparse::Error::Version) => return Err(Violation::Target),
        Err(error) => return Err(syntax(error)),
    }
    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default();
    let http_1_1 = request.version == Some(1);

    let mut host = None;
    let mut framing = FramingFields::default();
    let mut upgrade = false;
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("host") && host.replace(field.value).is_some() {
            return Err(Violation::HostRepeated);
        }
        if field.name.eq_ignore_ascii_case("connection") && !is_token_list(field.value) {
            return Err(Violation::Connection);
        }
        upgrade |= http_1_1 && field.name.eq_ignore_ascii_case("upgrade");
        framing.add(field.name, field.value)?;
    }

    if method.len() > MAX_METHOD {
        return Err(Violation::Syntax("method"));
    }
    if target.len() > max_target {
        return Err(Violation::TargetTooLong);
    }
    if method == "TRACE" || (method == "CONNECT" && !connect) {
        return Err(Violation::Method);
    }
    check_host(host, http_1_1)?;
    if method == "CONNECT" {
        let is_alike = check_authority_form(target, host)?;
        // It has no content: who could tell it from what is in the tunnel?
        return match framing.framing(http_1_1)? {
            None | Some(Framing::Length(0)) if !upgrade => Ok(RequestHead {
                framing: Framing::Length(0),
                upgrade: false,
                respelled: (!is_alike).then(|| (method.len() + 1, host.unwrap_or_default().into())),
            }),
            _ => Err(Violation::ConnectContent),
        };
    }
    // The target stands behind the method and one space.
    let respelled = check_target(target, method, host)?
        .map(|at| (method.len() + 1 + at, host.unwrap_or_default().into()));
    let framing = framing.framing(http_1_1)?.unwrap_or(Framing::Length(0));
    Ok(RequestHead {
        framing,
        upgrade,
        respelled,
    })
}

/// Tells `HTTP/2.0` (505) from rubbish (400) by the request line.
fn check_version(head: &[u8]) -> Result<(), Violation> {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    match line.rsplit(|&byte| byte == b' ').next().unwrap_or_default() {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Violation::Version)
        }
        _ => Err(Violation::Syntax("request line")),
    }
}

fn check_host(host: Option<&[u8]>, http_1_1: bool) -> Result<(), Violation> {
    match host {
        Some(host) if authority::is_valid(host) => Ok(()),
        Some(_) => Err(Violation::HostMalformed),
        None if http_1_1 => Err(Violation::HostMissing),
        None => Ok(()),
    }
}

/// Origin-form, asterisk-form for `OPTIONS`, or absolute-form of the same host (RFC 9112 3.2). Tells where the host stands if it is
/// written in another case than in `Host`.
fn check_target(
    target: &str,
    method: &str,
    host: Option<&[u8]>,
) -> Result<Option<usize>, Violation> {
    if !target
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    {
        return Err(Violation::Target);
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(None);
    }
    let (at, authority) = absolute_authority(target).ok_or(Violation::Target)?;
    if !authority::is_valid(authority.as_bytes()) {
        return Err(Violation::Target);
    }
    match host {
        Some(host) if !host.eq_ignore_ascii_case(authority.as_bytes()) => {
            Err(Violation::HostMismatch)
        }
        Some(host) if host != authority.as_bytes() => Ok(Some(at)),
        _ => Ok(None),
    }
}

/// The target of a CONNECT, which `Host` repeats (RFC 9112 3.2). Some clients leave the usual port of their scheme out there. Tells
/// whether both are written in the same case.
fn check_authority_form(target: &str, host: Option<&[u8]>) -> Result<bool, Violation> {
    if !authority::is_valid(target.as_bytes()) {
        return Err(Violation::Target);
    }
    let Some(host) = host else { return Ok(true) };
    let is_same = |name: &str| host.eq_ignore_ascii_case(name.as_bytes());
    let without_port = [":443", ":80"]
        .iter()
        .filter_map(|port| target.strip_suffix(port));
    if !is_same(target) && !without_port.into_iter().any(is_same) {
        return Err(Violation::HostMismatch);
    }
    Ok(target.as_bytes().starts_with(host))
}

/// The authority of an absolute-form target of the http schemes, and where it begins.
fn absolute_authority(target: &str) -> Option<(usize, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    is_http.then(|| {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        (target.len() - rest.len(), authority)
    })
}
