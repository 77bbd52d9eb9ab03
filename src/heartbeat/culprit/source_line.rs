//! A probable source line: the first return address on a copied stack that belongs to code of neither the standard
//! library, tokio nor this module.
//!
//! Nothing unwinds here. Words that look like return addresses are taken for them, so one left over from an earlier
//! call can be taken too: hence *probable*.

use std::ops::Range;
use std::path::Path;

/// Symbols of the machinery between the scheduler and the code under watch.
const MACHINERY: &[&str] = &["std::", "core::", "alloc::", "tokio::", "deadbeat::heartbeat", "__rust", "backtrace::"];

pub(super) fn probable(stack: &[usize]) -> Option<String> {
    let code = own_code();
    let addresses = stack.iter().filter(|word| code.iter().any(|range| range.contains(word)));
    addresses.take(400).find_map(|address| line_at(*address))
}

fn line_at(return_address: usize) -> Option<String> {
    let mut found = None;
    // The call is before the address that it returns to.
    let call = std::ptr::with_exposed_provenance_mut(return_address - 1);
    backtrace::resolve(call, |symbol| {
        let Some((name, (file, line))) = symbol.name().zip(symbol.filename().zip(symbol.lineno())) else {
            return;
        };
        if found.is_none() && is_theirs(&name.to_string(), file) {
            found = Some(format!("{}:{line}", file.display()));
        }
    });
    found
}

/// Whether a symbol is of the code under watch.
fn is_theirs(name: &str, file: &Path) -> bool {
    let name = name.trim_start_matches(['<', '&', '_']);
    let foreign =
        ["/rustc/", "/.cargo/registry/", "/rustlib/"].iter().any(|part| file.to_string_lossy().contains(part));
    !foreign && !MACHINERY.iter().any(|machinery| name.starts_with(machinery))
}

/// The executable mappings of the program itself.
fn own_code() -> Vec<Range<usize>> {
    let program = std::env::current_exe().unwrap_or_default();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let code = maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, mode, path) = (fields.next()?, fields.next()?, fields.nth(3)?);
        let (from, to) = range.split_once('-')?;
        let word = |hex| usize::from_str_radix(hex, 16).ok();
        (mode.contains('x') && Path::new(path) == program).then_some(word(from)?..word(to)?)
    });
    code.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_the_program_is_theirs_and_machinery_is_not() {
        let here = Path::new("src/job.rs");
        assert!(is_theirs("job::run::{{closure}}", here));
        assert!(!is_theirs("<core::future::poll_fn::PollFn<F> as core::future::Future>::poll", here));
        assert!(!is_theirs("libc_call", Path::new("/home/me/.cargo/registry/src/x/y.rs")));
    }

    #[test]
    fn the_programs_code_is_what_of_it_can_be_run() {
        let here = probable as fn(&[usize]) -> Option<String> as usize;
        let data = MACHINERY.as_ptr() as usize;
        let is_code = |address| own_code().iter().any(|range| range.contains(&address));
        assert!(is_code(here) && !is_code(data));
    }
}
