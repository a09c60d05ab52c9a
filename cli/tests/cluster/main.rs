//! Commands that ask a cluster: the `portcullis` binary against an API server of the test's own.

mod check;
#[path = "../common/mod.rs"]
mod common;
mod egress;
mod explain;
mod fake;
#[path = "../common/helm.rs"]
mod helm;
mod install;
mod lists;
mod progress;
mod rights;
mod status;
mod status_egress;
