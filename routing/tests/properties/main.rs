//! What must hold for every table, request and delta.

mod arbitrary;
mod compile;
mod delta;
mod egress;
mod frame;
mod fuzz;
mod lookup;
mod reference;
