//! `portcullis egress`: what may leave the cluster, what was refused, and what to allow.

mod check;
mod denied;
mod gateways;
mod learn;
mod lines;
mod logs;
mod manifest;
mod record;
mod tally;

use std::process::ExitCode;

use crate::args::{EgressArgs, EgressCommand};

/// Answers a question about egress.
pub(crate) fn egress(args: &EgressArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        EgressCommand::Check(args) => check::check(args),
        EgressCommand::Denied(args) => denied::denied(args),
        EgressCommand::Learn(args) => learn::learn(args),
    }
}
