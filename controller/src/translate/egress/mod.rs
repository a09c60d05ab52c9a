//! Egress: what ServiceEntries open, what EgressPolicies leave of it, who calls from which address, and which addresses are the
//! cluster's own. All of that is the same for every egress Gateway but for the policies, and is made once.

mod addresses;
mod claim;
mod conflict;
mod destination;
mod endpoint;
mod entries;
mod entry;
mod export;
mod faults;
mod host;
mod idle;
mod inward;
mod listed;
mod policies;
mod policy;
mod port;
mod precedence;
mod protected;
mod proxies;
mod quota;
mod range;
mod select;
mod service;
mod settings;
mod tokens;
mod workload;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use portcullis_routing::{
    EntryKey, GatewayKey, RoutingTable, WorkloadKey,
    egress::{Entry, Workload},
};

pub(crate) use self::entries::{Entries, GROUP, KIND, is_far};
pub use self::tokens::TokenIssuer;
use self::{
    inward::Inward,
    policies::{EgressGateways, Policies},
    protected::Protected,
    proxies::Proxies,
    quota::Quotas,
};
use super::{BackendTlsPolicies, Context, gateway::GatewayState, settings::EgressOptions, sources};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::Statuses,
};

/// What the tables of egress Gateways have besides what every table has.
#[derive(Debug)]
pub(crate) struct Egress {
    pub(crate) entries: Entries,
    in_table: BTreeMap<EntryKey, Arc<Entry>>,
    policies: Policies,
    quotas: Quotas,
    workloads: BTreeMap<WorkloadKey, Arc<Workload>>,
    /// The cluster's own addresses.
    protected: Protected,
    /// Ranges that a policy opens somewhere.
    opened: Vec<IpNet>,
    /// The addresses of the Services in front of the proxies of each Gateway.
    own: BTreeMap<GatewayKey, Vec<IpAddr>>,
    /// Whose tokens are believed.
    token_issuer: Option<TokenIssuer>,
}

impl Egress {
    /// Translates and reports everything of egress. Without an egress Gateway ServiceEntries are nobody's here. `all` are the Gateways
    /// of our classes.
    pub(crate) fn collect(
        ctx: &Context<'_>,
        all: &BTreeMap<ObjectKey, GatewayState<'_>>,
        tls: &BackendTlsPolicies<'_>,
    ) -> Self {
        let of_egress = all.iter().filter(|(_, gateway)| gateway.is_egress());
        let gateways = EgressGateways(of_egress.map(|(key, _)| key).collect());
        let mut policies = Policies::collect(ctx, &gateways);
        if gateways.0.is_empty() {
            let entries = Entries::unused(ctx);
            policies.report(ctx);
            return Self {
                entries,
                policies,
                quotas: Quotas::default(),
                in_table: BTreeMap::new(),
                workloads: BTreeMap::new(),
                protected: Protected::default(),
                opened: Vec::new(),
                own: BTreeMap::new(),
                token_issuer: None,
            };
        }
        let protected = Protected::collect(ctx);
        let inward = Inward::new(&gateways, &policies, &protected);
        let (entries, quotas) = Entries::collect(ctx, tls, &inward, &mut policies);
        let idle = idle::find(ctx, all, &policies, &entries);
        policies.tell(idle);
        policies.report(ctx);
        entries.report(ctx);
        let proxies = Proxies::of(all.keys());
        let workloads = workload::index(&ctx.resources.pods, &policies.label_keys(), &proxies);
        Self {
            in_table: entries.table(),
            entries,
            opened: policies.opened(),
            policies,
            quotas,
            workloads,
            protected,
            own: proxies.addresses(ctx.resources),
            token_issuer: tokens::issuer(ctx, &gateways),
        }
    }

    /// Adds to the table of an egress Gateway what it has of this.
    pub(crate) fn fill(
        &self,
        gateway: &ObjectKey,
        options: &EgressOptions,
        table: &mut RoutingTable,
    ) {
        table.workloads = self.workloads.clone();
        table.entries = self.in_table.clone();
        table.policies = self.policies.table(gateway);
        let own = self.own.get(&table.gateway).map(Vec::as_slice);
        let settings = settings::settings(
            options,
            own.unwrap_or_default(),
            &self.protected,
            self.token_issuer.as_ref(),
        );
        Arc::make_mut(&mut table.settings).egress = Some(settings);
    }

    /// What is wrong at every egress Gateway, as namespaces have more than they may.
    pub(crate) fn beyond_quota(&self, gateway: &ObjectRef) -> Option<Finding> {
        self.quotas.finding(gateway)
    }

    /// States the conditions of entries and policies, but for what is for the data planes to say. While tables are held back they
    /// stay as they are.
    pub(crate) fn state(&self, ctx: &Context<'_>, statuses: &mut Statuses) {
        if sources::hold_egress_back(ctx) {
            return;
        }
        statuses.service_entries = self.entries.conditions();
        statuses.egress_policies = self.policies.conditions();
    }
}
