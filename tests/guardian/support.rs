//! What these tests share: a parent to kill, and its whole tree, found by a mark of the test's own.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

#[path = "../common/eventually.rs"]
mod eventually;
pub(crate) use eventually::{SOON, eventually};

#[path = "../common/marked.rs"]
mod marked;
use marked::{carries, kill, marked};

/// It is a zombie, or gone.
fn is_dead(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.starts_with(" Z"))
}

/// Of the parents' policy.
pub(crate) const GRACE: Duration = Duration::from_millis(700);

/// The variable that every process of a test carries, guardians included.
const TREE: &str = "DEADBEAT_TEST_TREE";

/// Whether this test runs as PID 1 of a namespace; if not, runs it there, and tells how that went.
pub(crate) fn inside(test: &str) -> bool {
    const INSIDE: &str = "DEADBEAT_INSIDE_A_PID_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let may = Command::new("unshare").args(unshare).arg("true").stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {test} needs the privilege to make a pid namespace");
        return false;
    }
    let output = Command::new("unshare")
        .args(unshare)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// All processes of one test that can run. Dropping it kills them.
pub(crate) struct Tree(String);

impl Tree {
    fn new() -> Tree {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        #[expect(clippy::disallowed_methods, reason = "one part of a name")]
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        Tree(format!("{TREE}={}-{}-{now}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Name and value of what its processes carry.
    pub(crate) fn mark(&self) -> (String, String) {
        let (name, value) = self.0.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    }

    /// Pid and command line of each.
    pub(crate) fn alive(&self) -> Vec<(i32, String)> {
        let line = |pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        marked(&self.0).into_iter().map(|pid| (pid, line(pid))).collect()
    }

    /// In the middle of an exec it has no environment to be seen, which is waited for.
    pub(crate) fn lives(&self, pid: i32) -> bool {
        let start = Instant::now();
        let is_in_exec =
            || std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default().is_empty() && !is_dead(pid);
        while is_in_exec() && start.elapsed() < SOON {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        carries(pid, &self.0)
    }

    /// Seen twice, because one walk through the table can miss who is forked meanwhile.
    #[track_caller]
    pub(crate) fn is_dead_soon(&self) {
        let start = Instant::now();
        let mut dead = 0;
        while dead < 2 {
            let alive = self.alive();
            dead = if alive.is_empty() { dead + 1 } else { 0 };
            assert!(start.elapsed() < SOON, "still alive: {alive:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// SIGKILL, and the end of it: its descriptors are closed.
    #[track_caller]
    pub(crate) fn kill_wholly(&self, pid: i32) {
        self.kill(pid);
        eventually("it is a zombie, or gone", || is_dead(pid));
    }

    pub(crate) fn kill(&self, pid: i32) {
        kill(pid, &self.0);
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let start = Instant::now();
        while start.elapsed() < SOON {
            let alive = self.alive();
            if alive.is_empty() {
                return;
            }
            alive.iter().for_each(|(pid, _)| self.kill(*pid));
        }
    }
}

/// A process that does what it is told by lines, see `parent.rs`, and says what became of it.
pub(crate) struct Parent {
    process: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Heard, and not asked for yet.
    heard: VecDeque<String>,
    pub(crate) tree: Tree,
}

impl Parent {
    pub(crate) fn start() -> Parent {
        Parent::start_as(super::parent::ROLE)
    }

    pub(crate) fn start_as(role: &str) -> Parent {
        // What we were started with ignored (nohup, a shell's background) is not to be ignored by those that are tried.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,QUIT,TERM").arg(std::env::current_exe().unwrap());
        Parent::start_by(command, role)
    }

    /// By a command that becomes this program.
    pub(crate) fn start_by(mut command: Command, role: &str) -> Parent {
        let tree = Tree::new();
        let (name, value) = tree.mark();
        let mut process = command
            .env(name, value)
            .env(role, "1")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = process.stdin.take();
        Parent { process, stdin, lines, heard: VecDeque::new(), tree }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The rest of the next line that begins with this word.
    #[track_caller]
    pub(crate) fn hear(&mut self, word: &str) -> String {
        let deadline = Instant::now() + SOON;
        let rest = |line: &str| line.strip_prefix(word).and_then(|rest| rest.strip_prefix(' ')).map(str::to_owned);
        if let Some(i) = self.heard.iter().position(|line| rest(line).is_some()) {
            return self.heard.remove(i).and_then(|line| rest(&line)).unwrap();
        }
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match rest(&line) {
                    Some(rest) => return rest,
                    None => self.heard.push_back(line),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("waited in vain for {word:?}, heard {:?}", self.heard)
                }
            }
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str, word: &str) -> String {
        self.tell(line);
        self.hear(word)
    }

    /// Starts a guardian; its pid.
    #[track_caller]
    pub(crate) fn guardian(&mut self) -> i32 {
        self.ask("guardian", "guardian").parse().unwrap()
    }

    /// Starts a program, marked and guarded, and waits for its handshake; its pids, the leader's first.
    #[track_caller]
    pub(crate) fn guarded(&mut self, program: &str) -> Vec<i32> {
        let id = self.ask(if program.starts_with("polite") { "announce patient" } else { "announce" }, "announced");
        let pids = self.spawned(&format!("spawn {id} {program}"));
        self.ask(&format!("guard {id} {}", pids[0]), "guarded");
        pids
    }

    #[track_caller]
    pub(crate) fn spawned(&mut self, spawn: &str) -> Vec<i32> {
        let leader = self.ask(spawn, "child").parse().unwrap();
        let count: usize = self.hear("ready").parse().unwrap();
        let mut pids = vec![leader];
        for _ in 0..count {
            let pid = self.hear_role();
            if !pids.contains(&pid) {
                pids.push(pid);
            }
        }
        pids
    }

    /// Of the handshake: `ROLE PID`.
    #[track_caller]
    fn hear_role(&mut self) -> i32 {
        let is_role = |line: &String| {
            ["leader ", "child ", "escaped ", "grandchild ", "member "].iter().any(|role| line.starts_with(role))
        };
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(i) = self.heard.iter().position(is_role) {
                return self.heard.remove(i).unwrap().split_once(' ').unwrap().1.parse().unwrap();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.heard.push_back(self.lines.recv_timeout(left).expect("no handshake"));
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// SIGKILL, and the end of it.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGKILL to its whole group, which its children and its guardian are not in.
    pub(crate) fn kill_group(&mut self) {
        nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.pid()), nix::sys::signal::Signal::SIGKILL).unwrap();
        self.process.wait().unwrap();
    }

    /// Its end, whatever ends it.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.process.wait().unwrap()
    }

    /// Lets it end by itself.
    #[track_caller]
    pub(crate) fn end(&mut self, how: &str) -> std::process::ExitStatus {
        self.tell(how);
        self.process.wait().unwrap()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // Its tree goes down with `tree`; it itself has to be reaped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
