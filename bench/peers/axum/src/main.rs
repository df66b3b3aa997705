//! axum on tokio, a current_thread runtime per core, each with its own listener.

mod app;

fn main() {
    let options = peer_common::options();
    peer_common::on_each_core(&options, |listener| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("in a runtime");
            axum::serve(listener, app::router()).await.expect("serves for ever");
        });
    });
}
