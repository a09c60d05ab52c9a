//! The controller against an API server: watches, statuses, leadership.

mod fake_api;
mod leader;
mod process;
mod status;
mod support;
mod watch;
