//! The kinds of objects that are read as they are, whatever release of their API is installed.

use kube::api::ApiResource;

/// A kind.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Such as `HTTPRoute`.
    pub(crate) name: &'static str,
    /// Such as `gateway.networking.k8s.io`.
    pub(crate) group: &'static str,
    version: &'static str,
    /// Such as `httproutes`.
    pub(crate) plural: &'static str,
    /// Whether its objects live in namespaces.
    pub(crate) namespaced: bool,
}

const fn gateway_api(name: &'static str, plural: &'static str, namespaced: bool) -> Kind {
    Kind {
        name,
        group: "gateway.networking.k8s.io",
        version: "v1",
        plural,
        namespaced,
    }
}

const fn service_entry(version: &'static str) -> Kind {
    Kind {
        name: "ServiceEntry",
        group: "networking.istio.io",
        version,
        plural: "serviceentries",
        namespaced: true,
    }
}

impl Kind {
    /// GatewayClass.
    pub(crate) const GATEWAY_CLASS: Self = gateway_api("GatewayClass", "gatewayclasses", false);
    /// Gateway.
    pub(crate) const GATEWAY: Self = gateway_api("Gateway", "gateways", true);
    /// ListenerSet.
    pub(crate) const LISTENER_SET: Self = gateway_api("ListenerSet", "listenersets", true);
    /// BackendTLSPolicy.
    pub(crate) const BACKEND_TLS_POLICY: Self =
        gateway_api("BackendTLSPolicy", "backendtlspolicies", true);
    /// Every kind of route.
    pub(crate) const ROUTES: [Self; 3] = [
        gateway_api("HTTPRoute", "httproutes", true),
        gateway_api("GRPCRoute", "grpcroutes", true),
        gateway_api("TLSRoute", "tlsroutes", true),
    ];
    /// `CustomResourceDefinition`.
    pub(crate) const CUSTOM_RESOURCE_DEFINITION: Self = Self {
        name: "CustomResourceDefinition",
        group: "apiextensions.k8s.io",
        version: "v1",
        plural: "customresourcedefinitions",
        namespaced: false,
    };
    /// Deployment.
    pub(crate) const DEPLOYMENT: Self = Self {
        name: "Deployment",
        group: "apps",
        version: "v1",
        plural: "deployments",
        namespaced: true,
    };
    /// `DaemonSet`.
    pub(crate) const DAEMON_SET: Self = Self {
        name: "DaemonSet",
        group: "apps",
        version: "v1",
        plural: "daemonsets",
        namespaced: true,
    };
    /// Pod.
    pub(crate) const POD: Self = Self {
        name: "Pod",
        group: "",
        version: "v1",
        plural: "pods",
        namespaced: true,
    };
    /// Lease.
    pub(crate) const LEASE: Self = Self {
        name: "Lease",
        group: "coordination.k8s.io",
        version: "v1",
        plural: "leases",
        namespaced: true,
    };
    /// `ReferenceGrant`.
    pub(crate) const REFERENCE_GRANT: Self = gateway_api("ReferenceGrant", "referencegrants", true);
    /// `GatewayParameters`.
    pub(crate) const GATEWAY_PARAMETERS: Self = Self {
        name: "GatewayParameters",
        group: "portcullis.dev",
        version: "v1alpha1",
        plural: "gatewayparameters",
        namespaced: true,
    };
    /// `EgressPolicy`.
    pub(crate) const EGRESS_POLICY: Self = Self {
        name: "EgressPolicy",
        group: "portcullis.dev",
        version: "v1alpha1",
        plural: "egresspolicies",
        namespaced: true,
    };
    /// `CredentialInjection`.
    pub(crate) const CREDENTIAL_INJECTION: Self = Self {
        name: "CredentialInjection",
        group: "portcullis.dev",
        version: "v1alpha1",
        plural: "credentialinjections",
        namespaced: true,
    };
    /// `ServiceEntry`, in each version that a cluster may serve.
    pub(crate) const SERVICE_ENTRIES: [Self; 3] = [
        service_entry("v1"),
        service_entry("v1beta1"),
        service_entry("v1alpha3"),
    ];
    /// Node.
    pub(crate) const NODE: Self = Self {
        name: "Node",
        group: "",
        version: "v1",
        plural: "nodes",
        namespaced: false,
    };
    /// `ServiceCIDR`, which Kubernetes has from 1.33 on.
    pub(crate) const SERVICE_CIDR: Self = Self {
        name: "ServiceCIDR",
        group: "networking.k8s.io",
        version: "v1",
        plural: "servicecidrs",
        namespaced: false,
    };
    /// Namespace.
    pub(crate) const NAMESPACE: Self = Self {
        name: "Namespace",
        group: "",
        version: "v1",
        plural: "namespaces",
        namespaced: false,
    };
    /// `ServiceAccount`.
    pub(crate) const SERVICE_ACCOUNT: Self = Self {
        name: "ServiceAccount",
        group: "",
        version: "v1",
        plural: "serviceaccounts",
        namespaced: true,
    };
    /// Service.
    pub(crate) const SERVICE: Self = Self {
        name: "Service",
        group: "",
        version: "v1",
        plural: "services",
        namespaced: true,
    };
    /// `EndpointSlice`.
    pub(crate) const ENDPOINT_SLICE: Self = Self {
        name: "EndpointSlice",
        group: "discovery.k8s.io",
        version: "v1",
        plural: "endpointslices",
        namespaced: true,
    };
    /// Secret.
    pub(crate) const SECRET: Self = Self {
        name: "Secret",
        group: "",
        version: "v1",
        plural: "secrets",
        namespaced: true,
    };
    /// `ConfigMap`.
    pub(crate) const CONFIG_MAP: Self = Self {
        name: "ConfigMap",
        group: "",
        version: "v1",
        plural: "configmaps",
        namespaced: true,
    };

    /// As the client wants it.
    pub(super) fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.into(),
            version: self.version.into(),
            api_version: self.api_version(),
            kind: self.name.into(),
            plural: self.plural.into(),
        }
    }

    /// Group and version, as objects have them.
    pub(crate) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.into(),
            group => format!("{group}/{}", self.version),
        }
    }
}
