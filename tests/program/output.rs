//! Where results go: whole, or not at all, and never with a panic.

use std::fs;
#[cfg(target_os = "linux")]
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use predicates::prelude::*;
use rstest::rstest;
use serde_json::Value;

use crate::support::{DECIDES_COLOURS, FAILING, PASSING, TracedShell, deadbeat, program, sample, until};

/// A stream that will never be read: a write to it fails with EPIPE at once.
fn closed() -> Stdio {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    OwnedFd::from(theirs).into()
}

/// A stream that has no room: a write to it fails with ENOSPC.
fn full() -> Stdio {
    fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn command(args: &str) -> Command {
    let mut command = Command::new(program());
    command.args(args.split_ascii_whitespace()).stdin(Stdio::null());
    DECIDES_COLOURS.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
}

#[test]
fn a_reader_that_left_early_changes_no_status_and_panics_nobody() {
    for (args, status) in [("suite --list", 0), ("fixtures", 0), (PASSING, 0), (FAILING, 1)] {
        let output = command(args).stdout(closed()).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{args}: {output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{args}: {output:?}");
    }
}

#[test]
fn a_stderr_that_takes_nothing_changes_no_status() {
    let mut streams = vec![closed()];
    if cfg!(target_os = "linux") {
        streams.push(full());
    }
    for stderr in streams {
        let output = command(FAILING).stderr(stderr).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    // The control: this call does write to stderr.
    deadbeat(FAILING).assert().code(1).stderr(predicate::str::is_empty().not());
}

#[cfg(target_os = "linux")]
#[test]
fn a_stdout_that_cannot_take_the_report_is_an_error() {
    let output = command(PASSING).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"), "{output:?}");
}

/// By a shell, which starts the program so: with a stdout that is closed, or one that is there to read from.
fn command_with(stdout: &str, args: &str) -> std::process::Output {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$0\" {args} {stdout}")).arg(program()).stdin(Stdio::null()).output().unwrap()
}

#[rstest]
#[case("--help")]
#[case("--version")]
#[case("suite --help")]
#[case("suite --list")]
#[case("fixtures")]
#[case("man")]
#[case("completions bash")]
#[case("kill 2147483647")]
#[case(PASSING)]
fn a_stdout_that_is_closed_is_an_error(#[case] args: &str, #[values(">&-", "1</dev/null")] stdout: &str) {
    let output = command_with(stdout, args);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("deadbeat: cannot write to stdout").count(), 1, "{said}");
    // The control: what is not to be seen goes to where it is not seen.
    assert_eq!(command_with(">/dev/null", args).status.code(), Some(0));
}

#[test]
fn a_suite_does_not_run_for_a_stdout_that_is_closed_unless_its_report_goes_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let shell = TracedShell::new_in(dir.path());
    let suite = format!("{PASSING} --shell '{}'", shell.shell.display());
    assert_eq!(command_with(">&-", &suite).status.code(), Some(2));
    assert!(!shell.was_run());
    let file = dir.path().join("report");
    let output = command_with(">&-", &format!("{suite} --output '{}'", file.display()));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(shell.was_run() && fs::read_to_string(file).unwrap().contains("1 cell"));
}

#[test]
fn a_stdout_that_is_closed_ends_no_kill_and_is_said_once() {
    let running = [(); 2].map(|()| deadbeat::fixture::named("fast-exit").unwrap().start().unwrap());
    let pgids = [running[0].pgid(), running[1].pgid()].map(|pgid| pgid.to_string()).join(" ");
    let output = command_with(">&-", &format!("kill --grace 1s {pgids}"));
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches("cannot write to stdout").count(), 1, "{output:?}");
    until("both are dead", || running.iter().all(deadbeat::fixture::Running::has_ended));
}

#[test]
fn why_a_cell_failed_is_said_once_where_both_streams_are_one() {
    let why = "the command ended with exit status: 127";
    let both = command_with("2>&1", FAILING);
    let said = String::from_utf8_lossy(&both.stdout);
    assert_eq!((both.status.code(), said.matches(why).count()), (Some(1), 1), "{said}");
    // That it has failed is said when it has, all the same.
    assert!(said.starts_with("1/1 fail mine/zombie\n"), "{said}");
    // The control: each stream has it where they are two, or the report is in a file.
    let apart = command_with("", FAILING);
    for said in [&apart.stdout, &apart.stderr] {
        assert_eq!(String::from_utf8_lossy(said).matches(why).count(), 1, "{apart:?}");
    }
    let filed = command_with("--output /dev/null 2>&1", FAILING);
    assert_eq!(String::from_utf8_lossy(&filed.stdout).matches(why).count(), 1, "{filed:?}");
}

