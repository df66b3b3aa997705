//! Three factorials in parallel, a step at a time. The example "parallel execution of tasks" of Python's documentation.

use std::time::Duration;

use annulet::gather;
use annulet::time::sleep;

async fn factorial(name: &str, number: u64) -> u64 {
    let mut product = 1;
    for factor in 2..=number {
        println!("Task {name}: Compute factorial({factor})...");
        sleep(Duration::from_secs(1)).await;
        product *= factor;
    }
    println!("Task {name}: factorial({number}) = {product}");
    product
}

async fn main_of_it() {
    println!("start...");
    let results = gather([("A", 2), ("B", 3), ("C", 4)].map(|(name, number)| factorial(name, number))).await;
    println!("{results:?}");
}

fn main() -> std::io::Result<()> {
    // With a virtual clock the seconds cost nothing.
    annulet::Builder::new().virtual_clock(true).run_local(main_of_it())
}
