//! Resources in; one routing table per Gateway, desired statuses and findings out.

mod backend;
mod grant;
mod route;

use std::{cell::RefCell, collections::BTreeMap};

use portcullis_routing::{GatewayKey, RoutingTable};

pub(crate) use self::{
    backend::Backends,
    grant::{GrantSubject, GrantTarget, Grants},
};
use crate::{CONTROLLER_NAME, finding::Finding, resources::Resources, status::Statuses};

/// What a translation is told besides the objects.
#[derive(Clone, Debug)]
pub struct Options {
    /// GatewayClasses with this `controllerName` are ours.
    pub controller_name: String,
    /// DNS domain of the cluster's Services.
    pub cluster_domain: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_name: CONTROLLER_NAME.into(),
            cluster_domain: "cluster.local".into(),
        }
    }
}

/// What a translation gives.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// One sealed table per accepted Gateway.
    pub tables: BTreeMap<GatewayKey, RoutingTable>,
    /// Desired statuses.
    pub statuses: Statuses,
    /// Everything worth telling, ordered by object and field.
    pub findings: Vec<Finding>,
}

/// What every stage of a translation reads, and where it reports.
pub(crate) struct Context<'a> {
    pub(crate) resources: &'a Resources,
    pub(crate) options: &'a Options,
    pub(crate) grants: Grants<'a>,
    findings: RefCell<Vec<Finding>>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(resources: &'a Resources, options: &'a Options) -> Self {
        Self {
            resources,
            options,
            grants: Grants::new(&resources.reference_grants),
            findings: RefCell::default(),
        }
    }

    /// Records a finding.
    pub(crate) fn report(&self, finding: Finding) {
        self.findings.borrow_mut().push(finding);
    }
}

/// Translates a snapshot of objects. Pure and deterministic; a bad object never affects a good one.
pub fn translate(resources: &Resources, options: &Options) -> Translation {
    let _ctx = Context::new(resources, options);
    Translation::default()
}
