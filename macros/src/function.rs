//! The annotated function, taken apart by its tokens: attributes, visibility, `async fn name() -> type { body }`.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

use crate::error::Error;

/// An `async fn` without parameters.
#[derive(Debug)]
pub(crate) struct Function {
    /// `#[..]`, each of two tokens.
    pub(crate) attributes: Vec<TokenTree>,
    pub(crate) visibility: Vec<TokenTree>,
    /// `async fn name() -> type { body }`.
    pub(crate) signature_and_body: Vec<TokenTree>,
    pub(crate) name: Ident,
    /// Whether it returns something else than `()`.
    pub(crate) returns: bool,
    pub(crate) should_panic: bool,
}

impl Function {
    /// # Errors
    ///
    /// What keeps it from being a test, at the token that does.
    pub(crate) fn parse(item: TokenStream) -> Result<Self, Error> {
        let tokens = flat(item);
        let mut rest = &tokens[..];
        let attributes = attributes(&mut rest);
        let paths: Vec<_> = attributes.chunks(2).map(|attribute| (path(&attribute[1]), attribute)).collect();
        let visibility = visibility(&mut rest);
        let signature_and_body = rest.to_vec();

        let Some(at) = rest.iter().position(|token| is(token, "fn")) else {
            return Err(Error::over(&tokens, "`#[deadbeat::test]` stands above an `async fn`"));
        };
        let (qualifiers, rest) = (&rest[..at], &rest[at..]);
        match qualifiers {
            [one] if is(one, "async") => {}
            [] => return Err(Error::new(rest[0].span(), "a test is an `async fn`: `async` is missing before `fn`")),
            _ => return Err(Error::over(qualifiers, "a test is a plain `async fn`, with no other word before `fn`")),
        }
        let [_, TokenTree::Ident(name), rest @ ..] = rest else {
            return Err(Error::over(rest, "`#[deadbeat::test]` stands above an `async fn` with a name"));
        };
        let (generics, rest) = rest.split_at(rest.iter().position(is_group).unwrap_or(rest.len()));
        let [TokenTree::Group(parameters), rest @ ..] = rest else {
            return Err(Error::new(name.span(), "`#[deadbeat::test]` stands above an `async fn` with a body"));
        };
        if !are_lifetimes(generics) {
            return Err(Error::over(generics, "a test has no generic parameters"));
        }
        if !parameters.stream().is_empty() {
            let below = paths.iter().any(|(path, _)| path.ends_with("rstest"));
            let message = if below {
                "`#[rstest]` must stand above `#[deadbeat::test]`, so that it gives the parameters their values first"
            } else {
                "a test has no parameters; `#[rstest]` above `#[deadbeat::test]` gives them values"
            };
            return Err(Error::new(parameters.span(), message));
        }
        if let Some((_, attribute)) = paths.iter().find(|(path, _)| is_test(path)) {
            let message = "a second test attribute: remove it, or put `#[deadbeat::test]` above what adds it";
            return Err(Error::over(attribute, message));
        }
        let output = match rest {
            [output @ .., TokenTree::Group(body)] if body.delimiter() == Delimiter::Brace => output,
            _ => return Err(Error::new(name.span(), "`#[deadbeat::test]` stands above an `async fn` with a body")),
        };
        if let Some(bound) = output.iter().find(|token| is(token, "where")) {
            return Err(Error::new(bound.span(), "a test has no generic parameters, and so no `where`"));
        }
        Ok(Self {
            returns: !is_unit(output),
            should_panic: paths.iter().any(|(path, _)| path == "should_panic"),
            name: name.clone(),
            attributes,
            visibility,
            signature_and_body,
        })
    }
}

/// What a `macro_rules!` has put into groups that have no delimiters is laid open, where it is no type.
fn flat(item: TokenStream) -> Vec<TokenTree> {
    let invisible = |token: &TokenTree| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::None => Some(group.stream()),
        _ => None,
    };
    let tokens: Vec<_> = item.into_iter().collect();
    if let [one] = &tokens[..] {
        if let Some(inside) = invisible(one) {
            return flat(inside);
        }
    }
    let (mut flat, mut is_type) = (Vec::new(), false);
    for token in tokens {
        match invisible(&token) {
            Some(inside) if !is_type || is_block(&inside) => flat.extend(inside),
            _ => flat.push(token),
        }
        is_type |= matches!(flat.last(), Some(TokenTree::Punct(punct)) if punct.as_char() == '>');
    }
    flat
}

fn is_block(stream: &TokenStream) -> bool {
    let tokens: Vec<_> = stream.clone().into_iter().collect();
    matches!(&tokens[..], [TokenTree::Group(body)] if body.delimiter() == Delimiter::Brace)
}

fn is(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if *ident == word)
}

fn is_group(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(_))
}

/// Whether no type is among these generic parameters: rstest keeps the lifetimes of parameters it has taken away.
fn are_lifetimes(generics: &[TokenTree]) -> bool {
    let mut before = ' ';
    generics.iter().all(|token| {
        let fits = !matches!(token, TokenTree::Ident(_)) || before == '\'';
        before = if let TokenTree::Punct(punct) = token { punct.as_char() } else { ' ' };
        fits
    })
}

/// Taken off the front of `rest`.
fn attributes(rest: &mut &[TokenTree]) -> Vec<TokenTree> {
    let all = *rest;
    while let [TokenTree::Punct(punct), TokenTree::Group(_), others @ ..] = *rest {
        if punct.as_char() != '#' {
            break;
        }
        *rest = others;
    }
    all[..all.len() - rest.len()].to_vec()
}

