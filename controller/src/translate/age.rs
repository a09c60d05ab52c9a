//! How old an object is, where the older of two comes first.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_routing::RouteOrder;

/// Seconds since the epoch. An object from a file may have no creation time: it comes last.
pub(crate) fn created_at(metadata: &ObjectMeta) -> i64 {
    let time = metadata.creation_timestamp.as_ref();
    time.map_or(RouteOrder::NEVER, |time| time.0.as_second())
}
