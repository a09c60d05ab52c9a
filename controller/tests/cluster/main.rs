//! The controller against an API server: watches, statuses, leadership.

mod backend_tls;
mod certificates;
mod fake_api;
mod leader;
mod process;
mod status;
mod support;
mod watch;
