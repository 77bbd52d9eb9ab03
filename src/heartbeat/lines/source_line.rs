//! A source line: that of the innermost call that belongs to code of neither the standard library, tokio nor this
//! module.
//!
//! The calls are unwound. Only where that ends too early, words of the stack that look like return addresses are taken
//! for them, so one left over from an earlier call can be taken too: such a line is said to be a guess.

use std::path::Path;

use crate::heartbeat::observer::summary::most_frequent;

use crate::heartbeat::culprit::stack::{Stack, StackCopies};
use crate::heartbeat::culprit::{Line, NoLine};
use crate::heartbeat::lines::unwind::modules::Modules;
use crate::heartbeat::lines::unwind::{UnwindEnd, Walk};

/// Symbols of the machinery between the scheduler and the code under watch.
const MACHINERY: &[&str] = &["std::", "core::", "alloc::", "tokio::", "deadbeat::heartbeat", "__rust", "backtrace::"];

/// Where cargo and rustup keep the sources of others, wherever their homes are.
const FOREIGN: &[&str] = &["/rustc/", "/rustlib/", "/registry/src/", "/git/checkouts/"];

/// More words than this are not tried.
const GUESSES: usize = 400;

/// The line that most of them point to. One that was unwound counts for more than any number of guesses.
pub(crate) fn of(evidence: &StackCopies, modules: &Modules) -> Result<Line, NoLine> {
    let program = std::env::current_exe().unwrap_or_default().to_string_lossy().into_owned();
    let found: Vec<_> = evidence.stacks().iter().map(|stack| on(stack, modules, &program)).collect();
    let most = |guessed| {
        let lines = found.iter().flatten().filter(|line| line.guessed == guessed);
        most_frequent(lines, |one, other| one == other)
    };
    let reason = || found.iter().find_map(|found| found.as_ref().err()).unwrap_or(&NoLine::NotOnStack);
    most(false).or_else(|| most(true)).cloned().ok_or_else(|| reason().clone())
}

fn on(stack: &Stack, modules: &Modules, program: &str) -> Result<Line, NoLine> {
    let is_programs = |address: &usize| modules.path_of_code(*address) == Some(program);
    let mut missing = None;
    let mut theirs = |address: usize| match seen_at(address) {
        FrameSeen::Theirs(line) => Some(line),
        FrameSeen::Others => None,
        FrameSeen::Nameless(why) => {
            missing.get_or_insert(why);
            None
        }
    };
    let mut walk = Walk::new(stack, modules);
    if let Some(text) = walk.by_ref().filter(is_programs).find_map(&mut theirs) {
        return Ok(Line { text, guessed: false });
    }
    if walk.end() == Some(UnwindEnd::Unknown) {
        let words = stack.from(walk.stack_pointer()).iter().copied();
        let mut calls = words.filter(|word| is_programs(word) && modules.follows_a_call(*word)).take(GUESSES);
        // The call is before the address that it returns to.
        if let Some(text) = calls.find_map(|word| theirs(word - 1)) {
            return Ok(Line { text, guessed: true });
        }
    }
    // Of a file that was replaced nothing could be read.
    let why = missing.map(|why| if program.ends_with(" (deleted)") { NoLine::Replaced } else { why });
    Err(why.unwrap_or(NoLine::NotOnStack))
}

/// What the symbols say of an address.
#[derive(Debug, PartialEq, Eq)]
enum FrameSeen {
    /// It is in this line of the code under watch.
    Theirs(String),
    /// It is in code that is not.
    Others,
    /// It may be in code under watch; this keeps the line from being known.
    Nameless(NoLine),
}

fn seen_at(address: usize) -> FrameSeen {
    let (mut theirs, mut others, mut named) = (None, false, false);
    // It takes the address for one that a call returns to, and looks at the byte before.
    backtrace::resolve(std::ptr::with_exposed_provenance_mut(address.wrapping_add(1)), |symbol| {
        let Some(name) = symbol.name().map(|name| name.to_string()) else { return };
        named = true;
        match symbol.filename().zip(symbol.lineno()) {
            Some((file, line)) if is_theirs(&name, file) => {
                theirs.get_or_insert_with(|| format!("{}:{line}", file.display()));
            }
            Some(_) => others = true,
            None => others |= is_machinery(&name),
        }
    });
    match (theirs, others, named) {
        (Some(line), ..) => FrameSeen::Theirs(line),
        (None, true, _) => FrameSeen::Others,
        (None, false, true) => FrameSeen::Nameless(NoLine::NoDebugInfo),
        (None, false, false) => FrameSeen::Nameless(NoLine::Stripped),
    }
}

/// Whether a symbol is of the code under watch.
fn is_theirs(name: &str, file: &Path) -> bool {
    let file = file.to_string_lossy();
    !FOREIGN.iter().any(|part| file.contains(part)) && !is_machinery(name)
}

fn is_machinery(name: &str) -> bool {
    let bare = name.trim_start_matches(['<', '&', '_']);
    MACHINERY.iter().any(|machinery| name.starts_with(machinery) || bare.starts_with(machinery))
}
