//! Children: their output, a talk with one, a time limit for one. Python's `asyncio.create_subprocess_exec`.

use std::io;
use std::time::Duration;

use annulet::io::BufReader;
use annulet::process::{Command, Stdio};
use annulet::time::timeout;

#[annulet::main]
async fn main() -> io::Result<()> {
    // 1. Started, read and waited for at once; three of them side by side.
    let outputs =
        ["one", "two", "three"].map(|word| async move { Command::new("echo").arg(word).output().await });
    for output in annulet::gather(outputs).await {
        print!("echo said {}", String::from_utf8_lossy(&output?.stdout));
    }

    // 2. A talk: a line goes in, a line comes out.
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    for word in ["ping", "pong"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await?;
        println!("cat gave back {}", lines.next().await.expect("cat runs")?);
    }
    // The end of its input is the end of cat.
    drop(stdin);
    println!("cat: {}", child.wait().await?);

    // 3. How it ended, and what it complained about.
    let output = Command::new("sh").args(["-c", "echo no >&2; exit 3"]).output().await?;
    println!("sh: {}, {:?}", output.status, String::from_utf8_lossy(&output.stderr));

    // 4. A time limit. Without kill_on_drop the child would go on.
    let mut sleeper = Command::new("sleep");
    sleeper.arg("600").kill_on_drop(true);
    let ended = timeout(Duration::from_millis(50), sleeper.status()).await;
    println!("sleep was too slow: {}", ended.is_err());
    Ok(())
}
