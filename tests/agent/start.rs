//! A command that cannot be started says which step of its start failed, though the system tells an error number alone.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use deadbeat::agent::{AgentError, StartError, StartStep, run_subprocess_agent};
use nix::errno::Errno;
use tokio::process::Command;

use super::support::{INSIDE, NO_PIDS, inside, isolated};

async fn failure_of(command: Command) -> (StartError, String) {
    let (options, registry, _) = isolated();
    let error = run_subprocess_agent(command, &options).await.unwrap_err();
    assert_eq!(registry.list(), NO_PIDS);
    let text = error.to_string();
    let AgentError::Spawn(error) = error else { panic!("{error:?}") };
    (error, text)
}

#[expect(unsafe_code, reason = "the hooks make system calls and allocate nothing")]
fn with_hook(mut command: Command, hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Command {
    // SAFETY: see `reason`.
    unsafe { command.pre_exec(hook) };
    command
}

/// A program of these bytes, written by another process: what is open to be written does not run (`ETXTBSY`).
fn file(dir: &Path, name: &str, text: &str, mode: u32) -> Command {
    let path = dir.join(name);
    let mut write = std::process::Command::new("sh");
    write.args(["-c", "printf '%s\\n' \"$1\" >\"$0\""]).arg(&path).arg(text);
    assert!(write.status().unwrap().success());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    Command::new(path)
}

#[tokio::test]
async fn a_hook_that_opens_a_session_is_told_that_the_command_leads_a_group_already() {
    let hook = || nix::unistd::setsid().map(drop).map_err(io::Error::from);
    let (error, text) = failure_of(with_hook(Command::new("true"), hook)).await;
    assert_eq!((error.step, error.error.raw_os_error()), (StartStep::PreExec, Some(Errno::EPERM as i32)));
    for words in ["not started", "pre_exec hook", "Operation not permitted", "setsid()", "leads a process group"] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
}

#[tokio::test]
async fn a_hook_that_fails_is_told_from_an_exec_that_fails_with_the_same_error() {
    for errno in [Errno::EPERM, Errno::EACCES, Errno::ENOENT, Errno::EMFILE, Errno::ENOMEM] {
        let (error, text) = failure_of(with_hook(Command::new("true"), move || Err(errno.into()))).await;
        assert_eq!((error.step, error.error.raw_os_error()), (StartStep::PreExec, Some(errno as i32)), "{text}");
    }
    let (error, text) = failure_of(with_hook(Command::new("true"), || Err(io::Error::other("lost")))).await;
    assert_eq!(error.step, StartStep::PreExec);
    assert!(text.contains("no OS error number"), "{text}");
}

#[tokio::test]
async fn an_exec_that_fails_is_called_one_with_hooks_and_without() {
    let dir = tempfile::tempdir().unwrap();
    let commands = || {
        [
            (Command::new("/no/such/program"), Errno::ENOENT),
            (Command::new("no-such-program"), Errno::ENOENT),
            (Command::new("/"), Errno::EACCES),
            (file(dir.path(), "plain", "text", 0o600), Errno::EACCES),
            (file(dir.path(), "no-interpreter", "#!/no/such/interpreter", 0o700), Errno::ENOENT),
        ]
    };
    // With a hook, or a PATH of its own, it would be executed by the shell.
    let no_program = [(file(dir.path(), "no-format", "text", 0o700), Errno::ENOEXEC)];
    let hooked = commands().map(|(command, errno)| (with_hook(command, || Ok(())), errno));
    for (command, errno) in commands().into_iter().chain(no_program).chain(hooked) {
        let (error, text) = failure_of(command).await;
        assert_eq!((error.step, error.error.raw_os_error()), (StartStep::Exec, Some(errno as i32)), "{text}");
        assert!(text.contains("the exec failed"), "{text}");
    }
}

#[tokio::test]
async fn an_exec_that_a_hook_has_made_impossible_is_still_the_exec() {
    // The program is there, and not where the hook has gone.
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "here", "#!/bin/sh", 0o700);
    let mut command = Command::new("./here");
    command.current_dir(dir.path());
    let hook = || nix::unistd::chdir("/").map_err(io::Error::from);
    let (error, text) = failure_of(with_hook(command, hook)).await;
    assert_eq!((error.step, error.kind()), (StartStep::Exec, io::ErrorKind::NotFound), "{text}");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_no_missing_program() {
    for hooked in [false, true] {
        let mut command = Command::new("true");
        command.current_dir("/no/such/directory");
        let command = if hooked { with_hook(command, || Ok(())) } else { command };
        let (error, text) = failure_of(command).await;
        assert_eq!((error.step, error.kind()), (StartStep::CurrentDir, io::ErrorKind::NotFound), "{text}");
        assert!(text.contains("working directory"), "{text}");
    }
    // The control: in a directory that is there it is the hook.
    let mut command = Command::new("true");
    command.current_dir("/tmp");
    let (error, text) = failure_of(with_hook(command, || Err(Errno::ENOENT.into()))).await;
    assert_eq!(error.step, StartStep::PreExec, "{text}");
}

#[tokio::test]
async fn what_is_rehearsed_executes_nothing_and_a_start_that_succeeds_is_not_rehearsed() {
    let dir = tempfile::tempdir().unwrap();
    let log = std::fs::File::options().create(true).append(true).open(dir.path().join("hooks")).unwrap();
    let runs = || std::fs::metadata(dir.path().join("hooks")).unwrap().len();
    let trace = log.try_clone().unwrap();
    let hook = move || nix::unistd::write(&trace, b".").map(drop).map_err(io::Error::from);
    let (options, _, _) = isolated();
    run_subprocess_agent(with_hook(Command::new("true"), hook), &options).await.unwrap();
    assert_eq!(runs(), 1);

    // It fails the first time, and would let the program run the second time.
    let made = dir.path().join("made");
    let hook = {
        let made = std::ffi::CString::new(made.to_str().unwrap()).unwrap();
        move || match nix::unistd::mkdir(made.as_c_str(), nix::sys::stat::Mode::S_IRWXU) {
            Ok(()) => Err(Errno::EPERM.into()),
            Err(_) => Ok(nix::unistd::write(&log, b".").map(drop)?),
        }
    };
    let mut command = Command::new("touch");
    command.arg(dir.path().join("executed"));
    failure_of(with_hook(command, hook)).await;
    assert!(runs() > 1, "it was not rehearsed, which shows nothing");
    assert!(!dir.path().join("executed").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn what_we_do_to_every_command_is_our_preparation() {
    if std::env::var_os(INSIDE).is_none() {
        inside("start::what_we_do_to_every_command_is_our_preparation", &[]);
        return;
    }
    // From here on no process of this one can begin a group.
    let rule = [(nix::libc::SYS_setpgid, Vec::new())];
    let (denied, arch) =
        (seccompiler::SeccompAction::Errno(Errno::EPERM as u32), std::env::consts::ARCH.try_into().unwrap());
    let filter =
        seccompiler::SeccompFilter::new(rule.into_iter().collect(), seccompiler::SeccompAction::Allow, denied, arch);
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter_all_threads(&program).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for command in [Command::new("true"), with_hook(Command::new("true"), || Ok(()))] {
        let (error, text) = runtime.block_on(failure_of(command));
        assert_eq!((error.step, error.error.raw_os_error()), (StartStep::Preparation, Some(Errno::EPERM as i32)));
        assert!(text.contains("could not be prepared") && !text.contains("setsid"), "{text}");
    }
}
