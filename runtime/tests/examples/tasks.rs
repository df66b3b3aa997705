//! Tasks and what is done with several of them.

use crate::harness::check;

#[test]
fn run_main() {
    check(
        "run_main",
        "
        a future was made, nothing has run
        hello world
        the value is 42
        ",
    );
}
