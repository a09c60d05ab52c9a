//! Settings of a Gateway's proxy: the GatewayParameters of its class, then its own.

mod egress;

use gateway_api::Duration;
use portcullis_crds::{
    GatewayParametersSpec,
    gateway_parameters::{AccessLogMode, Limits as LimitParameters, ProxyParameters},
};
use portcullis_routing::{
    Millis, ProxySettings,
    settings::{AccessLog, Limits},
};

pub use self::egress::EgressOptions;
use super::{
    Context,
    sources::{self, PARAMETERS},
};
use crate::{
    finding::{Finding, ObjectRef},
    provision::{Infrastructure, Invalid},
    resources::ObjectKey,
    status::reason,
};

/// One in this many requests is logged, where the mode is Sampled and the share is not given.
const DEFAULT_SAMPLE: u32 = 100;

/// Why parameters that are named cannot be had.
#[derive(Clone, Debug)]
pub(crate) enum NoParameters {
    /// What is wrong with them, or with what names them.
    Broken(Finding),
    /// Nothing is known of any, as the controller cannot read them. [`sources`] says what follows.
    Unread,
}

impl From<Finding> for NoParameters {
    fn from(finding: Finding) -> Self {
        Self::Broken(finding)
    }
}

/// Follows a `parametersRef` at `field` of `object`.
pub(crate) fn parameters<'a>(
    ctx: &Context<'a>,
    object: &ObjectRef,
    field: &str,
    (group, kind): (&str, &str),
    namespace: &str,
    name: &str,
) -> Result<&'a GatewayParametersSpec, NoParameters> {
    if (group, kind) != ("portcullis.dev", PARAMETERS) {
        let finding = object.error(
            reason::INVALID_PARAMETERS,
            format!("{field}.kind"),
            format!("{kind} of group {group:?} is not a kind of parameters that is known here"),
            "refer to a GatewayParameters of group portcullis.dev",
        );
        return Err(finding.into());
    }
    if sources::is_unknown(ctx, PARAMETERS) {
        return Err(NoParameters::Unread);
    }
    let key = ObjectKey::new(namespace, name);
    let Some(parameters) = ctx.resources.gateway_parameters.get(&key) else {
        let finding = object.error(
            reason::INVALID_PARAMETERS,
            format!("{field}.name"),
            format!("{PARAMETERS} {key} does not exist"),
            "create it, or correct the reference",
        );
        return Err(finding.into());
    };
    // Tried on their own here, so that the object that is wrong is the one that is told.
    let spec = &parameters.spec;
    settings(&[spec])
        .and_then(|_| egress(&[spec]))
        .and_then(|_| Infrastructure::merge(&[spec]))
        .map_err(|(path, message)| {
            object.error(
                reason::INVALID_PARAMETERS,
                format!("{field}.name"),
                format!("GatewayParameters {key} is not valid: spec.{path}: {message}"),
                "correct that field of the GatewayParameters",
            )
        })?;
    Ok(spec)
}

/// Defaults, overlaid with the proxy's part of each layer in turn.
pub(crate) fn settings(layers: &[&GatewayParametersSpec]) -> Result<ProxySettings, Invalid> {
    let layers: Vec<_> = layers.iter().filter_map(|it| it.proxy.as_ref()).collect();
    proxy_settings(&layers).map_err(|(path, message)| (format!("proxy.{path}"), message))
}

/// The same of what concerns egress.
pub(crate) fn egress(layers: &[&GatewayParametersSpec]) -> Result<EgressOptions, Invalid> {
    let proxies = layers.iter().filter_map(|it| it.proxy.as_ref());
    EgressOptions::merge(proxies.filter_map(|it| it.egress.as_ref()))
        .map_err(|(path, message)| (format!("proxy.egress.{path}"), message))
}

