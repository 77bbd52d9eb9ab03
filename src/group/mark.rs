//! Finds a tree of processes by a mark in its environment, wherever its members have gone.
//!
//! A group is what `killpg` reaches; a member that calls `setsid` leaves it. What stays is the environment a process
//! was started with, readable in `/proc/PID/environ` by the same user. Its limit: a member that cleared its environment
//! (`env -i`) or wrote over it is not found.

#[cfg(target_os = "linux")]
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::member::Member;
#[cfg(target_os = "linux")]
use super::os;

/// One marked tree: a variable that no other process has in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    name: String,
    value: String,
}

impl Mark {
    pub(crate) fn new(name: &str, value: &str) -> Mark {
        Mark { name: name.to_owned(), value: value.to_owned() }
    }

    /// A variable of this name, with a value that was never used before: letters, digits and dashes.
    ///
    /// It begins with the pid of this process. That is not enough where another pid namespace has the same pid and its
    /// processes can be seen from here, so the clock and chance are added.
    pub(crate) fn fresh(name: &str) -> Mark {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::disallowed_methods, reason = "one part of a name: a clock that jumps back leaves the others")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        // Every `RandomState` has keys of its own, and a process takes its first from the system.
        let chance = RandomState::new().hash_one(count);
        Mark::new(name, &format!("{}-{count}-{now:x}-{chance:016x}", std::process::id()))
    }

    /// Name and value of the variable.
    pub(crate) fn variable(&self) -> (&str, &str) {
        (&self.name, &self.value)
    }

    /// Every marked process that can still run.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] where there is no `/proc` to read.
    pub(crate) fn members(&self) -> io::Result<Vec<Member>> {
        #[cfg(target_os = "linux")]
        if os::available() {
            return os::members_where(|pid, _| self.is_on(pid));
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, "marked processes cannot be found without /proc"))
    }

    /// Sends SIGKILL to every marked process, each held by its pidfd while its mark is read again, so that no number
    /// that was reused meanwhile can be hit.
    pub(crate) fn kill(&self) {
        #[cfg(target_os = "linux")]
        for member in self.members().unwrap_or_default() {
            os::kill_if(member.pid, || self.is_on(member.pid));
        }
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn is_on(&self, pid: i32) -> bool {
        let text = read_past_an_exec(|| environment(pid).unwrap_or_default(), || is_in_exec(pid));
        let ours = format!("{}={}", self.name, self.value).into_bytes();
        text.split(|b| *b == 0).any(|entry| entry == ours)
    }
}

/// Whether the environment of a process has a variable of this name; `false` where it cannot be read.
#[cfg(feature = "cli")]
pub(crate) fn carries(pid: i32, name: &str) -> bool {
    #[cfg(target_os = "linux")]
    if os::available() {
        let text = read_past_an_exec(|| environment(pid).unwrap_or_default(), || is_in_exec(pid));
        let start = format!("{name}=").into_bytes();
        return text.split(|b| *b == 0).any(|entry| entry.starts_with(&start));
    }
    let _ = (pid, name);
    false
}

/// Reads an environment, which is empty in the middle of an `execve`: then it is read again, so that a marked process
/// is not taken for a stranger.
#[cfg(target_os = "linux")]
fn read_past_an_exec(read: impl Fn() -> Vec<u8>, is_in_exec: impl Fn() -> bool) -> Vec<u8> {
    for _ in 0..100 {
        let text = read();
        if !text.is_empty() || !is_in_exec() {
            return text;
        }
        std::thread::yield_now();
    }
    read()
}

/// A process with a variable of some name in its environment.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) pid: i32,
    pub(crate) value: String,
}

/// What one walk through the process table showed of a variable.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
pub(crate) struct Carriers {
    /// The carriers that can still run.
    pub(crate) found: Vec<Carrier>,
    /// Whether some process was in the middle of an exec, with no environment to be seen yet.
    pub(crate) some_in_exec: bool,
}

#[cfg(target_os = "linux")]
impl Carriers {
    /// Notes what the environment of one process shows.
    fn note(&mut self, pid: i32, name: &str, environment: &[u8], is_in_exec: impl FnOnce() -> bool) {
        self.some_in_exec |= environment.is_empty() && is_in_exec();
        let value = value_in(environment, name).filter(|_| os::runs(pid));
        self.found.extend(value.map(|value| Carrier { pid, value }));
    }
}

