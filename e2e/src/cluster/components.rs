//! The node's programs: their command lines, and the order in which they start.

use std::{
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::layout::{
    API_PORT, MARK, NODE_ADDRESS, NODE_ADDRESS_V6, NODE_NAME, PODS, PODS_V6, SERVICES, SERVICES_V6,
    bin, config, containerd_socket, kubeconfig, pki, state,
};

/// Where etcd listens.
const ETCD: &str = "127.0.0.1:2379";

/// One program of the node.
pub(super) struct Component {
    /// Also the name of its log.
    pub(super) name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    /// What must answer before it starts.
    pub(super) needs: Option<Need>,
}

/// Something that programs wait for, because they would end without it.
#[derive(Debug)]
pub(super) enum Need {
    Containerd,
    Etcd,
    /// The API server with the rights that it makes for the other programs when it starts.
    ReadyApi,
}

/// All programs in the order in which they start.
pub(super) fn all() -> [Component; 9] {
    [
        containerd(),
        etcd(),
        api_server(),
        kubelet(),
        controller_manager(),
        scheduler(),
        kube_proxy(),
        dns(),
        allocator(),
    ]
}

impl Component {
    fn new(name: &'static str, program: impl Into<PathBuf>) -> Self {
        Self {
            name,
            program: program.into(),
            arguments: Vec::new(),
            needs: None,
        }
    }

    /// Adds `--name=value`.
    fn set(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.arguments.push(format!("--{name}={}", value.as_ref()));
        self
    }

    /// Adds `--name=path`.
    fn path(self, name: &str, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.set(name, path.to_string_lossy())
    }

    fn needs(mut self, need: Need) -> Self {
        self.needs = Some(need);
        self
    }

    /// The command, with nothing of the caller's environment.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", state())
            .env(MARK, "1");
        command
    }
}

impl Need {
    /// Whether it answers now.
    pub(super) fn is_there(&self) -> bool {
        match self {
            Self::Containerd => UnixStream::connect(containerd_socket()).is_ok(),
            Self::Etcd => TcpStream::connect(ETCD).is_ok(),
            Self::ReadyApi => Command::new(bin().join("kubectl"))
                .arg("--kubeconfig")
                .arg(kubeconfig("admin"))
                .args(["get", "--raw=/readyz"])
                .stdin(Stdio::null())
                .output()
                .is_ok_and(|output| output.status.success()),
        }
    }
}

fn containerd() -> Component {
    Component::new("containerd", "containerd").path("config", config().join("containerd.toml"))
}

fn etcd() -> Component {
    let client = format!("http://{ETCD}");
    let peer = "http://127.0.0.1:2380";
    Component::new("etcd", "etcd")
        .path("data-dir", state().join("etcd"))
        .set("name", "default")
        .set("listen-client-urls", &client)
        .set("advertise-client-urls", &client)
        .set("listen-peer-urls", peer)
        .set("initial-advertise-peer-urls", peer)
        .set("initial-cluster", format!("default={peer}"))
}

fn api_server() -> Component {
    let pki = pki();
    Component::new("kube-apiserver", bin().join("kube-apiserver"))
        .needs(Need::Etcd)
        .set("etcd-servers", format!("http://{ETCD}"))
        .set("bind-address", NODE_ADDRESS)
        .set("advertise-address", NODE_ADDRESS)
        .set("secure-port", API_PORT.to_string())
        .set(
            "service-cluster-ip-range",
            format!("{SERVICES},{SERVICES_V6}"),
        )
        .set("authorization-mode", "Node,RBAC")
        .set("enable-admission-plugins", "NodeRestriction")
        .set("allow-privileged", "true")
        .path("cert-dir", state().join("apiserver"))
        .path("client-ca-file", pki.join("ca.crt"))
        .path("tls-cert-file", pki.join("apiserver.crt"))
        .path("tls-private-key-file", pki.join("apiserver.key"))
        .path(
            "kubelet-client-certificate",
            pki.join("apiserver-kubelet-client.crt"),
        )
        .path(
            "kubelet-client-key",
            pki.join("apiserver-kubelet-client.key"),
        )
        .path("kubelet-certificate-authority", pki.join("ca.crt"))
        .set("kubelet-preferred-address-types", "InternalIP")
        .set(
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local",
        )
        .path("service-account-key-file", pki.join("service-account.pub"))
        .path(
            "service-account-signing-key-file",
            pki.join("service-account.key"),
        )
        .path(
            "requestheader-client-ca-file",
            pki.join("front-proxy-ca.crt"),
        )
        .set("requestheader-allowed-names", "front-proxy-client")
        .set("requestheader-username-headers", "X-Remote-User")
        .set("requestheader-group-headers", "X-Remote-Group")
        .set("requestheader-extra-headers-prefix", "X-Remote-Extra-")
        .path("proxy-client-cert-file", pki.join("front-proxy-client.crt"))
        .path("proxy-client-key-file", pki.join("front-proxy-client.key"))
}

