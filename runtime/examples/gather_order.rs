//! Futures that run at a time take turns where they await, and nowhere else. Python's `asyncio.gather`, without and with
//! `asyncio.sleep(0)`.

use annulet::{gather, yield_now};

async fn count(name: &str, to: u32, yields: bool) -> String {
    for number in 0..to {
        println!("{name} {number}");
        if yields {
            yield_now().await;
        }
    }
    format!("{name} counted to {to}")
}

#[annulet::main]
async fn main() {
    println!("without an await A is done before B begins:");
    gather(["A", "B"].map(|name| count(name, 3, false))).await;
    println!("with one they take turns:");
    let results = gather(["A", "B"].map(|name| count(name, 3, true))).await;
    println!("{results:?}");
}
