//! What the attributes do to a function, token by token.
//!
//! Only the function's head is looked at; its body is passed on unread. That takes a page of code, so there is no
//! parser for all of Rust among the build dependencies. `proc_macro2` stands in for `proc_macro` so that the tests
//! can call this without a compiler around them.

use proc_macro2::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// An async function that passed all checks.
struct AsyncFn {
    attributes: Vec<TokenTree>,
    visibility: Vec<TokenTree>,
    name: Ident,
    /// With its arrow; empty where there is none.
    return_type: Vec<TokenTree>,
    body: Group,
}

/// Why an attribute cannot be applied.
struct Error {
    span: Span,
    message: String,
}

impl Error {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Error { span, message: message.into() }
    }
}

/// `#[annulet::main]`.
pub(crate) fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand("annulet::main", item, |function| {
        if let Some(option) = options.into_iter().next() {
            let message =
                "annulet::main has no options; for other settings write a plain main with annulet::Builder";
            return Err(Error::new(option.span(), message));
        }
        let run = code("::annulet::run");
        Ok(wrap(function, TokenStream::new(), run, TokenStream::new()))
    })
}

/// `#[annulet::test]`, `#[annulet::test(start_paused = true)]`.
pub(crate) fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand("annulet::test", item, |function| {
        let start_paused = parse_test_options(options)?;
        for attribute in &function.attributes {
            if let TokenTree::Group(group) = attribute
                && group.stream().to_string() == "test"
            {
                let message = "a second test attribute: annulet::test adds #[test] itself";
                return Err(Error::new(group.span(), message));
            }
        }
        // By its full path: a crate may have a `test` of its own in scope.
        let attribute = code("#[::core::prelude::v1::test]");
        let run = code("::annulet::__private::run_test");
        Ok(wrap(function, attribute, run, code(if start_paused { ", true" } else { ", false" })))
    })
}

/// Applies `apply` to the item, or turns the error into one of the compiler's.
fn expand(
    attribute: &str,
    item: TokenStream,
    apply: impl FnOnce(AsyncFn) -> Result<TokenStream, Error>,
) -> TokenStream {
    // Found before all checks, for the stub below.
    let name = find_name(item.clone());
    parse(attribute, item).and_then(apply).unwrap_or_else(|error| {
        let mut tokens = compile_error(&error);
        // Without a function of that name the compiler would add that it misses one.
        if let Some(name) = name {
            tokens.extend(code("#[allow(dead_code)] fn"));
            tokens.extend([TokenTree::from(name)]);
            tokens.extend(code("() {}"));
        }
        tokens
    })
}

/// The plain function around the async one:
///
/// ```text
/// attributes `attribute` visibility fn name() -> R {
///     async fn name() -> R { body }
///     `run`(name() `argument`)
/// }
/// ```
///
/// An inner function and not an async block: with a block, `?` in the body would leave the error type open.
fn wrap(function: AsyncFn, attribute: TokenStream, run: TokenStream, argument: TokenStream) -> TokenStream {
    let AsyncFn { attributes, visibility, name, return_type, body } = function;
    let nothing = || TokenTree::from(Group::new(Delimiter::Parenthesis, TokenStream::new()));

    let mut call = TokenStream::from_iter([TokenTree::from(name.clone()), nothing()]);
    call.extend(argument);

    let mut block = code("async fn");
    block.extend([TokenTree::from(name.clone()), nothing()]);
    block.extend(return_type.iter().cloned());
    block.extend([TokenTree::from(body)]);
    block.extend(run);
    block.extend([TokenTree::from(Group::new(Delimiter::Parenthesis, call))]);

    let mut tokens = TokenStream::from_iter(attributes);
    tokens.extend(attribute);
    tokens.extend(visibility);
    tokens.extend(code("fn"));
    tokens.extend([TokenTree::from(name), nothing()]);
    tokens.extend(return_type);
    tokens.extend([TokenTree::from(Group::new(Delimiter::Brace, block))]);
    tokens
}

