//! Runs until SIGINT or SIGTERM, and tells on SIGUSR1 what its tasks wait for. Python's `loop.add_signal_handler`,
//! `loop.run_forever` and `loop.stop`.

use std::io;
use std::time::Duration;

use annulet::signal::dump_tasks_on;
use annulet::signal::unix::{SignalKind, signal};

#[annulet::main]
async fn main() -> io::Result<()> {
    // Listened for before anybody is told the pid, so that no signal comes too early.
    let mut listeners = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    dump_tasks_on(SignalKind::user_defined1())?;
    annulet::task::Builder::new().name("the server").spawn(annulet::time::sleep(Duration::from_secs(3600)));

    println!("Event loop running forever, press Ctrl+C to interrupt.");
    println!("pid {}: send SIGINT or SIGTERM to exit.", std::process::id());
    let heard = listeners.iter_mut().map(async |listener| {
        listener.recv().await;
        listener.kind()
    });
    let (_, kind) = annulet::race(heard).await;
    println!("got signal {kind}: exit");
    Ok(())
}
