//! Pages that a browser shows without a network: `load --html` and `compare --html`.
//!
//! No script: pictures are SVG that is drawn here.

pub(crate) mod page;
