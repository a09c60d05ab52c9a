//! What must hold for every table, request and delta.

mod arbitrary;
mod compile;
mod delta;
mod egress;
mod entries;
mod frame;
mod fuzz;
mod lookup;
mod reference;
