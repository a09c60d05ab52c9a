//! How an egress Gateway lets traffic out: the GatewayParameters of its class, then its own.

use std::{net::SocketAddr, str::FromStr};

use ipnet::IpNet;
use portcullis_crds::gateway_parameters::{DecisionLogMode, EgressMode, EgressParameters};
use portcullis_routing::Millis;

use super::{duration, overlay};
use crate::provision::Invalid;

/// What `spec.proxy.egress` of the GatewayParameters of a class and of a Gateway say together. All of it is valid.
#[derive(Clone, Debug, PartialEq)]
pub struct EgressOptions {
    /// Whether hosts that no ServiceEntry opens are refused.
    pub mode: EgressMode,
    /// DNS servers to ask; none means those of the pod's resolv.conf.
    pub dns_servers: Vec<SocketAddr>,
    /// Audience that tokens of service accounts must be for.
    pub token_audience: String,
    /// Trust domain of SPIFFE IDs in client certificates.
    pub trust_domain: String,
    /// Time without a byte either way after which a tunnel ends.
    pub tunnel_idle_timeout: Millis,
    /// Time after which a tunnel ends in any case.
    pub tunnel_max_duration: Option<Millis>,
    /// Which decisions are logged.
    pub decision_log: DecisionLogMode,
    /// Ranges that are refused whatever name leads there.
    pub protected: Vec<IpNet>,
    /// Fields of the Gateway's own parameters that have no effect, as those of the class forbid it.
    pub overruled: Vec<&'static str>,
}

impl Default for EgressOptions {
    fn default() -> Self {
        Self {
            mode: EgressMode::default(),
            dns_servers: Vec::new(),
            token_audience: "portcullis-egress".into(),
            trust_domain: "cluster.local".into(),
            tunnel_idle_timeout: Millis::from_secs(15 * 60),
            tunnel_max_duration: None,
            decision_log: DecisionLogMode::default(),
            protected: Vec::new(),
            overruled: Vec::new(),
        }
    }
}

impl EgressOptions {
    /// Defaults, overlaid with each layer in turn; but what an earlier one shuts, a later one does not open, and what it has told
    /// is not hushed up: whoever may say how a Gateway is run need not be who says so of its class. An error has the path below
    /// `spec.proxy.egress`.
    pub(super) fn merge<'a>(
        layers: impl Iterator<Item = &'a EgressParameters>,
    ) -> Result<Self, Invalid> {
        let mut options = Self::default();
        // What earlier layers say of their own, which defaults are not.
        let (mut mode, mut decision_log) = (None, None);
        for layer in layers {
            let is_opened =
                (mode, layer.mode) == (Some(EgressMode::Enforce), Some(EgressMode::Report));
            options.lay("mode", &mut mode, layer.mode, is_opened);
            let is_hushed = layer.decision_log.is_some() && layer.decision_log < decision_log;
            options.lay(
                "decisionLog",
                &mut decision_log,
                layer.decision_log,
                is_hushed,
            );
            overlay(&mut options.token_audience, layer.token_audience.clone());
            if options.token_audience.is_empty() {
                return Err(("tokenAudience".into(), "must not be empty".into()));
            }
            if let Some(domain) = &layer.trust_domain {
                options.trust_domain = trust_domain(domain)?;
            }
            if let Some(servers) = &layer.dns_servers {
                let what = "an address with a port, such as 192.0.2.53:53 or [2001:db8::53]:53";
                let servers = each("dnsServers", servers, what)?;
                // Whoever answers for names decides where the hosts are that are open.
                if options.dns_servers.is_empty() {
                    options.dns_servers = servers;
                } else if options.dns_servers != servers {
                    options.overruled.push("dnsServers");
                }
            }
            if let Some(ranges) = &layer.protected_cidrs {
                let what = "a range of addresses, such as 198.51.100.0/24";
                let ranges: Vec<IpNet> = each("protectedCIDRs", ranges, what)?;
                options.protected.extend(ranges.iter().map(IpNet::trunc));
            }
            if let Some(text) = &layer.tunnel_idle_timeout {
                options.tunnel_idle_timeout = time("tunnelIdleTimeout", text)?;
            }
            if let Some(text) = &layer.tunnel_max_duration {
                let longest = time("tunnelMaxDuration", text)?;
                let before = options.tunnel_max_duration.unwrap_or(longest);
                if longest > before {
                    options.overruled.push("tunnelMaxDuration");
                }
                options.tunnel_max_duration = Some(before.min(longest));
            }
        }
        overlay(&mut options.mode, mode);
        overlay(&mut options.decision_log, decision_log);
        Ok(options)
    }

    /// Lays what a layer says of a field over what was said before, unless that overrules it.
    fn lay<T>(
        &mut self,
        field: &'static str,
        said: &mut Option<T>,
        layer: Option<T>,
        is_overruled: bool,
    ) {
        if is_overruled {
            self.overruled.push(field);
        } else if layer.is_some() {
            *said = layer;
        }
    }
}

/// Reads every entry of a list, each of which is to be `what`.
fn each<T: FromStr>(field: &str, entries: &[String], what: &str) -> Result<Vec<T>, Invalid> {
    let entries = entries.iter().enumerate();
    entries
        .map(|(index, text)| {
            text.parse().map_err(|_| {
                (
                    format!("{field}[{index}]"),
                    format!("{text:?} is not {what}"),
                )
            })
        })
        .collect()
}

