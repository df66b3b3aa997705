//! The attribute macros of annulet: `#[annulet::main]` and `#[annulet::test]`.
//!
//! Use them through the `annulet` package, which re-exports them; what they expand to names `::annulet`. Both keep
//! the async function as it was written and put a plain function of the same name around it, so that types, spans
//! and error messages are those of the author's own code. The rewriting is in `expand`.

mod expand;

use proc_macro::TokenStream;

/// Runs an async `main` on an annulet runtime with its defaults.
///
/// The function has no arguments and may return whatever a `main` may return. For a runtime with other settings
/// write a plain `main` and use `annulet::Builder`.
///
/// # Examples
///
/// ```text
/// #[annulet::main]
/// async fn main() -> std::io::Result<()> {
///     let listener = annulet::net::TcpListener::bind("127.0.0.1:8000").await?;
///     Ok(())
/// }
/// ```
///
/// stands for
///
/// ```text
/// fn main() -> std::io::Result<()> {
///     async fn main() -> std::io::Result<()> { /* as written */ }
///     ::annulet::run(main())
/// }
/// ```
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::main(options.into(), item.into()).into()
}

/// Makes an async function a test that runs on a runtime of its own, on the test's thread.
///
/// `start_paused = true` gives it the virtual clock, which goes on to the next deadline whenever there is nothing
/// else to do: a test that sleeps for an hour takes no time.
///
/// `#[ignore]`, `#[should_panic]` and a `Result` as return type work as with the standard `#[test]`.
///
/// # Examples
///
/// ```text
/// #[annulet::test(start_paused = true)]
/// async fn an_hour_passes() {
///     annulet::time::sleep(std::time::Duration::from_secs(3600)).await;
/// }
/// ```
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::test(options.into(), item.into()).into()
}
