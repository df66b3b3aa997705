//! Tasks with names that overlap. Python's `asyncio.create_task(coroutine, name=…)` and `ensure_future`.

use std::time::Duration;

use annulet::task::{Builder, current};
use annulet::time::sleep;

async fn work() -> &'static str {
    let name = current().name().expect("it was given one");
    println!("{name}: 1");
    sleep(Duration::from_millis(20)).await;
    println!("{name}: 2");
    "done"
}

#[annulet::main]
async fn main() {
    println!("main begins");
    // They start by themselves when this task first waits; in Python it is the same.
    let tasks = ["t1", "t2"].map(|name| Builder::new().name(name).spawn(work()));
    println!("main has spawned {} and {}", tasks[0].name().unwrap(), tasks[1].name().unwrap());
    for task in tasks {
        println!("a result: {}", task.await.unwrap());
    }
}
