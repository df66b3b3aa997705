//! Waiting for some of the tasks: those that are done and those that are not both come back, and the latter go on. Python's
//! `done, pending = await asyncio.wait(tasks, timeout=…, return_when=…)`.

use std::time::Duration;

use annulet::task::Builder;
use annulet::together::Finished;
use annulet::{JoinHandle, When, wait};

type Work = Result<&'static str, String>;

fn start(name: &'static str, takes: Duration) -> JoinHandle<Work> {
    Builder::new().name(name).spawn(async move {
        annulet::time::sleep(takes).await;
        if name == "broken" { Err(format!("{name} failed")) } else { Ok(name) }
    })
}

fn show(what: &str, done: &[Finished<Work>], pending: &[JoinHandle<Work>]) {
    let done: Vec<&Work> = done.iter().map(|finished| finished.result.as_ref().unwrap()).collect();
    let pending: Vec<_> = pending.iter().map(|task| task.name().unwrap()).collect();
    println!("{what}: done {done:?}, pending {pending:?}");
}

async fn main_of_it() {
    let second = Duration::from_secs(1);
    let tasks = vec![start("slow", 4 * second), start("quick", second), start("broken", 3 * second)];
    let (done, pending) = wait(tasks, When::FIRST_COMPLETED).await;
    show("first completed", &done, &pending);
    let (done, pending) = wait(pending, When::ALL).timeout(second).await;
    show("after a second more", &done, &pending);
    let (done, pending) = wait(pending, When::FIRST_ERROR).await;
    show("first error", &done, &pending);
    let (done, pending) = wait(pending, When::ALL).await;
    show("all", &done, &pending);
}

fn main() -> std::io::Result<()> {
    // With a virtual clock the seconds cost nothing.
    annulet::Builder::new().virtual_clock(true).run_local(main_of_it())
}
