//! Resources in; one routing table per Gateway, desired statuses and findings out.

mod age;
mod attach;
mod backend;
mod backend_tls;
mod ca;
mod certificate;
mod class;
mod client_certificate;
mod credential;
mod egress;
mod field;
mod frontend;
mod gateway;
mod grant;
mod hostname;
mod listener;
mod listener_set;
mod namespaces;
mod parameters;
mod problem;
mod route;
mod settings;
mod sources;
mod table_length;

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use portcullis_routing::{GatewayKey, ListenerProtocol, RoutingTable};

use self::{attach::attach_all, credential::Credentials, egress::Egress};
pub(crate) use self::{
    backend::Backends,
    backend_tls::BackendTlsPolicies,
    class::has_egress_gateway,
    credential::of_route as credentials_of,
    grant::{GrantSubject, GrantTarget, Grants},
};
pub use self::{
    class::{BUNDLE_VERSION, EGRESS_CLASS, InstalledApi, Obstacle, SUPPORTED_FEATURES, Unread},
    egress::TokenIssuer,
    listener_set::gateway_of,
    parameters::{Parameters, ParametersInForce},
    route::RouteObject,
    settings::EgressOptions,
};
use crate::{
    CONTROLLER_NAME,
    finding::Finding,
    resources::Resources,
    status::{Observed, Statuses, programmed},
};

/// The Gateway API's group.
pub(crate) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// What a translation is told besides the objects.
#[derive(Clone, Debug)]
pub struct Options {
    /// GatewayClasses with this `controllerName` are ours.
    pub controller_name: String,
    /// GatewayClasses of these names are taken to exist and to be ours, unless there is an object of that name. For files:
    /// a Gateway then needs no GatewayClass beside it.
    pub implied_classes: &'static [&'static str],
    /// Whether Gateways of egress are served.
    pub serves_egress: bool,
    /// What of the Gateway API is installed in the cluster; `None` for files, which are read as this release has them.
    pub installed: Option<InstalledApi>,
    /// What is known of the running data planes.
    pub observed: Observed,
    /// [`Translation::parameters`] of the translation before this one, which Gateways go on with while what is asked for is
    /// broken. Empty for the first translation of many, `None` for one by itself, of which nothing is served.
    pub last_good: Option<Arc<ParametersInForce>>,
    /// Who issues the tokens of service accounts, or in words why that cannot be found out. `None` for files: tokens are
    /// ignored.
    pub token_issuer: Option<Result<TokenIssuer, String>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_name: CONTROLLER_NAME.into(),
            implied_classes: &[],
            serves_egress: true,
            installed: None,
            observed: Observed::default(),
            last_good: None,
            token_issuer: None,
        }
    }
}

impl Options {
    /// For manifests served by one proxy in this process: the GatewayClasses `portcullis` and
    /// [`EGRESS_CLASS`] are implied, and everything that is valid counts as programmed.
    pub fn standalone() -> Self {
        Self {
            implied_classes: &["portcullis", EGRESS_CLASS],
            observed: Observed::Standalone {
                addresses: Vec::new(),
            },
            ..Self::default()
        }
    }
}

/// What a translation gives.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// One sealed table per Gateway that is served.
    pub tables: BTreeMap<GatewayKey, RoutingTable>,
    /// Desired statuses.
    pub statuses: Statuses,
    /// Everything worth telling, ordered by object and field.
    pub findings: Vec<Finding>,
    /// The ports that the infrastructure of each of these Gateways has to have.
    pub ports: Arc<Ports>,
    /// The GatewayParameters that each Gateway is served with, for its infrastructure and for the next translation.
    pub parameters: Arc<ParametersInForce>,
}

/// Ports of listeners, by Gateway: of all that are valid, and of those of the Gateway itself that are yet to be mended, be it
/// that they have no certificate. Listeners that are in each other's way have none.
pub type Ports = BTreeMap<GatewayKey, BTreeMap<u16, ListenerProtocol>>;

/// What every stage of a translation reads, and where it reports.
pub(crate) struct Context<'a> {
    pub(crate) resources: &'a Resources,
    pub(crate) options: &'a Options,
    pub(crate) grants: Grants<'a>,
    pub(crate) credentials: Credentials,
    findings: RefCell<Vec<Finding>>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(resources: &'a Resources, options: &'a Options) -> Self {
        Self {
            resources,
            options,
            grants: Grants::new(&resources.reference_grants),
            credentials: Credentials::collect(resources),
            findings: RefCell::default(),
        }
    }

    /// Records a finding.
    pub(crate) fn report(&self, finding: Finding) {
        self.findings.borrow_mut().push(finding);
    }

    fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort();
        findings.dedup();
        findings
    }
}

/// Translates a snapshot of objects. Pure and deterministic; a bad object never affects a good one.
pub fn translate(resources: &Resources, options: &Options) -> Translation {
    let ctx = Context::new(resources, options);
    let (classes, gateway_classes) = class::Classes::collect(&ctx);
    let mut gateways = gateway::collect(&ctx, &classes);
    let policies = BackendTlsPolicies::collect(&ctx);
    let egress = Egress::collect(&ctx, &gateways, &policies);
    let mut backends = Backends::new(resources, &policies, &egress);
    let mut statuses = Statuses {
        gateway_classes,
        ..Statuses::default()
    };
    statuses.http_routes = attach_all(
        &ctx,
        &resources.http_routes,
        |route, reach, backends| route::http::convert(&ctx, route, reach, backends),
        &mut gateways,
        &mut backends,
    );
    statuses.tls_routes = attach_all(
        &ctx,
        &resources.tls_routes,
        |route, reach, backends| route::tls::convert(&ctx, route, reach, backends),
        &mut gateways,
        &mut backends,
    );
    statuses.backend_tls_policies = policies.statuses(&ctx, &gateways);
    egress.state(&ctx, &mut statuses);
    statuses.credential_injections = credential::statuses(&ctx, &gateways);
    let (mut tables, mut ports) = (BTreeMap::new(), Ports::new());
    let mut parameters = parameters::remembered(&ctx);
    for (key, mut gateway) in gateways {
        gateway.report(&ctx);
        if let Some(in_force) = gateway.parameters() {
            parameters.insert(key.clone(), Arc::clone(in_force));
        }
        let table = gateway.table(&ctx, &backends, &egress);
        let (status, sets) = gateway.statuses(&ctx);
        statuses.gateways.insert(key, status);
        statuses.listener_sets.extend(sets);
        if let Some(table) = table {
            ports.insert(table.gateway.clone(), gateway.ports());
            tables.insert(table.gateway.clone(), table);
        }
    }
    programmed::observe(&mut statuses, resources, &tables, &options.observed);
    Translation {
        tables,
        statuses,
        findings: ctx.into_findings(),
        ports: Arc::new(ports),
        parameters: Arc::new(parameters),
    }
}
