//! Decides where HTTP/1 messages begin and end, before any parser sees them.
//!
//! Parsers differ in what they forgive, and whoever forgives can be made to see other messages than the next hop does
//! (request smuggling). So the guard takes the framing decision once, strictly, and hands on exactly one checked head,
//! then exactly that message's body. It does no I/O: it judges a buffer, and the result does not depend on how the bytes
//! were split.

mod authority;
mod chunked;
mod head;
mod request;
mod response;
mod violation;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, response::Parts};

pub(crate) use self::{authority::is_valid as is_authority, head::is_token_list};
use self::{
    chunked::{ChunkDecoder, Step},
    head::{Framing, HeadScanner},
    response::Follows,
};
pub use self::{
    head::{HeadLimits, MAX_FIELDS},
    violation::Violation,
};

/// Bytes asked for while a head is collected: most heads fit, and whoever sends one slowly holds no more.
pub(super) const HEAD_READ: usize = 2048;
/// Bytes asked for while a body or tunnel flows.
const BODY_READ: usize = 32 * 1024;
/// Empty lines tolerated before a request (RFC 9112 2.2).
const MAX_EMPTY_LINES: u8 = 2;

/// A piece of a message's body, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFrame {
    /// Bytes of the body, never empty.
    Data(Bytes),
    /// Trailer fields; `End` follows.
    Trailers(HeaderMap),
    /// The body is complete.
    End,
}

/// What of the buffer may be handed over as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Everything, now and later.
    Any,
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing before more has arrived; how much to ask for.
    More(usize),
    /// Nothing: what lies behind the head is its body, or nobody's yet.
    Nothing,
}

/// Watches one direction of a connection. See the module.
#[derive(Debug)]
pub struct Guard {
    side: Side,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    /// No HTTP/1, or not ours to judge.
    Off,
    /// Requests arrive.
    Requests {
        limits: HeadLimits,
        /// CONNECT is among them.
        connect: bool,
    },
    /// Responses arrive, each after its request was announced.
    Responses {
        /// The request was HEAD.
        to_head: bool,
    },
}

#[derive(Debug)]
enum State {
    /// Bytes pass as they are: a tunnel, or nothing is expected.
    Open,
    /// A head is being collected.
    Head {
        scanner: HeadScanner,
        empty_lines: u8,
    },
    /// A checked head of a request, of which so many bytes have not been handed over, and what follows.
    Checked { left: usize, framing: Framing },
    /// So many bytes of the body are to come.
    Length(u64),
    /// A chunked body.
    Chunked(Box<ChunkDecoder>),
    /// A body that ends with the connection.
    UntilClose,
    /// The message is complete.
    Complete,
}

impl Guard {
    /// Lets everything pass.
    pub fn off() -> Self {
        Self {
            side: Side::Off,
            state: State::Open,
        }
    }

    /// For a connection that brings requests.
    pub fn requests(limits: HeadLimits) -> Self {
        Self {
            side: Side::Requests {
                limits,
                connect: false,
            },
            state: State::head(),
        }
    }

    /// The same for a proxy's connection: CONNECT is among the requests (RFC 9110 9.3.6). What follows such a head is the next
    /// request, unless the connection has become a tunnel then; so if it has not, it must end.
    pub fn proxy_requests(limits: HeadLimits) -> Self {
        Self {
            side: Side::Requests {
                limits,
                connect: true,
            },
            state: State::head(),
        }
    }

    /// For a connection that brings responses; everything passes until a response is
    /// [expected](super::ReadHandle::expect_response), so that the owner of an idle connection sees what is wrong with it.
    pub fn responses() -> Self {
        Self {
            side: Side::Responses { to_head: false },
            state: State::Open,
        }
    }

    /// Lets everything pass from now on.
    pub(super) fn release(&mut self) {
        self.state = State::Open;
    }

    /// A complete request is behind us: the next one may begin.
    pub(super) fn next_message(&mut self) {
        if matches!(
            (&self.side, &self.state),
            (Side::Requests { .. }, State::Complete)
        ) {
            self.state = State::head();
        }
    }

    /// A request goes out on a connection that brings responses.
    pub(super) fn expect_response(&mut self, to_head: bool) {
        self.side = Side::Responses { to_head };
        self.state = State::head();
    }

    /// Whether the current message has no (more) body.
    pub(super) fn is_complete(&self) -> bool {
        match &self.state {
            State::Complete => true,
            State::Checked { framing, .. } => matches!(framing, Framing::Length(0)),
            _ => false,
        }
    }

    /// Whether the stream may end here, with `unread` in the buffer.
    pub(super) fn may_end(&self, unread: &[u8]) -> bool {
        match &self.state {
            State::Open | State::UntilClose | State::Complete => true,
            State::Head { .. } => unread.is_empty(),
            State::Checked { .. } | State::Length(_) | State::Chunked(_) => false,
        }
    }

    /// How much to ask the transport for.
    pub(super) fn want(&self) -> usize {
        match &self.state {
            State::Head { .. } => HEAD_READ,
            // A short body does not need a long buffer.
            State::Length(left) => usize::try_from(*left)
                .unwrap_or(BODY_READ)
                .clamp(64, BODY_READ),
            _ => BODY_READ,
        }
    }

