//! What the `ClientHello` of a TLS client says (RFC 8446 4.1.2), read from the first bytes of a tunnel before any of them
//! is passed on.
//!
//! rustls' `Acceptor` judges a hello as somebody who is to answer it: it refuses what has no signature algorithms (all
//! before TLS 1.2), takes an address in SNI for no name, skips whatever stands behind the first name, and tells nothing of
//! an encrypted hello. Who only passes a hello on needs the opposite: any hello that has one meaning, whoever reads it. So
//! every length must fit exactly, and the tests hold the answers against rustls'.

use rustls_pki_types::ServerName;

/// The longest hello, in bytes. Those of browsers with post-quantum key shares and an encrypted hello have 2 KiB.
const MAX_HELLO: usize = 16 * 1024;
/// Most records that a hello may come in: a record costs five bytes, however few it carries.
const MAX_RECORDS: usize = 64;
/// Bytes that a record may carry (RFC 8446 5.1).
const MAX_RECORD: usize = 1 << 14;
/// The first number of a record's version, in all versions of TLS.
const MAJOR: u8 = 3;
/// Bytes of a handshake message's header: type, length.
const MESSAGE_HEADER: usize = 4;

const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: usize = 0;
const ENCRYPTED_CLIENT_HELLO: usize = 0xfe0d;
const HOST_NAME: usize = 0;

/// What the first bytes of a tunnel are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Not TLS. Decided at the first byte that differs.
    NotTls,
    /// What has arrived could be the beginning of a hello.
    Incomplete,
    /// A hello.
    Hello {
        /// The host that the client named (SNI, RFC 6066 3): a DNS name in lower case, without a trailing dot.
        server_name: Option<Box<str>>,
        /// There is an encrypted hello (RFC 9849) behind this one, which may name another host; or nothing but noise in its
        /// place, as browsers send where they have no key (GREASE). Nobody but the server can tell.
        encrypted: bool,
    },
    /// TLS, or meant as such, but nothing that can be judged.
    Refused(Refusal),
}

/// Why a hello is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not what RFC 8446 has.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// More than 16 KiB.
    #[error("the ClientHello is too long")]
    TooLong,
    /// More than 64 records.
    #[error("the ClientHello is broken into too many records")]
    TooManyRecords,
    /// More than one name, or more than one list of names.
    #[error("the ClientHello names more than one server")]
    TwoNames,
    /// An empty name.
    #[error("the ClientHello has an empty server name")]
    EmptyName,
    /// An address where a name belongs (RFC 6066 3).
    #[error("the ClientHello has an IP address for a server name")]
    Address,
    /// No DNS name.
    #[error("the server name of the ClientHello is no DNS name")]
    NotAName,
}

/// Reads a greeting piece by piece. Whoever feeds it keeps the bytes.
#[derive(Debug, Default)]
pub(crate) struct GreetingReader {
    records: usize,
    /// The first record has a version that no TLS has.
    is_odd: bool,
    /// Of the header of the present record, what has arrived.
    header: Vec<u8>,
    /// Of the present record, bytes that are still to come.
    left: usize,
    /// The handshake message, out of its records.
    message: Vec<u8>,
}

impl GreetingReader {
    /// Takes the next bytes of the tunnel. To be called until the answer is another one than [`Greeting::Incomplete`].
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Greeting {
        while !bytes.is_empty() {
            let piece = if self.left == 0 {
                self.header(&mut bytes)
            } else {
                self.payload(&mut bytes)
            };
            if piece != Greeting::Incomplete {
                return piece;
            }
        }
        Greeting::Incomplete
    }

    /// Takes bytes of a record's header.
    fn header(&mut self, bytes: &mut &[u8]) -> Greeting {
        while let Some(byte) = bytes.split_off_first() {
            self.header.push(*byte);
            match record(&self.header) {
                Record::Incomplete => {}
                Record::Carries(length)
                    if self.records == 0 || self.header.get(1) == Some(&MAJOR) =>
                {
                    self.is_odd |= self.header.get(1) != Some(&MAJOR);
                    return self.begin_record(length);
                }
                Record::Other if self.is_odd && self.header.len() == 1 => {
                    return Greeting::NotTls;
                }
                _ if self.records > 0 => return Greeting::Refused(Refusal::Malformed),
                Record::Before | Record::Carries(_) => {
                    return Greeting::Refused(Refusal::Malformed);
                }
                Record::Other => return Greeting::NotTls,
            }
        }
        Greeting::Incomplete
    }

    fn begin_record(&mut self, length: usize) -> Greeting {
        self.header.clear();
        self.records += 1;
        self.left = length;
        // Empty ones are forbidden as well.
        if !(1..=MAX_RECORD).contains(&length) {
            Greeting::Refused(Refusal::Malformed)
        } else if self.records > MAX_RECORDS {
            Greeting::Refused(Refusal::TooManyRecords)
        } else {
            Greeting::Incomplete
        }
    }

    /// Takes bytes of the handshake message.
    fn payload(&mut self, bytes: &mut &[u8]) -> Greeting {
        let length = self.left.min(bytes.len());
        self.message
            .extend_from_slice(bytes.split_off(..length).unwrap_or_default());
        self.left -= length;
        match *self.message {
            [] | [CLIENT_HELLO] | [CLIENT_HELLO, _] | [CLIENT_HELLO, _, _] => Greeting::Incomplete,
            [CLIENT_HELLO, ref rest @ ..] => self.hello(rest),
            // Nothing but the first byte was as in TLS: a number 22, say.
            _ if self.is_odd => Greeting::NotTls,
            _ => Greeting::Refused(Refusal::Malformed),
        }
    }

