//! The runtime without an HTTP layer: a fixed answer for every blank line, to see what the loop itself costs beside
//! the floor server.
//!
//! ```text
//! cargo run --release -p annulet --example bare -- 127.0.0.1:8000 0
//! cargo run --release -p annulet --example bare -- 127.0.0.1:8000 0 batch 60 64    # microseconds, completions
//! cargo run --release -p annulet --example bare -- 127.0.0.1:8000 0 spin
//! ```

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 14\r\n\
date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n<h1>Index</h1>";

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:8000".into()).parse().expect("an address");
    let core = arguments.next().unwrap_or("0".into()).parse().expect("a core");
    let mut policy = annulet::LoopPolicy::default();
    match arguments.next().as_deref() {
        Some("spin") => policy.spin = std::time::Duration::from_micros(100),
        Some("batch") => {
            let mut batch = annulet::Batch::default();
            if let Some(micros) = arguments.next() {
                batch.wait = std::time::Duration::from_micros(micros.parse().expect("microseconds"));
            }
            if let Some(count) = arguments.next() {
                batch.count = count.parse().expect("a count");
            }
            policy.batch = Some(batch);
        }
        _ => {}
    }
    let builder = annulet::Builder::new().cores([core]).listen(address).policy(policy);
    let loops = builder.start(|mut core| async move {
        let listener = core.take_listeners().pop().expect("one listener a core");
        loop {
            let Ok(stream) = listener.accept().await else { return };
            annulet::spawn(async move {
                stream.start_recv();
                while let Ok(Some(bytes)) = stream.recv().await {
                    let requests = bytes.windows(4).filter(|window| window == b"\r\n\r\n").count();
                    drop(bytes);
                    stream.with_send_buffer(|buffer| {
                        (0..requests).for_each(|_| buffer.extend_from_slice(ANSWER));
                    });
                }
            });
        }
    })?;
    println!("listening on {}", loops.addresses()[0]);
    loops.join()
}
