//! Pages that a browser shows without a network: `load --html` and `compare --html`.
//!
//! No script: pictures are SVG that is drawn here ([`axis`] has what they share). [`page`] is the frame, [`run`] the page of one
//! run.

mod axis;
mod heat;
pub(crate) mod page;
mod percentiles;
mod rate;
pub(crate) mod run;
