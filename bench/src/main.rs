//! The binary: its rooms are those of the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    annulet_bench::main(std::env::args_os())
}
