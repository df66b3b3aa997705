//! The comparison of two ways to copy runs, at a small size, and refuses what it does not understand.

use std::process::Command;

#[test]
fn both_ways_carry_every_byte() {
    let done = Command::new(env!("CARGO_BIN_EXE_splice")).args(["1", "2"]).output().unwrap();
    if !done.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&done.stderr));
        return;
    }
    let text = String::from_utf8(done.stdout).unwrap();
    for row in ["| 1024 | Copy |", "| 1024 | Splice |", "| 65536 | Copy |", "| 65536 | Splice |"] {
        assert!(text.contains(row), "{text}");
    }
}

#[test]
fn wrong_arguments_are_told() {
    let done = Command::new(env!("CARGO_BIN_EXE_splice")).args(["0", "2"]).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
}
