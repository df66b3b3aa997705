//! Two tasks that sleep at the same time, on one thread. Python's `hello()` with `asyncio.sleep(1)`, twice.

use std::time::{Duration, Instant};

use annulet::time::sleep;

async fn hello() {
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    println!("Hello world! (thread {thread})");
    // The task waits, the thread does not: it runs the other task meanwhile.
    sleep(Duration::from_secs(1)).await;
    println!("Hello again! (thread {thread})");
}

#[annulet::main]
async fn main() {
    let start = Instant::now();
    let first = annulet::spawn(hello());
    let second = annulet::spawn(hello());
    first.await.unwrap();
    second.await.unwrap();
    println!("both took about {:.0} s together", start.elapsed().as_secs_f64());
}