/// Reads the trust domain of SPIFFE IDs (SPIFFE-ID 2.1).
fn trust_domain(text: &str) -> Result<String, Invalid> {
    let is_known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if (1..=255).contains(&text.len()) && text.bytes().all(is_known) {
        return Ok(text.to_owned());
    }
    let why = format!(
        "{text:?} is no trust domain: that is lower-case letters, digits, dots, dashes and underscores, such as cluster.local"
    );
    Err(("trustDomain".into(), why))
}

/// Reads a time after which a tunnel ends.
fn time(field: &str, text: &str) -> Result<Millis, Invalid> {
    let time = duration(text).map_err(|message| (field.to_owned(), message))?;
    if time == Millis(0) {
        return Err((field.to_owned(), "must be more than 0".into()));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn merge(layers: &[Value]) -> Result<EgressOptions, Invalid> {
        let layers: Vec<EgressParameters> = layers
            .iter()
            .map(|layer| serde_json::from_value(layer.clone()).unwrap())
            .collect();
        EgressOptions::merge(layers.iter())
    }

    #[test]
    fn a_later_layer_goes_before_an_earlier_one_field_by_field() {
        let class = json!({
            "mode": "Report", "tokenAudience": "a", "trustDomain": "mesh.example",
            "tunnelIdleTimeout": "1h", "protectedCIDRs": ["198.51.100.7/24"],
        });
        let own = json!({
            "mode": "Enforce", "dnsServers": ["[2001:db8::53]:5353"], "decisionLog": "Refused",
            "tunnelMaxDuration": "24h",
        });
        let options = merge(&[class, own]).unwrap();
        let wanted = EgressOptions {
            mode: EgressMode::Enforce,
            dns_servers: vec!["[2001:db8::53]:5353".parse().unwrap()],
            token_audience: "a".into(),
            trust_domain: "mesh.example".into(),
            tunnel_idle_timeout: Millis::from_secs(3600),
            tunnel_max_duration: Some(Millis::from_secs(24 * 3600)),
            decision_log: DecisionLogMode::Refused,
            protected: vec!["198.51.100.0/24".parse().unwrap()],
            overruled: Vec::new(),
        };
        assert_eq!(options, wanted);
        assert_eq!(merge(&[]).unwrap(), EgressOptions::default());
    }

    #[test]
    fn a_gateway_is_never_more_open_than_its_class() {
        let class = json!({
            "mode": "Enforce", "dnsServers": ["192.0.2.53:53"], "tunnelMaxDuration": "1h",
            "protectedCIDRs": ["198.51.100.0/24"], "decisionLog": "Refused",
        });
        let own = json!({
            "mode": "Report", "dnsServers": ["203.0.113.53:53"], "tunnelMaxDuration": "24h",
            "protectedCIDRs": ["203.0.113.0/24"], "decisionLog": "Never",
        });
        let options = merge(&[class.clone(), own.clone()]).unwrap();
        let ranges = ["198.51.100.0/24", "203.0.113.0/24"].map(|range| range.parse().unwrap());
        assert_eq!(options.mode, EgressMode::Enforce);
        assert_eq!(options.protected, ranges);
        assert_eq!(options.dns_servers, ["192.0.2.53:53".parse().unwrap()]);
        assert_eq!(options.tunnel_max_duration, Some(Millis::from_secs(3600)));
        assert_eq!(options.decision_log, DecisionLogMode::Refused);
        let overruled = ["mode", "decisionLog", "dnsServers", "tunnelMaxDuration"];
        assert_eq!(options.overruled, overruled);
        for nothing in [json!({"protectedCIDRs": []}), json!({}), class.clone()] {
            let mut alone = merge(std::slice::from_ref(&class)).unwrap();
            let both = merge(&[class.clone(), nothing]).unwrap();
            alone.protected.clone_from(&both.protected);
            assert_eq!(both, alone);
        }
        assert_eq!(merge(&[own]).unwrap().mode, EgressMode::Report);
    }

    #[test]
    fn a_gateway_logs_no_less_than_its_class_demands() {
        use DecisionLogMode::{Always, Never, Refused};
        for (class, own, logged, is_overruled) in [
            (Some(Always), Some(Never), Always, true),
            (Some(Always), Some(Refused), Always, true),
            (Some(Refused), Some(Always), Always, false),
            (Some(Never), Some(Refused), Refused, false),
            (Some(Never), Some(Never), Never, false),
            (Some(Refused), None, Refused, false),
            // What is only the default demands nothing.
            (None, Some(Never), Never, false),
        ] {
            let layer = |log: Option<DecisionLogMode>| json!({ "decisionLog": log });
            let options = merge(&[layer(class), layer(own)]).unwrap();
            let told = (options.decision_log, !options.overruled.is_empty());
            assert_eq!(told, (logged, is_overruled), "{class:?} {own:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        for (layer, expected) in [
            (json!({"dnsServers": ["192.0.2.53"]}), "dnsServers[0]"),
            (
                json!({"protectedCIDRs": ["10.0.0.0/8", "10.0.0.0/33"]}),
                "protectedCIDRs[1]",
            ),
            (json!({"tunnelIdleTimeout": "0s"}), "tunnelIdleTimeout"),
            (json!({"tunnelMaxDuration": "a while"}), "tunnelMaxDuration"),
            (json!({"tokenAudience": ""}), "tokenAudience"),
            (json!({"trustDomain": "Mesh.example/x"}), "trustDomain"),
        ] {
            let (field, message) = merge(&[layer]).unwrap_err();
            assert_eq!(field, expected, "{message}");
        }
    }
}
