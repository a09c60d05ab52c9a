//! A destination in normal form: one spelling per host, so that what is compared with the lists is what is resolved.
//!
//! Whatever could be read in two ways is refused rather than repaired. Names are taken as the URL Standard (WHATWG) takes
//! them, less the characters that no name on the internet has.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest name, in bytes (RFC 1035 2.3.4, without the root's dot).
pub const MAX_NAME_BYTES: usize = 253;
/// Longest label of a name, in bytes (RFC 1035 2.3.4).
pub const MAX_LABEL_BYTES: usize = 63;
/// Longest text that is looked at, in bytes: a name may shrink while it is mapped, but mapping costs time.
const MAX_INPUT_BYTES: usize = 4 * MAX_NAME_BYTES;

/// ASCII that is in no name: all but letters, digits, `-`, `.` and `_`. Hosts with an underscore exist (buckets, above
/// all), every client connects to them, and the URL Standard has them, so it stays.
const NOT_IN_NAMES: AsciiDenyList = AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");

/// Endings of names that are not of the public DNS (RFC 6761, 6762, 8375; ICANN's `internal`).
const INSIDE: [&str; 6] = ["internal", "local", "localhost", "home.arpa", "svc", "test"];

/// Whether a name in normal form is none of the public DNS, such as one of a Service.
pub fn is_of_inside(name: &str) -> bool {
    let is_below = |suffix: &str| {
        let rest = name.strip_suffix(suffix);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !name.contains('.') || INSIDE.iter().any(|suffix| is_below(suffix))
}

/// A host in normal form. Equal hosts are equal values.
///
/// The text is owned, or borrowed from what was parsed ([`Host::normalize`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host<S = Box<str>> {
    /// A DNS name: ASCII in lower case (A-labels, RFC 5890), without a dot at the end, never an IPv4 address.
    Name(S),
    /// An IP address. An IPv6 address stays one, whatever IPv4 address is in it.
    Address(IpAddr),
}

/// A host with the port that a client names, as in `CONNECT`, `Host` and the absolute form of a request's target (RFC 9110
/// 7.2, RFC 9112 3.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority<S = Box<str>> {
    /// The host.
    pub host: Host<S>,
    /// 1 to 65535. `None`: that of the scheme.
    pub port: Option<u16>,
}

/// Why a text is no destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing at all.
    #[error("the host is empty")]
    Empty,
    /// `user@host`: what stands before the `@` can be taken for the host.
    #[error("a host has no user information (`@`) before it")]
    UserInfo,
    /// `%`: some decode it, some do not.
    #[error("a host has no percent-encoded characters")]
    PercentEncoding,
    /// `fe80::1%eth0`: an address that depends on the node's interfaces (RFC 6874).
    #[error("an IPv6 address has no zone here")]
    ZoneId,
    /// NUL, a line's end, a tab and their kin.
    #[error("a host has no control characters")]
    ControlCharacter,
    /// Another character of ASCII that is in no name.
    #[error("a host has no {0:?} in it")]
    ForbiddenCharacter(char),
    /// Brackets around something else, or not closed.
    #[error("what is in brackets is no IPv6 address")]
    BadBrackets,
    /// Not as UTS #46 wants it: characters that no name may have, an `xn--` label that stands for nothing or has a plainer
    /// form, directions mixed.
    #[error("the internationalised name is not valid (UTS #46)")]
    BadIdna,
    /// Two dots with nothing between them, one at the start, or two at the end.
    #[error("a label of the name is empty")]
    EmptyLabel,
    /// A label above [`MAX_LABEL_BYTES`].
    #[error("a label of the name exceeds {MAX_LABEL_BYTES} bytes")]
    LabelTooLong,
    /// A name above [`MAX_NAME_BYTES`].
    #[error("the name exceeds {MAX_NAME_BYTES} bytes")]
    TooLong,
    /// RFC 1123 2.1.
    #[error("a label of the name starts or ends with a hyphen")]
    EdgeHyphen,
    /// It ends in a number, as an IPv4 address does, but is none: `1.2.3.4.5`, `256.1.1.1`, `example.0x`.
    #[error("what ends in a number is an IPv4 address, and this is none")]
    BadAddress,
    /// An IPv4 address in a spelling that some read and some do not: decimal, octal, hexadecimal, shortened, with a dot at
    /// the end, in wide digits.
    #[error("this is a spelling of {address} that hides it")]
    AmbiguousAddress {
        /// The address that it is.
        address: Ipv4Addr,
    },
    /// An authority such as `a:1:2`, or `::1` without brackets.
    #[error("more than one colon outside of brackets")]
    ManyColons,
    /// No number from 1 to 65535 in plain digits after the colon.
    #[error("the port is no plain number from 1 to 65535")]
    BadPort,
}

