//! A loop on each core, with coroutines on each of them, as threads or as processes: `all_cores threads|processes`.
//!
//! Two workers, wherever there is one core as well. Run with `processes`, this program is executed again for each.

use std::io;
use std::time::Duration;

use annulet::placement::available_cores;
use annulet::{Builder, Core, Ended, Workers};

async fn work(core: Core) {
    let coroutines = (0..3).map(async |number| {
        annulet::time::sleep(Duration::from_millis(number)).await;
        number
    });
    let numbers = annulet::gather(coroutines).await;
    println!("worker {}: {numbers:?}", core.index());
}

fn main() -> io::Result<()> {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let workers = if mode == "processes" { Workers::Processes } else { Workers::Threads };
    let cores: Vec<usize> = available_cores()?.into_iter().cycle().take(2).collect();
    let ended = Builder::new().workers(workers).cores(cores).supervise(|_| println!("all run"), work)?;
    // What comes after it is done in the first process only, unless a worker has something of its own to say.
    if ended != Ended::Worker {
        println!("all have done their part");
    }
    Ok(())
}
