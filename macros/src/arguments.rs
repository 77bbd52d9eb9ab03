//! The arguments of the attribute: what tokio's takes, honoured or refused with the remedy, and deadbeat's own.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

use crate::date::is_date;
use crate::error::Error;
use crate::milliseconds;

/// The interval and the budget of `Heartbeat::new()`, in milliseconds.
const DEFAULT: (u64, u64) = (5, 50);

const KNOWN_ARGUMENTS: &str = "`flavor`, `worker_threads`, `budget`, `interval`, `deadline`, `known`, `until`, \
    `crate`, `start_paused`, `unhandled_panic` or `name`";

/// What is asked for; `None` is the default of what runs the test.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) multi_thread: bool,
    /// Of `multi_thread`.
    pub(crate) worker_threads: Option<u32>,
    /// In milliseconds, as the next two.
    pub(crate) budget: Option<u64>,
    pub(crate) interval: Option<u64>,
    pub(crate) deadline: Option<u64>,
    /// A literal that is a text.
    pub(crate) known: Option<TokenTree>,
    pub(crate) until: Option<String>,
    /// The path of deadbeat.
    pub(crate) krate: Option<TokenStream>,
}

impl Arguments {
    /// # Errors
    ///
    /// What is not understood, makes no sense or cannot be had, at the token that says it.
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self, Error> {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut arguments = Self::default();
        let mut values: Vec<Value> = Vec::new();
        for tokens in tokens.split(|token| is_punct(token, ',')).filter(|tokens| !tokens.is_empty()) {
            let value = Value::parse(tokens)?;
            if values.iter().any(|other| other.name == value.name) {
                return Err(value.wrong_name("is there twice"));
            }
            arguments.take(&value)?;
            values.push(value);
        }
        let named = |name: &str| values.iter().find(|value| value.name == name);
        if let Some(workers) = named("worker_threads").filter(|_| !arguments.multi_thread) {
            return Err(workers.wrong_name("needs `flavor = \"multi_thread\"`: `current_thread` has one worker"));
        }
        if let Some(until) = named("until").filter(|_| arguments.known.is_none()) {
            return Err(until.wrong_name("needs `known = \"..\"`, which says what stalls until then"));
        }
        let interval = arguments.interval.unwrap_or(DEFAULT.0);
        let budget = arguments.budget.unwrap_or(DEFAULT.1);
        match named("budget").or_else(|| named("interval")) {
            Some(value) if budget < interval => Err(value.wrong(format!(
                "the budget of {budget}ms is below the interval of {interval}ms: raise the one or lower the other"
            ))),
            _ => Ok(arguments),
        }
    }

    fn take(&mut self, value: &Value) -> Result<(), Error> {
        match &*value.name {
            "flavor" => match &*value.text()? {
                "current_thread" => self.multi_thread = false,
                "multi_thread" => self.multi_thread = true,
                "local" => {
                    return Err(value.wrong(
                        "the flavor `local` cannot be watched: take `current_thread`, \
                         and `tokio::task::LocalSet` for `spawn_local`",
                    ));
                }
                _ => return Err(value.wrong("there is no such flavor: take `current_thread` or `multi_thread`")),
            },
            "worker_threads" => self.worker_threads = Some(value.count()?),
            "budget" => self.budget = Some(value.time()?),
            "interval" => self.interval = Some(value.time()?),
            "deadline" => self.deadline = Some(value.time()?),
            "known" => {
                if value.text()?.trim().is_empty() {
                    return Err(value.wrong("`known` is empty: say what stalls, and why it stays for now"));
                }
                self.known = Some(value.token.clone());
            }
            "until" => {
                let date = value.text()?;
                if !is_date(&date) {
                    return Err(value.wrong("`until` must be a date `YYYY-MM-DD`, as in \"2027-03-01\""));
                }
                self.until = Some(date);
            }
            "crate" => self.krate = Some(value.path()?),
            "start_paused" if value.flag()? => {
                return Err(value.wrong(
                    "with tokio's clock paused no beat proves anything: \
                     keep `#[tokio::test(start_paused = true)]` for this test",
                ));
            }
            "unhandled_panic" => match &*value.text()? {
                "ignore" => {}
                "shutdown_runtime" => {
                    return Err(value.wrong(
                        "`shutdown_runtime` needs an unstable tokio and is not to be had here: \
                         leave it out, or keep `#[tokio::test]`",
                    ));
                }
                _ => return Err(value.wrong("there is no such behavior: `ignore` is the one to be had")),
            },
            "name" => {
                return Err(value.wrong_name("is not to be had: leave it out, since the thread has the test's name"));
            }
            // A clock that is not paused is what there is.
            "start_paused" => {}
            _ => return Err(Error::new(value.at, format!("there is no such argument: take {KNOWN_ARGUMENTS}"))),
        }
        Ok(())
    }
}

