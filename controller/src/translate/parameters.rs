//! The GatewayParameters that each Gateway is served with: those of its class and its own, or the last good ones while what is
//! asked for is broken.

use std::{collections::BTreeMap, sync::Arc};

use gateway_api::apis::experimental::gateways::{Gateway, GatewayListeners};
use portcullis_crds::{GatewayParametersSpec, gateway_parameters::NodePort};
use portcullis_routing::ProxySettings;

use super::{
    Context,
    class::ClassParameters,
    listener::ListenerState,
    settings::{self, EgressOptions, NoParameters},
};
use crate::{
    finding::{Finding, ObjectRef},
    provision::Infrastructure,
    resources::{ObjectKey, Resources},
    status::{Observed, reason},
};

/// What follows for a Gateway whose parameters are broken.
const GOES_ON: &str = "; until then the last good ones stay in force";
const NOT_SERVED: &str = "; nothing of this Gateway is served until then";
const STANDS_STILL: &str =
    "; there were no good ones since the start, so nothing new is served until then";

/// The parameters that Gateways are served with, by namespace and name of the Gateway.
pub type ParametersInForce = BTreeMap<ObjectKey, Arc<Parameters>>;

/// What the GatewayParameters of a Gateway's class and its own say together. All of it is valid.
#[derive(Debug, PartialEq)]
pub struct Parameters {
    /// The Gateway's UID; `None` in files.
    uid: Option<String>,
    class: String,
    pub(crate) settings: Arc<ProxySettings>,
    /// How traffic is let out, if the Gateway is one of egress.
    pub egress: EgressOptions,
    pub(crate) infrastructure: Infrastructure,
    /// The GatewayParameters whose `spec.service.nodePorts` are in force, if any are.
    pub(crate) node_ports_of: Option<ObjectKey>,
}

impl Parameters {
    /// What the objects ask for now.
    fn asked_for(
        ctx: &Context<'_>,
        object: &ObjectRef,
        gateway: &Gateway,
        class: &ClassParameters<'_>,
    ) -> Result<Self, NoParameters> {
        let own = own_parameters(ctx, object, gateway);
        let name = &gateway.spec.gateway_class_name;
        let (own, of_class) = match (own, class) {
            (Ok(own), Ok(of_class)) => (own, *of_class),
            // What is wrong is told even where the rest is not known.
            (Err(NoParameters::Broken(finding)), _) => return Err(finding.into()),
            (_, Err(NoParameters::Broken(finding))) => {
                return Err(broken_class(object, name, finding).into());
            }
            (Err(NoParameters::Unread), _) | (_, Err(NoParameters::Unread)) => {
                return Err(NoParameters::Unread);
            }
        };
        let layers: Vec<_> = of_class.into_iter().chain(own).collect();
        let field = match own {
            Some(_) => "spec.infrastructure.parametersRef",
            None => "spec.gatewayClassName",
        };
        let merged = settings::settings(&layers).and_then(|settings| {
            let infrastructure = Infrastructure::merge(&layers)?;
            infrastructure.check()?;
            Ok(Self {
                uid: gateway.metadata.uid.clone(),
                class: name.clone(),
                settings: Arc::new(settings),
                egress: settings::egress(&layers)?,
                infrastructure,
                node_ports_of: node_ports_of(ctx.resources, object, gateway, (own, of_class)),
            })
        });
        merged.map_err(|(path, message)| {
            let finding = object.error(
                reason::INVALID_PARAMETERS,
                field,
                format!("the GatewayParameters are not valid: spec.{path}: {message}"),
                "correct that field in the GatewayParameters of the Gateway or of its class",
            );
            finding.into()
        })
    }

    /// Whether they were those of this Gateway, not of another one of its name or while it was of another class.
    fn are_of(&self, gateway: &Gateway) -> bool {
        (&self.uid, &self.class) == (&gateway.metadata.uid, &gateway.spec.gateway_class_name)
    }
}

fn broken_class(object: &ObjectRef, name: &str, finding: &Finding) -> Finding {
    object.error(
        reason::INVALID_PARAMETERS,
        "spec.gatewayClassName",
        format!(
            "the parameters of GatewayClass {name} are not valid: {}: {}",
            finding.field, finding.message
        ),
        finding.remedy.clone(),
    )
}

