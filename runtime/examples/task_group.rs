//! In a group the first failure cancels the siblings and is returned; `gather` lets everything run. Python's
//! `asyncio.TaskGroup` beside `asyncio.gather(…, return_exceptions=True)`.

use std::time::Duration;

use annulet::time::sleep;
use annulet::{TaskGroup, gather};

/// Says so when it is dropped before its end.
struct Told(&'static str);

impl Drop for Told {
    fn drop(&mut self) {
        println!("  {} is cancelled", self.0);
    }
}

async fn work(name: &'static str, seconds: u64) -> Result<&'static str, String> {
    let told = Told(name);
    sleep(Duration::from_secs(seconds)).await;
    std::mem::forget(told);
    if name == "bad" {
        println!("  {name} fails");
        return Err(format!("{name} does not work"));
    }
    println!("  {name} is done");
    Ok(name)
}

async fn main_of_it() {
    println!("a group whose members succeed:");
    let result = TaskGroup::scope(async |group| {
        let one = group.spawn(work("one", 1));
        let two = group.spawn(work("two", 2));
        Ok::<_, String>([one.await.unwrap(), two.await.unwrap()])
    });
    println!("{:?}", result.await);
    println!("a group with one that fails:");
    let group = TaskGroup::new();
    for (name, seconds) in [("quick", 1), ("bad", 2), ("slow", 3)] {
        group.spawn(work(name, seconds));
    }
    println!("{:?}", group.join().await);
    println!("the same gathered:");
    println!(
        "{:?}",
        gather([("quick", 1), ("bad", 2), ("slow", 3)].map(|(name, seconds)| work(name, seconds))).await
    );
    println!("a group that is dropped:");
    let group = TaskGroup::<String>::new();
    group.spawn(work("dropped", 1));
    annulet::yield_now().await;
    drop(group);
    println!("nothing outlived it");
}

fn main() -> std::io::Result<()> {
    // With a virtual clock the seconds cost nothing.
    annulet::Builder::new().virtual_clock(true).run_local(main_of_it())
}
