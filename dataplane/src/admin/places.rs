//! Who is connected to the admin port. There are few places, and whoever comes gets one: it is taken from the address that
//! holds most. So nobody keeps the kubelet's probes out, who would then restart the proxy.

use std::{collections::VecDeque, net::IpAddr};

use tokio::task::{AbortHandle, JoinSet};

/// Connections served at once.
pub(super) const MAX_CONNECTIONS: usize = 32;

/// The connections being served.
#[derive(Debug, Default)]
pub(super) struct Places {
    connections: JoinSet<()>,
    /// The oldest first.
    taken: VecDeque<(IpAddr, AbortHandle)>,
}

impl Places {
    /// Serves `connection`, which comes from `peer`.
    pub(super) fn serve(
        &mut self,
        peer: IpAddr,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        while self.connections.try_join_next().is_some() {}
        self.taken.retain(|(_, task)| !task.is_finished());
        if self.taken.len() >= MAX_CONNECTIONS {
            self.close_one();
        }
        let task = self.connections.spawn(connection);
        self.taken.push_back((peer, task));
    }

    /// Closes the oldest connection of the address that holds most.
    fn close_one(&mut self) {
        let held = |address: &IpAddr| {
            let of_peer = self.taken.iter().filter(|(peer, _)| peer == address);
            of_peer.count()
        };
        // Backwards, because of several equal ones the last is found.
        let backwards = self.taken.iter().enumerate().rev();
        let most = backwards.max_by_key(|(_, (peer, _))| held(peer));
        if let Some((_, task)) = most
            .map(|(index, _)| index)
            .and_then(|index| self.taken.remove(index))
        {
            task.abort();
        }
    }
}