/// What a Gateway is served with, and what is wrong with what is asked for; neither where nothing is known of that. Defaults never take the place of what is
/// broken: a proxy would do what nobody asked for, such as read the PROXY protocol as HTTP.
pub(crate) fn in_force(
    ctx: &Context<'_>,
    object: &ObjectRef,
    gateway: &Gateway,
    class: &ClassParameters<'_>,
) -> (Option<Arc<Parameters>>, Option<Finding>) {
    let fault = match Parameters::asked_for(ctx, object, gateway, class) {
        Ok(parameters) => return (Some(Arc::new(parameters)), None),
        Err(fault) => fault,
    };
    let known = ctx.options.last_good.as_ref();
    let last_good = known.and_then(|known| known.get(&object.key));
    let last_good = last_good.filter(|it| it.are_of(gateway)).cloned();
    let NoParameters::Broken(mut finding) = fault else {
        return (last_good, None);
    };
    if known.is_some() {
        finding.remedy += consequence(last_good.is_some(), &ctx.options.observed);
    }
    (last_good, Some(finding))
}

/// What comes of a Gateway until its parameters are mended.
fn consequence(goes_on: bool, observed: &Observed) -> &'static str {
    match observed {
        _ if goes_on => GOES_ON,
        Observed::Standalone { .. } => NOT_SERVED,
        // Its proxies may be there since before the start.
        Observed::Cluster(_) => STANDS_STILL,
    }
}

/// The last good ones of every Gateway that is still there, also while its class is not.
pub(crate) fn remembered(ctx: &Context<'_>) -> ParametersInForce {
    let last_good = ctx.options.last_good.iter();
    last_good
        .flat_map(|known| known.iter())
        .filter(|(key, parameters)| {
            let gateway = ctx.resources.gateways.get(key);
            gateway.is_some_and(|gateway| parameters.are_of(gateway))
        })
        .map(|(key, parameters)| (key.clone(), Arc::clone(parameters)))
        .collect()
}

/// Which object says `nodePorts`, of the Gateway's own parameters and those of its class.
fn node_ports_of(
    resources: &Resources,
    object: &ObjectRef,
    gateway: &Gateway,
    (own, of_class): (
        Option<&GatewayParametersSpec>,
        Option<&GatewayParametersSpec>,
    ),
) -> Option<ObjectKey> {
    if own.is_some_and(|it| node_ports(it).is_some()) {
        return own_key(object, gateway);
    }
    of_class.and_then(node_ports)?;
    let class = ObjectKey::cluster(&gateway.spec.gateway_class_name);
    let class = resources.gateway_classes.get(&class)?;
    let reference = class.spec.parameters_ref.as_ref()?;
    let namespace = reference.namespace.as_deref()?;
    Some(ObjectKey::new(namespace, &reference.name))
}

fn node_ports(spec: &GatewayParametersSpec) -> Option<&Vec<NodePort>> {
    spec.service.as_ref()?.node_ports.as_ref()
}

