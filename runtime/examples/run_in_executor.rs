//! Functions that block, in the pool of the process, in a pool of one's own, and in processes, while the loop goes on.
//! Python's `loop.run_in_executor` with None, a ThreadPoolExecutor and a ProcessPoolExecutor.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use annulet::blocking::Pool;
use annulet::process::Command;
use annulet::spawn_blocking;

/// Some work that takes long and knows nothing of async.
fn work(number: u64) -> u64 {
    thread::sleep(Duration::from_millis(50));
    number * number
}

#[annulet::main]
async fn main() -> io::Result<()> {
    // A process of the third kind: the same program with a number to work on.
    if let Some(number) = std::env::args().nth(1) {
        println!("{}", work(number.parse().expect("a number")));
        return Ok(());
    }
    let ticks = Rc::new(Cell::new(0_u32));
    let counter = Rc::clone(&ticks);
    let ticker = annulet::spawn(async move {
        loop {
            annulet::time::sleep(Duration::from_millis(5)).await;
            counter.set(counter.get() + 1);
        }
    });

    // 1. The pool of the process.
    let value = spawn_blocking(|| work(2)).await?;
    println!("default thread pool: {value}");

    // 2. A pool of one's own, with bounds of its own. The tasks are submitted at once and run side by side.
    let pool = Pool::builder().name("custom").threads_max(3).build()?;
    let tasks: Vec<_> = (3..6).map(|number| pool.spawn(move || work(number))).collect();
    for task in tasks {
        println!("custom thread pool: {}", task.await?);
    }
    // Python's `with ThreadPoolExecutor() as pool` ends so, too.
    pool.shutdown().await;

    // 3. Processes: a core each, nothing shared. All are started, and waited for without a thread.
    let program = std::env::current_exe()?;
    let processes = (6..9).map(|number| {
        let mut command = Command::new(&program);
        command.arg(number.to_string());
        async move { command.output().await }
    });
    for output in annulet::gather(processes).await {
        print!("process: {}", String::from_utf8_lossy(&output?.stdout));
    }

    ticker.abort();
    println!("the loop went on meanwhile: {}", ticks.get() > 3);
    Ok(())
}
