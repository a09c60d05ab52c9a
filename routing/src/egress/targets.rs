//! The ports that an entry leads to where that is not for whoever wrote a policy to answer for, each once: an entry may have
//! thousands of endpoints, and a caller's namespace thousands of policies with ports.

use super::opened::Opened;

/// Most ports that are told apart. Of more the worse is assumed.
const MOST: usize = 8;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Targets {
    ports: [u16; MOST],
    count: usize,
    /// There are others.
    more: bool,
}

impl Targets {
    /// Those of what is opened.
    pub(super) fn of(opened: Opened<'_>) -> Self {
        let mut all = Self::default();
        for port in opened.targets() {
            if all.known().contains(&port) {
                continue;
            }
            let Some(free) = all.ports.get_mut(all.count) else {
                all.more = true;
                break;
            };
            *free = port;
            all.count += 1;
        }
        all
    }

    fn known(&self) -> &[u16] {
        self.ports.get(..self.count).unwrap_or(&self.ports)
    }

    /// Whether all of them are surely so.
    pub(super) fn all(&self, is_so: impl Fn(u16) -> bool) -> bool {
        !self.more && self.known().iter().all(|port| is_so(*port))
    }

    /// Whether one of them may be so.
    pub(super) fn any(&self, is_so: impl Fn(u16) -> bool) -> bool {
        self.more || self.known().iter().any(|port| is_so(*port))
    }
}
