//! What proxies have in force of listeners that cannot be served as they are, as far as that can be known.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use portcullis_controller::{
    ObjectKey,
    provision::service,
    status::{condition::kind, reason},
};
use portcullis_routing::{Listener, ListenerKey, ListenerProtocol, RoutingTable, compile};
use serde_json::Value;

use super::{
    around::{Around, Asked, index},
    progress::is_before,
};
use crate::{analyze::certificates::secret, cluster::Kind, status::condition_of};

impl Around<'_> {
    /// What proxies have of listeners that cannot be served as they are, as far as that can be known.
    pub(super) fn in_force(&self) -> Vec<String> {
        match self.table {
            None => vec![self.standing_still()],
            Some(table) => {
                let asked = self.asked();
                asked
                    .iter()
                    .filter_map(|it| self.listener_in_force(it, table))
                    .collect()
            }
        }
    }

    /// Whether nothing was ever made for the Gateway, so that it was never accepted.
    pub(super) fn is_never_made(&self) -> bool {
        self.service().is_none() && !self.hides_service()
    }

    /// The Service in front of its proxies.
    pub(super) fn service(&self) -> Option<&Service> {
        let (resources, gateway) = (&self.live.resources, &self.live.gateway);
        service(resources, gateway, resources.gateways.get(gateway)?)
    }

    /// Whether there may be one that the caller may not see.
    fn hides_service(&self) -> bool {
        let namespace = &self.live.gateway.namespace;
        self.live.unread.hides(Kind::SERVICE.name, namespace)
    }

    fn standing_still(&self) -> String {
        if self.is_undecided() {
            let said = said(
                &self.live.found.data["status"]["conditions"],
                kind::ACCEPTED,
            );
            return format!(
                "If the Gateway is not accepted, its proxies go on with what they had last.{}",
                said.unwrap_or_default()
            );
        }
        let gateway = &self.live.gateway;
        let what = match self.service() {
            Some(service) => format!(
                "Its proxies go on with what they had last: the controller has made them (Service {} is there), and takes \
                 nothing from them until the Gateway is mended. What that is, no object of the cluster says",
                ObjectKey::of(service)
            ),
            None if self.hides_service() => {
                "Whether the controller has made proxies for it is not known, for you may not list Services; any that run go on \
                 with what they had last"
                    .into()
            }
            None => "If proxies run that the controller has not made, these go on with what they had last".into(),
        };
        let parameters = self.live.translation.findings.iter();
        let mut parameters = parameters.filter(|it| it.object.key == *gateway);
        let go_on = if parameters.any(|it| it.code == "InvalidParameters") {
            ". If the controller has seen good parameters of it, it goes on with those, and serves changes of listeners and \
             routes"
        } else {
            ""
        };
        format!("{what}{go_on}.")
    }

    /// `None` for one that is served as it is.
    fn listener_in_force(&self, asked: &Asked, table: &RoutingTable) -> Option<String> {
        let key = &asked.key;
        let conditions = self.stated(asked).map(|(_, conditions)| conditions);
        let said = conditions.and_then(|it| said(it, kind::PROGRAMMED));
        let said = said.unwrap_or_default();
        let listener = table.listeners.get(key);
        let findings = self.live.translation.findings.iter();
        let mut own = findings.filter(|it| {
            it.object == asked.object && index("spec.listeners", &it.field) == Some(asked.index)
        });
        match listener {
            Some(listener) if table.has_certificate(listener) => self
                .is_refused(asked)
                .then(|| format!("Listener {key}: the proxies do not serve it.{said}")),
            Some(listener) => {
                let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
                let secrets: Vec<_> = certificates.map(|key| secret(key).to_string()).collect();
                let started = if self.is_closed(table) {
                    "does not open the port, so that connections are refused"
                } else {
                    "has none, and refuses the handshake"
                };
                Some(format!(
                    "Listener {key}: a proxy that had a good pair from {} shows that on; one that has started since {started}. No \
                     object says which of them a client meets: `openssl s_client -connect ADDRESS:{} -servername {}` shows what \
                     it is shown.{said}",
                    secrets.join(" or "),
                    self.request.port,
                    self.request.sni.as_deref().unwrap_or("HOST"),
                ))
            }
            None if own.any(|finding| self.live.unread.is_behind(finding)) => Some(format!(
                "Listener {key}: what you may not read decides whether it is served.{said}"
            )),
            None => Some(format!(
                "Listener {key}: proxies close it as soon as they are told of these objects; a change of a moment ago may be \
                 on its way to them.{said}"
            )),
        }
    }

    /// Whether no listener of the port can be served without an earlier certificate.
    fn is_closed(&self, table: &RoutingTable) -> bool {
        let mut listeners = table.listeners.values();
        !listeners.any(|it| it.port == self.request.port && table.has_certificate(it))
    }

    /// Whether a proxy with an earlier certificate may give the client another answer: it has the port open that is closed
    /// without (`is_unbound`), or the listener that the handshake names.
    pub(super) fn shows_earlier(&self, is_unbound: bool) -> bool {
        let Some(table) = self.table else {
            return false;
        };
        let lacks = |listener: &Listener| !table.has_certificate(listener);
        if is_unbound {
            let listeners = table.listeners.values();
            let mut listeners = listeners.filter(|listener| listener.port == self.request.port);
            return listeners.any(|listener| lacks(listener));
        }
        self.named(table).is_some_and(lacks)
    }

    /// The listener of the port that the handshake names, whether or not it has a certificate.
    fn named<'t>(&self, table: &'t RoutingTable) -> Option<&'t Listener> {
        if self.request.url.scheme_str() != Some("https") {
            return None;
        }
        // Hostnames alone decide: in clear text none is left out.
        let mut plain = RoutingTable::new(table.gateway.clone());
        plain.listeners.clone_from(&table.listeners);
        plain.listeners.retain(|_, it| it.port == self.request.port);
        for listener in plain.listeners.values_mut() {
            let listener = Arc::make_mut(listener);
            listener.protocol = ListenerProtocol::Http;
            listener.tls = None;
        }
        let (plain, _) = compile(None, Arc::new(plain), |_, _| Ok(()));
        let sni = self.request.sni.as_deref().unwrap_or_default();
        let named = plain.port(self.request.port)?.listener_for(sni)?;
        table.listeners.get(named.key()).map(AsRef::as_ref)
    }

    /// Whether proxies have said that they cannot serve this listener of the port.
    pub(super) fn refuses(&self, listener: &ListenerKey) -> bool {
        let asked = self.asked();
        let mut asked = asked.iter().filter(|it| it.key == *listener);
        asked.any(|it| self.is_refused(it))
    }

    /// Whether proxies have said of a listener as it is now that they cannot serve it: its port may be taken.
    fn is_refused(&self, asked: &Asked) -> bool {
        let Some((object, conditions)) = self.stated(asked) else {
            return false;
        };
        condition_of(conditions, kind::PROGRAMMED).is_some_and(|it| {
            it["status"] == "False" && it["reason"] == reason::INVALID && !is_before(object, [it])
        })
    }

    /// The object that a listener stands in, as it is in the cluster, and the conditions of the listener.
    fn stated(&self, asked: &Asked) -> Option<(&DynamicObject, &Value)> {
        let object = if asked.object.kind == "Gateway" {
            &self.live.found
        } else {
            self.live.listener_sets.get(&asked.object.key)?
        };
        let mut listeners = object.data["status"]["listeners"].as_array()?.iter();
        let listener = listeners.find(|it| it["name"] == *asked.name)?;
        Some((object, &listener["conditions"]))
    }
}

/// What a condition of this type says, as a sentence to append.
fn said(conditions: &Value, kind: &str) -> Option<String> {
    let condition = condition_of(conditions, kind)?;
    let text = |name: &str| condition[name].as_str().unwrap_or_default();
    Some(format!(
        " Its status says: {kind} is {}, {}.",
        text("status"),
        text("message").trim_end_matches('.')
    ))
}
