//! The attribute `#[deadbeat::test]`: a drop-in for `#[tokio::test]` that fails if the test starves its runtime.
//!
//! Use it through the crate `deadbeat` with its feature `macros`, whose documentation says what it does. Here an
//! annotated function becomes one call of a function of deadbeat's; all that is decided when the test runs is there.

use proc_macro2::TokenStream;

mod arguments;
mod date;
mod error;
mod expand;
mod function;
mod milliseconds;

/// Runs an `async fn` as a test and fails if it starves its runtime: see `deadbeat::test`.
#[proc_macro_attribute]
pub fn test(arguments: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let (arguments, item) = (TokenStream::from(arguments), TokenStream::from(item));
    expand::expand(arguments, item).into()
}
