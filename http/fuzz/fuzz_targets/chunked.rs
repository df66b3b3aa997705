#![no_main]

#[path = "../checks/chunked.rs"]
mod check;
#[allow(dead_code)]
#[path = "../../tests/conformance/mutate.rs"]
mod mutate;
mod mutator;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check_input(input));
