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

/// Bytes that a pipe is asked to hold: the more it does, the fewer are system calls and acknowledgements, and halving it costs more
/// than doubling it gains.
const CAPACITY: usize = 256 * 1024;
/// The same of a worker's first ones, which move most of what it has at once. No user gets more unless root raises
/// `fs.pipe-max-size`.
pub(super) const LARGE: usize = 1024 * 1024;
const MAX_LARGE: usize = 4;
/// Pipes lent at once by one worker, so that peers that take nothing bind no more than 16 MiB; without one bytes are copied, which
/// costs several times as much.
const MAX_LENT: usize = 52;
/// Pipes kept for the next burst.
const MAX_SPARE: usize = 16;

/// The pipes of a worker.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    spare: RefCell<Vec<Rc<Pipe>>>,
    lent: Cell<usize>,
    /// Large ones, lent and spare.
    large: Cell<usize>,
    /// The kernel cannot splice.
    unusable: Cell<bool>,
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
        let capacity = fcntl_setpipe_size(&write, wanted)
            .or_else(|_| fcntl_setpipe_size(&write, CAPACITY))
            .or_else(|_| fcntl_getpipe_size(&write))?;
        Ok(Self {
            read,
            write,
            capacity,
        })
    }

    fn is_large(&self) -> bool {
        self.capacity > CAPACITY
    }
}

impl Pipes {
    /// Lends a pipe. `None` if too many are lent, or there are none.
    pub(super) fn lend(self: &Rc<Self>) -> Option<Lent> {
        if self.unusable.get() || self.lent.get() >= MAX_LENT {
            return None;
        }
        let spare = self.spare.borrow_mut().pop();
        let pipe = match spare {
            Some(pipe) => pipe,
            None => Rc::new(self.open()?),
        };
        self.lent.set(self.lent.get() + 1);
        Some(Lent {
            pipe,
            held: 0,
            pipes: Rc::clone(self),
        })
    }

    fn open(&self) -> Option<Pipe> {
        let large = self.large.get();
        let wanted = if large < MAX_LARGE { LARGE } else { CAPACITY };
        let pipe = Pipe::open(wanted).ok()?;
        self.large.set(large + usize::from(pipe.is_large()));
        Some(pipe)
    }

    /// Takes a pipe back.
    fn take_back(&self, pipe: &Rc<Pipe>, is_empty: bool) {
        self.lent.set(self.lent.get() - 1);
        let mut spare = self.spare.borrow_mut();
        // What was not passed on must not reach anybody else.
        if is_empty && spare.len() < MAX_SPARE && !self.unusable.get() {
            // Large ones are lent first.
            let place = if pipe.is_large() { spare.len() } else { 0 };
            spare.insert(place, Rc::clone(pipe));
        } else {
            self.large
                .set(self.large.get() - usize::from(pipe.is_large()));
        }
    }

    /// Lends none any more.
    pub(super) fn give_up(&self) {
        self.unusable.set(true);
        self.spare.borrow_mut().clear();
    }
}

/// A pipe for the time that bytes flow through it.
#[derive(Debug)]
pub(super) struct Lent {
    pipe: Rc<Pipe>,
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
        self.pipes.take_back(&self.pipe, self.held == 0);
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
            pipes.spare.borrow_mut().push(Rc::new(Pipe {
                read: no_pipe(),
                write: no_pipe(),
                capacity: CAPACITY,
            }));
            Rc::new(pipes)
        }

        /// How many are lent, and how many are kept.
        pub(in super::super) fn counts(&self) -> (usize, usize) {
            (self.lent.get(), self.spare.borrow().len())
        }
    }

    impl Lent {
        pub(in super::super) fn capacity(&self) -> usize {
            self.pipe.capacity
        }

        /// Gives it back with something in it.
        pub(in super::super) fn spoil(mut self) {
            self.held = 1;
        }
    }
}