#[test]
fn a_report_is_written_whole_in_the_place_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    fs::write(&file, "the old one").unwrap();
    let mut suite = command(PASSING).args(["--format", "json", "--output"]).arg(&file).spawn().unwrap();
    let status = loop {
        let ended = suite.try_wait().unwrap();
        let text = fs::read_to_string(&file).expect("for a moment there was no report at all");
        assert!(text == "the old one" || serde_json::from_str::<Value>(&text).is_ok(), "half a report: {text}");
        if let Some(status) = ended {
            break status;
        }
        std::thread::yield_now();
    };
    assert!(status.success());
    assert_ne!(fs::read_to_string(&file).unwrap(), "the old one");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something else was left in the folder");
}

#[test]
fn a_report_is_readable_by_whom_the_umask_lets() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let (file, model) = (dir.path().join("report"), dir.path().join("model"));
    fs::write(&model, "").unwrap();
    deadbeat(PASSING).arg("--output").arg(&file).assert().success();
    let mode = |file| fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode(&file), mode(&model));
}

/// The report of a suite that need not be run, in this folder.
fn whole_report(dir: &Path) -> PathBuf {
    let report = dir.join("whole.json");
    fs::write(&report, sample()).unwrap();
    report
}

#[rstest]
fn a_symbolic_link_is_refused_before_anything_runs_and_what_it_leads_to_stays(
    #[values("--output", "--html")] option: &str,
    #[values("file", "none")] target: &str,
) {
    let dir = tempfile::tempdir().unwrap();
    let shell = TracedShell::new_in(dir.path());
    let (link, file) = (dir.path().join("link"), dir.path().join("file"));
    fs::write(&file, "precious").unwrap();
    std::os::unix::fs::symlink(target, &link).unwrap();
    let run = |target: &Path| {
        let mut command = deadbeat(PASSING);
        command.arg(option).arg(target).arg("--shell").arg(&shell.shell).assert()
    };
    let said = format!("it is a symbolic link to {}", dir.path().join(target).display());
    run(&link).code(2).stdout("").stderr(predicate::str::contains(said));
    assert!(link.is_symlink() && !shell.was_run());
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(!dir.path().join("none").exists());
    // The control: by its own name it is written.
    run(&file).success();
    assert_ne!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn fixtures_are_not_exported_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("orphan.sh")).unwrap();
    let said = predicate::str::contains("orphan.sh: it is a symbolic link to ");
    deadbeat("fixtures --export").arg(dir.path()).assert().code(2).stdout("").stderr(said);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn what_a_shell_passes_as_dev_fd_is_written_to() {
    // A link to a pipe, which has no place of its own.
    let shell = r#""$0" suite --merge "$1" --output /dev/fd/3 3>&1 >/dev/null | cat"#;
    let dir = tempfile::tempdir().unwrap();
    let report = whole_report(dir.path());
    let mut command = Command::new("sh");
    let output = command.args(["-c", shell]).arg(program()).arg(report).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("5 cells: "), "{output:?}");
}

