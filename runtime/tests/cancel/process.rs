//! Children: waits and pipes dropped at every await point; no byte, no status, no zombie and no descriptor is left.

use std::cell::Cell;
use std::time::Duration;

use annulet::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use annulet::time::sleep;
use rustix::process::{WaitId, WaitIdOptions};

use super::{Random, allocator, alone, attempt, check, descriptors, stretch};

/// Whether this process has children, zombies included.
fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::All, options) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error, rustix::io::Errno::CHILD);
            false
        }
    }
}

/// A child that gives back what it gets: a stream of known bytes goes round.
struct Cat {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    written: u64,
    read: u64,
}

impl Cat {
    fn new() -> Self {
        let mut command = Command::new("cat");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Cat { child, stdin, stdout, written: 0, read: 0 }
    }

    async fn step(&mut self, random: &Random) {
        let polls = random.below(4);
        match random.below(5) {
            0 | 1 => {
                // A dropped write has written nothing; at times the pipes are full.
                let bytes = stretch(self.written, 1 + random.below(50_000));
                let count = attempt(self.stdin.write(&bytes), polls).await;
                self.written += count.map_or(0, |count| count.unwrap() as u64);
            }
            2 | 3 => {
                let mut bytes = vec![0; 1 + random.below(30_000) as usize];
                if let Some(count) = attempt(self.stdout.read(&mut bytes), polls).await {
                    check(&bytes[..count.unwrap()], &mut self.read);
                }
            }
            // It runs until its input ends.
            _ => assert!(attempt(self.child.wait(), polls).await.is_none()),
        }
    }

    async fn finish(mut self) {
        drop(self.stdin);
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).await.unwrap();
        check(&rest, &mut self.read);
        assert_eq!(self.read, self.written);
        assert!(self.child.wait().await.unwrap().success());
    }
}

/// Short-lived children, each dropped somewhere on its way.
async fn short_lived(random: &Random) {
    let polls = random.below(4);
    let mut command = Command::new("sh");
    match random.below(5) {
        0 => {
            command.args(["-c", "echo out; echo err >&2; exit 7"]);
            if let Some(output) = attempt(command.output(), polls).await {
                let output = output.unwrap();
                assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
                assert_eq!(output.status.code(), Some(7));
            }
        }
        1 => {
            command.args(["-c", "exit 7"]);
            if let Some(status) = attempt(command.status(), polls).await {
                assert_eq!(status.unwrap().code(), Some(7));
            }
        }
        2 => {
            // The status is there however often a wait was dropped.
            let mut child = command.args(["-c", "exit 7"]).spawn().unwrap();
            for _ in 0..random.below(4) {
                if let Some(status) = attempt(child.wait(), random.below(4)).await {
                    assert_eq!(status.unwrap().code(), Some(7));
                }
            }
            if random.below(2) == 0 {
                assert_eq!(child.wait().await.unwrap().code(), Some(7));
            }
        }
        3 => {
            let mut child = Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
            drop(attempt(child.wait(), polls).await);
            if random.below(2) == 0 {
                drop(attempt(child.kill(), random.below(4)).await);
            }
        }
        _ => {
            let mut command = Command::new("sleep");
            command.arg("600").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
            assert!(attempt(command.spawn().unwrap().wait_with_output(), polls).await.is_none());
        }
    }
}

#[test]
fn children_survive_dropped_waits() {
    let _alone = alone();
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let rounds = variable("ANNULET_CANCEL_ROUNDS").unwrap_or(100_000) / 25;
    let seed = variable("ANNULET_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 17 | 1);
    println!("ANNULET_SEED={seed}, {rounds} futures");
    annulet::run(async {});
    assert!(!has_children(), "nothing else in this process starts any");
    let before = descriptors();
    let random = Random(Cell::new(seed));
    for mask in ["", "waitid"] {
        println!("mask {mask:?}");
        let test = async {
            let mut cats: Vec<_> = (0..3).map(|_| Cat::new()).collect();
            for _ in 0..rounds / 2 {
                // Starting one takes a hundred times as long as a step.
                match random.below(20) {
                    0 => short_lived(&random).await,
                    _ => cats[random.below(3) as usize].step(&random).await,
                }
            }
            for cat in cats {
                cat.finish().await;
            }
            for _ in 0..50_000 {
                let metrics = annulet::metrics();
                if (metrics.operations, metrics.tasks) == (0, 0) {
                    break;
                }
                sleep(Duration::from_micros(100)).await;
            }
            let metrics = annulet::metrics();
            assert_eq!((metrics.operations, metrics.timers, metrics.tasks), (0, 0, 0), "{metrics:?}");
            assert!(!has_children(), "a child was not reaped");
        };
        annulet::Builder::new().ring_mask(mask).run_local(test).unwrap();
    }
    assert_eq!(descriptors(), before, "descriptors leaked");
    let (_, damaged) = allocator::inspect();
    assert_eq!(damaged, 0, "memory was written to after it was freed");
}
