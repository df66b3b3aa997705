//! What can be asked of tasks: cancel, callbacks, the running one, all of them, and what each waits for. Python's
//! `Task.cancel`, `add_done_callback`, `current_task`, `all_tasks` and `print_stack`.
//!
//! With the argument `wait` it then waits: `kill -USR1` prints the dump of every loop to stderr, `kill -TERM` ends it.

use std::time::Duration;

use annulet::net::TcpListener;
use annulet::signal::{SignalKind, dump_tasks_on, unix};
use annulet::task::{self, Builder};
use annulet::time::sleep;

async fn slow_operation() -> &'static str {
    sleep(Duration::from_millis(10)).await;
    "Future is done!"
}

#[annulet::main]
async fn main() -> std::io::Result<()> {
    println!("the running task is {}", task::current().id());

    let operation = Builder::new().name("slow operation").spawn(slow_operation());
    operation.on_done(|result| println!("callback: {:?}", result.unwrap()));
    println!("awaited: {:?}", operation.await.unwrap());

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = Builder::new().name("server").spawn(async move { listener.accept().await.map(drop) });
    let sleeper = Builder::new().name("sleeper").spawn(sleep(Duration::from_secs(3600)));
    let joiner = Builder::new().name("joiner").spawn(async move { sleeper.await.is_ok() });
    annulet::yield_now().await;
    let names: Vec<_> = task::all().iter().map(|task| task.name().unwrap_or("(no name)".into())).collect();
    println!("all tasks: {names:?}");
    println!("{}", task::dump());

    server.on_done(|result| println!("callback: {}", result.unwrap_err()));
    let cancelled = server.cancel().await.unwrap_err();
    println!("cancelled: {}", cancelled.is_cancelled());

    if std::env::args().any(|argument| argument == "wait") {
        dump_tasks_on(SignalKind::user_defined1())?;
        let mut terminate = unix::signal(SignalKind::terminate())?;
        println!("pid {}: send SIGUSR1 for a dump, SIGTERM to end", std::process::id());
        terminate.recv().await;
        println!("the end");
    }
    joiner.abort();
    Ok(())
}
