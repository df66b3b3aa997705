#![no_main]

#[path = "../checks/range.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check_input(input));
