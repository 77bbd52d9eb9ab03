//! On a terminal: a pseudo-terminal of the test's own, whose foreground deadbeat starts in.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Run, SOON, Tool, Victim, eventually};

/// A shell, the session leader of its terminal.
struct Session {
    child: Child,
    master: File,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Session {
    /// `$T` is the tool.
    fn of(tool: Tool, script: &str) -> Session {
        // openpty(3) would lend it to whatever another test starts meanwhile.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname_r(&master).unwrap();
        let slave = File::options().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(&name).unwrap();
        let (stdin, stdout) = (slave.try_clone().unwrap(), slave.try_clone().unwrap());
        let mut command = Command::new("bash");
        let tool = tool.command(&[]);
        let words: Vec<_> = std::iter::once(tool.get_program()).chain(tool.get_args()).collect();
        command.env("T", words.join(std::ffi::OsStr::new(" "))).env("LC_ALL", "C").args(["--norc", "-c", script]);
        command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(slave));
        make_leader(&mut command, name);
        let child = command.spawn().unwrap();
        drop(command);
        let mut master = File::from(OwnedFd::from(master));
        let mut reader = master.try_clone().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 1024];
            // EIO: no process has the terminal open any more.
            while let Ok(length @ 1..) = reader.read(&mut chunk) {
                if sender.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        master.flush().unwrap();
        Session { child, master, output, seen: String::new() }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until the words have come; returns what came before them, and forgets it all.
    #[track_caller]
    fn expect(&mut self, words: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(words) {
                let before = self.seen[..at].to_owned();
                self.seen.drain(..at + words.len());
                return before;
            }
            match self.output.recv_timeout(SOON.saturating_sub(start.elapsed())) {
                Ok(chunk) => self.seen += &String::from_utf8_lossy(&chunk),
                Err(RecvTimeoutError::Timeout) => panic!("{words:?} never came, but {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    let mut status = None;
                    eventually("the shell, which has closed its terminal, to end", || {
                        status = self.child.try_wait().unwrap();
                        status.is_some()
                    });
                    panic!("{words:?} never came, but {:?}, and the shell ended: {status:?}", self.seen)
                }
            }
        }
    }

