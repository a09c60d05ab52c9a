//! The table of special addresses: `testdata/egress/addresses.yaml`.

use std::net::IpAddr;

use portcullis_routing::egress::address::AddressClass;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    is: String,
    r#in: Vec<IpAddr>,
    twins: Vec<IpAddr>,
}

#[test]
fn special_addresses() {
    let ranges: Vec<Range> = crate::corpus("addresses.yaml");
    let mut faults = Vec::new();
    for range in &ranges {
        assert!(!range.r#in.is_empty() && !range.twins.is_empty());
        for address in &range.r#in {
            let class = AddressClass::of(*address);
            if class.is_public() || class.to_string() != range.is {
                faults.push(format!("{address} is {class}, not {}", range.is));
            }
        }
        for address in &range.twins {
            let class = AddressClass::of(*address);
            if !class.is_public() {
                faults.push(format!("{address} is {class}, not public"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
