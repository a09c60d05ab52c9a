//! A network beyond our own node, with public addresses of its own: pods reach it through the node, and only they do.
//!
//! It is a network namespace, connected with that of the node. The addresses are those of AS112 (RFC 7534, 7535), which stand for
//! sinks of unwanted DNS questions: public by every list, and no service of anybody's. A scenario may add others, such as those of a resolver that a manifest names.
//! Outside of the namespaces nothing changes.

use std::{
    fs::File,
    net::{self, IpAddr, SocketAddr},
    os::fd::AsFd,
    process::Stdio,
};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, UdpSocket},
    process::{Child, Command},
    sync::oneshot,
};

use super::{network::run, node_pid};

/// The node's end of the link.
const LINK: &str = "outside0";
/// The node's addresses there, of the ranges 192.175.48.0/24 and `2620:4f:8000::/64`.
const NODE: [&str; 2] = ["192.175.48.254", "2620:4f:8000::fe"];
/// Lengths of the prefixes.
const PREFIXES: [u8; 2] = [24, 64];
/// Says that the namespace is there, and holds it until its input ends: with this program at the latest, however that ends.
const HOLD: &str = "ip link set lo up && echo there && exec cat";

/// The network. It ends when dropped, and the link with it.
pub(crate) struct Outside {
    _holder: Child,
    namespace: String,
}

impl Outside {
    /// Makes the network, with these addresses in it: of its two ranges, or any others that the node is to find there.
    pub(crate) async fn open(addresses: &[IpAddr]) -> Result<Self> {
        // One that has just ended may still have its link.
        let node = node_pid()?;
        let inside = format!("nsenter --target {node} --net ip");
        let _ = run(&format!("{inside} link delete {LINK}")).await;
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", HOLD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot make a network namespace")?;
        let output = holder.stdout.take().context("the output is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).await?;
        ensure!(
            line == "there\n",
            "there is no network namespace to be had; root is needed"
        );
        let pid = holder.id().context("it waits for the end of its input")?;
        let outside = format!("nsenter --target {pid} --net ip");
        run(&format!(
            "ip link add {LINK} netns {node} type veth peer name eth0 netns {pid}"
        ))
        .await?;
        for (address, prefix) in NODE.iter().zip(PREFIXES) {
            run(&address_command(&inside, LINK, address, prefix)).await?;
        }
        run(&format!("{inside} link set {LINK} up")).await?;
        for address in addresses {
            let prefix = PREFIXES[usize::from(address.is_ipv6())];
            let address = address.to_string();
            run(&address_command(&outside, "eth0", &address, prefix)).await?;
            // For those beyond the two ranges; to the others it leads anyway.
            run(&format!("{inside} route add {address} dev {LINK}")).await?;
        }
        run(&format!("{outside} link set eth0 up")).await?;
        for gateway in NODE {
            // It may have no address of this family, and so no other way to know that the node is there.
            let way = format!("default via {gateway} dev eth0 onlink");
            run(&format!("{outside} route add {way}")).await?;
        }
        Ok(Self {
            _holder: holder,
            namespace: format!("/proc/{pid}/ns/net"),
        })
    }

    /// Listens on an address of it.
    pub(crate) async fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        let bind = move || net::TcpListener::bind(address);
        let socket = self.enter(bind).await.context(address)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from_std(socket)?)
    }

    /// The same for UDP.
    pub(crate) async fn bind(&self, address: SocketAddr) -> Result<UdpSocket> {
        let bind = move || net::UdpSocket::bind(address);
        let socket = self.enter(bind).await.context(address)?;
        socket.set_nonblocking(true)?;
        Ok(UdpSocket::from_std(socket)?)
    }

    /// Makes a socket in it. A socket belongs to the namespace that it was made in, wherever it is used.
    async fn enter<S: Send + 'static>(
        &self,
        make: impl FnOnce() -> std::io::Result<S> + Send + 'static,
    ) -> Result<S> {
        let namespace = File::open(&self.namespace).context(self.namespace.clone())?;
        let (ready, socket) = oneshot::channel();
        // A thread of its own, for it stays in there.
        std::thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            let socket = move_into_link_name_space(namespace.as_fd(), network)
                .map_err(std::io::Error::from)
                .and_then(|()| make());
            // Who does not wait for it any more does not get it.
            let _ = ready.send(socket);
        });
        let socket = socket
            .await
            .map_err(|_| anyhow!("the thread has panicked"))?;
        Ok(socket?)
    }
}

/// IPv6 must not look for somebody who has the address first.
fn address_command(ip: &str, device: &str, address: &str, prefix: u8) -> String {
    let nodad = if address.contains(':') { " nodad" } else { "" };
    format!("{ip} address add {address}/{prefix} dev {device}{nodad}")
}
