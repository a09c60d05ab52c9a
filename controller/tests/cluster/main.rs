//! The controller against an API server: watches, statuses, infrastructure, leadership.

mod backend_tls;
mod certificates;
mod credentials;
mod egress;
mod fake_api;
mod leader;
mod parameters;
mod process;
mod provision;
mod readiness;
mod rights;
mod status;
mod support;
mod unwatched;
mod watch;
