//! What one poll of a task costs the loop: yields in a row, and what they take.
//!
//! Goal: the instructions of a poll, to compare before and after a change. Non-goals: the kernel, timers, sockets. Run it
//! alone for nanoseconds, or count instructions; the difference of two runs leaves out the start. (Under valgrind rustix has
//! to read the clock through libc.)
//!
//! ```text
//! cargo run --release -p annulet --example poll_cost -- 10000000
//! RUSTFLAGS='--cfg rustix_use_libc' cargo build --release -p annulet --example poll_cost
//! valgrind --tool=callgrind target/release/examples/poll_cost 100000
//! valgrind --tool=callgrind target/release/examples/poll_cost 200000
//! ```

use std::time::Instant;

/// Tasks that take turns.
const TASKS: usize = 64;

fn main() {
    let yields = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100_000);
    let (polls, elapsed) = annulet::run(async move {
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                annulet::spawn(async move {
                    for _ in 0..yields / TASKS {
                        annulet::yield_now().await;
                    }
                })
            })
            .collect();
        let (polls, start) = (annulet::metrics().polls, Instant::now());
        for task in tasks {
            task.await.unwrap();
        }
        (annulet::metrics().polls - polls, start.elapsed())
    });
    println!("{polls} polls, {:.1} ns each", elapsed.as_nanos() as f64 / polls as f64);
}