/// The three flags by which a program of the control plane reaches the API server.
fn with_kubeconfig(component: Component) -> Component {
    let path = kubeconfig(component.name.trim_start_matches("kube-"));
    component
        .needs(Need::ReadyApi)
        .path("kubeconfig", &path)
        .path("authentication-kubeconfig", &path)
        .path("authorization-kubeconfig", &path)
        .set("bind-address", "127.0.0.1")
        .set("leader-elect", "false")
}

fn controller_manager() -> Component {
    let pki = pki();
    with_kubeconfig(Component::new(
        "kube-controller-manager",
        bin().join("kube-controller-manager"),
    ))
    .set("allocate-node-cidrs", "true")
    .set("cluster-cidr", format!("{PODS},{PODS_V6}"))
    .set("node-cidr-mask-size-ipv4", "24")
    .set("node-cidr-mask-size-ipv6", "64")
    // There is no other node to go to, and one that is not heard of while the API server stands still is not gone.
    .set("node-monitor-grace-period", "5m")
    .set(
        "service-cluster-ip-range",
        format!("{SERVICES},{SERVICES_V6}"),
    )
    .set("use-service-account-credentials", "true")
    .path("root-ca-file", pki.join("ca.crt"))
    .path(
        "service-account-private-key-file",
        pki.join("service-account.key"),
    )
    .path("cluster-signing-cert-file", pki.join("ca.crt"))
    .path("cluster-signing-key-file", pki.join("ca.key"))
    .path("cert-dir", state().join("controller-manager"))
}

fn scheduler() -> Component {
    with_kubeconfig(Component::new(
        "kube-scheduler",
        bin().join("kube-scheduler"),
    ))
    .path("cert-dir", state().join("scheduler"))
}

fn kubelet() -> Component {
    Component::new("kubelet", bin().join("kubelet"))
        .needs(Need::Containerd)
        .path("config", config().join("kubelet.json"))
        .path("kubeconfig", kubeconfig("kubelet"))
        .set("hostname-override", NODE_NAME)
        .set("node-ip", format!("{NODE_ADDRESS},{NODE_ADDRESS_V6}"))
        .path("root-dir", state().join("kubelet"))
        .path("cert-dir", state().join("kubelet-pki"))
}

fn kube_proxy() -> Component {
    Component::new("kube-proxy", bin().join("kube-proxy"))
        .needs(Need::ReadyApi)
        .path("config", config().join("kube-proxy.json"))
}

/// It runs beside the pods, not in one: there it would need an image and a Service, and would be no more real.
fn dns() -> Component {
    let mut component = Component::new("dns", bin().join("dns")).needs(Need::ReadyApi);
    component.arguments = vec![
        "-conf".to_owned(),
        config().join("Corefile").to_string_lossy().into_owned(),
    ];
    component
}

fn allocator() -> Component {
    let mut component = Component::new("load-balancer-allocator", bin().join("portcullis-e2e"))
        .needs(Need::ReadyApi);
    component.arguments = ["node", "allocator"].map(str::to_owned).into();
    component
}
