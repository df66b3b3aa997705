//! One async function awaits another, and the value comes back. Python's chains of `await`.

use std::time::Duration;

use annulet::time::sleep;

async fn others(number: u32) -> u32 {
    println!("  start {number}");
    sleep(Duration::from_millis(10)).await;
    println!("  end {number}");
    number * 10
}

#[annulet::main]
async fn main() {
    println!("what comes after an await waits for it");
    let first = others(1).await;
    println!("the first gave {first}");
    // It needs the first result, so it cannot run beside it.
    let second = others(first + 1).await;
    println!("the second gave {second}");
}