/// `name = literal`.
struct Value {
    name: String,
    at: Span,
    token: TokenTree,
}

impl Value {
    fn parse(tokens: &[TokenTree]) -> Result<Self, Error> {
        let TokenTree::Ident(name) = &tokens[0] else {
            return Err(Error::over(
                tokens,
                format!("an argument is `name = value`, and the name is {KNOWN_ARGUMENTS}"),
            ));
        };
        let (name, at) = (name.to_string(), name.span());
        let value = match tokens {
            [_, equals, value @ ..] if is_punct(equals, '=') => value,
            [_] if !KNOWN_ARGUMENTS.contains(&format!("`{name}`")) => {
                return Err(Error::new(at, format!("there is no such argument: take {KNOWN_ARGUMENTS}")));
            }
            _ => return Err(Error::over(tokens, format!("`{name}` needs a value: `{name} = ..`"))),
        };
        match value {
            [one] => Ok(Self { name, at, token: visible(one) }),
            [] => Err(Error::over(tokens, format!("`{name}` needs a value: `{name} = ..`"))),
            more => Err(Error::over(more, format!("the value of `{name}` must be one literal"))),
        }
    }

    fn wrong(&self, message: impl Into<String>) -> Error {
        Error::new(self.token.span(), message)
    }

    /// What is wrong with the argument as a whole.
    fn wrong_name(&self, what: &str) -> Error {
        Error::new(self.at, format!("`{}` {what}", self.name))
    }

    fn literal(&self) -> String {
        self.token.to_string()
    }

    /// Escapes stay as they are written: nothing that is compared with has any.
    fn text(&self) -> Result<String, Error> {
        let literal = self.literal();
        let quoted = literal.trim_start_matches('r').trim_matches('#');
        let text = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        text.map(str::to_owned)
            .ok_or_else(|| self.wrong(format!("the value of `{}` must be a text in quotes", self.name)))
    }

    fn count(&self) -> Result<u32, Error> {
        match self.literal().replace('_', "").trim_end_matches("usize").parse() {
            Ok(0) => Err(self.wrong(format!("`{}` must be one or more", self.name))),
            Ok(count) => Ok(count),
            Err(_) => Err(self.wrong(format!("the value of `{}` must be a whole number", self.name))),
        }
    }

    fn flag(&self) -> Result<bool, Error> {
        let wrong = || self.wrong(format!("the value of `{}` must be `true` or `false`", self.name));
        self.literal().parse().map_err(|_| wrong())
    }

    fn time(&self) -> Result<u64, Error> {
        milliseconds::parse(&self.text()?).map_err(|wrong| self.wrong(format!("`{}` {wrong}", self.name)))
    }

    fn path(&self) -> Result<TokenStream, Error> {
        let text = self.text()?;
        if text == "tokio" || text.ends_with("::tokio") {
            return Err(self.wrong("`crate` is the path of deadbeat here, not of tokio: leave it out"));
        }
        let is_path = !text.is_empty() && text.split("::").skip(usize::from(text.starts_with("::"))).all(is_name);
        let path = text.parse::<TokenStream>().ok().filter(|_| is_path);
        let path = path.ok_or_else(|| self.wrong("the value of `crate` must be the path of deadbeat"))?;
        Ok(path.into_iter().map(|token| at(token, self.token.span())).collect())
    }
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && chars.all(|char| char.is_alphanumeric() || char == '_')
}

fn at(mut token: TokenTree, span: Span) -> TokenTree {
    token.set_span(span);
    token
}

fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

/// A literal out of the group without delimiters that `macro_rules!` puts it into.
fn visible(token: &TokenTree) -> TokenTree {
    match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
            let inside: Vec<_> = group.stream().into_iter().collect();
            if let [one] = &inside[..] { visible(one) } else { token.clone() }
        }
        _ => token.clone(),
    }
}