/// Takes a function's head apart and checks that it is one that can be run.
fn parse(attribute: &str, item: TokenStream) -> Result<AsyncFn, Error> {
    let mut tokens = open_invisible_groups(item).into_iter().peekable();

    let mut attributes = Vec::new();
    while tokens.peek().is_some_and(|token| is_punct(token, '#')) {
        // `#` and the brackets; the compiler hands out no other attributes on an item.
        attributes.extend(tokens.next());
        attributes.extend(tokens.next());
    }
    let mut visibility = Vec::new();
    if tokens.peek().is_some_and(|token| is_ident(token, "pub")) {
        visibility.extend(tokens.next());
        // `pub(crate)`
        visibility.extend(tokens.next_if(|token| is_group(token, Delimiter::Parenthesis)));
    }

    let not_a_function = |span| {
        Error::new(span, format!("{attribute} belongs on an async function: `async fn name() {{ … }}`"))
    };
    let mut is_async = false;
    let fn_span = loop {
        match tokens.next() {
            Some(token) if is_ident(&token, "fn") => break token.span(),
            Some(token) if is_ident(&token, "async") => is_async = true,
            Some(TokenTree::Ident(ident))
                if ["const", "unsafe", "extern"].iter().any(|word| ident == word) =>
            {
                let message = format!(
                    "the function under {attribute} cannot be `{ident}`: nobody calls it but the runtime"
                );
                return Err(Error::new(ident.span(), message));
            }
            Some(token) => return Err(not_a_function(token.span())),
            None => return Err(not_a_function(Span::call_site())),
        }
    };
    if !is_async {
        return Err(Error::new(
            fn_span,
            format!("the function under {attribute} is not async: write `async fn`"),
        ));
    }
    let name = match tokens.next() {
        Some(TokenTree::Ident(name)) => name,
        _ => return Err(not_a_function(fn_span)),
    };

    match tokens.next() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
            if !group.stream().is_empty() {
                let message = format!(
                    "the function under {attribute} has arguments, but nobody to give them: remove them"
                );
                return Err(Error::new(group.span(), message));
            }
        }
        Some(token) if is_punct(&token, '<') => {
            return Err(Error::new(
                token.span(),
                format!("the function under {attribute} cannot be generic"),
            ));
        }
        _ => return Err(not_a_function(name.span())),
    }

    let mut return_type: Vec<TokenTree> = tokens.collect();
    let body = match return_type.pop() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => group,
        _ => return Err(not_a_function(name.span())),
    };
    if let Some(token) = return_type.iter().find(|token| is_ident(token, "where")) {
        return Err(Error::new(
            token.span(),
            format!("the function under {attribute} cannot have a where clause"),
        ));
    }
    Ok(AsyncFn { attributes, visibility, name, return_type, body })
}

/// `start_paused = true` or `false`, with or without a comma behind it; or nothing.
fn parse_test_options(options: TokenStream) -> Result<bool, Error> {
    let mut tokens = options.into_iter();
    let Some(option) = tokens.next() else {
        return Ok(false);
    };
    if !is_ident(&option, "start_paused") {
        let message = format!("annulet::test has no option `{option}`; it knows `start_paused = true`");
        return Err(Error::new(option.span(), message));
    }
    let how = || Error::new(option.span(), "write `start_paused = true` or `start_paused = false`");
    let start_paused = match (tokens.next(), tokens.next()) {
        (Some(equals), Some(value)) if is_punct(&equals, '=') && is_ident(&value, "true") => true,
        (Some(equals), Some(value)) if is_punct(&equals, '=') && is_ident(&value, "false") => false,
        _ => return Err(how()),
    };
    match (tokens.next(), tokens.next()) {
        (None, None) => Ok(start_paused),
        (Some(comma), None) if is_punct(&comma, ',') => Ok(start_paused),
        (Some(comma), Some(second)) if is_punct(&comma, ',') => {
            Err(Error::new(second.span(), "annulet::test has one option, `start_paused`"))
        }
        _ => Err(how()),
    }
}

/// What comes after `fn`, if anything does.
fn find_name(item: TokenStream) -> Option<Ident> {
    let mut tokens = open_invisible_groups(item).into_iter().skip_while(|token| !is_ident(token, "fn"));
    match tokens.nth(1) {
        Some(TokenTree::Ident(name)) => Some(name),
        _ => None,
    }
}

/// Replaces groups without visible delimiters by what they hold: a `$vis` or `$body` that macro_rules! put in. Not
/// behind the arrow, where they may hold a type together.
fn open_invisible_groups(tokens: TokenStream) -> Vec<TokenTree> {
    let mut opened = Vec::new();
    let mut is_type = false;
    for token in tokens {
        is_type |= is_punct(&token, '>');
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                let inner = open_invisible_groups(group.stream());
                let is_body = matches!(&inner[..], [body] if is_group(body, Delimiter::Brace));
                if is_type && !is_body {
                    opened.push(TokenTree::Group(group));
                } else {
                    opened.extend(inner);
                }
            }
            token => opened.push(token),
        }
    }
    opened
}

/// `::core::compile_error! { "message" }`, all of it at the error's place, where the compiler then points.
fn compile_error(error: &Error) -> TokenStream {
    let punct = |char, spacing| TokenTree::from(Punct::new(char, spacing));
    let ident = |name| TokenTree::from(Ident::new(name, error.span));
    let message = TokenTree::from(Literal::string(&error.message));
    let tokens = [
        punct(':', Spacing::Joint),
        punct(':', Spacing::Alone),
        ident("core"),
        punct(':', Spacing::Joint),
        punct(':', Spacing::Alone),
        ident("compile_error"),
        punct('!', Spacing::Alone),
        TokenTree::from(Group::new(Delimiter::Brace, TokenStream::from(message))),
    ];
    tokens
        .into_iter()
        .map(|mut token| {
            token.set_span(error.span);
            token
        })
        .collect()
}

/// Code of our own, at the place of the attribute.
fn code(text: &str) -> TokenStream {
    text.parse().expect("the macro's own text is made of tokens")
}

fn is_ident(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == name)
}

fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

