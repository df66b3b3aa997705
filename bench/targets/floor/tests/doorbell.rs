//! The doorbell measurement at a small size, so that it cannot rot.

use std::process::Command;

#[test]
fn every_bell_is_heard_or_says_why_not() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_doorbell")).args(["--rounds", "1", "--rings", "20"]).output();
    let output = output.expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert_eq!(text.lines().filter(|line| line.contains("any thread")).count(), 8, "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("owns a ring")).count(), 4, "{text}");
    assert!(!text.contains("not heard"), "{text}");
}
