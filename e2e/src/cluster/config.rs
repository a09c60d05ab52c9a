//! The configuration files of the node's programs. Those of Kubernetes are written as JSON, which is YAML too.

use std::{fs, path::Path};

use anyhow::Result;
use serde_json::{Value, json};

use super::layout::{
    API_PORT, CGROUP, CLUSTER_DOMAIN, NODE_ADDRESS, NODE_NAME, NODE_PODS, NODE_PODS_V6,
    PAUSE_IMAGE, PODS, PODS_V6, config, containerd_socket, kubeconfig, pki, state,
};

/// Kubeconfigs by name, with the certificate that each uses.
const KUBECONFIGS: [(&str, &str); 5] = [
    ("admin", "admin"),
    ("controller-manager", "controller-manager"),
    ("scheduler", "scheduler"),
    ("kubelet", "node"),
    ("kube-proxy", "kube-proxy"),
];

/// Writes every configuration file. `cni` is where the CNI plugins are installed.
pub(super) fn write(cni: &Path) -> Result<()> {
    for (name, certificate) in KUBECONFIGS {
        write_json(&kubeconfig(name), &kubeconfig_of(name, certificate))?;
    }
    let folder = config();
    write_json(&folder.join("kubelet.json"), &kubelet())?;
    write_json(&folder.join("kube-proxy.json"), &kube_proxy())?;
    fs::write(folder.join("containerd.toml"), containerd(cni))?;
    fs::create_dir_all(folder.join("cni"))?;
    write_json(&folder.join("cni/10-bridge.conflist"), &bridge())?;
    // The node has no way out, and nothing in it asks the machine's resolvers.
    fs::write(
        folder.join("resolv.conf"),
        format!("nameserver {NODE_ADDRESS}\n"),
    )?;
    fs::write(folder.join("Corefile"), corefile())?;
    write_hosts("")
}

/// Writes the names that the cluster's DNS has beside those of Services: lines of a hosts file.
pub(super) fn write_hosts(lines: &str) -> Result<()> {
    Ok(fs::write(config().join("hosts"), lines)?)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    Ok(fs::write(path, serde_json::to_string_pretty(value)?)?)
}

fn kubeconfig_of(user: &str, certificate: &str) -> Value {
    let pki = pki();
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "portcullis-e2e",
        "clusters": [{
            "name": "portcullis-e2e",
            "cluster": {
                "server": format!("https://{NODE_ADDRESS}:{API_PORT}"),
                "certificate-authority": pki.join("ca.crt"),
            },
        }],
        "users": [{
            "name": user,
            "user": {
                "client-certificate": pki.join(format!("{certificate}.crt")),
                "client-key": pki.join(format!("{certificate}.key")),
            },
        }],
        "contexts": [{
            "name": "portcullis-e2e",
            "context": { "cluster": "portcullis-e2e", "user": user },
        }],
    })
}

fn kubelet() -> Value {
    let (pki, state) = (pki(), state());
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": pki.join("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": pki.join("kubelet.crt"),
        "tlsPrivateKeyFile": pki.join("kubelet.key"),
        "address": NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "containerRuntimeEndpoint": format!("unix://{}", containerd_socket().display()),
        // No systemd is asked for, so that it works in a container, too.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{CGROUP}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        // A lower score needs CAP_SYS_RESOURCE, which root in a sandbox may lack.
        "oomScoreAdj": 0,
        "clusterDomain": CLUSTER_DOMAIN,
        "clusterDNS": [NODE_ADDRESS],
        "resolvConf": config().join("resolv.conf"),
        "podLogsDir": state.join("pod-logs"),
        "volumePluginDir": state.join("volume-plugins"),
        // Images are imported once and must not be collected; the disk is the machine's, not the cluster's.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "1%",
        },
        "nodeStatusUpdateFrequency": "5s",
    })
}

fn kube_proxy() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": format!("{PODS},{PODS_V6}"),
        "hostnameOverride": NODE_NAME,
        // Not one address: it would serve that one's family only.
        "bindAddress": "0.0.0.0",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        "clientConnection": { "kubeconfig": kubeconfig("kube-proxy") },
        // The machine's limits stay as they are.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    })
}

/// containerd 2 reads this form, too, and converts it by itself.
fn containerd(cni: &Path) -> String {
    let (state, socket) = (state(), containerd_socket());
    format!(
        r#"version = 2
root = "{root}"
state = "{runtime}"

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  # A lower score needs CAP_SYS_RESOURCE, which root in a sandbox may lack.
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{conf}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#,
        root = state.join("containerd").display(),
        runtime = state.join("containerd-run").display(),
        socket = socket.display(),
        opt = state.join("containerd-opt").display(),
        cni = cni.display(),
        conf = config().join("cni").display(),
    )
}

/// Services by their names, and whatever a test writes into `hosts`; every other name does not exist.
pub(super) fn corefile() -> String {
    format!(
        ".:53 {{
    bind {NODE_ADDRESS}
    errors
    hosts {hosts} {{
        ttl 1
        reload 1s
        fallthrough
    }}
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 1
        fallthrough in-addr.arpa
    }}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
",
        hosts = config().join("hosts").display(),
        kubeconfig = kubeconfig("admin").display(),
    )
}

fn bridge() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "isDefaultGateway": true,
                "hairpinMode": true,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": state().join("cni"),
                    "ranges": [[{ "subnet": NODE_PODS }], [{ "subnet": NODE_PODS_V6 }]],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}
