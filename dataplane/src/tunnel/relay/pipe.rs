//! Pipes for `splice(2)`: bytes go from socket to socket without ever being copied to us. A direction of a tunnel is lent
//! one while bytes flow, so that the many tunnels that are idle hold none.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::OwnedFd,
    rc::Rc,
    task::{Context, Poll, ready},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice},
};
use tokio::{io::Interest, net::TcpStream};

/// Bytes that pipes hold: the more, the fewer are system calls and acknowledgements. Halving the small ones costs more than all of
/// them being large would gain. No user gets larger ones unless root raises `fs.pipe-max-size`.
pub(super) const LARGE: usize = 1024 * 1024;
const SMALL: usize = 256 * 1024;
/// What a small one must hold at least, so that it is better than copying.
const LEAST: usize = 64 * 1024;
/// Pipes lent at once by one worker, so that peers that take nothing bind no more than 16 MiB; without one bytes are copied, which
/// costs several times as much. The large ones move most of what a worker has at once.
const MAX_LARGE: usize = 4;
const MAX_SMALL: usize = 48;
/// Small ones kept for the next burst. Of large ones all are.
const MAX_SPARE: usize = 12;

/// The pipes of a worker.
#[derive(Debug)]
pub(super) struct Pipes {
    large: Pool,
    small: Pool,
    /// The kernel cannot splice.
    unusable: Cell<bool>,
}

/// Pipes of one size.
#[derive(Debug)]
struct Pool {
    /// Bytes that a pipe is asked to hold.
    capacity: usize,
    /// Bytes that it must hold to be of use.
    least: usize,
    max_lent: usize,
    max_spare: usize,
    spare: RefCell<Vec<Rc<Pipe>>>,
    lent: Cell<usize>,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

impl Pipe {
    fn open(wanted: usize) -> Result<Self, Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user with many pipes gets small ones only.
        let capacity =
            fcntl_setpipe_size(&write, wanted).or_else(|_| fcntl_getpipe_size(&write))?;
        Ok(Self {
            read,
            write,
            capacity,
        })
    }
}

impl Pool {
    fn lend(&self) -> Option<Rc<Pipe>> {
        if self.lent.get() >= self.max_lent {
            return None;
        }
        let spare = self.spare.borrow_mut().pop();
        let pipe = spare.or_else(|| self.open())?;
        self.lent.set(self.lent.get() + 1);
        Some(pipe)
    }

    fn open(&self) -> Option<Rc<Pipe>> {
        let pipe = Pipe::open(self.capacity).ok();
        pipe.filter(|pipe| pipe.capacity >= self.least).map(Rc::new)
    }

    /// One that is lent is not needed any more, and kept if it `is_good`.
    fn take_back(&self, pipe: &Rc<Pipe>, is_good: bool) {
        self.lent.set(self.lent.get() - 1);
        let mut spare = self.spare.borrow_mut();
        // One that is smaller than it should be may be followed by a better one.
        if is_good && spare.len() < self.max_spare && pipe.capacity >= self.capacity {
            spare.push(Rc::clone(pipe));
        }
    }
}

impl Default for Pipes {
    fn default() -> Self {
        let pool = |capacity, least, max_lent, max_spare| Pool {
            capacity,
            least,
            max_lent,
            max_spare,
            spare: RefCell::default(),
            lent: Cell::default(),
        };
        Self {
            large: pool(LARGE, LARGE, MAX_LARGE, MAX_LARGE),
            small: pool(SMALL, LEAST, MAX_SMALL, MAX_SPARE),
            unusable: Cell::default(),
        }
    }
}

impl Pipes {
    /// Lends a pipe, a large one if there is one. `None` if too many are lent, or there are none.
    pub(super) fn lend(self: &Rc<Self>) -> Option<Lent> {
        if self.unusable.get() {
            return None;
        }
        let large = self.large.lend();
        let is_large = large.is_some();
        Some(Lent {
            pipe: large.or_else(|| self.small.lend())?,
            is_large,
            held: 0,
            pipes: Rc::clone(self),
        })
    }

