//! Where the node is: its addresses, its names on the machine, its files. All are fixed, so that a later `down` finds what
//! a crashed `up` has left behind.

use std::path::{Path, PathBuf};

/// Kubernetes' name of the node.
pub(crate) const NODE_NAME: &str = "node1";
/// The node's address: API server, kubelet and node ports.
pub(crate) const NODE_ADDRESS: &str = "10.99.0.1";
/// The node's address of IPv6; that of the other family is what programs bind to.
pub(crate) const NODE_ADDRESS_V6: &str = "fd00:99::1";
/// The machine's address towards the node.
pub(crate) const HOST_ADDRESS: &str = "10.99.0.254";
/// Prefix length of the network between machine and node.
pub(crate) const NODE_PREFIX: u8 = 24;
/// Addresses of pods.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// The same of IPv6: every pod has one of each.
pub(crate) const PODS_V6: &str = "fd00:244::/56";
/// The part of [`PODS`] that the one node hands out.
pub(crate) const NODE_PODS: &str = "10.244.0.0/24";
/// The same of IPv6.
pub(crate) const NODE_PODS_V6: &str = "fd00:244::/64";
/// Addresses of Services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The same of IPv6, for Services that ask for one.
pub(crate) const SERVICES_V6: &str = "fd00:96::/112";
/// The address of the Service `kubernetes`: the first of [`SERVICES`].
pub(crate) const API_SERVICE: &str = "10.96.0.1";
/// Addresses of load balancers.
pub(crate) const LOAD_BALANCERS: &str = "10.98.0.0/24";
/// The network between machine and node.
pub(crate) const NODES: &str = "10.99.0.0/24";
/// What the machine reaches through the node.
pub(crate) const ROUTED: [&str; 3] = [SERVICES, LOAD_BALANCERS, PODS];
/// A load balancer address that is given only to who asks for it.
pub(crate) const USABLE_ADDRESS: &str = "10.98.0.200";
/// An address that no load balancer of the bed ever gets (documentation range of RFC 5737).
pub(crate) const UNUSABLE_ADDRESS: &str = "198.51.100.1";
/// Where the API server listens.
pub(crate) const API_PORT: u16 = 6443;

/// Services are `<name>.<namespace>.svc.` and this.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";

/// The machine's end of the link to the node.
pub(crate) const LINK: &str = "portcullis0";
/// The cgroup of all pods, in every hierarchy.
pub(crate) const CGROUP: &str = "portcullis-e2e";
/// Environment variable that marks the processes of the node.
pub(crate) const MARK: &str = "PORTCULLIS_E2E_NODE";
/// containerd's namespace of what the kubelet runs.
pub(crate) const CONTAINERD_NAMESPACE: &str = "k8s.io";
/// The image that holds a pod's namespaces.
pub(crate) const PAUSE_IMAGE: &str = "localhost/portcullis-e2e/pause:1";

/// Everything that the cluster writes on the machine.
pub(crate) fn run() -> &'static Path {
    Path::new("/var/lib/portcullis-e2e")
}

/// What the programs keep while they run: a memory file system that only the node sees.
pub(crate) fn state() -> PathBuf {
    run().join("state")
}

/// One log for each program.
pub(crate) fn logs() -> PathBuf {
    run().join("log")
}

/// Certificates and keys.
pub(crate) fn pki() -> PathBuf {
    run().join("pki")
}

/// Configuration of the programs.
pub(crate) fn config() -> PathBuf {
    run().join("etc")
}

/// Links to the programs by their names.
pub(crate) fn bin() -> PathBuf {
    run().join("bin")
}

/// The kubeconfig of a program or a person.
pub(crate) fn kubeconfig(name: &str) -> PathBuf {
    config().join(format!("{name}.kubeconfig"))
}

/// What kubectl remembers of this cluster.
pub(crate) fn kubectl_cache() -> PathBuf {
    run().join("kubectl")
}

/// containerd's socket, inside the node.
pub(crate) fn containerd_socket() -> PathBuf {
    state().join("containerd.sock")
}

/// Holds the process id of the node's first process, as the machine sees it.
pub(crate) fn pid_file() -> PathBuf {
    run().join("pid")
}

/// Is there once `up` has come to its end.
pub(crate) fn complete_file() -> PathBuf {
    run().join("complete")
}

/// Holds the node's namespaces (`net:[...]`), one a line.
pub(crate) fn namespaces_file() -> PathBuf {
    run().join("namespaces")
}
