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

/// Bytes that a pipe is asked to hold: a whole burst, for the fewest system calls.
const CAPACITY: usize = 256 * 1024;
/// Pipes lent at once by one worker, so that peers that take nothing bind no more than 16 MiB; without one bytes are copied.
const MAX_LENT: usize = 64;
/// Pipes kept for the next burst.
const MAX_SPARE: usize = 16;

/// The pipes of a worker.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    spare: RefCell<Vec<Rc<Pipe>>>,
    lent: Cell<usize>,
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
    fn open() -> Result<Self, Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user with many pipes gets small ones only.
        let capacity =
            fcntl_setpipe_size(&write, CAPACITY).or_else(|_| fcntl_getpipe_size(&write))?;
        Ok(Self {
            read,
            write,
            capacity,
        })
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
            None => Rc::new(Pipe::open().ok()?),
        };
        self.lent.set(self.lent.get() + 1);
        Some(Lent {
            pipe,
            held: 0,
            pipes: Rc::clone(self),
        })
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
        self.pipes.lent.set(self.pipes.lent.get() - 1);
        let mut spare = self.pipes.spare.borrow_mut();
        // What was not passed on must not reach anybody else.
        if self.held == 0 && spare.len() < MAX_SPARE && !self.pipes.unusable.get() {
            spare.push(Rc::clone(&self.pipe));
        }
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
}
