//! tokio-uring, a runtime per core, HTTP by `peer_common::http1`.

use std::rc::Rc;

use peer_common::http1::{After, Connection};
use tokio_uring::net::{TcpListener, TcpStream};

const READ_BYTES: usize = 16 * 1024;

fn main() {
    let options = peer_common::options();
    peer_common::on_each_core(&options, |listener| {
        let mut ring = tokio_uring::uring_builder();
        // Not DEFER_TASKRUN: the runtime looks at the completion queue without entering the kernel.
        ring.setup_coop_taskrun().setup_single_issuer();
        tokio_uring::builder().entries(1024).uring_builder(&ring).start(async move {
            let listener = TcpListener::from_std(listener);
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio_uring::spawn(serve(Rc::new(stream)));
            }
        });
    });
}

async fn serve(stream: Rc<TcpStream>) {
    let mut connection = Connection::default();
    let mut input = vec![0; READ_BYTES];
    let mut output = Vec::with_capacity(4096);
    loop {
        let result;
        (result, input) = stream.read(input).await;
        let Ok(count @ 1..) = result else { return };
        let after = connection.received(&input[..count], &mut output);
        if !output.is_empty() {
            let result;
            (result, output) = stream.write_all(output).await;
            if result.is_err() {
                return;
            }
            output.clear();
        }
        if after == After::Close {
            return;
        }
    }
}