fn is_group(token: &TokenTree, delimiter: Delimiter) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == delimiter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> TokenStream {
        text.parse().unwrap()
    }

    fn check_main(item: &str, expected: &str) {
        assert_eq!(main(TokenStream::new(), tokens(item)).to_string(), tokens(expected).to_string());
    }

    fn check_test(options: &str, item: &str, expected: &str) {
        assert_eq!(test(tokens(options), tokens(item)).to_string(), tokens(expected).to_string());
    }

    #[test]
    fn main_without_a_result() {
        check_main(
            "async fn main() { work().await; }",
            "fn main() { async fn main() { work().await; } ::annulet::run(main()) }",
        );
    }

    #[test]
    fn main_keeps_return_type_attributes_and_visibility() {
        check_main(
            "#[cfg(unix)] #[allow(unused)] pub(crate) async fn main() -> Result<(), Box<dyn Error>> { Ok(()) }",
            "#[cfg(unix)] #[allow(unused)] pub(crate) fn main() -> Result<(), Box<dyn Error>> {
                async fn main() -> Result<(), Box<dyn Error>> { Ok(()) }
                ::annulet::run(main())
            }",
        );
    }

    #[test]
    fn test_options() {
        let expected = |paused: bool| {
            format!(
                "#[ignore] #[::core::prelude::v1::test] fn it_works() {{
                    async fn it_works() {{ work().await }}
                    ::annulet::__private::run_test(it_works(), {paused})
                }}"
            )
        };
        for (options, paused) in [
            ("", false),
            ("start_paused = true", true),
            ("start_paused = true,", true),
            ("start_paused = false", false),
        ] {
            check_test(options, "#[ignore] async fn it_works() { work().await }", &expected(paused));
        }
    }

    #[test]
    fn a_function_from_macro_rules() {
        let invisible = |text| TokenTree::from(Group::new(Delimiter::None, tokens(text)));
        let mut item = TokenStream::from(invisible("pub"));
        item.extend(tokens("async fn main() -> &"));
        item.extend([invisible("dyn A + B"), invisible("{ work().await }")]);
        let expanded = main(TokenStream::new(), item).to_string();
        assert!(expanded.starts_with("pub fn main () -> &"), "{expanded}");
        assert!(expanded.contains("{ work () . await } :: annulet :: run (main ())"), "{expanded}");
    }

    fn check_error(expanded: &TokenStream, message: &str, stub: &str) {
        let mut expected = tokens("::core::compile_error!");
        let text = TokenTree::from(Literal::string(message));
        expected.extend([TokenTree::from(Group::new(Delimiter::Brace, TokenStream::from(text)))]);
        expected.extend(tokens(stub));
        assert_eq!(expanded.to_string(), expected.to_string());
    }

    #[test]
    fn main_on_what_it_cannot_run() {
        fn check(item: &str, message: &str, stub: &str) {
            check_error(&main(TokenStream::new(), tokens(item)), message, stub);
        }
        let stub = "#[allow(dead_code)] fn main() {}";
        let belongs = "annulet::main belongs on an async function: `async fn name() { … }`";
        check("fn main() {}", "the function under annulet::main is not async: write `async fn`", stub);
        check(
            "async fn main(args: Vec<String>) {}",
            "the function under annulet::main has arguments, but nobody to give them: remove them",
            stub,
        );
        check("async fn main<T>() {}", "the function under annulet::main cannot be generic", stub);
        check(
            "async fn main() -> u8 where u8: Copy {}",
            "the function under annulet::main cannot have a where clause",
            stub,
        );
        check(
            "async unsafe fn main() {}",
            "the function under annulet::main cannot be `unsafe`: nobody calls it but the runtime",
            stub,
        );
        check(
            "pub async extern \"C\" fn main() {}",
            "the function under annulet::main cannot be `extern`: nobody calls it but the runtime",
            stub,
        );
        check("async fn main();", belongs, stub);
        check("struct Main;", belongs, "");
        check("", belongs, "");
    }

    #[test]
    fn options_that_do_not_exist() {
        let item = || tokens("async fn f() {}");
        let stub = "#[allow(dead_code)] fn f() {}";
        check_error(
            &main(tokens("threads = 2"), item()),
            "annulet::main has no options; for other settings write a plain main with annulet::Builder",
            stub,
        );
        let how = "write `start_paused = true` or `start_paused = false`";
        for (options, message) in [
            ("flavor = 1", "annulet::test has no option `flavor`; it knows `start_paused = true`"),
            ("start_paused", how),
            ("start_paused = 1", how),
            ("start_paused(true)", how),
            ("start_paused = true true", how),
            ("start_paused = true, start_paused = true", "annulet::test has one option, `start_paused`"),
        ] {
            check_error(&test(tokens(options), item()), message, stub);
        }
    }

    #[test]
    fn a_second_test_attribute() {
        check_error(
            &test(TokenStream::new(), tokens("#[test] async fn f() {}")),
            "a second test attribute: annulet::test adds #[test] itself",
            "#[allow(dead_code)] fn f() {}",
        );
    }
}
