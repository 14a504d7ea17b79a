//! Whole queues over a spool in memory, with scripted deliveries and a clock that is moved by hand.

mod bounces;
mod crash;
mod deliveries;
mod disk;
mod faults;
mod life;
mod orders;
mod record;
mod reports;
mod trouble;
mod world;