impl HostError {
    /// Stable name for machines: events, metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::UserInfo => "userinfo",
            Self::PercentEncoding => "percent_encoding",
            Self::ZoneId => "zone_id",
            Self::ControlCharacter => "control_character",
            Self::ForbiddenCharacter(_) => "forbidden_character",
            Self::BadBrackets => "bad_brackets",
            Self::BadIdna => "bad_idna",
            Self::EmptyLabel => "empty_label",
            Self::LabelTooLong => "label_too_long",
            Self::TooLong => "too_long",
            Self::EdgeHyphen => "edge_hyphen",
            Self::BadAddress => "bad_address",
            Self::AmbiguousAddress { .. } => "ambiguous_address",
            Self::ManyColons => "many_colons",
            Self::BadPort => "bad_port",
        }
    }
}

impl Host {
    /// The host that `text` names.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        Host::normalize(text).map(Host::into_owned)
    }
}

impl<'a> Host<Cow<'a, str>> {
    /// The host that `text` names. Allocates only if `text` is not in normal form.
    pub fn normalize(text: &'a str) -> Result<Self, HostError> {
        if let Some(address) = plain_address(text) {
            return Ok(Self::Address(address));
        }
        check_characters(text)?;
        let name = without_root(ascii_name(text)?);
        check_name(&name)?;
        if ends_in_number(&name) {
            let address = any_ipv4(&name).ok_or(HostError::BadAddress)?;
            return Err(HostError::AmbiguousAddress { address });
        }
        Ok(Self::Name(name))
    }

    /// The same host, with its own text.
    pub fn into_owned(self) -> Host {
        match self {
            Self::Name(name) => Host::Name(name.into()),
            Self::Address(address) => Host::Address(address),
        }
    }
}

impl<S: AsRef<str>> fmt::Display for Host<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.as_ref()),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl<S: AsRef<str>> Serialize for Host<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| de::Error::custom(format_args!("{text:?}: {error}")))
    }
}

impl Authority {
    /// The destination that `text` names: `host` or `host:port`, IPv6 addresses in brackets.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        Authority::normalize(text).map(Authority::into_owned)
    }
}

impl<'a> Authority<Cow<'a, str>> {
    /// As [`Authority::parse`]. Allocates only if the host is not in normal form.
    pub fn normalize(text: &'a str) -> Result<Self, HostError> {
        // Before anything is split: in `a:b@c` the colon is the user's.
        if text.contains('@') {
            return Err(HostError::UserInfo);
        }
        let (host, port) = split_port(text)?;
        Ok(Self {
            host: Host::normalize(host)?,
            port: port.map(plain_port).transpose()?,
        })
    }

    /// The same destination, with its own text.
    pub fn into_owned(self) -> Authority {
        Authority {
            host: self.host.into_owned(),
            port: self.port,
        }
    }
}

