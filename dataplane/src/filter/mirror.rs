//! RequestMirror: copies that never delay, fail or grow the main exchange.
//!
//! Each copy is a task of its own, fed through a short queue. When a mirror backend does not keep up the copy is cut off:
//! the queue, not the client, gives way.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::request;
use portcullis_routing::{ClusterKey, filter::Mirror};
use tokio::sync::mpsc;

use crate::{
    exchange::fence::Fence,
    telemetry::MirrorResult,
    upstream::{OpenRequest, Outcome, Progress, Upstream, UpstreamError, UpstreamEvent},
    worker::Worker,
};

/// Pieces of body that wait for a slow mirror backend.
const QUEUE: usize = 8;

/// Copies under way per worker; more are not begun.
const MAX_MIRRORS: u32 = 1024;

/// A copy that takes longer is dropped.
const DEADLINE: Duration = Duration::from_secs(30);

enum Piece {
    Data(Bytes),
    End,
}

/// The copies of one request.
#[derive(Default)]
pub struct Mirrors(RefCell<Vec<mpsc::Sender<Piece>>>);

/// Begins the copies of a request whose head is ready to be forwarded. With a fence they go no further than that.
pub(crate) fn start(
    worker: &Rc<Worker>,
    mirrors: &[Mirror],
    fence: Option<&Rc<Fence>>,
    head: &request::Parts,
    body_is_empty: bool,
) -> Mirrors {
    let mut senders = Vec::new();
    for mirror in mirrors
        .iter()
        .filter(|mirror| fastrand::u32(0..mirror.denominator.max(1)) < mirror.numerator)
    {
        let Some(counted) = Counted::one_more(&worker.mirrors) else {
            worker.metrics.mirror(MirrorResult::Dropped);
            continue;
        };
        let (sender, pieces) = mpsc::channel(QUEUE);
        let copy = Copy {
            worker: Rc::clone(worker),
            cluster: mirror.cluster.clone(),
            fence: fence.cloned(),
            pieces,
            body_is_empty,
            counted,
        };
        tokio::task::spawn_local(copy.run(head.clone()));
        senders.push(sender);
    }
    Mirrors(RefCell::new(senders))
}

impl Mirrors {
    /// Passes a piece of the body on. A copy whose queue is full ends here, without `End`: it is never taken for whole.
    pub fn data(&self, data: &Bytes) {
        self.0
            .borrow_mut()
            .retain(|sender| sender.try_send(Piece::Data(data.clone())).is_ok());
    }

    /// The body is complete.
    pub fn end(&self) {
        self.0
            .borrow_mut()
            .retain(|sender| sender.try_send(Piece::End).is_ok());
    }
}

/// A copy that counts against [`MAX_MIRRORS`] until dropped.
struct Counted(Rc<Cell<u32>>);

impl Counted {
    fn one_more(count: &Rc<Cell<u32>>) -> Option<Self> {
        (count.get() < MAX_MIRRORS).then(|| {
            count.set(count.get() + 1);
            Self(Rc::clone(count))
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// One copy under way.
struct Copy {
    worker: Rc<Worker>,
    cluster: ClusterKey,
    fence: Option<Rc<Fence>>,
    pieces: mpsc::Receiver<Piece>,
    body_is_empty: bool,
    #[expect(dead_code, reason = "counts for as long as the copy lives")]
    counted: Counted,
}

impl Copy {
    async fn run(mut self, head: request::Parts) {
        let mut upstream = None;
        let sent = pingora_timeout::timeout(DEADLINE, self.send(head, &mut upstream)).await;
        let (result, outcome) = match sent {
            Ok(Ok(true)) => (MirrorResult::Sent, Some(Outcome::Answered)),
            Ok(Ok(false)) => (MirrorResult::Dropped, None),
            Ok(Err(error)) => (MirrorResult::Failed, blame(&error)),
            // The time is the client's as well: nobody knows whose fault it was.
            Err(_) => (MirrorResult::Failed, None),
        };
        self.worker.metrics.mirror(result);
        let Some(mut upstream) = upstream else {
            return;
        };
        if let Some(outcome) = outcome {
            upstream.report(outcome);
        }
        if result == MirrorResult::Sent {
            upstream.finish();
        }
    }

    async fn open(&self) -> Result<Upstream, UpstreamError> {
        let admits = |address| self.fence.as_ref().is_none_or(|it| it.admits(address));
        let request = OpenRequest {
            fence: self.fence.is_some().then_some(&admits),
            ..OpenRequest::default()
        };
        self.worker.upstreams.open(&self.cluster, request).await
    }

    /// Sends the copy and throws the answer away. `false`: the copy was cut off.
    async fn send(
        &mut self,
        head: request::Parts,
        upstream: &mut Option<Upstream>,
    ) -> Result<bool, UpstreamError> {
        let opened = self.open().await?;
        let upstream = upstream.insert(opened);
        upstream.send_head(&head, self.body_is_empty)?;
        while !self.body_is_empty {
            match self.pieces.recv().await {
                Some(Piece::Data(data)) => {
                    upstream.writer().room().await;
                    upstream.send_body(data).await?;
                }
                Some(Piece::End) => {
                    upstream.finish_body(None).await?;
                    break;
                }
                None => return Ok(false),
            }
        }
        loop {
            match upstream.read_event().await? {
                UpstreamEvent::End | UpstreamEvent::Trailers(_) | UpstreamEvent::Head(_, true) => {
                    return Ok(true);
                }
                UpstreamEvent::Informational(_)
                | UpstreamEvent::Head(_, false)
                | UpstreamEvent::Data(_)
                | UpstreamEvent::HalfClosed => {}
            }
        }
    }
}

/// What the endpoint has to answer for. Nothing once it has answered, which it may do before it has the whole copy.
fn blame(error: &UpstreamError) -> Option<Outcome> {
    error
        .blame()
        .filter(|_| error.progress < Progress::Answered)
}
