//! Egress: which hosts of the outside world may be reached, and by whom. Nothing may that is not listed.
//!
//! [`Entry`] (a ServiceEntry) opens hosts and ports, [`Policy`] (an EgressPolicy) narrows that by caller, [`Workload`] says
//! who calls from which address. [`CompiledEgress::decide`] puts them together. [`host`] says what a destination is called, and
//! [`address`] what its addresses lead to.

mod about;
pub mod address;
mod callers;
pub(crate) mod compile;
pub mod decide;
pub mod entry;
pub mod host;
mod index;
mod opened;
mod path;
mod policies;
pub mod policy;
mod ranges;
mod reach;
mod scope;
pub mod settings;
mod targets;
mod way;
pub mod workload;
mod workloads;

pub use self::{
    decide::{
        Caller, CompiledEgress, Decision, DecisionReason, Destination, Question, Seen, Verdict,
    },
    entry::{
        Entry, EntryEndpoint, EntryPort, EntryProtocol, EntryTls, ExportedTo, MAX_CLAIMS,
        Resolution,
    },
    opened::Opened,
    policy::{
        CallerMatch, DestinationMatch, LabelRequirement, LabelSelector, Policy, PolicyAction,
        PolicyMode, PolicyScope,
    },
    reach::Inside,
    settings::{DecisionLog, EgressSettings, TokenSettings},
    workload::Workload,
};

#[cfg(test)]
mod tests;
