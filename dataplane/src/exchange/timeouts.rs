//! The time that a route gives a request and each of its attempts, and waiting within it.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pingora_timeout::{ToTimeout, fast_timeout::FastOrTokioTimeout};

use crate::{downstream::Downstream, plan::PreparedRoute, reason::Reason};

/// `timeouts.request` and `timeouts.backendRequest` of one exchange.
pub(super) struct Timeouts {
    request: Timer,
    attempt: Timer,
}

impl Timeouts {
    /// Both begin when something is first waited for.
    pub(super) fn new(plan: &PreparedRoute) -> Self {
        Self {
            request: Timer::new(plan.request_timeout),
            attempt: Timer::new(plan.backend_timeout),
        }
    }

    /// The next attempt gets its whole time.
    pub(super) fn begin_attempt(&mut self, plan: &PreparedRoute) {
        self.attempt = Timer::new(plan.backend_timeout);
    }

    /// A tunnel has no end to wait for: only its idle time is bounded.
    pub(super) fn lift(&mut self) {
        self.request = Timer::new(None);
        self.attempt = Timer::new(None);
    }

    /// Which of the two has passed.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        if self.attempt.poll_passed(cx).is_ready() {
            return Poll::Ready(Reason::BackendDeadline);
        }
        self.poll_request_passed(cx)
    }

    fn poll_request_passed(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.request
            .poll_passed(cx)
            .map(|()| Reason::RequestDeadline)
    }

    /// Waits for `work` for as long as the client does and the request may take. What is done at once costs neither a timer nor a
    /// look at the client. Later the client comes first, so that nothing is begun for one that has left. The work is borrowed,
    /// since a future that owns another one holds it several times.
    pub(super) async fn wait<T>(
        &mut self,
        client: &mut Downstream,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Reason> {
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return Ok(done);
        }
        tokio::select! {
            biased;
            reason = gone(client) => Err(reason),
            done = work => Ok(done),
            reason = poll_fn(|cx| self.poll_request_passed(cx)) => Err(reason),
        }
    }
}

/// Resolves when the client goes away. What it has still to say of its request is left where it is.
async fn gone(client: &mut Downstream) -> Reason {
    let error = if client.body_is_empty() {
        client.closed().await
    } else {
        client.broken().await
    };
    error.reason()
}

/// A timer that is made when somebody waits for it: most requests with a timeout do not wait long, and some not at all.
struct Timer {
    after: Option<Duration>,
    running: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Timer {
    fn new(after: Option<Duration>) -> Self {
        Self {
            after,
            running: None,
        }
    }

    fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(after) = self.after else {
            return Poll::Pending;
        };
        self.running
            .get_or_insert_with(|| FastOrTokioTimeout::create(after).timeout())
            .as_mut()
            .poll(cx)
    }
}
