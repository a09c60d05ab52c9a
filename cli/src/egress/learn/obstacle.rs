//! What is never allowed because it was seen, and why.

use portcullis_dataplane::reason::Reason;
use portcullis_routing::egress::host::{Host, is_of_inside};

use super::Place;
use crate::egress::record::Caller;

/// Whether an error of what was allowed says that it should not be.
pub(super) fn is_telling(error: &str) -> bool {
    let known = Reason::ALL.iter().find(|reason| reason.code() == error);
    known.is_some_and(|reason| {
        *reason == Reason::DnsFailed
            || (reason.status() == http::StatusCode::FORBIDDEN && *reason != Reason::Revoked)
    })
}

/// Why something was refused.
pub(super) fn refusal(code: &str, policy: Option<&str>) -> String {
    let known = Reason::ALL.iter().find(|reason| reason.code() == code);
    let why = known.map_or(code, |reason| reason.text());
    match policy {
        Some(policy) => format!("{why} ({policy})"),
        None => why.to_owned(),
    }
}

/// Why a destination cannot be written down as it is, or should not.
pub(super) fn of_place(place: &Place) -> Option<String> {
    if let Caller::Unknown(_) = place.caller {
        return Some("who calls is not known".to_owned());
    }
    if place.port.is_none_or(|port| port == 0) {
        return Some("no port was named".to_owned());
    }
    let name = match Host::normalize(&place.host) {
        Err(error) => return Some(format!("no host with one meaning: {error}")),
        Ok(Host::Address(_)) => {
            return Some("an address: a ServiceEntry opens it by `addresses`".to_owned());
        }
        Ok(Host::Name(name)) => name,
    };
    if *name != *place.host {
        Some(format!("an odd spelling of {name}"))
    } else if is_of_inside(&name) {
        Some("a name of the inside".to_owned())
    } else if name.contains('_') {
        Some("an EgressPolicy can name no host with an underscore".to_owned())
    } else {
        None
    }
}
