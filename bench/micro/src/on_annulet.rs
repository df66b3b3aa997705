//! annulet.
use crate::rows::{Measure, Row};
pub fn run(_: Row, _: u64) -> Option<Measure> { None }
