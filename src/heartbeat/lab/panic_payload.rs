//! What a future panicked with.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// What a future panicked with: the payload of its panic, in a type that is [`Sync`], so that an error with it can be
/// shared.
pub struct PanicPayload {
    text: String,
    /// Locked by nothing: a `Mutex` is `Sync` though what it holds is not.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl PanicPayload {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no text)".to_owned());
        Self { text, payload: Mutex::new(payload) }
    }

    /// The message, if it was a text; else `(no text)`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The payload, for [`resume_unwind`](std::panic::resume_unwind).
    pub fn into_inner(self) -> Box<dyn Any + Send> {
        self.payload.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for PanicPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PanicPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_text_and_is_given_back_as_it_was() {
        for (payload, text) in [
            (Box::new("of a literal") as Box<dyn Any + Send>, "of a literal"),
            (Box::new("of a format".to_owned()), "of a format"),
            (Box::new(7), "(no text)"),
        ] {
            let payload = PanicPayload::new(payload);
            assert_eq!((payload.text(), payload.to_string().as_str()), (text, text));
            assert_eq!(format!("{payload:?}"), format!("{text:?}"));
        }
        assert_eq!(*PanicPayload::new(Box::new(7)).into_inner().downcast::<i32>().unwrap(), 7);
    }
}
