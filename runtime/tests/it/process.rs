//! Children: started, talked to, waited for, killed; no zombie and no descriptor stays.

use std::future::Future;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use annulet::process::{Command, Stdio};
use annulet::time::timeout;

use crate::support::{open_files, until};

fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Whether there is such a process, be it a zombie.
fn is_there(id: u32) -> bool {
    std::path::Path::new(&format!("/proc/{id}")).exists()
}

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("600");
    command
}

#[annulet::test]
async fn output_reads_both_pipes_at_once() {
    let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 3";
    let output = Command::new("sh").args(["-c", script]).output().await.unwrap();
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(3), 300_000, 300_000));
}

#[test]
fn the_child_of_a_pinned_loop_is_not_pinned() {
    let all = annulet::placement::available_cores().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let loops = annulet::Builder::new()
        .cores([all[0]])
        .start(move |_| {
            let tell = tell.clone();
            async move {
                let output = Command::new("nproc").output().await.unwrap();
                let own = annulet::placement::available_cores().unwrap();
                tell.send((String::from_utf8(output.stdout).unwrap(), own)).unwrap();
            }
        })
        .unwrap();
    loops.join().unwrap();
    assert_eq!(told.recv().unwrap(), (format!("{}\n", all.len()), vec![all[0]]));
}

#[annulet::test]
async fn a_pipe_that_never_runs_dry_lets_others_run() {
    let mut child =
        Command::new("cat").arg("/dev/zero").stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let others = annulet::spawn(async {});
    let mut reads = 0;
    // A byte at a time, of which the pipe holds more than enough.
    while !others.is_finished() {
        stdout.read(&mut [0]).await.unwrap();
        reads += 1;
        assert!(reads < 1000, "the other task has had no turn");
    }
}

#[annulet::test]
async fn arguments_variables_and_directory_reach_the_child() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo $0 $WORD $(pwd)", "zero"]).env("WORD", "word").current_dir("/");
    let output = command.output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "zero word /\n");
    assert!(Command::new("true").status().await.unwrap().success());
}

#[annulet::test]
async fn a_child_is_talked_to() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = [0; 100];
    assert!(poll_once(stdout.read(&mut buffer)).is_none());
    stdin.write_all(b"one").await.unwrap();
    let count = stdout.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..count], b"one", "a dropped read loses nothing");
    // More than both pipes hold.
    let writing = annulet::spawn(async move { stdin.write_all(&vec![7; 1_000_000]).await });
    let mut rest = Vec::new();
    assert_eq!(stdout.read_to_end(&mut rest).await.unwrap(), 1_000_000);
    writing.await.unwrap().unwrap();
    assert!(child.wait().await.unwrap().success());

    let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    child.wait().await.unwrap();
    // Not at once: a child that another test starts at this moment has the reading end, too, until it executes its program.
    let broken = async {
        loop {
            if let Err(error) = stdin.write_all(b"x").await {
                return error.kind();
            }
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert_eq!(timeout(Duration::from_secs(30), broken).await, Ok(ErrorKind::BrokenPipe));
}

#[annulet::test]
async fn a_dropped_wait_loses_no_status() {
    let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    for _ in 0..3 {
        assert!(poll_once(child.wait()).is_none_or(|status| status.unwrap().code() == Some(7)));
        annulet::yield_now().await;
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(7));
    assert_eq!(child.wait().await.unwrap().code(), Some(7), "it is told again");
    assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(7));
    child.start_kill().unwrap();
    assert!(!is_there(child.id()));
}

#[annulet::test]
async fn a_child_is_killed() {
    use std::os::unix::process::ExitStatusExt;
    let mut child = sleeper().spawn().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().await.unwrap();
    assert_eq!(child.wait().await.unwrap().signal(), Some(9));

    let mut child = sleeper().spawn().unwrap();
    assert!(poll_once(child.wait()).is_none());
    assert_eq!(child.try_wait().unwrap(), None, "the wait that was dropped is under way");
    child.start_kill().unwrap();
    assert_eq!(child.wait().await.unwrap().signal(), Some(9));
}

#[annulet::test]
async fn a_command_that_is_not_there_is_named() {
    let check = |program: &str, kind, words: &str| {
        let error = Command::new(program).spawn().unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(words), "{error}");
    };
    check("no-such-program", ErrorKind::NotFound, "cannot start no-such-program: No such file");
    check("no-such-program", ErrorKind::NotFound, "in PATH");
    check("/etc/passwd", ErrorKind::PermissionDenied, "executable");
}

#[test]
fn no_zombie_and_no_descriptor_stays() {
    let left = annulet::run(async {
        // Dropped with a wait under way, without one, killed, and ended before the drop.
        let (mut ids, mut pipes) = (Vec::new(), Vec::new());
        for round in 0..40 {
            let mut command = if round % 4 < 2 { sleeper() } else { Command::new("true") };
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(round % 4 < 2);
            let mut child = command.spawn().unwrap();
            ids.push(child.id());
            let link = |fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
            pipes.push(link(child.stdin.as_ref().unwrap().as_raw_fd()));
            pipes.push(link(child.stdout.as_ref().unwrap().as_raw_fd()));
            if round % 2 == 0 {
                let _ = poll_once(child.wait());
            }
        }
        until("they are reaped", || !ids.iter().any(|id| is_there(*id))).await;
        let closed = || {
            let open = open_files();
            !pipes.iter().any(|pipe| open.contains(pipe)) && annulet::metrics().operations == 0
        };
        until("all is closed", closed).await;
        // One that outlives its child handle, and then its loop.
        let child = sleeper().spawn().unwrap();
        child.id()
    });
    let pid = rustix::process::Pid::from_raw(left as i32).unwrap();
    assert!(is_there(left), "a dropped child goes on");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    annulet::run(async {
        // Starting one reaps those whose loop has ended.
        for _ in 0..1000 {
            Command::new("true").status().await.unwrap();
            if !is_there(left) {
                break;
            }
        }
        assert!(!is_there(left));
    });
}

#[test]
#[should_panic(expected = "there is no annulet loop on this thread")]
fn outside_of_a_loop_there_are_no_children() {
    let _ = Command::new("true").spawn();
}