/// Node ports that the Gateway's own parameters fix for ports that it has no listener with, or none of a protocol that is served.
/// Those of a class may be meant for another Gateway.
pub(crate) fn idle_node_ports(
    ctx: &Context<'_>,
    object: &ObjectRef,
    gateway: &Gateway,
    listeners: &[ListenerState<'_>],
) -> Vec<Finding> {
    let own = own_parameters(ctx, object, gateway);
    let (Ok(Some(own)), Some(key)) = (own, own_key(object, gateway)) else {
        return Vec::new();
    };
    let entries = node_ports(own).into_iter().flatten().enumerate();
    let finding = |(index, entry): (usize, &NodePort)| {
        let why = why_idle(entry.port, listeners)?;
        Some(object.warning(
            reason::UNSUPPORTED_VALUE,
            "spec.infrastructure.parametersRef",
            format!(
                "spec.service.nodePorts[{index}] of GatewayParameters {key} has no effect: {why}"
            ),
            "correct the port in the entry, or remove it: `port` is that of a listener",
        ))
    };
    entries.filter_map(finding).collect()
}

/// What the own parameters of a Gateway of ingress say of egress. Those of a class may be meant for another Gateway.
pub(crate) fn idle_egress(
    ctx: &Context<'_>,
    object: &ObjectRef,
    gateway: &Gateway,
) -> Option<Finding> {
    let own = own_parameters(ctx, object, gateway).ok()??;
    own.proxy.as_ref()?.egress.as_ref()?;
    let key = own_key(object, gateway)?;
    Some(object.warning(
        reason::UNSUPPORTED_VALUE,
        "spec.infrastructure.parametersRef",
        format!(
            "spec.proxy.egress of GatewayParameters {key} has no effect: the Gateway is none of egress"
        ),
        "remove it; a Gateway of class portcullis-egress goes by it",
    ))
}

/// What the own parameters of an egress Gateway say in vain, as those of its class forbid it.
pub(crate) fn overruled_egress(
    object: &ObjectRef,
    gateway: &Gateway,
    parameters: &Parameters,
) -> Option<Finding> {
    let fields = parameters.egress.overruled.iter();
    let fields: Vec<_> = fields.map(|it| format!("spec.proxy.egress.{it}")).collect();
    let key = own_key(object, gateway).filter(|_| !fields.is_empty())?;
    let (have, them) = match fields.len() {
        1 => ("has", "it"),
        _ => ("have", "them"),
    };
    Some(object.warning(
        "Overruled",
        "spec.infrastructure.parametersRef",
        format!(
            "{} of GatewayParameters {key} {have} no effect: the parameters of GatewayClass {} overrule {them}",
            fields.join(", "),
            parameters.class
        ),
        "remove what has no effect, or have the parameters of the class changed: they stand for all its Gateways",
    ))
}

/// Why the Service never gets this port, if so. A listener that only has to be mended keeps it, or is told of by itself.
fn why_idle(port: u16, listeners: &[ListenerState<'_>]) -> Option<String> {
    let mut of_port = listeners
        .iter()
        .filter(|listener| listener.spec.port == i32::from(port));
    let Some(first) = of_port.next() else {
        return Some(format!("no listener has port {port}"));
    };
    let is_served = first.has_known_protocol() || of_port.any(ListenerState::has_known_protocol);
    (!is_served).then(|| {
        let GatewayListeners { name, protocol, .. } = &*first.spec;
        format!("listener {name:?} of port {port} is not served, as its protocol is {protocol:?}")
    })
}

/// Whether a Gateway or its class names any.
pub(crate) fn are_named(ctx: &Context<'_>, gateway: &Gateway) -> bool {
    let own = gateway.spec.infrastructure.as_ref();
    let class = ObjectKey::cluster(&gateway.spec.gateway_class_name);
    let class = ctx.resources.gateway_classes.get(&class);
    own.is_some_and(|it| it.parameters_ref.is_some())
        || class.is_some_and(|it| it.spec.parameters_ref.is_some())
}

/// The name of the Gateway's own parameters.
fn own_key(object: &ObjectRef, gateway: &Gateway) -> Option<ObjectKey> {
    let reference = gateway.spec.infrastructure.as_ref()?;
    let reference = reference.parameters_ref.as_ref()?;
    Some(ObjectKey::new(&object.key.namespace, &reference.name))
}

/// What the Gateway's own `parametersRef` leads to, if it has one.
fn own_parameters<'a>(
    ctx: &Context<'a>,
    object: &ObjectRef,
    gateway: &Gateway,
) -> Result<Option<&'a GatewayParametersSpec>, NoParameters> {
    let infrastructure = gateway.spec.infrastructure.as_ref();
    let Some(reference) = infrastructure.and_then(|it| it.parameters_ref.as_ref()) else {
        return Ok(None);
    };
    settings::parameters(
        ctx,
        object,
        "spec.infrastructure.parametersRef",
        (&reference.group, &reference.kind),
        &object.key.namespace,
        &reference.name,
    )
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifests::Loaded,
        translate::{Options, Translation, translate},
    };

    const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: CLASS}
spec:
  controllerName: portcullis.dev/gateway-controller
  parametersRef: {group: portcullis.dev, kind: GatewayParameters, name: class, namespace: default}
---";
    const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, uid: first}
spec:
  gatewayClassName: portcullis
  infrastructure: {parametersRef: {group: portcullis.dev, kind: GatewayParameters, name: own}}
  listeners: [{name: http, port: 80, protocol: HTTP}]
