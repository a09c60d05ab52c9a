//! Frames: what a controller streams to a data plane, one JSON object per line.
//!
//! A frame is the object that it carries, with one more field, `kind`. Every frame has a schema number; fields that a
//! reader does not know are skipped, a kind or schema that it does not know is an error.

use std::{io, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    delta::Delta,
    table::{RoutingTable, SCHEMA},
};

/// Longest frame, in bytes without the line feed: 64 MiB, a table of some 50,000 rules.
pub const MAX_FRAME: usize = 64 << 20;

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Frame {
    /// A whole table.
    Snapshot(Arc<RoutingTable>),
    /// The step from the table that the reader has to the present one.
    Delta(Arc<Delta>),
    /// Nothing new; the writer is alive.
    Heartbeat {
        /// See [`SCHEMA`].
        schema: u32,
    },
}

/// Why a line is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is not JSON, or a field is missing or of the wrong type.
    #[error("the frame cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of a kind that this code does not know.
    #[error("the frame is of kind \"{found}\"; this proxy knows snapshot, delta and heartbeat")]
    Kind {
        /// What it says.
        found: String,
    },
    /// It is written in a schema of a later release.
    #[error("the frame has schema {found}, this proxy reads schema {SCHEMA} and below")]
    Schema {
        /// What it says.
        found: u32,
    },
    /// The line has no end within the limit.
    #[error("the frame is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

/// What is read of a frame first: whether the rest can be read at all.
#[derive(Deserialize)]
struct Head {
    kind: String,
    schema: u32,
}

impl Frame {
    /// Nothing new.
    pub const HEARTBEAT: Self = Self::Heartbeat { schema: SCHEMA };

    /// Values of the field `kind`.
    pub const KINDS: [&str; 3] = ["snapshot", "delta", "heartbeat"];

    /// The value of the field `kind`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => "snapshot",
            Self::Delta(_) => "delta",
            Self::Heartbeat { .. } => "heartbeat",
        }
    }

    /// The frame as a line, line feed included.
    pub fn to_line(&self) -> Result<Vec<u8>, FrameError> {
        let mut line = Vec::new();
        self.write_line(&mut line)?;
        Ok(line)
    }

    /// Writes the frame as a line, line feed included.
    pub fn write_line(&self, mut to: impl io::Write) -> Result<(), FrameError> {
        serde_json::to_writer(&mut to, self)?;
        Ok(to.write_all(b"\n").map_err(serde_json::Error::io)?)
    }

    /// Length of the line in bytes, line feed included, found without writing it anywhere; an error if it is longer than readers take.
    pub fn line_length(&self) -> Result<usize, FrameError> {
        let mut length = Length(0);
        match self.write_line(&mut length) {
            Err(_) if length.0 > MAX_FRAME + 1 => Err(FrameError::TooLong { limit: MAX_FRAME }),
            written => written.map(|()| length.0),
        }
    }

    /// Reads a line without its line feed.
    pub fn parse(line: &[u8]) -> Result<Self, FrameError> {
        let head: Head = serde_json::from_slice(line)?;
        if head.schema > SCHEMA {
            return Err(FrameError::Schema { found: head.schema });
        }
        match head.kind.as_str() {
            "snapshot" => Ok(Self::Snapshot(serde_json::from_slice(line)?)),
            "delta" => Ok(Self::Delta(serde_json::from_slice(line)?)),
            "heartbeat" => Ok(Self::Heartbeat {
                schema: head.schema,
            }),
            _ => Err(FrameError::Kind { found: head.kind }),
        }
    }
}

/// Length of a resource in a frame, in bytes. Of one that no frame can hold it is more than [`MAX_FRAME`].
pub fn length_of(resource: &impl Serialize) -> usize {
    let mut length = Length(0);
    // Writing fails only beyond what a frame holds, and then so much is counted.
    _ = serde_json::to_writer(&mut length, resource);
    length.0
}

/// Counts bytes, up to those of the longest line.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        if self.0 > MAX_FRAME + 1 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts a stream of bytes into frames. Holds at most one line beyond what it is given.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that belong to lines already read.
    read: usize,
    /// Bytes at the start of the buffer that are known to hold no further line feed.
    searched: usize,
    limit: usize,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::with_limit(MAX_FRAME)
    }
}

impl FrameReader {
    /// A reader of frames of at most `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            read: 0,
            searched: 0,
            limit,
        }
    }

    /// Takes in what came next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.searched -= self.read;
        self.read = 0;
        if self.buffer.is_empty() {
            // A table was read; what follows is mostly small.
            self.buffer.shrink_to(64 << 10);
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame that is there as a whole; `None` if more bytes are needed. Nothing can be read after an error.
    pub fn next_frame(&mut self) -> Option<Result<Frame, FrameError>> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let end = unsearched.iter().position(|byte| *byte == b'\n');
        let end = end.map_or(self.buffer.len(), |end| self.searched + end);
        let found = end < self.buffer.len();
        self.searched = end;
        if end - self.read > self.limit {
            return Some(Err(FrameError::TooLong { limit: self.limit }));
        }
        if !found {
            return None;
        }
        let line = self.buffer.get(self.read..end).unwrap_or_default();
        let frame = Frame::parse(line);
        self.searched = end + 1;
        self.read = self.searched;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GatewayKey, delta::diff};

    fn table() -> RoutingTable {
        let mut table = RoutingTable::new(GatewayKey::of("infra", "edge"));
        table.seal();
        table
    }

    #[test]
    fn each_frame_says_its_kind_and_schema() {
        let delta = diff(&table(), &table());
        for (frame, start) in [
            (
                Frame::Snapshot(Arc::new(table())),
                r#"{"kind":"snapshot","schema":1,"gateway":"infra/edge","version":""#,
            ),
            (
                Frame::Delta(Arc::new(delta)),
                r#"{"kind":"delta","schema":1,"base":""#,
            ),
            (Frame::HEARTBEAT, r#"{"kind":"heartbeat","schema":1}"#),
        ] {
            let line = String::from_utf8(frame.to_line().unwrap()).unwrap();
            assert!(line.starts_with(start), "{line}");
            assert!(line.contains(frame.kind()) && line.ends_with("}\n"));
            assert_eq!(frame.line_length().unwrap(), line.len());
        }
    }

    #[test]
    fn what_is_no_frame_is_told() {
        for (line, words) in [
            ("", "cannot be read"),
            ("{}", "missing field `kind`"),
            (r#"{"kind":"heartbeat"}"#, "missing field `schema`"),
            (r#"{"kind":"delta","schema":1}"#, "missing field `base`"),
            (r#"{"kind":"patch","schema":1}"#, "kind \"patch\""),
            (
                r#"{"kind":"delta","schema":2,"new":[]}"#,
                "schema 2, this proxy reads schema 1",
            ),
        ] {
            let error = Frame::parse(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn a_line_that_no_reader_takes_is_not_written() {
        let mut table = table();
        table.version.0 = "x".repeat(MAX_FRAME).into();
        let error = Frame::Snapshot(Arc::new(table)).line_length().unwrap_err();
        assert!(matches!(error, FrameError::TooLong { limit: MAX_FRAME }));
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut reader = FrameReader::with_limit(40);
        reader.push(&Frame::HEARTBEAT.to_line().unwrap());
        reader.push(&[b' '; 40]);
        assert!(reader.next_frame().unwrap().is_ok());
        assert!(reader.next_frame().is_none());
        reader.push(b" ");
        let error = reader.next_frame().unwrap().unwrap_err();
        assert!(matches!(error, FrameError::TooLong { limit: 40 }));
    }
}
