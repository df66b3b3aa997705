//! Several futures or tasks at a time.
//!
//! | what | how many | gives |
//! |---|---|---|
//! | [`gather`] | a list of futures | every output, in order |
//! | [`join`], [`join3`] | two or three futures | every output |
//! | [`select`] | two futures | the first output, and which |
//! | [`race`] | a list of futures | the first output, and its place |
//! | [`wait`] | a list of tasks | those that are done, and those that are not |
//! | [`TaskGroup`] | tasks | all succeed, or the first failure ends the others |
//!
//! All but the last two spawn nothing: their futures are polled by the task that awaits, may borrow from it, and are
//! dropped with it. A panic in one of them is a panic of that task. What is to go on by itself is
//! [spawned](crate::spawn).

mod gather;
mod group;
mod join;
mod select;
mod wait;

pub use gather::{Gather, gather};
pub use group::TaskGroup;
pub use join::{Join, Join3, join, join3};
pub use select::{Either, Race, Select, race, select};
pub use wait::{Finished, Wait, When, wait};
