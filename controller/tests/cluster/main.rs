//! The controller against an API server: watches, statuses, leadership.

mod certificates;
mod fake_api;
mod leader;
mod process;
mod status;
mod support;
mod watch;
