//! `to` of an EgressPolicy: the destinations that it speaks of.
//!
//! In the table a list that is empty means everything. So an item of which a list has nothing good left is left out as a whole.

use portcullis_crds::egress_policy::{
    Action, DestinationSelector, PathMatch as PathSpec, PathMatchType,
};
use portcullis_routing::{PathMatch, egress::DestinationMatch, validate::syntax};

use super::{
    claim::Tally,
    faults::{Fault, Faults},
    host::HostSpec,
};
use crate::translate::{
    field::Field,
    route::path::{normalised, without_trailing_slash},
};

/// Methods that clients send (RFC 9110, RFC 5789).
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];

/// The destinations, and the place of each in the list; `None` is everything.
pub(super) fn translate(
    specs: Option<&[DestinationSelector]>,
    action: Action,
    field: &Field<'_>,
    faults: &mut Faults,
) -> Option<(Vec<usize>, Vec<DestinationMatch>)> {
    let items = specs?.iter().enumerate();
    let items = items.filter_map(|(index, spec)| {
        let field = field.at(index);
        let item = destination(spec, &field, faults)?;
        tell_of_slips(spec, action, &field, faults);
        Some((index, item))
    });
    Some(items.unzip())
}

/// What is valid, and no request has.
fn tell_of_slips(
    spec: &DestinationSelector,
    action: Action,
    field: &Field<'_>,
    faults: &mut Faults,
) {
    let mut paths = Tally::default();
    let values = spec.paths.iter().flatten().map(|path| &path.value);
    values
        .filter(|path| path.contains('*'))
        .for_each(|path| paths.add(path));
    if paths.first().is_some() {
        faults.warn(
            "AsteriskInPath",
            &field.child("paths"),
            format!("`*` stands for nothing but itself in {paths}"),
            "write what the paths begin with, such as /admin: type PathPrefix is for all below it; where `*` itself is meant write %2A",
        );
    }
    if action == Action::Deny {
        return;
    }
    let mut methods = Tally::default();
    let names = spec.methods.iter().flatten();
    names
        .map(String::as_str)
        .filter(|name| {
            let is_slip = |known: &&str| known.eq_ignore_ascii_case(name) && known != name;
            METHODS.iter().any(is_slip)
        })
        .for_each(|name| methods.add(name));
    if let Some(first) = methods.first() {
        let upper = first.to_ascii_uppercase();
        faults.warn(
            "MethodCase",
            &field.child("methods"),
            format!("an Allow tells methods apart by case, and no client sends {methods}"),
            format!("write them in upper case, as clients do: {upper}"),
        );
    }
}

fn destination(
    spec: &DestinationSelector,
    field: &Field<'_>,
    faults: &mut Faults,
) -> Option<DestinationMatch> {
    let hosts = list(
        spec.hosts.as_deref(),
        &field.child("hosts"),
        faults,
        |text| {
            Ok(match HostSpec::parse(text)? {
                HostSpec::Name(name) => name,
                HostSpec::Address(address) => address.to_string(),
            })
        },
    );
    let ports = list(
        spec.ports.as_deref(),
        &field.child("ports"),
        faults,
        |port| port_number(*port),
    );
    let methods = list(
        spec.methods.as_deref(),
        &field.child("methods"),
        faults,
        |name| method(name),
    );
    let paths = list(spec.paths.as_deref(), &field.child("paths"), faults, path);
    Some(DestinationMatch {
        hosts: hosts?,
        ports: ports?,
        methods: methods?,
        paths: paths?,
    })
}

/// The values that are good; none of no list, and `None` if a list has none.
fn list<S, T>(
    specs: Option<&[S]>,
    field: &Field<'_>,
    faults: &mut Faults,
    read: impl FnMut(&S) -> Result<T, Fault>,
) -> Option<Vec<T>> {
    let Some(specs) = specs else {
        return Some(Vec::new());
    };
    if specs.is_empty() {
        let fault = Fault::invalid(
            "the list is empty, so it names nothing",
            "add a value, or leave the list out",
        );
        return faults.keep(field, Err(fault));
    }
    let good = faults.keep_each(field, specs, read);
    (!good.is_empty()).then_some(good)
}

fn port_number(port: u16) -> Result<u16, Fault> {
    super::port::number(port.into())
}

fn method(name: &str) -> Result<String, Fault> {
    let remedy = "write a method such as GET";
    let checked = syntax::method(name).map_err(|why| Fault::invalid(why, remedy));
    checked.map(|()| name.to_owned())
}

fn path(spec: &PathSpec) -> Result<PathMatch, Fault> {
    let path = normalised(&spec.value).map_err(|why| {
        Fault::invalid(
            format!("the path {:?} {why}", spec.value),
            "write an absolute path such as /v1/models, with characters that need it percent-encoded",
        )
    })?;
    Ok(match spec.kind {
        PathMatchType::Exact => PathMatch::Exact(path),
        PathMatchType::PathPrefix => PathMatch::Prefix(without_trailing_slash(path)),
    })
}