/// The processes that carry the variable; none without a `/proc` to read.
#[cfg(target_os = "linux")]
pub(crate) fn carriers(name: &str) -> Carriers {
    let mut carriers = Carriers::default();
    if os::available() {
        // What was seen before an error counts.
        let _ = os::walk(|pid, _| {
            if let Ok(environment) = environment(pid) {
                carriers.note(pid, name, &environment, || is_in_exec(pid));
            }
        });
    }
    carriers
}

/// The value of the variable in the environment of one process, if that can be read and has it.
#[cfg(target_os = "linux")]
pub(crate) fn value(pid: i32, name: &str) -> Option<String> {
    value_in(&environment(pid).ok()?, name)
}

/// Whether the environment of a process tells where it comes from: it can be read, and was neither overwritten nor left
/// empty. A process in the middle of an exec counts as telling, and so does one that is ending and has none any more.
#[cfg(target_os = "linux")]
pub(crate) fn tells(pid: i32) -> bool {
    match environment(pid) {
        Ok(environment) if environment.is_empty() => is_in_exec(pid) || !has_program(pid),
        Ok(environment) => has_variables(&environment),
        Err(error) => error.kind() != io::ErrorKind::PermissionDenied,
    }
}

/// Whether it runs a program; `true` also where this process may not know.
#[cfg(target_os = "linux")]
fn has_program(pid: i32) -> bool {
    !fs::read_link(format!("/proc/{pid}/exe")).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether the first entry is a variable: a name, `=`, a value. A process title that was written over it is none.
#[cfg(target_os = "linux")]
fn has_variables(environment: &[u8]) -> bool {
    let first = environment.split(|b| *b == 0).next().unwrap_or_default();
    let name = first.split(|b| *b == b'=').next().unwrap_or_default();
    name.len() < first.len() && !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic())
}

/// The environment of a process. Fails for another user's; empty for a zombie, too.
#[cfg(target_os = "linux")]
fn environment(pid: i32) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{pid}/environ"))
}

/// Whether it is in the middle of an exec: its new program is there and has no arguments yet. Zombies and the kernel's
/// own threads have no program.
#[cfg(target_os = "linux")]
fn is_in_exec(pid: i32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
        && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| arguments.is_empty())
}