    /// Lends none any more.
    pub(super) fn give_up(&self) {
        self.unusable.set(true);
        for pool in [&self.large, &self.small] {
            pool.spare.borrow_mut().clear();
        }
    }
}

/// A pipe for the time that bytes flow through it.
#[derive(Debug)]
pub(super) struct Lent {
    pipe: Rc<Pipe>,
    is_large: bool,
    /// Bytes in it.
    held: usize,
    pipes: Rc<Pipes>,
}

impl Lent {
    /// Bytes that are in the pipe.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes in what the socket has. The pipe must be empty: only then is it the socket that has nothing, and not the pipe
    /// that has no room, when there is nothing to be done. 0 is the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            let taken = from.try_io(Interest::READABLE, || {
                let (pipe, most) = (&self.pipe.write, self.pipe.capacity);
                Ok(splice(from, None, pipe, None, most, SpliceFlags::NONBLOCK)?)
            });
            if !would_block(&taken) {
                self.held += *taken.as_ref().unwrap_or(&0);
                return Poll::Ready(taken);
            }
        }
    }

    /// Gives the socket what it takes. The pipe must not be empty: so that it can only be the socket that has no room.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        to: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            let given = to.try_io(Interest::WRITABLE, || {
                let pipe = &self.pipe.read;
                Ok(splice(
                    pipe,
                    None,
                    to,
                    None,
                    self.held,
                    SpliceFlags::NONBLOCK,
                )?)
            });
            if !would_block(&given) {
                self.held -= *given.as_ref().unwrap_or(&0);
                return Poll::Ready(given);
            }
        }
    }
}

fn would_block<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Whether the kernel, or what stands in for it, does not splice from sockets. Nothing was taken then.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::NOSYS | Errno::PERM)
    )
}

impl Drop for Lent {
    fn drop(&mut self) {
        let pipes = &self.pipes;
        let pool = if self.is_large {
            &pipes.large
        } else {
            &pipes.small
        };
        // What was not passed on must not reach anybody else.
        pool.take_back(&self.pipe, self.held == 0 && !pipes.unusable.get());
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    impl Pipes {
        /// As on a kernel that cannot splice: its pipes are none.
        pub(in super::super) fn broken() -> Rc<Self> {
            let mut options = std::fs::File::options();
            options.read(true).write(true);
            let no_pipe = || options.open("/dev/null").unwrap().into();
            let pipes = Self::default();
            pipes.large.spare.borrow_mut().push(Rc::new(Pipe {
                read: no_pipe(),
                write: no_pipe(),
                capacity: LARGE,
            }));
            Rc::new(pipes)
        }

        /// How many are lent, and how many are kept.
        pub(in super::super) fn counts(&self) -> (usize, usize) {
            let pools = [&self.large, &self.small];
            let lent = pools.map(|pool| pool.lent.get());
            let kept = pools.map(|pool| pool.spare.borrow().len());
            (lent.iter().sum(), kept.iter().sum())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    #[test]
    fn a_few_pipes_are_large_and_lent_first() {
        let pipes = Rc::new(Pipes::default());
        for _ in 0..2 {
            // Given back in the order in which they were lent: first the large ones.
            let lent: Vec<_> = iter::from_fn(|| pipes.lend()).collect();
            let capacities: Vec<_> = lent.iter().map(|it| it.pipe.capacity).collect();
            assert_eq!(capacities[..4], [LARGE; 4]);
            assert_eq!(capacities[4..], [SMALL; 48]);
            assert_eq!(capacities.iter().sum::<usize>(), 16 * 1024 * 1024);
            drop(lent);
            assert_eq!(pipes.counts(), (0, 16));
        }
        // Others come for those that are not kept, however many small ones are.
        let mut spoilt: Vec<_> = (0..4).filter_map(|_| pipes.lend()).collect();
        for pipe in &mut spoilt {
            pipe.held = 1;
        }
        drop(spoilt);
        assert_eq!(pipes.counts(), (0, 12));
        assert_eq!(pipes.lend().map(|it| it.pipe.capacity), Some(LARGE));
    }
}
