//! A lock that is held across an await. Python's `asyncio.Lock` and `async with lock`.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use annulet::sync::Mutex;
use annulet::time::sleep;
use annulet::{Builder, spawn};

async fn coro(name: u32, lock: Rc<Mutex<()>>) {
    println!("coro {name}: waiting for lock");
    let guard = lock.lock().await;
    println!("coro {name}: holding the lock");
    sleep(Duration::from_secs(1)).await;
    println!("coro {name}: releasing the lock");
    drop(guard);
}

fn main() -> io::Result<()> {
    // The virtual clock: seconds pass when everything waits.
    Builder::new().virtual_clock(true).run_local(async {
        let lock = Rc::new(Mutex::new(()));
        let tasks = [1, 2].map(|name| spawn(coro(name, Rc::clone(&lock))));
        for task in tasks {
            task.await.unwrap();
        }
    })
}