---";

    /// GatewayParameters with that many trusted hops, or some that are broken.
    fn parameters(name: &str, hops: Option<u32>) -> String {
        let proxy = match hops {
            Some(hops) => format!("{{clientAddress: {{trustedHops: {hops}}}}}"),
            None => "{drainTimeout: soon}".to_owned(),
        };
        format!(
            "
apiVersion: portcullis.dev/v1alpha1
kind: GatewayParameters
metadata: {{name: {name}}}
spec: {{proxy: {proxy}}}
---"
        )
    }

    /// Translates one set of manifests after the other, as a controller does, and gives the trusted hops that are in
    /// force after each; `None` if there is no table.
    #[track_caller]
    fn hops(steps: &[&[&str]]) -> Vec<Option<u32>> {
        let mut options = Options {
            last_good: Some(Arc::default()),
            ..Options::default()
        };
        let step = |manifests: &&[&str]| {
            let mut loaded = Loaded::accepted();
            loaded.read_text("all.yaml", &manifests.concat());
            assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
            let Translation {
                tables, parameters, ..
            } = translate(&loaded.resources, &options);
            options.last_good = Some(parameters);
            let table = tables.into_values().next();
            table.map(|table| table.settings.client_address.trusted_hops)
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn the_last_good_ones_stay_in_force_until_all_is_good_again() {
        let class = CLASS.replace("CLASS", "portcullis");
        let [of_class, own] = ["class", "own"].map(|name| parameters(name, Some(1)));
        let [broken_class, broken_own] = ["class", "own"].map(|name| parameters(name, None));
        let other_own = parameters("own", Some(2));
        assert_eq!(
            hops(&[
                &[&class, &of_class, GATEWAY, &own],
                &[&class, &of_class, GATEWAY],
                &[&class, &of_class, GATEWAY, &broken_own],
                &[&class, &broken_class, GATEWAY, &other_own],
                &[&class, GATEWAY, &other_own],
                &[&class, &of_class, GATEWAY, &other_own],
                &[&class, &of_class, GATEWAY],
            ]),
            [1, 1, 1, 1, 1, 2, 2].map(Some)
        );
    }

    #[test]
    fn it_is_known_who_fixes_node_ports() {
        let class = CLASS.replace("CLASS", "portcullis");
        let ports = "spec: {service: {nodePorts: [{port: 80, nodePort: 30080}]}}";
        let whose = |of_class: bool, own: bool| {
            let [of_class, own] = [("class", of_class), ("own", own)].map(|(name, fixes)| {
                let spec = if fixes { ports } else { "spec: {}" };
                let head = "apiVersion: portcullis.dev/v1alpha1\nkind: GatewayParameters";
                format!("\n{head}\nmetadata: {{name: {name}}}\n{spec}\n---")
            });
            let mut loaded = Loaded::accepted();
            loaded.read_text("all.yaml", &[&class, &of_class, GATEWAY, &own].concat());
            assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
            let parameters = translate(&loaded.resources, &Options::default()).parameters;
            let whose = parameters.values().next().unwrap().node_ports_of.clone();
            whose.map(|key| key.name)
        };
        assert_eq!(whose(false, false), None);
        assert_eq!(whose(true, false).as_deref(), Some("class"));
        assert_eq!(whose(true, true).as_deref(), Some("own"));
    }

    #[test]
    fn without_good_ones_nothing_is_served() {
        let class = CLASS.replace("CLASS", "portcullis");
        let own = parameters("own", Some(1));
        assert_eq!(hops(&[&[&class, GATEWAY, &own]]), [None]);
    }

    #[test]
    fn what_follows_is_told_where_it_is_known() {
        let class = CLASS.replace("CLASS", "portcullis");
        let mut loaded = Loaded::accepted();
        loaded.read_text("all.yaml", &[&class, GATEWAY].concat());
        let told = |options: Options, last_good| {
            let options = Options {
                last_good,
                ..options
            };
            let findings = translate(&loaded.resources, &options).findings;
            let mut remedies = findings
                .into_iter()
                .filter(|finding| finding.object.kind == "Gateway");
            remedies.next().map(|finding| finding.remedy)
        };
        let remedy = "create it, or correct the reference";
        let followed = || Some(Arc::default());
        for (options, last_good, follows) in [
            (Options::default(), None, ""),
            (Options::standalone(), None, ""),
            (Options::default(), followed(), STANDS_STILL),
            (Options::standalone(), followed(), NOT_SERVED),
        ] {
            assert_eq!(told(options, last_good), Some(format!("{remedy}{follows}")));
        }
    }

    #[test]
    fn they_outlive_the_class_and_another_mistake() {
        let class = CLASS.replace("CLASS", "portcullis");
        let [of_class, own] = ["class", "own"].map(|name| parameters(name, Some(1)));
        let mistaken = GATEWAY.replace(
            "  listeners",
            "  addresses: [{type: example.com/other, value: x}]\n  listeners",
        );
        assert_eq!(
            hops(&[
                &[&class, &of_class, GATEWAY, &own],
                &[GATEWAY, &own],
                &[&class, &mistaken, &own],
                &[&class, GATEWAY, &own],
            ]),
            [Some(1), None, None, Some(1)]
        );
    }

    #[test]
    fn those_of_another_class_or_of_another_gateway_are_not_its_own() {
        let class = CLASS.replace("CLASS", "portcullis");
        let other = CLASS.replace("CLASS", "other");
        let [of_class, own] = ["class", "own"].map(|name| parameters(name, Some(1)));
        let before = [&class, &of_class, GATEWAY, &own];
        let of_other = GATEWAY.replace("gatewayClassName: portcullis", "gatewayClassName: other");
        assert_eq!(
            hops(&[&before, &[&class, &other, &of_other, &own]]),
            [Some(1), None]
        );
        let made_anew = GATEWAY.replace("uid: first", "uid: second");
        assert_eq!(
            hops(&[&before, &[&class, &made_anew, &own]]),
            [Some(1), None]
        );
    }
}
