//! The tables.

mod addresses;
mod dns;
mod framing;
mod greetings;
mod http2;
mod itself;
mod names;
mod ports;
mod targets;
mod tunnels;

use super::Case;

/// All cases.
pub(super) fn all() -> impl Iterator<Item = &'static Case> {
    let tables = [
        addresses::CASES,
        dns::CASES,
        framing::CASES,
        greetings::CASES,
        http2::CASES,
        itself::CASES,
        names::CASES,
        ports::CASES,
        targets::CASES,
        tunnels::CASES,
    ];
    tables.into_iter().flatten()
}
