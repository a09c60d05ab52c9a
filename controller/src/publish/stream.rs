//! One stream: from what a data plane has to the present table, for as long as it listens.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
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
    service::Client,
    waiting::{Line, Next},
};
use crate::metrics::Turned;

/// The body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A stream of frames. It does nothing unless its reader takes something, so all that it holds is where the reader is. The frame that
/// is being sent belongs to the connection.
pub(super) struct TableStream {
    pub(super) board: watch::Receiver<Option<Arc<Board>>>,
    pub(super) gateway: GatewayKey,
    /// Its number on the connection.
    pub(super) number: u64,
    pub(super) client: Arc<Client>,
    /// What the reader has, once it has taken the frame that is being sent.
    pub(super) cursor: Option<Arc<RoutingTable>>,
    /// Whether to go on when the reader has the present table.
    pub(super) watch: bool,
    /// A table that cannot be sent.
    pub(super) unsendable: Option<TableVersion>,
}

/// What there is for a reader.
enum News {
    Line(Arc<Line>),
    Heartbeat,
    /// It has the present table.
    Nothing,
    /// The connection has a newer stream, the Gateway is no more, or too much waits for its slow clients.
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

    /// The next bytes; `None` if the Gateway is gone, the reader is too slow or has a newer stream, or it has everything and does not
    /// watch.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        self.client.is_alive();
        let chunk = loop {
            match self.client.reader.next(self.number) {
                Next::Chunk(chunk) => break chunk,
                Next::Nothing => match self.next_news().await {
                    News::Line(line) => self.client.reader.give(self.number, line),
                    News::Heartbeat => break Frame::HEARTBEAT.to_line().ok()?.into(),
                    News::Nothing | News::End => return None,
                },
                Next::Late => {
                    self.client.turn_away(Turned::Slow);
                    return None;
                }
                Next::Over => return None,
            }
        };
        self.client.is_alive();
        Some(chunk)
    }

    /// Waits for something to send, if the reader watches.
    async fn next_news(&mut self) -> News {
        let heartbeat = Instant::now() + self.client.limits().heartbeat;
        loop {
            // What others would have to make room for is for a stream that is served.
            if !self.client.reader.is_at(self.number) {
                return News::End;
            }
            match self.news() {
                News::Nothing if self.watch => {}
                news => return news,
            }
            tokio::select! {
                changed = self.board.changed() => if changed.is_err() {
                    return News::End;
                },
                () = self.client.reader.is_past(self.number) => return News::End,
                () = sleep_until(heartbeat) => return News::Heartbeat,
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

impl Drop for TableStream {
    fn drop(&mut self) {
        self.client.reader.end(self.number);
    }
}
