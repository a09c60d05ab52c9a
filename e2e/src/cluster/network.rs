//! The link between machine and node: a pair of virtual Ethernet devices, and the machine's routes through it.

use anyhow::{Context, Result};
use tokio::process::Command;

use super::layout::{HOST_ADDRESS, LINK, NODE_ADDRESS, NODE_ADDRESS_V6, NODE_PREFIX, ROUTED};
use crate::support::process::output_of;

/// Connects the machine with the network namespace of process `pid`.
pub(super) async fn connect(pid: u32) -> Result<()> {
    let inside = format!("nsenter --target {pid} --net ip");
    let mut commands = vec![
        format!("ip link add {LINK} type veth peer name eth0 netns {pid}"),
        format!("ip address add {HOST_ADDRESS}/{NODE_PREFIX} dev {LINK}"),
        format!("ip link set {LINK} up"),
        format!("{inside} link set lo up"),
        format!("{inside} address add {NODE_ADDRESS}/{NODE_PREFIX} dev eth0"),
        // It is there at once: nobody else can have it.
        format!("{inside} address add {NODE_ADDRESS_V6}/64 dev eth0 nodad"),
        format!("{inside} link set eth0 up"),
        format!("{inside} route add default via {HOST_ADDRESS}"),
    ];
    commands.extend(
        ROUTED
            .iter()
            .map(|network| format!("ip route add {network} via {NODE_ADDRESS} dev {LINK}")),
    );
    for line in &commands {
        run(line).await.context("cannot connect the node")?;
    }
    Ok(())
}

/// Runs a command whose words have no blanks in them.
pub(super) async fn run(line: &str) -> Result<()> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().context("a command has a name")?);
    command.args(words);
    output_of(command).await.map(drop)
}

/// Takes the link away, and with it the routes. It would go with the node's namespace, but the kernel keeps that for as long
/// as a connection without a process waits for its last answer: up to two minutes after a test under load.
pub(super) async fn disconnect() -> Result<()> {
    run(&format!("ip link delete {LINK}")).await
}