/// Taken off the front of `rest`: `pub`, `pub(crate)`.
fn visibility(rest: &mut &[TokenTree]) -> Vec<TokenTree> {
    let all = *rest;
    if let [public, others @ ..] = *rest {
        if is(public, "pub") {
            *rest = others;
            if let [TokenTree::Group(_), others @ ..] = *rest {
                *rest = others;
            }
        }
    }
    all[..all.len() - rest.len()].to_vec()
}

/// `tokio::test` of `[tokio::test(start_paused = true)]`.
fn path(brackets: &TokenTree) -> String {
    let TokenTree::Group(brackets) = brackets else { return String::new() };
    let mut path = String::new();
    for token in flat(brackets.stream()) {
        match token {
            TokenTree::Ident(ident) => path.push_str(&ident.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == ':' => path.push(':'),
            _ => break,
        }
    }
    path.trim_start_matches(':').to_owned()
}

/// Whether an attribute of this path makes a test of what stands below `#[deadbeat::test]`.
fn is_test(path: &str) -> bool {
    let prelude = ["core::prelude::", "std::prelude::"].iter().any(|prelude| path.starts_with(prelude));
    matches!(path, "test" | "tokio::test" | "deadbeat::test") || prelude && path.ends_with("::test")
}

/// Whether `-> ..` is `()`, written out or not.
fn is_unit(output: &[TokenTree]) -> bool {
    let unit = |group: &Group| group.delimiter() == Delimiter::Parenthesis && group.stream().is_empty();
    matches!(output, []) || matches!(output, [_, _, TokenTree::Group(group)] if unit(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(item: &str) -> Result<Function, Error> {
        Function::parse(item.parse().unwrap())
    }

    #[test]
    fn a_function_is_taken_apart_by_its_tokens() {
        let text = |tokens: &[TokenTree]| tokens.iter().cloned().collect::<TokenStream>().to_string().replace(' ', "");
        let item = "#[cfg(unix)] #[should_panic(expected = \"a\")] pub(crate) async fn it() -> Result<(), E> { body }";
        let function = parse(item).unwrap();
        assert_eq!(text(&function.attributes), "#[cfg(unix)]#[should_panic(expected=\"a\")]");
        assert_eq!(text(&function.visibility), "pub(crate)");
        assert_eq!(text(&function.signature_and_body), "asyncfnit()->Result<(),E>{body}");
        assert_eq!(function.name, "it");
        assert!(function.returns && function.should_panic);

        let plain = parse("async fn it() {}").unwrap();
        assert!(!plain.returns && !plain.should_panic && plain.attributes.is_empty() && plain.visibility.is_empty());
        for (output, returns) in [("-> ()", false), ("-> ((), ())", true), ("-> !", true), ("-> Result<(), ()>", true)]
        {
            assert_eq!(parse(&format!("async fn it() {output} {{}}")).unwrap().returns, returns, "{output}");
        }
        assert!(parse("async fn it<'a, 'b: 'a>() {}").is_ok(), "rstest keeps the lifetimes");
    }

    #[test]
    fn groups_that_a_macro_has_made_are_looked_into() {
        let tokens = |text: &str| text.parse::<TokenStream>().unwrap();
        let invisible = |text: &str| TokenTree::Group(Group::new(Delimiter::None, tokens(text)));
        let mut item: Vec<TokenTree> = vec![invisible("pub(crate)")];
        item.extend(tokens("async fn it() ->"));
        item.extend([invisible("Result<(), ()>"), invisible("{ body }")]);
        let item: TokenStream = item.into_iter().collect();
        for item in [item.clone(), TokenTree::Group(Group::new(Delimiter::None, item)).into()] {
            let function = Function::parse(item).unwrap();
            assert!(function.returns && function.name == "it" && function.visibility.len() == 2);
        }
    }

    #[test]
    fn what_is_no_test_is_refused_with_what_to_do() {
        for (item, message) in [
            ("", "stands above an `async fn`"),
            ("struct It;", "stands above an `async fn`"),
            ("fn it() {}", "`async` is missing"),
            ("pub fn it() {}", "`async` is missing"),
            ("async unsafe fn it() {}", "no other word"),
            ("const async fn it() {}", "no other word"),
            ("async fn it();", "with a body"),
            ("async fn it", "with a body"),
            ("async fn", "with a name"),
            ("async fn it<T>() {}", "generic"),
            ("async fn it<'a, T: 'a>() {}", "generic"),
            ("async fn it() where u8: Copy {}", "generic"),
            ("async fn it(one: u8) {}", "gives them values"),
            ("#[rstest] async fn it(one: u8) {}", "must stand above"),
            ("#[rstest::rstest] async fn it(one: u8) {}", "must stand above"),
            ("#[test] async fn it() {}", "second test attribute"),
            ("#[tokio::test(start_paused = true)] async fn it() {}", "second test attribute"),
            ("#[::tokio::test] async fn it() {}", "second test attribute"),
            ("#[core::prelude::v1::test] async fn it() {}", "second test attribute"),
        ] {
            let error = parse(item).expect_err(item);
            assert!(error.message.contains(message), "{item}: {}", error.message);
        }
        assert!(parse("#[test_log::test] async fn it() {}").is_ok(), "it wraps what is there");
    }
}
