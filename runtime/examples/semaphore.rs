//! Five tasks, three at a time. Python's `asyncio.Semaphore(3)`.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use annulet::sync::Semaphore;
use annulet::time::sleep;
use annulet::{Builder, spawn};

async fn test(semaphore: Rc<Semaphore>) {
    let _permit = semaphore.acquire().await.unwrap();
    println!("hello");
    sleep(Duration::from_secs(1)).await;
    println!("world");
}

fn main() -> io::Result<()> {
    // The virtual clock: seconds pass when everything waits.
    Builder::new().virtual_clock(true).run_local(async {
        let semaphore = Rc::new(Semaphore::new(3));
        let tasks: Vec<_> = (0..5).map(|_| spawn(test(Rc::clone(&semaphore)))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    })
}
