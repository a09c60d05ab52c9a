//! One stream: from what a data plane has to the present table, for as long as it listens.

use std::{convert::Infallible, sync::Arc};

use bytes::{Buf as _, Bytes};
use futures::{Stream, stream::unfold};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame as BodyFrame;
use portcullis_routing::{Frame, GatewayKey, RoutingTable, TableVersion};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    board::{Board, LineError},
    limits::{CHUNK, FRAME_TIMEOUT},
    service::Client,
};
use crate::metrics::Turned;

/// The body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A stream of frames. It does nothing unless its reader takes something, so all that it holds is where the reader is.
pub(super) struct TableStream {
    pub(super) board: watch::Receiver<Option<Arc<Board>>>,
    pub(super) gateway: GatewayKey,
    pub(super) client: Arc<Client>,
    /// What the reader has, once it has taken what is in `line`.
    pub(super) cursor: Option<Arc<RoutingTable>>,
    /// Whether to go on when the reader has the present table.
    pub(super) watch: bool,
    /// What is left of the frame being sent.
    pub(super) line: Bytes,
    /// When its first bytes were sent.
    pub(super) begun: Instant,
    /// A table that cannot be sent.
    pub(super) unsendable: Option<TableVersion>,
}

/// What there is for a reader.
enum News {
    Line(Bytes),
    /// It has the present table.
    Nothing,
    /// The Gateway is no more, or too much waits for its slow clients.
    End,
}

impl TableStream {
    pub(super) fn into_body(self) -> Body {
        StreamBody::new(self.chunks()).boxed_unsync()
    }

    fn chunks(self) -> impl Stream<Item = Result<BodyFrame<Bytes>, Infallible>> + Send {
        unfold(self, |mut stream| async move {
            let chunk = stream.next_chunk().await?;
            Some((Ok(BodyFrame::data(chunk)), stream))
        })
    }

    /// The next bytes; `None` if the Gateway is gone, the reader is too slow, or it has everything and does not watch.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        self.client.is_alive();
        if self.line.is_empty() {
            self.line = self.next_line().await?;
            self.begun = Instant::now();
        } else if self.begun.elapsed() > FRAME_TIMEOUT {
            self.client.turn_away(Turned::Slow);
            return None;
        }
        let chunk = self.line.slice(..self.line.len().min(CHUNK));
        self.line.advance(chunk.len());
        self.client.is_alive();
        Some(chunk)
    }

    async fn next_line(&mut self) -> Option<Bytes> {
        let heartbeat = Instant::now() + self.client.limits().heartbeat;
        loop {
            match self.news() {
                News::Line(line) => return Some(line),
                News::End => return None,
                News::Nothing if !self.watch => return None,
                News::Nothing => {}
            }
            tokio::select! {
                changed = self.board.changed() => changed.ok()?,
                () = sleep_until(heartbeat) => {
                    return Frame::HEARTBEAT.to_line().ok().map(Bytes::from);
                }
            }
        }
    }

    /// What leads to the present table.
    fn news(&mut self) -> News {
        let board = self.board.borrow_and_update().clone();
        let editions = board
            .as_ref()
            .and_then(|board| board.editions(&self.gateway));
        let Some(current) = editions.map(|editions| editions.current()) else {
            return News::End;
        };
        let version = &current.table.version;
        let has = self.cursor.as_ref().map(|table| &table.version);
        if has == Some(version) || self.unsendable.as_ref() == Some(version) {
            return News::Nothing;
        }
        match current.line_from(self.cursor.as_deref()) {
            Ok(line) => {
                self.cursor = Some(Arc::clone(&current.table));
                News::Line(line)
            }
            Err(LineError::Waiting) => {
                self.client.turn_away(Turned::Waiting);
                News::End
            }
            Err(LineError::Frame(error)) => {
                tracing::error!(gateway = %self.gateway, %version, %error, "the table cannot be sent; its data planes keep the one before");
                self.unsendable = Some(version.clone());
                News::Nothing
            }
        }
    }
}
