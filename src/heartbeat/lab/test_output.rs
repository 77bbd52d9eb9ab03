//! What code under test may return, and whether that is a failure.

use std::fmt::Debug;

/// What the futures of [`Lab::with_teeth`](super::Lab::with_teeth) may return: `()`, or a `Result`, of which an `Err`
/// is no pass.
pub trait TestOutput: Send + 'static {
    /// The error, as text, if it is one.
    fn error(&self) -> Option<String>;
}

impl TestOutput for () {
    fn error(&self) -> Option<String> {
        None
    }
}

impl<T: Send + 'static, E: Debug + Send + 'static> TestOutput for Result<T, E> {
    fn error(&self) -> Option<String> {
        self.as_ref().err().map(|error| format!("{error:?}"))
    }
}
