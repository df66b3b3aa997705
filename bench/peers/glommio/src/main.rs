//! glommio, an executor pinned to each core, HTTP by `peer_common::http1`.
//!
//! It brings its own listener per executor, with SO_REUSEPORT.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{CpuSet, LocalExecutorPoolBuilder, PoolPlacement};
use peer_common::http1::{After, Connection};

const READ_BYTES: usize = 16 * 1024;

fn main() {
    let options = peer_common::options();
    let cores = options.cores.clone();
    let set = CpuSet::online().expect("the machine's cores").filter(move |core| cores.contains(&core.cpu));
    LocalExecutorPoolBuilder::new(PoolPlacement::MaxSpread(options.cores.len(), Some(set)))
        .on_all_shards(move || async move {
            let listener = TcpListener::bind(options.listen).expect("an address that is free");
            loop {
                let Ok(stream) = listener.accept().await else { continue };
                glommio::spawn_local(serve(stream)).detach();
            }
        })
        .expect("executors")
        .join_all();
}

async fn serve(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut connection = Connection::default();
    let mut input = vec![0; READ_BYTES];
    let mut output = Vec::with_capacity(4096);
    loop {
        let Ok(count @ 1..) = stream.read(&mut input).await else { return };
        let after = connection.received(&input[..count], &mut output);
        if !output.is_empty() {
            if stream.write_all(&output).await.is_err() {
                return;
            }
            output.clear();
        }
        if after == After::Close {
            return;
        }
    }
}
