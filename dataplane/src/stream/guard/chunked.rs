//! The chunked coding (RFC 9112 7.1), strictly: CRLF only, plain sizes, bounded extensions and trailers.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::violation::Violation;
use crate::claims::may_be_trailer;

/// Hexadecimal digits of a chunk size, leading zeros included.
const MAX_SIZE_DIGITS: u8 = 16;
/// Beyond this a chunk size can only be an attempt at an overflow.
const MAX_CHUNK: u64 = 1 << 60;
/// Bytes of all chunk extensions of a message: nobody needs them, and each costs as much as data.
const MAX_EXTENSIONS: u16 = 4096;
/// Bytes of the trailer section.
const MAX_TRAILERS: usize = 8192;
/// Trailer fields.
const MAX_TRAILER_FIELDS: usize = 64;

/// Tells framing from data, byte for byte, wherever the input is split.
#[derive(Clone, Debug, Default)]
pub(super) struct ChunkDecoder {
    state: State,
    extensions: u16,
    /// The trailer section as far as it has arrived.
    trailers: BytesMut,
    /// Its fields, once it is complete.
    fields: Option<HeaderMap>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    SizeStart,
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailers,
    End,
}

/// What the next bytes of the input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing to tell before there is more input.
    More,
    /// So many bytes of framing.
    Framing(usize),
    /// So many bytes of data, at least one.
    Data(usize),
    /// So many bytes of framing, and the message ends behind them.
    End(usize),
}

impl ChunkDecoder {
    /// Judges the beginning of `input`; the caller then removes what the step covers.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<Step, Violation> {
        for (index, &byte) in input.iter().enumerate() {
            match self.state {
                State::Data { left } => {
                    if index > 0 {
                        return Ok(Step::Framing(index));
                    }
                    let available = u64::try_from(input.len()).unwrap_or(u64::MAX);
                    let taken = left.min(available);
                    self.state = if taken == left {
                        State::DataCr
                    } else {
                        State::Data { left: left - taken }
                    };
                    return Ok(Step::Data(usize::try_from(taken).unwrap_or(input.len())));
                }
                State::Trailers => {
                    let section = input.get(index..).unwrap_or_default();
                    let (taken, end) = self.trailers(section)?;
                    return Ok(if end {
                        Step::End(index + taken)
                    } else {
                        Step::Framing(index + taken)
                    });
                }
                State::End => return Ok(Step::End(index)),
                framing => self.state = self.framing(framing, byte)?,
            }
        }
        Ok(match (self.state, input.len()) {
            (State::End, n) => Step::End(n),
            (_, 0) => Step::More,
            (_, n) => Step::Framing(n),
        })
    }

    /// Judges `input` up to the end of the message.
    pub(super) fn judge(&mut self, input: &[u8]) -> Result<(), Violation> {
        let mut judged = 0;
        loop {
            match self.step(input.get(judged..).unwrap_or_default())? {
                Step::Framing(n) | Step::Data(n) => judged += n,
                Step::More | Step::End(_) => return Ok(()),
            }
        }
    }

    /// The trailer fields, if there were any, once the message has ended.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.fields.take()
    }

    /// One byte of framing that is neither data nor trailers.
    fn framing(&mut self, state: State, byte: u8) -> Result<State, Violation> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        match (state, byte, digit) {
            (State::SizeStart, _, Some(size)) => Ok(State::Size { size, digits: 1 }),
            (State::Size { size, digits }, _, Some(digit)) => {
                let size = size << 4 | digit;
                if digits == MAX_SIZE_DIGITS || size > MAX_CHUNK {
                    return Err(Violation::ChunkSize);
                }
                Ok(State::Size {
                    size,
                    digits: digits + 1,
                })
            }
            (State::Size { size, .. } | State::Extension { size }, b'\r', _) => {
                Ok(State::SizeLf { size })
            }
            (State::Size { size, .. }, b';', _) => Ok(State::Extension { size }),
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80.., _) => {
                self.extensions += 1;
                if self.extensions > MAX_EXTENSIONS {
                    return Err(Violation::ChunkExtension);
                }
                Ok(State::Extension { size })
            }
            (State::Extension { .. }, ..) => Err(Violation::ChunkExtension),
            (State::SizeLf { size: 0 }, b'\n', _) => Ok(State::Trailers),
            (State::SizeLf { size }, b'\n', _) => Ok(State::Data { left: size }),
            (State::DataCr, b'\r', _) => Ok(State::DataLf),
            (State::DataLf, b'\n', _) => Ok(State::SizeStart),
            (State::DataCr | State::DataLf, ..) => Err(Violation::ChunkEnd),
            _ => Err(Violation::ChunkSize),
        }
    }

    /// Collects trailer lines; tells how many bytes belong to the section and whether it is complete. Line ends are
    /// judged at once, the fields when all have arrived.
    fn trailers(&mut self, input: &[u8]) -> Result<(usize, bool), Violation> {
        for (index, &byte) in input.iter().enumerate() {
            if self.trailers.len() == MAX_TRAILERS {
                return Err(Violation::Trailers);
            }
            let after_cr = self.trailers.last() == Some(&b'\r');
            if after_cr != (byte == b'\n') {
                // A bare LF, or a bare CR.
                return Err(Violation::Trailers);
            }
            self.trailers.extend_from_slice(&[byte]);
            if self.trailers.ends_with(b"\r\n\r\n") || self.trailers.as_ref() == b"\r\n" {
                self.fields = fields(&std::mem::take(&mut self.trailers))?;
                self.state = State::End;
                return Ok((index + 1, true));
            }
        }
        Ok((input.len(), false))
    }
}

/// The fields of a complete trailer section.
fn fields(section: &[u8]) -> Result<Option<HeaderMap>, Violation> {
    if section == b"\r\n" {
        return Ok(None);
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(section, &mut fields)
    else {
        return Err(Violation::Trailers);
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Violation::Trailers)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Violation::Trailers)?;
        if may_be_trailer(&name) {
            trailers.append(name, value);
        }
    }
    Ok(Some(trailers))
}
