//! Portcullis' own Kubernetes kinds, group `portcullis.dev`.

pub mod gateway_parameters;

pub use gateway_parameters::{GatewayParameters, GatewayParametersSpec};
