#![no_main]

#[path = "../checks/connection.rs"]
mod check;
#[allow(dead_code)]
#[path = "../../tests/conformance/model.rs"]
mod model;
#[allow(dead_code)]
#[path = "../../tests/conformance/mutate.rs"]
mod mutate;
mod mutator;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check_input(input));
