//! Hosts in manifests: brought into the normal form in which the proxy compares the hosts that callers name.

use std::net::IpAddr;

use portcullis_routing::egress::host::Host;

use super::faults::Fault;

const REMEDY: &str =
    "write a name such as api.example.com or *.example.com, without scheme, port and path";

/// A host of a manifest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HostSpec {
    /// A name, or `*.suffix`.
    Name(String),
    /// An IP address.
    Address(IpAddr),
}

impl HostSpec {
    /// Reads a host of whatever kind.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        if text == "*" {
            return Err(Fault::unsupported(
                "`*` alone would be every host there is",
                "name the hosts, or the suffixes that they have in common: *.example.com",
            ));
        }
        let invalid = |why: &dyn std::fmt::Display| {
            Fault::invalid(format!("{text:?} is no host: {why}"), REMEDY)
        };
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(suffix) => ("*.", suffix),
            None => ("", text),
        };
        match Host::parse(name).map_err(|error| invalid(&error))? {
            Host::Address(address) if wildcard.is_empty() => Ok(Self::Address(address)),
            Host::Address(_) => Err(invalid(&"an address has no subdomains")),
            Host::Name(name) => Ok(Self::Name(format!("{wildcard}{name}"))),
        }
    }
}

/// Reads a host that has to be a name, or `*.suffix`.
pub(super) fn name(text: &str) -> Result<String, Fault> {
    match HostSpec::parse(text)? {
        HostSpec::Name(name) => Ok(name),
        HostSpec::Address(address) => Err(Fault::invalid(
            format!(
                "{text:?} is an address, and no client that names an address would be let through by it"
            ),
            format!("list {address} in spec.addresses, beside the name of the host"),
        )),
    }
}
