//! The test that an annotated function becomes: a plain `#[test]` of one call, with the function itself within it.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};

use crate::arguments::Arguments;
use crate::function::Function;

/// The test, or what is wrong.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match Function::parse(item).and_then(|function| Ok((Arguments::parse(arguments)?, function))) {
        Ok((arguments, function)) => test(arguments, function),
        Err(error) => error.into_compile_error(),
    }
}

/// The function stays as it is written, so all that the compiler says of it is said of what its author sees. A test
/// that returns something returns an exit code in place of it: the value itself stays on the thread that has made it.
fn test(arguments: Arguments, function: Function) -> TokenStream {
    let Function { attributes, visibility, signature_and_body, name, returns, should_panic } = function;
    let Arguments { multi_thread, worker_threads, budget, interval, deadline, known, until, krate } = arguments;
    let here = Span::mixed_site().located_at(name.span());
    let krate = krate.unwrap_or_else(|| quote_spanned!(here=> ::deadbeat));
    let text = name.to_string();
    let mut settings = Vec::new();
    let mut set = |setting: &str, value: TokenStream| {
        let setting = Ident::new(setting, here);
        settings.push(quote_spanned!(here=> .#setting(#value)));
    };
    for (setting, time) in [("budget", budget), ("interval", interval), ("deadline", deadline)] {
        if let Some(time) = time {
            set(setting, quote!(#time));
        }
    }
    if let Some(known) = known {
        set("known", quote!(#known));
    }
    if let Some(until) = until {
        set("until", quote!(#until));
    }
    if should_panic {
        set("should_panic", TokenStream::new());
    }
    let run = match (multi_thread, worker_threads) {
        (false, _) => quote_spanned!(here=> .run(#name)),
        (true, None) => quote_spanned!(here=> .run_on_workers(::core::option::Option::None, #name)),
        (true, Some(workers)) => {
            quote_spanned!(here=> .run_on_workers(::core::option::Option::Some(#workers), #name))
        }
    };
    let call = quote_spanned!(here=>
        #krate::__test::Test::new(::core::module_path!(), #text) #(#settings)* #run
    );
    let (output, call) = if returns {
        (quote_spanned!(here=> -> ::std::process::ExitCode), call)
    } else {
        (TokenStream::new(), quote_spanned!(here=> let _ = #call;))
    };
    quote! {
        #(#attributes)*
        #[::core::prelude::v1::test]
        #(#visibility)* fn #name() #output {
            #(#signature_and_body)*
            #call
        }
    }
}