    /// Reads all that is left; to be called when every process that has the terminal is dead.
    #[track_caller]
    fn read_to_the_end(&mut self) {
        loop {
            match self.output.recv_timeout(SOON) {
                Ok(chunk) => self.seen += &String::from_utf8_lossy(&chunk),
                Err(RecvTimeoutError::Timeout) => panic!("the terminal is still open: {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The next number followed by a blank.
    #[track_caller]
    fn victim(&mut self) -> Victim {
        self.expect("ready ");
        while !self.seen.contains('\n') {
            let chunk = self.output.recv_timeout(SOON).expect("half a line");
            self.seen += &String::from_utf8_lossy(&chunk);
        }
        Victim::hold(self.seen.split_whitespace().next().unwrap().parse().unwrap())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(unsafe_code, reason = "what is called between fork and exec are system calls only")]
fn make_leader(command: &mut Command, terminal: String) {
    let hook = move || {
        nix::unistd::setsid()?;
        // A terminal's first process ignores none of its signals, whatever the tests were started with.
        for key in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGHUP] {
            // SAFETY: the default handler is none of ours.
            unsafe { nix::sys::signal::signal(key, nix::sys::signal::SigHandler::SigDfl)? };
        }
        // A leader without a terminal gets the first that it opens.
        drop(nix::fcntl::open(terminal.as_str(), OFlag::O_RDWR, nix::sys::stat::Mode::empty())?);
        Ok(())
    };
    // SAFETY: see `reason`; the path was allocated before.
    unsafe { command.pre_exec(hook) };
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

const READER: &str = "'echo ready $$; read line; echo got $line; exit 3'";

#[test]
fn the_command_reads_the_terminal() {
    let mut session = Session::of(Tool::Deadbeat, &format!("$T 300 sh -c {READER}; echo status $?"));
    let _victim = session.victim();
    session.type_in("hello\n");
    session.expect("got hello");
    session.expect("status 3");

    if Tool::Coreutils.is_installed() {
        // Under job control its command is in the background, and stopped when it reads.
        let mut session = Session::of(Tool::Coreutils, &format!("$T 300 sh -c {READER}; echo status $?"));
        let victim = session.victim();
        eventually("the control's command to be stopped", || victim.state() == Some('T'));
    }
}

/// The same, for a shell within a shell's double quotes.
const QUOTED_READER: &str = "'echo ready \\$\\$; read line; echo got \\$line; exit 3'";

#[test]
fn a_program_that_reads_beside_its_helper_is_not_stopped() {
    // The command runs when the shell begins to read.
    let helper = "S=$$ $T 300 sh -c 'echo ready $$; kill -USR1 $S; exec sleep 300' </dev/tty & wait";
    let script = &format!("trap : USR1; {helper}; read word; echo read $word");
    let mut session = Session::of(Tool::Deadbeat, script);
    let _victim = session.victim();
    session.type_in("hello\n");
    session.expect("read hello");
}

#[test]
fn a_command_reads_the_terminal_by_its_name_and_from_within_a_pipe() {
    let reads = "'echo ready $$ >/dev/tty; read line </dev/tty; echo got $line'";
    for around in ["</dev/null", "| cat"] {
        let mut session = Session::of(Tool::Deadbeat, &format!("$T 300 sh -c {reads} {around}; echo over"));
        let _victim = session.victim();
        session.type_in("hello\n");
        session.expect("got hello");
        session.expect("over");
    }
}

#[test]
fn a_command_reads_the_terminal_that_another_deadbeat_was_lent() {
    let mut session = Session::of(Tool::Deadbeat, &format!("$T 300 $T 300 sh -c {READER}; echo status $?"));
    let _victim = session.victim();
    session.type_in("hello\n");
    session.expect("got hello");
    session.expect("status 3");
}

#[test]
fn two_in_one_job_have_the_terminal_one_after_the_other() {
    // Under a shell that would see its job stopped.
    let script = format!(
        "set -m; sh -c \"$T 300 sh -c {QUOTED_READER} </dev/tty & $T 300 sh -c {QUOTED_READER} </dev/tty & wait\"; \
         echo over $?"
    );
    let mut session = Session::of(Tool::Deadbeat, &script);
    let (_first, second) = (session.victim(), session.victim());
    for _ in 0..2 {
        session.type_in("hello\n");
        session.expect("got hello");
    }
    session.expect("over 0");
    assert!(second.ends_within(SOON));
}

#[test]
fn a_child_reads_the_terminal_whose_leader_is_deaf_to_that_stop() {
    let script = format!("$T 300 bash -c \"trap : TTIN; sh -c {QUOTED_READER}; exit \\$?\"; echo status $?");
    let mut session = Session::of(Tool::Deadbeat, &script);
    let _victim = session.victim();
    session.type_in("hello\n");
    session.expect("got hello");
    session.expect("status 3");
}

#[test]
fn ctrl_c_comes_to_the_script_too_when_the_command_has_caught_it() {
    for (key, signal) in [("\x03", "INT"), ("\x1c", "QUIT")] {
        let command = format!(
            "trap \"echo tidied; exit 7\" {signal}; echo ready \\$\\$; while :; do sleep 300 & wait \\$!; done"
        );
        let command = command.replace('"', "\\\"");
        let script =
            format!("trap 'echo script; exit 9' {signal}; $T 300 sh -c \"{command}\"; echo went on; sleep 300");
        let mut session = Session::of(Tool::Deadbeat, &script);
        let _victim = session.victim();
        session.type_in(key);
        let before = session.expect("script\r\n");
        assert!(before.contains("tidied") && !before.contains("went on"), "{before}");
    }
}

/// It takes longer to tidy up than the grace is.
const SLOW: &str = "'trap \"sleep 2; echo tidied; exit 7\" INT; echo ready $$; while :; do sleep 300 & wait $!; done'";

#[test]
fn ctrl_c_starts_no_grace() {
    for tool in ["$T -k .1 300", "$T -k 300 300 $T -k .1 300", "$T -k .1 -f 300"] {
        let mut session = Session::of(Tool::Deadbeat, &format!("trap : INT; {tool} sh -c {SLOW}; echo status $?"));
        let _victim = session.victim();
        session.type_in("\x03");
        session.expect("tidied");
        session.expect("status 7");
    }
    // The control: from a process it is a request.
    let script = format!("$T -k .1 300 sh -c {SLOW} & read word; kill -INT $!; wait $!; echo status $?");
    let mut session = Session::of(Tool::Deadbeat, &format!("set -m; {script}"));
    let _victim = session.victim();
    session.type_in("\n");
    let before = session.expect("status 137");
    // The shell tells of the command in its own words too.
    assert!(!before.lines().any(|line| line.trim() == "tidied"), "{before}");
}

#[test]
fn what_stops_deadbeat_stops_the_command_and_what_continues_it_continues_both() {
    for signal in ["TSTP", "TTIN", "TTOU", "STOP"] {
        let script = format!(
            "set -m; $T 300 sh -c 'echo ready $$; exec sleep 300' & read word; kill -{signal} %1; \
             read word; kill -CONT %1; read word; kill %1; wait %1; echo over"
        );
        let mut session = Session::of(Tool::Deadbeat, &script);
        let victim = session.victim();
        session.type_in("\n");
        eventually("the command to be stopped", || victim.state() == Some('T'));
        session.type_in("\n");
        eventually("the command to be continued", || victim.state() == Some('S'));
        session.type_in("\n");
        session.expect("over");
    }
}

#[test]
fn the_time_of_a_suspended_command_is_over_when_it_is_over() {
    for signal in ["TSTP", "STOP"] {
        let script = format!(
            "set -m; $T 3 sh -c 'echo ready $$; exec sleep 300' & read word; kill -{signal} %1; \
             read word; fg; echo status $?"
        );
        let mut session = Session::of(Tool::Deadbeat, &script);
        let victim = session.victim();
        session.type_in("\n");
        assert!(victim.ends_within(SOON), "it is suspended without end");
        session.type_in("\n");
        session.expect("status 124");
    }
}

/// The command stops deadbeat by its first act, which may be before the guardian is told that there is a command.
#[test]
fn a_stop_that_comes_with_the_start_is_followed() {
    for _ in 0..6 {
        let mut run = Run::of(Tool::Deadbeat, &[".5", "sh", "-c", "echo ready $$; kill -STOP $PPID; exec sleep 300"]);
        let victim = run.victim();
        assert!(victim.ends_within(SOON), "it is suspended without end");
        run.signal(rustix::process::Signal::CONT);
        assert_eq!(run.status().code(), Some(124));
    }
}

/// A command that was lent the terminal, and its deadbeat.
fn lent(options: &str, then: &str) -> (Session, Victim, Victim) {
    let command = "echo deadbeat $PPID .; read line; echo ready $$; exec sleep 300";
    let mut session = Session::of(Tool::Deadbeat, &format!("$T {options} 300 sh -c '{command}'; {then}"));
    session.expect("deadbeat ");
    let deadbeat = Victim::hold(session.expect(" .").trim().parse().unwrap());
    session.type_in("line\n");
    let victim = session.victim();
    (session, deadbeat, victim)
}

#[test]
fn the_terminal_is_given_back_when_deadbeat_is_killed() {
    for options in ["-k 300", "-s KILL", "-k 0"] {
        // The shell can be told of the death some time before its keeper is given a CPU.
        let again = "until read -r _ _ _ _ _ _ _ holder _ </proc/$$/stat; [ $holder = $$ ]; do sleep .02; done";
        let (mut session, deadbeat, victim) =
            lent(options, &format!("echo status $?; {again}; read word; echo read $word"));
        deadbeat.signal(rustix::process::Signal::KILL);
        session.expect("status 137");
        session.type_in("hello\n");
        session.expect("read hello");
        assert!(victim.ends_within(SOON));
    }
}

#[test]
fn what_attends_a_terminal_that_is_lent_ends_with_deadbeat() {
    let (mut session, deadbeat, victim) = lent("", "echo over; read word");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", deadbeat.pid)).unwrap();
    let children: Vec<_> = children.split_whitespace().map(|pid| Victim::hold(pid.parse().unwrap())).collect();
    let named =
        |child: &&Victim| std::fs::read_to_string(format!("/proc/{}/comm", child.pid)).unwrap() == "proc-guardian\n";
    // Each names itself, as soon as it is given a CPU.
    eventually("the guardian, and two, to have their names", || children.iter().filter(named).count() == 3);
    victim.signal(rustix::process::Signal::TERM);
    session.expect("over");
    // The guardian ends by itself.
    assert!(children.iter().all(|child| child.ends_within(SOON)));
    session.type_in("\n");
}

#[test]
fn ctrl_c_comes_to_the_script_too_when_the_command_was_lent_the_terminal_and_has_caught_it() {
    for tool in ["$T 300", "$T 300 $T 300"] {
        let command = "trap \\\"echo tidied; exit 7\\\" INT; read line; echo ready \\$\\$; \
                       while :; do sleep 300 & wait \\$!; done";
        let script = format!("trap 'echo script; exit 9' INT; {tool} sh -c \"{command}\"; echo went on; sleep 300");
        let mut session = Session::of(Tool::Deadbeat, &script);
        session.type_in("line\n");
        let _victim = session.victim();
        session.type_in("\x03");
        let before = session.expect("script\r\n");
        assert!(before.contains("tidied") && !before.contains("went on"), "{before}");
    }
}

#[test]
fn a_window_of_another_size_is_told_to_a_command_that_has_not_asked_for_the_terminal() {
    let script =
        "$T 300 bash -c 'trap \"echo resized; exit 4\" WINCH; echo ready $$; while :; do sleep 300 & wait $!; done'";
    let mut session =
        Session::of(Tool::Deadbeat, &format!("{script} & read word; stty rows 33; wait $!; echo status $?"));
    let _victim = session.victim();
    session.type_in("\n");
    session.expect("resized");
    session.expect("status 4");
}

#[test]
fn ctrl_c_is_for_the_command() {
    let script = "$T 300 sh -c 'trap \"echo interrupted; exit 7\" INT; echo ready $$; \
                  while :; do sleep 300 & wait $!; done'; echo status $?";
    let mut session = Session::of(Tool::Deadbeat, script);
    let _victim = session.victim();
    session.type_in("\x03");
    session.expect("interrupted");
    session.expect("status 7");
}

#[test]
fn a_script_ends_with_a_command_that_dies_of_ctrl_c() {
    let mut session = Session::of(Tool::Deadbeat, "$T 300 sh -c 'echo ready $$; exec sleep 300'; echo not interrupted");
    let victim = session.victim();
    session.type_in("\x03");
    let status = session.child.wait().unwrap();
    assert!(!victim.is_alive());
    session.read_to_the_end();
    assert_eq!((status.signal(), session.seen.contains("not interrupted")), (Some(2), false), "{}", session.seen);
}

/// A member of the job that deadbeat is in, which outlives the end of its session.
const BYSTANDER: &str =
    "env --default-signal=INT sh -c 'trap \"\" HUP; echo ready $$; while :; do sleep .1; done' & read word; ";

fn with_bystander(command: &str) -> (Session, Victim) {
    let mut session = Session::of(Tool::Deadbeat, &format!("{BYSTANDER}{command}; echo status $?"));
    let bystander = session.victim();
    session.type_in("\n");
    (session, bystander)
}

#[test]
fn the_rest_of_the_job_dies_of_ctrl_c_alone() {
    let command = "$T 300 sh -c 'echo deadbeat $PPID; echo ready $$; exec sleep 300'";
    let (mut session, bystander) = with_bystander(command);
    session.expect("deadbeat ");
    let deadbeat = session.expect("ready ").trim().parse().unwrap();
    kill(Pid::from_raw(deadbeat), Signal::SIGINT).unwrap();
    session.expect("status 130");
    assert!(bystander.is_alive(), "what deadbeat was sent came to the rest of its job");

    // No key sends a signal on this terminal, so it was not one that did.
    let (mut session, bystander) = with_bystander("$T 300 sh -c 'stty -isig; kill -INT $$; exec sleep 300'");
    session.expect("status 130");
    assert!(bystander.is_alive(), "what the command did to itself came to the rest of the job");

    // The control.
    let (mut session, bystander) = with_bystander(command);
    let _victim = session.victim();
    session.type_in("\x03");
    assert!(bystander.ends_within(SOON), "Ctrl-C did not come to the rest of the job");
}

#[test]
fn ctrl_z_stops_the_job_and_fg_continues_it() {
    let script = format!("set -m; $T 300 sh -c {READER}; echo stopped with $?; fg; echo status $?");
    let mut session = Session::of(Tool::Deadbeat, &script);
    let victim = session.victim();
    session.type_in("\x1a");
    session.expect("stopped with 148");
    eventually("the command to be continued", || victim.state().is_some_and(|state| state != 'T'));
    session.type_in("hello\n");
    session.expect("got hello");
    session.expect("status 3");
}

#[test]
fn a_job_that_was_put_into_the_background_is_brought_back() {
    let script = format!("set -m; $T 300 sh -c {READER} & read word; fg; echo status $?");
    let mut session = Session::of(Tool::Deadbeat, &script);
    let victim = session.victim();
    eventually("the command to be stopped for reading", || victim.state() == Some('T'));
    // A shell that brings it back before that sees it stop in the foreground.
    let deadbeat = Victim::hold(parent(victim.pid));
    eventually("deadbeat to be stopped with it", || deadbeat.state() == Some('T'));
    session.type_in("word\n");
    eventually("the command to be continued", || victim.state().is_some_and(|state| state != 'T'));
    session.type_in("hello\n");
    session.expect("got hello");
    session.expect("status 3");
}

#[test]
fn one_that_cannot_be_stopped_in_the_background_lets_its_command_wait_until_its_time_is_over() {
    // The parent of the job has ended: the system discards its stops. Before that it would be stopped with it, so the
    // command reads later.
    let reader = "'echo ready \\$\\$; while [ -e /proc/\\$SH ]; do sleep .02; done; read line'";
    let script = format!(
        "set -m; sh -c \"export SH=\\$\\$; $T 300 sh -c {reader} </dev/tty & echo deadbeat \\$! .\" & read word; \
         echo over"
    );
    let mut session = Session::of(Tool::Deadbeat, &script);
    session.expect("deadbeat ");
    let deadbeat = Victim::hold(session.expect(" .").trim().parse().unwrap());
    let victim = session.victim();
    eventually("the command to be stopped for reading", || victim.state() == Some('T'));
    eventually("deadbeat to sleep on", || deadbeat.state() == Some('S'));
    deadbeat.signal(rustix::process::Signal::ALARM);
    assert!(victim.ends_within(SOON));
    session.type_in("\n");
    session.expect("over");
}

#[test]
fn the_terminal_is_taken_back() {
    let script = "$T .2 sleep 300; echo status $?; read word; echo read $word";
    let mut session = Session::of(Tool::Deadbeat, script);
    session.expect("status 124");
    session.type_in("hello\n");
    session.expect("read hello");
}

#[test]
fn the_terminal_is_left_to_whoever_reads_the_commands_output() {
    // As a pager does.
    let script = "$T 300 sh -c 'echo line; exec sleep 300' | sh -c 'read line; echo ready $$; \
                  read word </dev/tty; echo read $word'";
    let mut session = Session::of(Tool::Deadbeat, script);
    let _victim = session.victim();
    session.type_in("hello\n");
    session.expect("read hello");
}
