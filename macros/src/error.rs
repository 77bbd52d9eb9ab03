//! A compile error: one sentence, at the tokens that it is about.

use proc_macro2::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// What is wrong, and from which token to which.
#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) from: Span,
    pub(crate) to: Span,
    pub(crate) message: String,
}

impl Error {
    pub(crate) fn new(at: Span, message: impl Into<String>) -> Self {
        Self { from: at, to: at, message: message.into() }
    }

    /// From the first token of `at` to its last; at the attribute itself if it has none.
    pub(crate) fn over(at: &[TokenTree], message: impl Into<String>) -> Self {
        let span = |token: Option<&TokenTree>| token.map_or_else(Span::call_site, TokenTree::span);
        Self { from: span(at.first()), to: span(at.last()), message: message.into() }
    }

    /// `::core::compile_error! { ".." }`: a compiler without joined spans underlines from its first token to its last.
    pub(crate) fn into_compile_error(self) -> TokenStream {
        let mut tokens = Vec::new();
        for name in ["core", "compile_error"] {
            for spacing in [Spacing::Joint, Spacing::Alone] {
                tokens.push(TokenTree::Punct(Punct::new(':', spacing)));
            }
            tokens.push(TokenTree::Ident(Ident::new(name, self.from)));
        }
        tokens.push(TokenTree::Punct(Punct::new('!', Spacing::Alone)));
        let message = TokenTree::Literal(Literal::string(&self.message));
        tokens.push(TokenTree::Group(Group::new(Delimiter::Brace, message.into())));
        let (last, others) = tokens.split_last_mut().expect("it has some");
        others.iter_mut().for_each(|token| token.set_span(self.from));
        last.set_span(self.to);
        tokens.into_iter().collect()
    }
}