#[cfg(target_os = "linux")]
fn value_in(environment: &[u8], name: &str) -> Option<String> {
    let value = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
    let value = environment.split(|b| *b == 0).find_map(value)?;
    String::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mark_is_made_twice_and_each_says_which_process_made_it() {
        let marks: Vec<_> = (0..100).map(|_| Mark::fresh("DEADBEAT_TEST")).collect();
        for (i, mark) in marks.iter().enumerate() {
            let (name, value) = mark.variable();
            assert_eq!(name, "DEADBEAT_TEST");
            assert!(value.starts_with(&format!("{}-", std::process::id())), "{value}");
            assert!(value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{value}");
            // Not by the count alone: of two processes with one pid it is the same.
            let chance = |mark: &Mark| mark.value.rsplit_once('-').unwrap().1.to_owned();
            assert!(marks[..i].iter().all(|other| chance(other) != chance(mark)), "{value}");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod linux_tests {
    use std::cell::Cell;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::super::inside::skip;
    use super::super::testing::Started;
    use super::os::is_dying;
    use super::*;

    #[test]
    fn what_is_in_the_middle_of_an_exec_is_read_again_and_not_for_ever() {
        let read = |texts: &[&str], is_in_exec: bool| {
            let reads = Cell::new(0);
            let read = || {
                let text = texts[reads.get().min(texts.len() - 1)];
                reads.set(reads.get() + 1);
                text.into()
            };
            (String::from_utf8(read_past_an_exec(read, || is_in_exec)).unwrap(), reads.get())
        };
        assert_eq!(read(&["A=1"], true), ("A=1".into(), 1), "it has passed");
        assert_eq!(read(&["", "A=1"], false), (String::new(), 1), "a zombie");
        assert_eq!(read(&["", "", "A=1"], true), ("A=1".into(), 3));
        assert_eq!(read(&[""], true), (String::new(), 101), "whatever it is, it is not marked");
    }

    #[test]
    fn an_environment_tells_unless_it_is_empty_or_a_title_was_written_over_it() {
        for (environment, has) in [
            (&b"HOME=/root\0"[..], true),
            (b"_=\0", true),
            (b"", false),
            (b"\0\0\0\0", false),
            (b"ess on 80\0\0", false),
            (b"ess -c a=b\0", false),
            (b"=\0", false),
        ] {
            assert_eq!(has_variables(environment), has, "{}", String::from_utf8_lossy(environment));
        }
        let mut cat = Started::new(Command::new("cat").env_clear());
        assert!(tells(std::process::id() as i32) && tells(i32::MAX));
        while is_in_exec(cat.pid()) {}
        assert!(!tells(cat.pid()), "it has none, and may have cleared it");
        cat.kill();
        assert!(tells(cat.pid()), "it has ended");
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = b"A=1\0AB=2\0B=3=4\0C\0D=\0E=\xff\0B=5\0";
        for (name, value) in [
            ("A", Some("1")),
            ("AB", Some("2")),
            ("B", Some("3=4")),
            ("C", None),
            ("D", Some("")),
            ("E", None),
            ("F", None),
        ] {
            assert_eq!(value_in(environment, name).as_deref(), value, "{name}");
        }
    }

    #[test]
    fn a_process_that_carries_the_variable_counts_while_it_runs_and_one_in_an_exec_is_noted() {
        let mut zombie = Started::leader();
        zombie.kill();
        let us = std::process::id() as i32;
        let all = &mut Carriers::default();
        let mut note = |pid, environment: &str, is_in_exec| {
            let known = all.found.len();
            all.note(pid, "N", environment.as_bytes(), || is_in_exec);
            (all.found[known..].iter().map(|carrier| carrier.value.clone()).collect::<String>(), all.some_in_exec)
        };
        assert_eq!(note(us, "A=1\0N=v\0", true), ("v".into(), false), "what can be read is not in an exec any more");
        assert_eq!(note(us, "A=1\0", true), (String::new(), false));
        assert_eq!(note(zombie.pid(), "N=v\0", false), (String::new(), false));
        assert_eq!(note(us, "", false), (String::new(), false));
        assert_eq!(note(us, "", true), (String::new(), true));
        assert_eq!(note(us, "N=w\0", false), ("w".into(), true), "one was");
        assert!(all.found.iter().all(|carrier| carrier.pid == us));
    }

    #[test]
    fn the_marked_are_found_and_killed_and_no_others() {
        // A name that no other run of this test has on this machine.
        let name = format!("DEADBEAT_TEST_{}", Mark::fresh("").variable().1);
        let mark = Mark::fresh(&name);
        let (name, value) = mark.variable();
        let start = |value| Started::new(Command::new("cat").env(name, value));
        let (marked, other) = (start(value), start("another"));
        let pids = [&marked, &other].map(Started::pid);
        assert_eq!(pids.map(|pid| mark.is_on(pid)), [true, false]);
        let members = mark.members().unwrap();
        assert_eq!(members.iter().map(|member| member.pid).collect::<Vec<_>>(), pids[..1]);
        let mut found = carriers(name).found;
        found.sort_by_key(|carrier| carrier.pid != pids[0]);
        let found: Vec<_> = found.iter().map(|carrier| (carrier.pid, carrier.value.as_str())).collect();
        assert_eq!(found, [(pids[0], value), (pids[1], "another")]);
        mark.kill();
        assert_eq!(pids.map(is_dying), [true, false]);
    }

    #[test]
    fn a_program_that_has_no_arguments_yet_is_in_the_middle_of_an_exec() {
        // `prctl(PR_SET_MM, PR_SET_MM_MAP, ..)`: all as it is in `proc_pid_stat(5)`, but for the end of the arguments.
        let script = format!(
            r#"open F, "/proc/self/stat"; $_ = <F>; s/.*\) //; @f = split;
            $map = pack "Q12 L l", @f[23, 24, 42, 43, 44], syscall({}, 0), @f[25, 45, 45, 47, 48], 0, 0, -1;
            syscall({}, 35, 14, $map, length $map, 0) == 0 or exit 1; $| = 1; print "ready\n"; <STDIN>"#,
            nix::libc::SYS_brk,
            nix::libc::SYS_prctl
        );
        let mut perl = Command::new("perl");
        perl.args(["-e", &script]).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(perl) = perl.spawn() else { return skip("in the middle of an exec: needs perl") };
        let (mut perl, mut said) = (Started(perl), String::new());
        BufReader::new(perl.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "ready\n" {
            return skip("in the middle of an exec: needs a kernel that lets it have no arguments");
        }
        assert!(is_in_exec(perl.pid()));
        assert!(carriers("N").some_in_exec);
        assert!(!Mark::new("N", "v").is_on(perl.pid()), "it does not come to an end");
        perl.kill();
        assert!(!is_in_exec(perl.pid()), "a zombie has no program");
        assert!(!is_in_exec(std::process::id() as i32));
    }
}
