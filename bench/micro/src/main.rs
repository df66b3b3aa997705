//! Small operations of annulet beside the same on other runtimes.
//!
//! One runtime and one row a process: `annulet-micro RUNTIME ROW COUNT` prints the nanoseconds of one operation, and for
//! the row `sleepers` how late the last was and the memory of a task. `scripts/micro` runs them in turn.
//!
//! Goal: the cost of a primitive, in a loop that does nothing else, on one thread; for the rows of `cross` on two. Not a
//! goal: what an application would see, in which the kernel and the caches cost more.

mod cross;
mod on_annulet;
mod on_glommio;
mod on_monoio;
mod on_smol;
mod on_tokio;
mod rows;

use std::process::ExitCode;

use rows::{Measure, Row};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [runtime, row, count] = &arguments[..] else {
        eprintln!(
            "usage: annulet-micro annulet|tokio|monoio|glommio|smol|flume ROW COUNT\nrows: {}",
            Row::names()
        );
        return ExitCode::from(2);
    };
    let (Some(row), Ok(count)) = (Row::named(row), count.parse::<u64>()) else {
        eprintln!("no such row or count; rows: {}", Row::names());
        return ExitCode::from(2);
    };
    let run: fn(Row, u64) -> Option<Measure> = match (runtime.as_str(), cross::is_one(row)) {
        ("annulet", false) => on_annulet::run,
        ("annulet", true) => cross::run_annulet,
        ("tokio", false) => on_tokio::run,
        ("tokio", true) => cross::run_tokio,
        ("glommio", false) => on_glommio::run,
        ("glommio", true) => cross::run_glommio,
        ("flume", true) => cross::run_flume,
        ("monoio", false) => on_monoio::run,
        ("smol", false) => on_smol::run,
        ("flume", false) | ("monoio" | "smol", true) => |_, _| None,
        _ => {
            eprintln!("no such runtime: {runtime}");
            return ExitCode::from(2);
        }
    };
    match run(row, count) {
        Some(measure) => println!("{measure}"),
        None => println!("none"),
    }
    ExitCode::SUCCESS
}
