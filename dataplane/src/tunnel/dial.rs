//! Reaching one of several addresses: Happy Eyeballs (RFC 8305) over addresses that were checked before.
//!
//! The race for a cluster's endpoints ([`crate::upstream`]) differs in all but its times: it chooses the next endpoint by
//! load and health when its turn has come, takes a slot of the cluster for it, and may be won by a pooled session.

use std::{fmt, io, net::SocketAddr, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::{
    net::TcpStream,
    pin,
    time::{Instant, sleep_until},
};

use crate::upstream::{MAX_RIVALS, SLOW_CONNECT, tune};

/// A connection that came about.
#[derive(Debug)]
pub(crate) struct Dialled<T = TcpStream> {
    /// The connection.
    pub(crate) stream: T,
    /// To whom.
    pub(crate) address: SocketAddr,
    /// How long it took, failures of other addresses included.
    pub(crate) took: Duration,
}

/// Why there is none. Empty if there was no address.
#[derive(Debug, Default)]
pub(crate) struct DialError {
    /// Each address that was tried, and its failure, in the order in which they failed. Those that were still being tried
    /// when time was up are [`io::ErrorKind::TimedOut`].
    pub(crate) attempts: Vec<(SocketAddr, io::Error)>,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attempts.is_empty() {
            return f.write_str("there is no address to connect to");
        }
        for (n, (address, error)) in self.attempts.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DialError {}

/// Connects to the first address that answers within `timeout`. The next one is tried as soon as one has failed, or is
/// slow; families take turns, so that one that does not work costs a quarter of a second. Cancel-safe.
pub(crate) async fn dial(
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<Dialled, DialError> {
    let dialled = race(addresses, timeout, TcpStream::connect).await?;
    tune(&dialled.stream);
    Ok(dialled)
}

/// [`dial`], with `connect` to connect by.
async fn race<T>(
    addresses: &[SocketAddr],
    timeout: Duration,
    connect: impl AsyncFn(SocketAddr) -> io::Result<T>,
) -> Result<Dialled<T>, DialError> {
    let began = Instant::now();
    let attempt = async |address| (address, connect(address).await);
    let mut waiting = interleave(addresses).into_iter();
    let mut pending = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut failed = DialError::default();
    let next_due = sleep_until(began);
    let end = sleep_until(began + timeout);
    pin!(next_due, end);
    while !running.is_empty() || waiting.len() > 0 {
        // Each turn is that of the next address; the first one waits for no timer, for even one that is due takes a millisecond.
        if running.len() < MAX_RIVALS
            && let Some(address) = waiting.next()
        {
            pending.push(address);
            running.push(attempt(address));
        }
        next_due.as_mut().reset(Instant::now() + SLOW_CONNECT);
        tokio::select! {
            biased;
            Some((address, result)) = running.next() => match result {
                Ok(stream) => {
                    let took = began.elapsed();
                    return Ok(Dialled { stream, address, took });
                }
                Err(error) => {
                    pending.retain(|pending| *pending != address);
                    failed.attempts.push((address, error));
                }
            },
            () = &mut end => {
                let late = pending.into_iter().map(|address| (address, io::ErrorKind::TimedOut.into()));
                failed.attempts.extend(late);
                return Err(failed);
            }
            () = &mut next_due, if running.len() < MAX_RIVALS && waiting.len() > 0 => {}
        }
    }
    Err(failed)
}

/// The same addresses, each once, with the families taking turns (RFC 8305 4). The first one stays the first.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let of_first = |address: &&SocketAddr| address.is_ipv4() == first_is_v4;
    let mut first = addresses.iter().filter(of_first);
    let mut other = addresses.iter().filter(|address| !of_first(address));
    let mut turns = Vec::with_capacity(addresses.len());
    loop {
        let turn = [first.next(), other.next()];
        if turn == [None, None] {
            return turns;
        }
        for address in turn.into_iter().flatten() {
            if !turns.contains(address) {
                turns.push(*address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures::FutureExt as _;
    use tokio::{net::TcpListener, time::sleep};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter()
            .map(|address| address.parse().unwrap())
            .collect()
    }

    /// What becomes of an attempt, and after how many milliseconds; the port says which.
    type Fate = (u64, bool);

    /// Dials addresses of which number n has fate n, and tells when each was tried.
    async fn race_of(fates: &[Fate]) -> (Result<Dialled<()>, DialError>, Vec<(u16, u64)>) {
        let began = Instant::now();
        let tried = RefCell::new(Vec::new());
        let addresses: Vec<SocketAddr> = (0..fates.len())
            .map(|n| SocketAddr::from(([192, 0, 2, 1], u16::try_from(n).unwrap())))
            .collect();
        let connect = async |address: SocketAddr| {
            let at = u64::try_from(began.elapsed().as_millis()).unwrap();
            tried.borrow_mut().push((address.port(), at));
            let (after, succeeds) = fates[usize::from(address.port())];
            sleep(Duration::from_millis(after)).await;
            if succeeds {
                Ok(())
            } else {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        };
        let result = race(&addresses, TIMEOUT, connect).await;
        (result, tried.into_inner())
    }

    fn failures(error: &DialError) -> Vec<(u16, io::ErrorKind)> {
        let failure = |(address, error): &(SocketAddr, io::Error)| (address.port(), error.kind());
        error.attempts.iter().map(failure).collect()
    }

    #[test]
    fn families_take_turns() {
        let [a1, a2, a3] = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"];
        let [b1, b2] = ["[2001:db8::1]:1", "[2001:db8::2]:1"];
        for (given, turns) in [
            (vec![], vec![]),
            (vec![a1, a2, a3], vec![a1, a2, a3]),
            (vec![a1, a2, a3, b1, b2], vec![a1, b1, a2, b2, a3]),
            (vec![b1, a1, a2], vec![b1, a1, a2]),
            (vec![b1, b2, a1, a2, a3], vec![b1, a1, b2, a2, a3]),
            (vec![a1, a1, b1, a1], vec![a1, b1]),
        ] {
            assert_eq!(interleave(&addresses(&given)), addresses(&turns));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_answers_wins_and_the_slow_get_rivals() {
        let (result, tried) = race_of(&[(10_000, true), (400, true), (10_000, true)]).await;
        let dialled = result.unwrap();
        assert_eq!(dialled.address.port(), 1);
        assert_eq!(dialled.took.as_millis(), 650);
        assert_eq!(tried, [(0, 0), (1, 250), (2, 500)]);
        let (result, tried) = race_of(&[(20, true), (0, true)]).await;
        assert_eq!(result.unwrap().took.as_millis(), 20);
        assert_eq!(tried, [(0, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_followed_by_the_next_at_once() {
        let (result, tried) = race_of(&[(10, false), (10, false), (10, true)]).await;
        assert_eq!(result.unwrap().address.port(), 2);
        assert_eq!(tried, [(0, 0), (1, 10), (2, 20)]);
        let (result, _) = race_of(&[(10, false), (5, false)]).await;
        let refused = io::ErrorKind::ConnectionRefused;
        let error = result.unwrap_err();
        assert_eq!(failures(&error), [(0, refused), (1, refused)]);
        assert_eq!(
            error.to_string(),
            "192.0.2.1:0: connection refused; 192.0.2.1:1: connection refused"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn three_are_tried_at_once_and_time_is_up_at_some_time() {
        let began = Instant::now();
        let never = (60_000, true);
        let (result, tried) = race_of(&[never, (1000, false), never, never, never]).await;
        assert_eq!(began.elapsed(), TIMEOUT);
        assert_eq!(tried, [(0, 0), (1, 250), (2, 500), (3, 1250)]);
        let late = io::ErrorKind::TimedOut;
        assert_eq!(
            failures(&result.unwrap_err()),
            [
                (1, io::ErrorKind::ConnectionRefused),
                (0, late),
                (2, late),
                (3, late)
            ]
        );
    }

    #[tokio::test]
    async fn no_timer_comes_before_the_first_address() {
        let addresses = addresses(&["192.0.2.1:1"]);
        let raced = race(&addresses, TIMEOUT, async |_| Ok(())).now_or_never();
        assert!(raced.is_some_and(|raced| raced.is_ok()));
    }

    #[tokio::test]
    async fn nowhere_to_go_is_a_failure_at_once() {
        let error = dial(&[], TIMEOUT).await.unwrap_err();
        assert!(error.attempts.is_empty());
        assert_eq!(error.to_string(), "there is no address to connect to");
    }

    #[tokio::test]
    async fn reaches_whoever_listens() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = gone.local_addr().unwrap();
        drop(gone);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let dialled = dial(&[closed, open], TIMEOUT).await.unwrap();
        assert_eq!(dialled.address, open);
        assert_eq!(dialled.stream.peer_addr().unwrap(), open);
        assert!(dialled.stream.nodelay().unwrap());
        let error = dial(&[closed], TIMEOUT).await.unwrap_err();
        assert_eq!(
            failures(&error),
            [(closed.port(), io::ErrorKind::ConnectionRefused)]
        );
    }
}