    /// What may be handed over as it stands on the wire: the head alone. A body is taken by [`frame`](Self::frame).
    pub(super) fn pass(&mut self, buffer: &mut BytesMut) -> Result<Pass, Violation> {
        if matches!(self.state, State::Head { .. }) && !self.collect_head(buffer)? {
            return Ok(Pass::More(HEAD_READ.max(buffer.len())));
        }
        Ok(match &mut self.state {
            State::Open | State::UntilClose => Pass::Any,
            State::Checked { left, .. } => Pass::Bytes(*left),
            State::Complete => match self.side {
                Side::Requests { .. } => Pass::Nothing,
                Side::Off | Side::Responses { .. } => Pass::Any,
            },
            State::Length(_) | State::Chunked(_) => Pass::Nothing,
            State::Head { .. } => Pass::More(HEAD_READ),
        })
    }

    /// The checked head of a request, taken out of `buffer`; empty if none has been checked.
    pub(super) fn take_head(&mut self, buffer: &mut BytesMut) -> Result<BytesMut, Violation> {
        let State::Checked { left, framing } = self.state else {
            return Ok(BytesMut::new());
        };
        self.state = State::body(framing, &[])?;
        Ok(buffer.split_to(left.min(buffer.len())))
    }

    /// The next response's head, taken out of `buffer`; `None` if more has to arrive.
    pub(super) fn response(&mut self, buffer: &mut BytesMut) -> Result<Option<Parts>, Violation> {
        let (Side::Responses { to_head }, State::Head { scanner, .. }) =
            (self.side, &mut self.state)
        else {
            return Ok(None);
        };
        let Some(length) = scanner.scan(buffer, &HeadLimits::RESPONSE)? else {
            return Ok(None);
        };
        let head = buffer.split_to(length.min(buffer.len())).freeze();
        let (head, follows) = response::read(&head, to_head)?;
        self.state = match follows {
            Follows::AnotherHead => State::head(),
            Follows::Tunnel => State::Open,
            Follows::Body(framing) => State::body(framing, buffer)?,
        };
        Ok(Some(head))
    }

    /// The next piece of the body, taken out of `buffer`; `None` if more has to arrive.
    pub(super) fn frame(&mut self, buffer: &mut BytesMut) -> Result<Option<BodyFrame>, Violation> {
        loop {
            match &mut self.state {
                State::Complete => return Ok(Some(BodyFrame::End)),
                State::Head { .. } | State::Checked { .. } => return Ok(None),
                _ if buffer.is_empty() => return Ok(None),
                State::Open | State::UntilClose => {
                    return Ok(Some(BodyFrame::Data(buffer.split().freeze())));
                }
                State::Length(left) => {
                    let taken = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(buffer.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Complete;
                    }
                    return Ok(Some(BodyFrame::Data(buffer.split_to(taken).freeze())));
                }
                State::Chunked(decoder) => match decoder.step(buffer)? {
                    Step::More => return Ok(None),
                    Step::Framing(n) => buffer.advance(n),
                    Step::Data(n) => return Ok(Some(BodyFrame::Data(buffer.split_to(n).freeze()))),
                    Step::End(n) => {
                        buffer.advance(n);
                        let trailers = decoder.take_trailers();
                        self.state = State::Complete;
                        if let Some(trailers) = trailers {
                            return Ok(Some(BodyFrame::Trailers(trailers)));
                        }
                    }
                },
            }
        }
    }

    /// These approved bytes were handed over.
    pub(super) fn passed(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if let State::Checked { left, framing } = &mut self.state {
            *left = left.saturating_sub(bytes.len());
            if *left == 0 {
                // Its first bytes were looked at with the head.
                self.state = State::body(*framing, &[])?;
            }
        }
        Ok(())
    }

    /// Whether the head at the front of `buffer` is whole; then it is checked.
    fn collect_head(&mut self, buffer: &mut BytesMut) -> Result<bool, Violation> {
        let State::Head {
            scanner,
            empty_lines,
        } = &mut self.state
        else {
            return Ok(false);
        };
        let Side::Requests { limits, connect } = self.side else {
            return Ok(false);
        };
        while buffer.starts_with(b"\r\n") && *empty_lines < MAX_EMPTY_LINES {
            buffer.advance(2);
            *empty_lines += 1;
        }
        match buffer.first() {
            // Perhaps an empty line.
            Some(b'\r') if buffer.len() == 1 && *empty_lines < MAX_EMPTY_LINES => {
                return Ok(false);
            }
            Some(&byte) if !request::can_begin_with(byte) => {
                return Err(Violation::Syntax("request line"));
            }
            _ => {}
        }
        let Some(length) = scanner.scan(buffer, &limits)? else {
            return Ok(false);
        };
        let (head, behind) = buffer.split_at_checked(length).unwrap_or((buffer, &[]));
        let checked = request::check(head, limits.target, connect)?;
        if checked.upgrade && checked.framing == Framing::Length(0) && !behind.is_empty() {
            return Err(Violation::EarlyUpgrade);
        }
        State::body(checked.framing, behind)?;
        let framing = checked.framing;
        if let Some((at, host)) = checked.respelled
            && let Some(authority) = buffer.get_mut(at..at + host.len())
        {
            authority.copy_from_slice(&host);
        }
        self.state = State::Checked {
            left: length,
            framing,
        };
        Ok(true)
    }
}

impl State {
    fn head() -> Self {
        Self::Head {
            scanner: HeadScanner::default(),
            empty_lines: 0,
        }
    }

    /// A body, which begins with `behind` if more than the head has arrived.
    fn body(framing: Framing, behind: &[u8]) -> Result<Self, Violation> {
        Ok(match framing {
            Framing::Length(0) => Self::Complete,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => {
                // A fault already in sight is found before anything of the message is used.
                ChunkDecoder::default().judge(behind)?;
                Self::Chunked(Box::default())
            }
            Framing::UntilClose => Self::UntilClose,
        })
    }
}

#[cfg(test)]
mod tests;
