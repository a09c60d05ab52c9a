//! `cargo e2e cluster down`: ends the node and proves that nothing of it is left on the machine.
//!
//! Nothing here trusts what `up` has written down, because a crash may have come before: processes are found by their mark
//! and their cgroup, everything else by its fixed name.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::{
    layout::{self, CGROUP, LINK, MARK, ROUTED},
    network,
};
use crate::support::process::{POLL, all_processes};

/// How long the kernel may take to end what was killed. Machines that build something beside are slow.
const PATIENCE: Duration = Duration::from_mins(2);

/// Ends the cluster, removes its files, and lists what could not be removed.
pub(super) async fn down() -> Result<()> {
    let start = Instant::now();
    let found = leftovers()?;
    if found.is_empty() && !layout::run().exists() {
        println!("no cluster is up, and nothing of one is left");
        return Ok(());
    }
    let deadline = start + PATIENCE;
    let left = loop {
        for pid in processes()? {
            // It may be gone between the look and the blow.
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        remove_cgroups();
        if link_exists() {
            // It may go by itself between the look and the blow; what stays is told below.
            let _ = network::disconnect().await;
        }
        let left = leftovers()?;
        if left.is_empty() || Instant::now() > deadline {
            break left;
        }
        sleep(POLL).await;
    };
    if !left.is_empty() {
        bail!(
            "this is left of the cluster after {} s:\n  {}",
            PATIENCE.as_secs(),
            left.join("\n  ")
        );
    }
    if layout::run().exists() {
        fs::remove_dir_all(layout::run())
            .with_context(|| format!("cannot remove {}", layout::run().display()))?;
    }
    // Made as a mount point on machines without CNI; a folder with something in it stays.
    let _ = fs::remove_dir("/var/lib/cni");
    println!(
        "the cluster is down after {:.1} s; no process, mount, cgroup, route, link or namespace is left",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What is on the machine because of a cluster, one line each.
pub(super) fn leftovers() -> Result<Vec<String>> {
    let mut found: Vec<String> = processes()?
        .into_iter()
        .map(|pid| format!("process {pid} ({})", name_of(pid)))
        .collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let namespaces = namespaces();
    found.extend(
        mounts
            .lines()
            .filter(|line| is_ours(line, &namespaces))
            .map(|line| format!("mount {line}")),
    );
    found.extend(
        cgroups()
            .into_iter()
            .map(|folder| format!("cgroup {}", folder.display())),
    );
    if link_exists() {
        found.push(format!("link {LINK}"));
    }
    let routes = fs::read_to_string("/proc/net/route")?;
    found.extend(
        routed_networks(&routes)
            .into_iter()
            .map(|route| format!("route {route}")),
    );
    found.extend(
        held_namespaces(&namespaces)?
            .into_iter()
            .map(|(namespace, pid)| format!("namespace {namespace}, held by process {pid}")),
    );
    Ok(found)
}

fn link_exists() -> bool {
    Path::new("/sys/class/net").join(LINK).exists()
}

/// Processes of the node: marked by their environment, or in the pods' cgroup.
fn processes() -> Result<BTreeSet<i32>> {
    let mark = format!("{MARK}=");
    let cgroup = format!("/{CGROUP}");
    Ok(all_processes()?
        .into_iter()
        .filter(|pid| {
            let folder = PathBuf::from(format!("/proc/{pid}"));
            let marked = fs::read(folder.join("environ")).is_ok_and(|environment| {
                environment
                    .split(|byte| *byte == 0)
                    .any(|variable| variable.starts_with(mark.as_bytes()))
            });
            // In a cgroup namespace of its own, a process still stands in the machine's view of it.
            marked
                || fs::read_to_string(folder.join("cgroup"))
                    .is_ok_and(|text| text.lines().any(|line| in_cgroup(line, &cgroup)))
        })
        .collect())
}

/// Whether a line of `/proc/PID/cgroup` (`4:memory:/a/b`) is in `cgroup` or below.
fn in_cgroup(line: &str, cgroup: &str) -> bool {
    line.splitn(3, ':')
        .nth(2)
        .and_then(|path| path.strip_prefix(cgroup))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn name_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "ending".to_owned(), |name| name.trim().to_owned())
}

/// The node's namespaces as `up` has noted them; none if it did not come so far.
fn namespaces() -> BTreeSet<String> {
    fs::read_to_string(layout::namespaces_file())
        .map(|text| text.lines().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// Those of `namespaces` that a process is still in.
fn held_namespaces(namespaces: &BTreeSet<String>) -> Result<Vec<(String, i32)>> {
    let mut held = Vec::new();
    for pid in all_processes()? {
        for kind in ["net", "mnt", "pid"] {
            let Ok(link) = fs::read_link(format!("/proc/{pid}/ns/{kind}")) else {
                continue;
            };
            let namespace = link.to_string_lossy().into_owned();
            if namespaces.contains(&namespace) {
                held.push((namespace, pid));
            }
        }
    }
    Ok(held)
}

/// Whether a line of mountinfo is a mount of the cluster, or keeps one of its namespaces; see proc(5).
fn is_ours(line: &str, namespaces: &BTreeSet<String>) -> bool {
    let mut fields = line.split(' ').skip(3);
    let (Some(root), Some(target)) = (fields.next(), fields.next()) else {
        return false;
    };
    Path::new(target).starts_with(layout::run()) || namespaces.contains(root)
}

/// The cluster's cgroup in every hierarchy where it is.
fn cgroups() -> Vec<PathBuf> {
    super::cgroups::hierarchies()
        .into_iter()
        .map(|hierarchy| hierarchy.join(CGROUP))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Removes the cgroups from the leaves up. What holds a process stays until that has ended.
fn remove_cgroups() {
    fn remove(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        let _ = fs::remove_dir(folder);
    }
    for folder in cgroups() {
        remove(&folder);
    }
}

/// Lines of `/proc/net/route` that lead into the node, as `10.96.0.0 dev portcullis0`.
fn routed_networks(routes: &str) -> Vec<String> {
    routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (device, network) = (fields.next()?, fields.next()?);
            // The kernel prints the address's bytes as one number in the machine's order.
            let network =
                std::net::Ipv4Addr::from(u32::from_str_radix(network, 16).ok()?.to_ne_bytes());
            let ours = device == LINK
                || ROUTED
                    .iter()
                    .any(|routed| routed.split('/').next() == Some(&network.to_string()));
            ours.then(|| format!("{network} dev {device}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{in_cgroup, is_ours, routed_networks};

    #[test]
    fn a_cgroup_is_told_from_one_whose_name_begins_alike() {
        assert!(in_cgroup("4:memory:/portcullis-e2e", "/portcullis-e2e"));
        assert!(in_cgroup(
            "0::/portcullis-e2e/kubepods/x",
            "/portcullis-e2e"
        ));
        assert!(!in_cgroup("4:memory:/portcullis-e2e-2", "/portcullis-e2e"));
        assert!(!in_cgroup("4:memory:/a/portcullis-e2e", "/portcullis-e2e"));
    }

    #[test]
    fn mounts_count_by_place_or_by_the_namespace_they_keep() {
        let held = BTreeSet::from(["net:[42]".to_owned()]);
        let line = |root: &str, target: &str| {
            format!("30 1 0:5 {root} {target} rw,relatime - tmpfs tmpfs rw")
        };
        assert!(is_ours(&line("/", "/var/lib/portcullis-e2e/state"), &held));
        assert!(is_ours(&line("net:[42]", "/run/netns/cni-1"), &held));
        assert!(!is_ours(&line("net:[43]", "/run/netns/cni-1"), &held));
        assert!(!is_ours(&line("/", "/var/lib/portcullis-e2e-2"), &held));
    }

    #[test]
    fn routes_count_by_device_or_by_network() {
        let routes = "Iface\tDestination\tGateway\neth0\t00000000\t010200C0\nportcullis0\t0000630A\t00000000\neth0\t0000600A\t0\n";
        assert_eq!(
            routed_networks(routes),
            ["10.99.0.0 dev portcullis0", "10.96.0.0 dev eth0"]
        );
    }
}
