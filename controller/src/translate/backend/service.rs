//! Services: their ports, and what is spoken there (`appProtocol`).

use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use portcullis_routing::ClusterProtocol;

use crate::{
    status::reason,
    translate::{field::Field, problem::Problem},
};

/// The DNS name that a Service of type ExternalName stands for: lower case, without a trailing dot.
pub(super) fn external_name(service: &Service) -> Option<String> {
    let spec = service
        .spec
        .as_ref()
        .filter(|spec| spec.type_.as_deref() == Some("ExternalName"))?;
    let name = spec.external_name.as_deref().unwrap_or_default();
    Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
}

/// The TCP ports of a Service.
fn ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    ports.iter().filter(|port| is_tcp(port.protocol.as_deref()))
}

/// Whether a `protocol` is TCP, which is the default.
pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

/// The port of a Service by its number. `field` is the backendRef's.
pub(super) fn port<'a>(
    service: &'a Service,
    number: u16,
    field: &Field<'_>,
) -> Result<&'a ServicePort, Problem> {
    ports(service)
        .find(|port| port.port == i32::from(number))
        .ok_or_else(|| no_port(service, number, field))
}

/// The port of a Service of type ExternalName: it need not list any, then every port is good.
pub(super) fn external_port<'a>(
    service: &'a Service,
    number: u16,
    field: &Field<'_>,
) -> Result<Option<&'a ServicePort>, Problem> {
    if ports(service).next().is_none() {
        Ok(None)
    } else {
        port(service, number, field).map(Some)
    }
}

fn no_port(service: &Service, number: u16, field: &Field<'_>) -> Problem {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let by_target =
        ports(service).find(|port| port.target_port == Some(IntOrString::Int(i32::from(number))));
    let remedy = match by_target {
        Some(port) => format!(
            "{number} is the targetPort; write {}, the port of the Service",
            port.port
        ),
        None => "write one of its ports, or add this port to the Service".into(),
    };
    Problem::reference(
        reason::BACKEND_NOT_FOUND,
        &field.child("port"),
        format!(
            "the Service {name:?} has no TCP port {number} (it has {})",
            listed(service)
        ),
        remedy,
    )
}

fn listed(service: &Service) -> String {
    let ports: Vec<String> = ports(service)
        .map(|port| match port.name.as_deref() {
            Some(name) if !name.is_empty() => format!("{} `{name}`", port.port),
            _ => port.port.to_string(),
        })
        .collect();
    if ports.is_empty() {
        "none".into()
    } else {
        ports.join(", ")
    }
}

/// What is spoken at a port; HTTP/1.1 in clear text unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AppProtocol {
    pub(super) http: ClusterProtocol,
    /// TLS, with the certificate checked against the system's trust store.
    pub(super) tls: bool,
    /// Whether HTTP is only assumed, because the name says nothing to us.
    pub(super) assumed: bool,
}

/// What an `appProtocol` means (KEP-3726, GEP-1911). Names with a foreign domain are assumed to be HTTP; names without a
/// domain are IANA's and so are clear: what is not HTTP cannot be a backend of a route for HTTP.
pub(super) fn app_protocol(
    port: Option<&ServicePort>,
    field: &Field<'_>,
) -> Result<AppProtocol, Problem> {
    use ClusterProtocol::{Http1, Http2};
    let name = port
        .and_then(|port| port.app_protocol.as_deref())
        .unwrap_or("http");
    let known = |http, tls| {
        Ok(AppProtocol {
            http,
            tls,
            assumed: false,
        })
    };
    match name.to_ascii_lowercase().as_str() {
        "" | "http" | "kubernetes.io/ws" | "ws" => known(Http1, false),
        "https" | "kubernetes.io/wss" | "wss" => known(Http1, true),
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => known(Http2, false),
        other if other.contains('/') && !other.starts_with("kubernetes.io/") => Ok(AppProtocol {
            http: Http1,
            tls: false,
            assumed: true,
        }),
        _ => Err(Problem::reference(
            reason::UNSUPPORTED_PROTOCOL,
            &field.child("port"),
            format!(
                "the Service says that this port speaks {name:?} (appProtocol), which is not supported for HTTP routes"
            ),
            "set the port's appProtocol to http, https, kubernetes.io/h2c, kubernetes.io/ws or kubernetes.io/wss, or \
             remove it",
        )),
    }
}
