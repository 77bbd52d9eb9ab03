//! The parent that is to die: does what it is told by lines on its stdin, and answers each with one.

use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deadbeat::KillPolicy;
use deadbeat::fixture;
use deadbeat::guardian::{GuardedChild, Guardian};

use super::support::GRACE;

/// Set in a process that is to play this part.
pub(crate) const ROLE: &str = "DEADBEAT_TEST_PARENT";

/// Lines to begin with, separated by semicolons, for one that reads nothing from its stdin.
const LINES: &str = "DEADBEAT_TEST_LINES";

/// Programs besides the fixtures. They shake hands as those do.
pub(crate) const PROGRAMS: &[(&str, &str)] = &[
    ("sleep", "echo \"leader $$\"; echo 'ready 1'; exec sleep 120"),
    (
        "polite",
        "trap 'echo asked leader; exit' TERM; echo \"leader $$\"; echo 'ready 1'; while :; do sleep 1 & wait; done",
    ),
    (
        "polite-escapee",
        r#"setsid sh -c 'trap "echo asked escapee; exit" TERM; echo "escaped $$"; while :; do sleep 1 & wait; done' &
        echo "leader $$"; echo 'ready 2'; exec sleep 120"#,
    ),
    // Without a mark: it can be found by its group alone.
    ("unmarked", "exec env -i PATH=\"$PATH\" sh -c 'echo \"leader $$\"; echo \"ready 1\"; exec sleep 120'"),
    // One that leaves the group and has no mark to be read. What it is, is a variable, see `hidden.rs`.
    ("hidden", "setsid perl -e \"$DEADBEAT_TEST_HIDES\" & echo \"leader $$\"; echo 'ready 2'; exec sleep 120"),
    // The same, by way of another that opens the session.
    (
        "hidden-orphan",
        r#"setsid sh -c 'perl -e "$DEADBEAT_TEST_HIDES" & echo "between $$"; wait' & echo "leader $$"; echo 'ready 2'
        exec sleep 120"#,
    ),
    ("family", "setsid sleep 120 & sleep 120 & exec sleep 120"),
    // A parent within a parent. Its child does not carry the outer mark.
    (
        "nested",
        "export DEADBEAT_TEST_LINES='guardian;announce;spawn bare ignore-term;guard 0 last'; exec \
         \"$DEADBEAT_TEST_PROGRAM\"",
    ),
    ("nested-alone", "export DEADBEAT_TEST_LINES='spawn bare ignore-term;done'; exec \"$DEADBEAT_TEST_PROGRAM\""),
];

#[derive(Default)]
struct Parent {
    guardian: Option<Guardian>,
    guarded: Vec<Option<GuardedChild>>,
    children: Vec<Child>,
}

pub(crate) fn main() {
    let mut parent = Parent::default();
    if let Ok(lines) = std::env::var(LINES) {
        lines.split(';').for_each(|line| parent.hear(line));
        loop {
            std::thread::park();
        }
    }
    for line in std::io::stdin().lock().lines() {
        parent.hear(&line.unwrap());
    }
}

impl Parent {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["guardian"] => self.begin(Guardian::of_this_program()),
            ["guardian", path] => self.begin(Guardian::start(path)),
            ["who"] => println!("guardian {}", self.guardian().pid().unwrap_or(0)),
            ["announce"] => self.expect(GRACE),
            // For those that obey: nothing waits for it.
            ["announce", "patient"] => self.expect(Duration::from_secs(60)),
            ["spawn", id, program] => {
                let pid = self.spawn(id, program);
                println!("child {pid}");
            }
            ["guard", id, pgid] => {
                let pgid = if pgid == "last" { self.children.last().unwrap().id() as i32 } else { number(pgid) };
                match self.guarded(id).guard(pgid) {
                    Ok(()) => println!("guarded {pgid}"),
                    Err(error) => println!("error {error}"),
                }
            }
            ["release", id] => {
                self.guarded[number(id) as usize].take().unwrap().release();
                println!("released {id}");
            }
            ["drop"] => {
                self.guarded.clear();
                self.guardian = None;
                println!("dropped it");
            }
            ["leak"] => {
                let file = std::fs::File::open("/etc/passwd").unwrap();
                rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
                std::mem::forget(file);
                println!("leaked it");
            }
            // A family after the other, until we are killed. Without a guardian: the control.
            ["storm"] => loop {
                let id = match self.guardian {
                    Some(_) => {
                        self.hear("announce");
                        (self.guarded.len() - 1).to_string()
                    }
                    None => "-".to_owned(),
                };
                let pid = self.spawn(&id, "family");
                println!("child {pid}");
                if id != "-" {
                    self.hear(&format!("guard {id} {pid}"));
                }
                if self.children.len() == 40 {
                    std::thread::park();
                }
            },
            ["done"] => println!("guarded {}", self.children.last().unwrap().id()),
            ["abort"] => std::process::abort(),
            ["exit"] => std::process::exit(0),
            _ => panic!("what is {line:?}?"),
        }
    }

    fn begin(&mut self, guardian: std::io::Result<Guardian>) {
        match guardian {
            Ok(guardian) => {
                println!("guardian {}", guardian.pid().unwrap());
                self.guardian = Some(guardian);
            }
            Err(error) => println!("error {error}"),
        }
    }

    fn expect(&mut self, grace: Duration) {
        match self.guardian().announce(&KillPolicy::default().grace(grace)) {
            Ok(child) => {
                self.guarded.push(Some(child));
                println!("announced {}", self.guarded.len() - 1);
            }
            Err(error) => println!("error {error}"),
        }
    }

    fn guardian(&self) -> &Guardian {
        self.guardian.as_ref().unwrap()
    }

    fn guarded(&mut self, id: &str) -> &mut GuardedChild {
        self.guarded[number(id) as usize].as_mut().unwrap()
    }

    /// With the mark of this child; `-`: without one, `bare`: without those of outer runs as well.
    fn spawn(&mut self, id: &str, program: &str) -> i32 {
        let own = PROGRAMS.iter().find(|(name, _)| *name == program).map(|(_, text)| *text);
        let text = own.or_else(|| fixture::named(program).map(|fixture| fixture.source)).expect(program);
        let mut command = Command::new("sh");
        command.args(["-c", text, program]).process_group(0).stdin(Stdio::null()).stderr(Stdio::null());
        command.env("DEADBEAT_TEST_PROGRAM", std::env::current_exe().unwrap());
        match id {
            "-" => {}
            "bare" => {
                for (name, _) in std::env::vars_os() {
                    if name.to_string_lossy().starts_with("DEADBEAT_RUN_") {
                        command.env_remove(name);
                    }
                }
            }
            id => {
                let (name, value) = self.guarded(id).mark();
                command.env(name, value);
            }
        }
        let child = command.spawn().unwrap();
        let pid = child.id() as i32;
        self.children.push(child);
        pid
    }
}

fn number(word: &str) -> i32 {
    word.parse().unwrap()
}
