//! `load`: sends requests to a server and measures.

use clap::Args;

use crate::exit::{Exit, Failure};

/// The arguments of `load`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Where to send requests.
    #[arg(required = true)]
    pub(crate) urls: Vec<String>,
}

/// Runs the load.
///
/// # Errors
///
/// One line for the user.
pub(crate) fn main(_options: &Options) -> Result<Exit, Failure> {
    Err(Failure::usage("load cannot send yet"))
}