/// Path below `spec.proxy`, and what is wrong there.
type InvalidProxy = (&'static str, String);

fn proxy_settings(layers: &[&ProxyParameters]) -> Result<ProxySettings, InvalidProxy> {
    let mut settings = ProxySettings::default();
    for layer in layers {
        if let Some(limits) = &layer.limits {
            overlay_limits(&mut settings.limits, limits)?;
        }
        if let Some(client) = &layer.client_address {
            overlay(
                &mut settings.client_address.trusted_hops,
                client.trusted_hops,
            );
            overlay(
                &mut settings.client_address.proxy_protocol,
                client.proxy_protocol,
            );
        }
        if let Some(log) = &layer.access_log {
            settings.access_log = match log.mode {
                AccessLogMode::Never => AccessLog::Off,
                AccessLogMode::Always => AccessLog::On,
                AccessLogMode::Sampled => AccessLog::Sampled(match log.one_in {
                    None => DEFAULT_SAMPLE,
                    Some(0) => return Err(("accessLog.oneIn", "must be at least 1".into())),
                    Some(n) => n,
                }),
            };
        }
        overlay_duration(
            &mut settings.drain_timeout.0,
            "drainTimeout",
            layer.drain_timeout.as_deref(),
        )?;
    }
    Ok(settings)
}

fn overlay_limits(limits: &mut Limits, layer: &LimitParameters) -> Result<(), InvalidProxy> {
    overlay_range(
        &mut limits.max_header_bytes,
        "limits.maxHeaderBytes",
        layer.max_header_bytes,
        1024..=1_048_576,
    )?;
    overlay_range(
        &mut limits.max_headers,
        "limits.maxHeaders",
        layer.max_headers,
        1..=256,
    )?;
    overlay_range(
        &mut limits.max_target_bytes,
        "limits.maxTargetBytes",
        layer.max_target_bytes,
        64..=1_048_576,
    )?;
    overlay_range(
        &mut limits.max_concurrent_streams,
        "limits.maxConcurrentStreams",
        layer.max_concurrent_streams,
        1..=65_535,
    )?;
    overlay_range(
        &mut limits.max_connections,
        "limits.maxConnections",
        layer.max_connections,
        1..=u32::MAX,
    )?;
    overlay_duration(
        &mut limits.header_timeout,
        "limits.headerTimeout",
        layer.header_timeout.as_deref(),
    )?;
    overlay_duration(
        &mut limits.idle_timeout,
        "limits.idleTimeout",
        layer.idle_timeout.as_deref(),
    )?;
    overlay_duration(
        &mut limits.stream_idle_timeout,
        "limits.streamIdleTimeout",
        layer.stream_idle_timeout.as_deref(),
    )?;
    if layer.max_body_bytes.is_some() {
        limits.max_body_bytes = layer.max_body_bytes;
    }
    match layer.max_requests_per_connection {
        Some(0) => Err((
            "limits.maxRequestsPerConnection",
            "must be at least 1".into(),
        )),
        None => Ok(()),
        set => {
            limits.max_requests_per_connection = set;
            Ok(())
        }
    }
}

fn overlay<T>(value: &mut T, layer: Option<T>) {
    if let Some(layer) = layer {
        *value = layer;
    }
}

fn overlay_range(
    value: &mut u32,
    path: &'static str,
    layer: Option<u32>,
    range: std::ops::RangeInclusive<u32>,
) -> Result<(), InvalidProxy> {
    if let Some(layer) = layer {
        if !range.contains(&layer) {
            return Err((
                path,
                format!(
                    "{layer} is not between {} and {}",
                    range.start(),
                    range.end()
                ),
            ));
        }
        *value = layer;
    }
    Ok(())
}

fn overlay_duration(
    value: &mut Millis,
    path: &'static str,
    layer: Option<&str>,
) -> Result<(), InvalidProxy> {
    if let Some(text) = layer {
        *value = duration(text).map_err(|message| (path, message))?;
    }
    Ok(())
}

/// Reads a duration (GEP-2257), or says what is wrong with it.
fn duration(text: &str) -> Result<Millis, String> {
    let duration: Duration = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    let millis =
        u64::try_from(duration.as_millis()).map_err(|_| format!("{text:?} is too long"))?;
    Ok(Millis(millis))
}