/// IPv6 addresses are in brackets.
impl<S: AsRef<str>> fmt::Display for Authority<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            host => host.fmt(f)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The address that `text` is, in the one spelling of IPv4 that everyone reads alike or any of IPv6.
fn plain_address(text: &str) -> Option<IpAddr> {
    match in_brackets(text) {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

fn in_brackets(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']')
}

/// Refuses the ASCII that no host has, by the first such character.
fn check_characters(text: &str) -> Result<(), HostError> {
    let is_forbidden =
        |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.' | '_');
    match text.chars().find(|c| is_forbidden(*c)) {
        None => Ok(()),
        Some(_) if text.contains('@') => Err(HostError::UserInfo),
        Some(_) if has_zone(text) => Err(HostError::ZoneId),
        Some('%') => Err(HostError::PercentEncoding),
        Some('[' | ']') => Err(HostError::BadBrackets),
        Some(c) if c.is_ascii_control() => Err(HostError::ControlCharacter),
        Some(c) => Err(HostError::ForbiddenCharacter(c)),
    }
}

/// Whether a `%` follows an IPv6 address.
fn has_zone(text: &str) -> bool {
    let address = text
        .split_once('%')
        .map(|(address, _)| address.strip_prefix('[').unwrap_or(address));
    address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// The name in lower-case ASCII, its labels as they stand in DNS.
fn ascii_name(text: &str) -> Result<Cow<'_, str>, HostError> {
    if text.len() > MAX_INPUT_BYTES {
        return Err(HostError::TooLong);
    }
    if !text.is_ascii() || text.split('.').any(is_a_label) {
        // Hyphens in the third and fourth place are no mark of their own: large sites have such names.
        return Uts46::new()
            .to_ascii(
                text.as_bytes(),
                NOT_IN_NAMES,
                Hyphens::CheckFirstLast,
                DnsLength::Ignore,
            )
            .map_err(|_| HostError::BadIdna);
    }
    Ok(if text.bytes().any(|b| b.is_ascii_uppercase()) {
        text.to_ascii_lowercase().into()
    } else {
        text.into()
    })
}

/// Whether a label stands for characters beyond ASCII.
fn is_a_label(label: &str) -> bool {
    label
        .get(..4)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"))
}

/// The name without the dot that says that it is complete (RFC 1034 3.1).
fn without_root(name: Cow<'_, str>) -> Cow<'_, str> {
    match name {
        Cow::Borrowed(name) => name.strip_suffix('.').unwrap_or(name).into(),
        Cow::Owned(mut name) => {
            if name.ends_with('.') {
                name.pop();
            }
            name.into()
        }
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(HostError::TooLong);
    }
    name.split('.').try_for_each(|label| {
        if label.is_empty() {
            Err(HostError::EmptyLabel)
        } else if label.len() > MAX_LABEL_BYTES {
            Err(HostError::LabelTooLong)
        } else if label.starts_with('-') || label.ends_with('-') {
            Err(HostError::EdgeHyphen)
        } else {
            Ok(())
        }
    })
}

/// Whether readers of addresses take the name for one, however it starts (URL Standard, "ends in a number").
pub(crate) fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => last.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// The IPv4 address of one to four numbers, of which the last fills what the others leave: what `inet_aton` and the URL
/// Standard read.
fn any_ipv4(name: &str) -> Option<Ipv4Addr> {
    let (octets, last) = match name.rsplit_once('.') {
        Some((octets, last)) => (Some(octets), last),
        None => (None, name),
    };
    let (mut address, mut free_bits) = (0, u32::BITS);
    for octet in octets.into_iter().flat_map(|octets| octets.split('.')) {
        // One octet at least is the last number's.
        free_bits = free_bits.checked_sub(8).filter(|bits| *bits > 0)?;
        address |= u32::from(u8::try_from(number(octet)?).ok()?) << free_bits;
    }
    let rest = number(last)?;
    let fits = u64::from(rest) >> free_bits == 0;
    fits.then(|| Ipv4Addr::from_bits(address | rest))
}

/// A number of an IPv4 address: decimal, octal (`0177`) or hexadecimal (`0x7f`; a bare `0x` is zero).
fn number(digits: &str) -> Option<u32> {
    match digits.strip_prefix("0x") {
        Some("") => Some(0),
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if digits.starts_with('0') => u32::from_str_radix(digits, 8).ok(),
        None => digits.parse().ok(),
    }
}

/// Host and port of an authority, neither of them checked.
fn split_port(text: &str) -> Result<(&str, Option<&str>), HostError> {
    let outside_brackets = text.rsplit(']').next().unwrap_or(text);
    match outside_brackets.bytes().filter(|b| *b == b':').count() {
        0 => Ok((text, None)),
        1 => Ok(text
            .rsplit_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port)))),
        _ => Err(HostError::ManyColons),
    }
}

fn plain_port(digits: &str) -> Result<u16, HostError> {
    // The standard library would take `+80` and `080`.
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    let port = is_plain.then(|| digits.parse().ok()).flatten();
    port.ok_or(HostError::BadPort)
}
