//! A hundred thousand tasks sleep half a second at the same time. "Tens of thousands of coroutines" in Python's notes.
//!
//! ```text
//! cargo run --release --example many_tasks
//! ```

use std::time::{Duration, Instant};

const TASKS: usize = 100_000;

/// Resident memory of this process, in bytes: VmRSS of proc_pid_status(5).
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel tells VmRSS");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB");
    kib * 1024
}

#[annulet::main]
async fn main() {
    // What the loop itself needs is there before it is measured.
    annulet::spawn(annulet::time::sleep(Duration::from_millis(1))).await.unwrap();
    let before = resident_bytes();
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| annulet::spawn(async { annulet::time::sleep(Duration::from_millis(500)).await }))
        .collect();
    // Every task has its turn and sets its timer.
    while annulet::metrics().timers < TASKS {
        annulet::yield_now().await;
    }
    let sleeping = start.elapsed();
    let bytes = resident_bytes().saturating_sub(before) / TASKS as u64;
    for task in tasks {
        task.await.unwrap();
    }
    println!("{TASKS} tasks sleep after {} ms", sleeping.as_millis());
    println!("all are done after {} ms", start.elapsed().as_millis());
    println!("resident memory per sleeping task: {bytes} bytes");
}
