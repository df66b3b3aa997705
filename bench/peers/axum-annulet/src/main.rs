//! The same axum router on annulet: `peer-axum-annulet serve|handler ADDRESS CORE`. With `serve` hyper speaks HTTP, with `handler`
//! annulet-http does.

#[path = "../../axum/src/app.rs"]
mod app;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [way, address, core] = &arguments[..] else { panic!("usage: serve|handler ADDRESS CORE") };
    let is_handler = way == "handler";
    let builder = annulet::Builder::new().cores([core.parse().expect("a core")]);
    let builder = builder.listen(address.parse().expect("an address"));
    let loops = builder.start(move |mut core| async move {
        for listener in core.take_listeners() {
            if is_handler {
                let router = annulet_http::Router::new().fallback(annulet_hyper::handler(app::router()));
                let server = annulet_http::Server::new(router);
                drop(annulet::spawn(async move { server.serve(listener).await }));
            } else {
                drop(annulet::spawn(annulet_hyper::serve(listener, app::router())));
            }
        }
        core.stopped().await;
    })?;
    loops.join()
}
