//! A resource that is opened and closed by awaiting, and is closed on every way out: after a value, after an error, and
//! after a cancellation. Python's `async with`, `__aenter__` and `__aexit__`.

use std::time::Duration;

use annulet::task::using;
use annulet::time::{sleep, timeout};

struct Connection {
    name: &'static str,
}

impl Connection {
    async fn open(name: &'static str) -> Connection {
        sleep(Duration::from_millis(1)).await;
        println!("{name}: open");
        Connection { name }
    }

    async fn do_something(&mut self) -> u32 {
        666
    }

    async fn close(self) {
        // A farewell that takes its time. A drop could not await it.
        sleep(Duration::from_millis(1)).await;
        println!("{}: closed", self.name);
    }
}

#[annulet::main]
async fn main() {
    let open = Connection::open("normal").await;
    let value = using(open, async |connection| connection.do_something().await, Connection::close).await;
    println!("normal: {value}");

    let open = Connection::open("error").await;
    let result = using(open, async |_| Err::<(), _>("it went wrong"), Connection::close).await;
    println!("error: {result:?}");

    let open = Connection::open("cancelled").await;
    let forever = using(open, async |_| std::future::pending::<()>().await, Connection::close);
    println!("cancelled: {}", timeout(Duration::from_millis(5), forever).await.unwrap_err());
    // Its close runs in a task of its own, and the end of the loop waits for that too.
    println!("main ends");
}