#[test]
fn what_replaces_a_file_has_its_rights_and_its_owner() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let dir = tempfile::tempdir().unwrap();
    let (report, file) = (whole_report(dir.path()), dir.path().join("file"));
    let merge = || {
        let mut command = deadbeat("suite --merge");
        command.arg(&report).arg("--output").arg(&file).assert()
    };
    let root = rustix::process::geteuid().is_root();
    for (mode, owner) in [(0o600, 65_534), (0o664, 0), (0o444, 65_533)] {
        fs::write(&file, "the old one").unwrap();
        if root {
            std::os::unix::fs::chown(&file, Some(owner), Some(owner)).unwrap();
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let before = fs::metadata(&file).unwrap();
        merge().code(1).stdout("");
        let after = fs::metadata(&file).unwrap();
        let rights = |data: &fs::Metadata| (data.permissions().mode(), data.uid(), data.gid());
        assert_eq!(rights(&after), rights(&before));
        // The control: it is another one, with another text.
        assert_ne!((after.ino(), fs::read_to_string(&file).unwrap().as_str()), (before.ino(), "the old one"));
        fs::remove_file(&file).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_owner_cannot_be_kept_is_left_as_it_is() {
    use std::os::unix::process::CommandExt;

    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can give a file to another user");
    }
    let dir = tempfile::tempdir().unwrap();
    let (report, file) = (whole_report(dir.path()), dir.path().join("file"));
    fs::write(&file, "the old one").unwrap();
    let open =
        |path: &Path, mode| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    open(dir.path(), 0o777);
    open(&file, 0o666);
    // Where another user finds it, whatever the rights of the folders above are.
    let copy = dir.path().join("deadbeat");
    fs::copy(program(), &copy).unwrap();
    let mut command = Command::new(copy);
    command.args(["suite", "--merge"]).arg(&report).arg("--output").arg(&file);
    let output = command.uid(65_534).gid(65_534).current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(said.contains("it belongs to user 0 and group 0") && said.contains("remove it first"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "the old one");
}

#[test]
fn what_a_program_said_comes_out_of_the_json_as_it_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let (report, file) = (whole_report(dir.path()), dir.path().join("file"));
    let evil = "\u{7f}\u{9b}31m\u{1b}[2J\u{202e}\u{fffe}\u{ffff} and the rest";
    let mut edited: Value = serde_json::from_str(&sample()).unwrap();
    edited["cells"][3]["why"] = evil.into();
    fs::write(&report, edited.to_string()).unwrap();
    let merge = || {
        let mut command = deadbeat("suite --format json --merge");
        command.arg(&report);
        command
    };
    let printed = merge().output().unwrap().stdout;
    merge().arg("--output").arg(&file).assert().code(1);
    for text in [printed, fs::read(&file).unwrap()] {
        let read: Value = serde_json::from_slice(&text).unwrap();
        let cells = read["cells"].as_array().unwrap();
        assert!(cells.iter().any(|cell| cell["why"] == evil), "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn a_dash_is_stdout() {
    let dir = tempfile::tempdir().unwrap();
    let assert = deadbeat(PASSING).args(["--output", "-"]).current_dir(dir.path()).assert().success();
    assert.stdout(predicate::str::contains("1 cell: 1 as expected"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "there is a file called -");
}

#[test]
fn what_is_said_of_a_report_is_not_meant_of_a_list() {
    let dir = tempfile::tempdir().unwrap();
    for option in ["--format=json", "--output=report", "--html=page"] {
        let hint = predicate::str::contains("--list prints a list");
        let mut command = deadbeat("suite --list");
        command.arg(option).current_dir(dir.path()).assert().code(2).stdout("").stderr(hint);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// More than a pipe takes at once.
#[cfg(target_os = "linux")]
fn long_report(file: &Path) {
    let mut report: Value = serde_json::from_str(&sample()).unwrap();
    let cell = report["cells"][0].clone();
    let repeated = |repeat: u32| {
        let mut cell = cell.clone();
        cell["repeat"] = repeat.into();
        cell
    };
    report["cells"] = (1..=200).map(repeated).collect();
    report["summary"] = serde_json::json!({"pass": 200, "fail": 0, "inconclusive": 0});
    fs::write(file, report.to_string()).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_that_is_read_slowly_gets_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (report, pipe) = (dir.path().join("report.json"), dir.path().join("pipe"));
    long_report(&report);
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Both ends, so that neither waits for the other to be opened.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let mut suite = command("suite --format json --merge").arg(&report).arg("--output").arg(&pipe).spawn().unwrap();
    let waiting = || rustix::io::ioctl_fionread(&reader).unwrap() as usize;
    until("the pipe is full", || waiting() >= 64 * 1024);
    let mut text = Vec::new();
    let status = loop {
        let (ended, mut chunk) = (suite.try_wait().unwrap(), vec![0; waiting()]);
        (&reader).read_exact(&mut chunk).unwrap();
        text.extend(chunk);
        if let Some(status) = ended {
            break status;
        }
        std::thread::yield_now();
    };
    assert_eq!(status.code(), Some(0));
    let whole: Value = serde_json::from_slice(&text).expect("half a report");
    assert_eq!(whole["cells"].as_array().unwrap().len(), 200);
}

#[cfg(target_os = "linux")]
#[test]
fn a_reader_that_has_stopped_reading_makes_nobody_deaf_to_an_interruption() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    // As small as a pipe can be, and the page is larger.
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut suite = command(PASSING).arg("--html").arg(&pipe).stdout(Stdio::null()).spawn().unwrap();
    until("the pipe is full", || rustix::io::ioctl_fionread(&reader).unwrap() >= 4096);
    rustix::process::kill_process(rustix::process::Pid::from_child(&suite), rustix::process::Signal::TERM).unwrap();
    assert_eq!(suite.wait().unwrap().code(), Some(143));
}

#[test]
fn a_report_goes_into_a_pipe_and_leaves_it_one() {
    use std::os::unix::fs::FileTypeExt;

    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    deadbeat(PASSING).arg("--output").arg(&pipe).assert().success();
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "the pipe was replaced");
    assert!(reader.join().unwrap().contains("1 cell"));
}
