//! Destinations of egress: every trick that is known with a name or an address, and what must hold for every text.

mod addresses;
mod hosts;
mod properties;

use serde::de::DeserializeOwned;

/// Reads `testdata/egress/<name>`.
fn corpus<T: DeserializeOwned>(name: &str) -> T {
    let path = format!(
        "{}/tests/testdata/egress/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}