    /// Judges the message, of which all but the type is `rest`.
    fn hello(&self, mut rest: &[u8]) -> Greeting {
        let length = number(&mut rest, MESSAGE_HEADER - 1).unwrap_or(usize::MAX);
        if length > MAX_HELLO {
            return Greeting::Refused(Refusal::TooLong);
        }
        if rest.len() < length {
            return Greeting::Incomplete;
        }
        // Nothing may follow a hello before it is answered, least of all within its record.
        if rest.len() > length || self.left > 0 {
            return Greeting::Refused(Refusal::Malformed);
        }
        said(rest).unwrap_or_else(Greeting::Refused)
    }
}

/// What begins with a record's header.
enum Record {
    Incomplete,
    /// A handshake record with so many bytes.
    Carries(usize),
    /// What some servers pass over before the greeting: an alert, or a change of ciphers.
    Before,
    Other,
}

/// Judges a header, as far as it has arrived: type, version, length. A greeting in the form of SSL 2.0 (RFC 6101 E), which nobody has
/// sent for long and which cannot name a host, is none: who begins otherwise is not kept waiting for it.
///
/// The version of a greeting's record says nothing (RFC 8446 5.1): servers take any that is not too far off, and so whom they would
/// take for a TLS client is not taken for another one here. Nor does it matter how little of the greeting the record carries.
fn record(header: &[u8]) -> Record {
    match *header {
        [22, MAJOR, _, high, low] => Record::Carries(length(high, low)),
        [22, 0..16, _, high, low] if (1..=MAX_RECORD).contains(&length(high, low)) => {
            Record::Carries(length(high, low))
        }
        [20 | 21, 0..16, _, 0, 1..=2] => Record::Before,
        [20..=22] | [20..=22, 0..16] | [20..=22, 0..16, _] | [20..=22, 0..16, _, _] => {
            Record::Incomplete
        }
        _ => Record::Other,
    }
}

fn length(high: u8, low: u8) -> usize {
    usize::from(u16::from_be_bytes([high, low]))
}

/// What the body of a hello says.
fn said(body: &[u8]) -> Result<Greeting, Refusal> {
    let mut extensions = extensions(body).ok_or(Refusal::Malformed)?;
    let mut server_name = None;
    let mut encrypted = false;
    while !extensions.is_empty() {
        let (kind, body) = extension(&mut extensions).ok_or(Refusal::Malformed)?;
        match kind {
            // Servers differ in which of two they take.
            SERVER_NAME if server_name.is_some() => return Err(Refusal::TwoNames),
            SERVER_NAME => server_name = Some(host(body)?),
            ENCRYPTED_CLIENT_HELLO => encrypted = true,
            _ => {}
        }
    }
    Ok(Greeting::Hello {
        server_name,
        encrypted,
    })
}

/// The extensions of a hello: none before TLS 1.2 made them part of it (RFC 5246 7.4.1.2).
fn extensions(mut body: &[u8]) -> Option<&[u8]> {
    let body = &mut body;
    let [3, _] = *body.split_off(..2)? else {
        return None;
    };
    let _random = body.split_off(..32)?;
    let session = vector(body, 1)?;
    let cipher_suites = vector(body, 2)?;
    let compressions = vector(body, 1)?;
    let is_well_formed = session.len() <= 32
        && !cipher_suites.is_empty()
        && cipher_suites.len().is_multiple_of(2)
        && !compressions.is_empty();
    let extensions = if body.is_empty() {
        &[]
    } else {
        vector(body, 2)?
    };
    (is_well_formed && body.is_empty()).then_some(extensions)
}

/// The next extension: its type and its body.
fn extension<'a>(extensions: &mut &'a [u8]) -> Option<(usize, &'a [u8])> {
    Some((number(extensions, 2)?, vector(extensions, 2)?))
}

/// The host in a list of names (RFC 6066 3), which must be all that is in it: of names of other kinds nobody could tell
/// where they end.
fn host(mut extension: &[u8]) -> Result<Box<str>, Refusal> {
    let mut names = vector(&mut extension, 2).ok_or(Refusal::Malformed)?;
    let kind = number(&mut names, 1).ok_or(Refusal::Malformed)?;
    let name = vector(&mut names, 2).ok_or(Refusal::Malformed)?;
    if kind != HOST_NAME || !extension.is_empty() {
        return Err(Refusal::Malformed);
    }
    if !names.is_empty() {
        return Err(Refusal::TwoNames);
    }
    if name.is_empty() {
        return Err(Refusal::EmptyName);
    }
    match ServerName::try_from(name) {
        Ok(ServerName::DnsName(name)) if !name.as_ref().ends_with('.') => {
            Ok(name.as_ref().to_ascii_lowercase().into())
        }
        Ok(ServerName::IpAddress(_)) => Err(Refusal::Address),
        _ => Err(Refusal::NotAName),
    }
}

/// Takes a number of `width` bytes.
fn number(bytes: &mut &[u8], width: usize) -> Option<usize> {
    let digits = bytes.split_off(..width)?;
    let shift = |number, digit: &u8| number << 8 | usize::from(*digit);
    Some(digits.iter().fold(0, shift))
}

/// Takes as many bytes as a number of `width` bytes in front of them says.
fn vector<'a>(bytes: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let length = number(bytes, width)?;
    bytes.split_off(..length)
}

#[cfg(test)]
mod tests;
