//! One task waits for a value, another sets it. Python's `loop.create_future()` and `set_result`; and what becomes of one
//! that is never resolved: there an endless wait, here an error.

use annulet::spawn;
use annulet::sync::oneshot;

#[annulet::main]
async fn main() {
    let (sender, receiver) = oneshot::channel();
    let waiting = spawn(async move {
        println!("waiting for the result");
        println!("got: {}", receiver.await.unwrap());
    });
    let setting = spawn(async move {
        println!("setting the result");
        sender.send("the answer").unwrap();
    });
    waiting.await.unwrap();
    setting.await.unwrap();

    let (sender, receiver) = oneshot::channel::<&str>();
    drop(sender);
    println!("never resolved: {}", receiver.await.unwrap_err());
}
