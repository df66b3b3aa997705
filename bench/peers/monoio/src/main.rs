//! monoio on io_uring, a runtime per core, HTTP by `peer_common::http1`.

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use peer_common::http1::{After, Connection};

const READ_BYTES: usize = 16 * 1024;

fn main() {
    let options = peer_common::options();
    peer_common::on_each_core(&options, |listener| {
        // Entries as in monoio's own benchmark.
        let mut runtime =
            RuntimeBuilder::<IoUringDriver>::new().with_entries(2560).build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("in a runtime");
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                monoio::spawn(serve(stream));
            }
        });
    });
}

async fn serve(mut stream: TcpStream) {
    let mut connection = Connection::default();
    let mut input = Vec::with_capacity(READ_BYTES);
    let mut output = Vec::with_capacity(4096);
    loop {
        let result;
        (result, input) = stream.read(input).await;
        let Ok(1..) = result else { return };
        let after = connection.received(&input, &mut output);
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
