//! Controller and data plane over real sockets: tables down, reports up, and what happens when one of them is gone.

mod absence;
mod certificates;
mod client;
mod protocol;
mod relay;
mod scripted;
mod slow;
mod tables;
mod world;
