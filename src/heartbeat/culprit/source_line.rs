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
    // The call is before the address that it returns to: `resolve` looks at the byte before.
    backtrace::resolve(std::ptr::with_exposed_provenance_mut(return_address), |symbol| {
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
    let bare = name.trim_start_matches(['<', '&', '_']);
    let foreign =
        ["/rustc/", "/.cargo/registry/", "/rustlib/"].iter().any(|part| file.to_string_lossy().contains(part));
    !foreign && !MACHINERY.iter().any(|machinery| name.starts_with(machinery) || bare.starts_with(machinery))
}

/// The executable mappings of the program itself.
fn own_code() -> Vec<Range<usize>> {
    let program = std::env::current_exe().unwrap_or_default();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    code_of(&program, &maps)
}

/// See proc_pid_maps(5).
fn code_of(program: &Path, maps: &str) -> Vec<Range<usize>> {
    let code = maps.lines().filter_map(|line| {
        let mut fields = line.splitn(6, ' ');
        let (range, mode, path) = (fields.next()?, fields.next()?, fields.nth(3)?.trim_start());
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
        assert!(!is_theirs("__rust_try", here));
        assert!(is_theirs("<rust_of_mine::Job as job::Run>::run", here));
        assert!(!is_theirs("libc_call", Path::new("/home/me/.cargo/registry/src/x/y.rs")));
    }

    #[test]
    fn the_programs_code_is_what_of_it_can_be_run() {
        let here = probable as fn(&[usize]) -> Option<String> as usize;
        let data = MACHINERY.as_ptr() as usize;
        let is_code = |address| own_code().iter().any(|range| range.contains(&address));
        assert!(is_code(here) && !is_code(data));
    }

    #[test]
    fn a_program_is_found_whatever_its_path() {
        let maps = "1000-2000 r--p 00000000 fe:00 27                         /home/me/my project/job\n\
                    2000-3000 r-xp 00001000 fe:00 27                         /home/me/my project/job\n\
                    4000-5000 rw-p 00000000 00:00 0 \n\
                    5000-6000 r-xp 00000000 fe:00 28                         /home/me/my\n";
        let code = |program: &str| {
            let code = code_of(Path::new(program), maps);
            code.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()
        };
        assert_eq!(code("/home/me/my project/job"), [(0x2000, 0x3000)]);
        assert_eq!(code("/home/me/my"), [(0x5000, 0x6000)]);
    }

    /// A return address can be the first of the next function: the call is before it.
    #[test]
    fn the_line_is_that_of_the_byte_before_the_return_address() {
        let pause = crate::group::pause as fn(std::time::Duration) as usize;
        let first = line_at(pause + 1);
        assert!(first.as_ref().is_some_and(|line| line.contains("src/group.rs:")), "{first:?}");
        assert_ne!(line_at(pause), first);
    }
}
