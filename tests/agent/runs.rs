//! `run_subprocess_agent`: whatever way a run ends, its group is dead, its exit known, and the registry empty.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use deadbeat::agent::{AgentError, Leftovers, run_subprocess_agent};
use deadbeat::group::{Backend, backend};
use deadbeat::{Outcome, Signal};
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::support::{INSIDE, LONG, NO_PIDS, Tree, eventually, inside, isolated, policy};

fn sees_members() -> bool {
    backend() == Backend::Proc
}

#[tokio::test]
async fn a_command_that_ends_by_itself_tells_its_status() {
    let (options, registry, _) = isolated();
    let exit = run_subprocess_agent(Tree::new().sh("exit 7"), &options).await.unwrap();
    assert_eq!(exit.status.code(), Some(7));
    assert!(exit.leftovers.is_none(), "{exit:?}");
    assert_eq!(registry.list(), NO_PIDS);
}

#[tokio::test]
async fn it_reads_nothing_unless_it_is_given_something() {
    let (options, _, _) = isolated();
    let exit = run_subprocess_agent(Tree::new().sh("read line && exit 1; exit 0"), &options).await.unwrap();
    assert_eq!(exit.status.code(), Some(0));
}

#[tokio::test]
async fn members_left_behind_are_killed_and_reported() {
    let (mut options, registry, _) = isolated();
    if sees_members() {
        options = options.policy(policy().grace(LONG));
    }
    let tree = Tree::new();
    let exit = run_subprocess_agent(tree.sh("sleep 60 & exit 3"), &options).await.unwrap();
    assert_eq!(exit.status.code(), Some(3));
    assert_eq!(tree.pids(), NO_PIDS);
    if sees_members() {
        assert_eq!(exit.leftovers.expect("not reported").unwrap().outcome, Outcome::Terminated);
    }
    assert_eq!(registry.list(), NO_PIDS);

    // The control: told to leave them, it does, so it was the kill above that ended them.
    let options = options.leftovers(Leftovers::Leave);
    let exit = run_subprocess_agent(tree.sh("sleep 60 & exit 3"), &options).await.unwrap();
    assert_eq!(exit.status.code(), Some(3));
    assert!(exit.leftovers.is_none(), "{exit:?}");
    eventually("the one left behind is seen", || tree.pids().len() == 1);
}

#[tokio::test]
async fn at_the_timeout_the_whole_group_is_killed_and_the_leader_reaped() {
    let (options, registry, _) = isolated();
    let tree = Tree::new();
    let options = options.timeout(Duration::from_millis(100)).on_spawn(tree.is_up());
    let error = run_subprocess_agent(tree.stubborn(), &options).await.unwrap_err();
    let AgentError::TimedOut { kill: Ok(kill), status: Some(status), .. } = error else { panic!("{error:?}") };
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
    if sees_members() {
        assert_eq!(kill.outcome, Outcome::Killed);
        assert_eq!(tree.pids(), NO_PIDS);
    }
    assert_eq!(registry.list(), NO_PIDS);
}

#[tokio::test]
async fn a_shutdown_request_ends_a_running_command_at_once() {
    let (options, registry, shutdown) = isolated();
    let tree = Tree::new();
    let (up, is_up) = tokio::sync::oneshot::channel();
    let up = std::sync::Mutex::new(Some(up));
    let options = options.timeout(Duration::from_secs(600)).on_spawn(move |child| {
        let (up, stdout) = (up.lock().unwrap().take(), child.stdout.take().unwrap());
        tokio::spawn(async move {
            let _ = BufReader::new(stdout).read_line(&mut String::new()).await;
            up.map(|up| up.send(()))
        });
    });
    let mut command = tree.sh("echo up; exec sleep 60");
    command.stdout(std::process::Stdio::piped());
    let asking = async {
        is_up.await.unwrap();
        assert_eq!(registry.list().len(), 1, "not registered while it runs");
        shutdown.request();
        Instant::now()
    };
    let (error, asked) = tokio::join!(run_subprocess_agent(command, &options), asking);
    // Its own end would come in a minute; a slow machine can only make the kill later.
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    let AgentError::ShutdownRequested { kill: Some(Ok(_)), status: Some(_) } = error.unwrap_err() else { panic!() };
    assert_eq!((tree.pids(), registry.list()), (NO_PIDS.into(), NO_PIDS.into()));

    // From here on nothing is even started.
    let error = run_subprocess_agent(tree.sh("exit 0"), &options).await.unwrap_err();
    assert!(matches!(error, AgentError::ShutdownRequested { kill: None, status: None }), "{error:?}");
}

#[tokio::test]
async fn a_command_that_does_not_exist_leaves_no_trace() {
    let (options, registry, _) = isolated();
    let error = run_subprocess_agent(tokio::process::Command::new("/no/such/program"), &options).await.unwrap_err();
    assert!(matches!(&error, AgentError::Spawn(io) if io.kind() == std::io::ErrorKind::NotFound), "{error:?}");
    assert_eq!(registry.list(), NO_PIDS);
}

#[tokio::test]
async fn more_output_than_a_pipe_holds_does_not_block() {
    let (options, _, _) = isolated();
    let mut full = Tree::new().sh("head -c 1000000 /dev/zero");
    full.stdout(std::process::Stdio::piped());
    // The control: nothing reads, and it does block. A slow machine can only make it look more so.
    let unread = options.clone().timeout(Duration::from_millis(500));
    let error = run_subprocess_agent(full, &unread).await.unwrap_err();
    assert!(matches!(error, AgentError::TimedOut { .. }), "{error:?}");

    let (sender, mut read) = tokio::sync::mpsc::channel(1);
    let options = options.timeout(Duration::from_secs(60)).on_spawn(move |child| {
        let (mut stdout, sender) = (child.stdout.take().unwrap(), sender.clone());
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).await.unwrap();
            sender.send(bytes.len()).await.unwrap();
        });
    });
    let mut command = Tree::new().sh("head -c 1000000 /dev/zero");
    command.stdout(std::process::Stdio::piped());
    let exit = run_subprocess_agent(command, &options).await.unwrap();
    assert!(exit.status.success());
    assert_eq!(read.recv().await, Some(1_000_000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn dropped_at_any_moment_it_leaves_nobody_behind(
        ends in proptest::collection::vec((0..400u64, any::<bool>()), 6),
    ) {
        // Side by side: each takes its grace.
        std::thread::scope(|scope| {
            for (moment, drop_runtime) in ends {
                scope.spawn(move || dropped_at(Duration::from_millis(moment), drop_runtime));
            }
        });
    }
}

#[test]
fn the_obedient_die_though_the_process_ends_as_soon_as_the_run_is_dropped() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (options, _, _) = isolated();
        runtime.block_on(async {
            for _ in 0..30 {
                let mut command = tokio::process::Command::new("sleep");
                command.arg("60");
                let run = run_subprocess_agent(command, &options);
                let _ = tokio::time::timeout(Duration::ZERO, run).await;
            }
        });
        drop(runtime);
        std::process::exit(0);
    }
    let tree = Tree::new();
    let itself = "runs::the_obedient_die_though_the_process_ends_as_soon_as_the_run_is_dropped";
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", itself]).env(INSIDE, "1").stdout(std::process::Stdio::null());
    assert!(tree.marks(&mut command).status().unwrap().success());
    eventually("all are dead", || tree.pids().is_empty());
}

fn dropped_at(moment: Duration, drop_runtime: bool) {
    let (options, registry, _) = isolated();
    let tree = Tree::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let command = tree.stubborn();
    // Its own timeout falls into the middle of the moments, so that some are dropped in their kill.
    let options = options.timeout(Duration::from_millis(150));
    runtime.block_on(async move {
        let run = tokio::spawn(async move { run_subprocess_agent(command, &options).await });
        let wait = async { if drop_runtime { std::future::pending().await } else { run.await } };
        let _ = tokio::time::timeout(moment, wait).await;
    });
    drop(runtime);
    eventually("the group is dead", || tree.pids().is_empty());
    eventually("the registry is empty", || registry.list().is_empty());
}

#[tokio::test]
async fn a_panic_in_on_spawn_leaves_nobody_behind() {
    let (options, registry, _) = isolated();
    let tree = Tree::new();
    let (command, options) = (tree.stubborn(), options.on_spawn(|_| panic!("on purpose")));
    let joined = tokio::spawn(async move { run_subprocess_agent(command, &options).await }).await;
    assert!(joined.unwrap_err().is_panic());
    eventually("the group is dead", || tree.pids().is_empty());
    eventually("the registry is empty", || registry.list().is_empty());
}

#[tokio::test]
async fn an_exit_that_somebody_else_collected_is_an_error_and_no_hang() {
    let (options, registry, _) = isolated();
    let options = options.timeout(Duration::from_secs(60)).on_spawn(|child| {
        let pid = nix::unistd::Pid::from_raw(child.id().unwrap() as i32);
        nix::sys::wait::waitpid(pid, None).unwrap();
    });
    let error = run_subprocess_agent(Tree::new().sh("exit 0"), &options).await.unwrap_err();
    assert!(matches!(error, AgentError::Wait(_)), "{error:?}");
    assert_eq!(registry.list(), NO_PIDS);
}

#[test]
#[cfg(target_os = "linux")]
fn a_parent_that_minds_no_children_keeps_no_run_from_its_end() {
    if std::env::var_os(INSIDE).is_none() {
        for option in ["--block-signal=CHLD", "--ignore-signal=CHLD"] {
            inside("runs::a_parent_that_minds_no_children_keeps_no_run_from_its_end", &[option]);
        }
        return;
    }
    let (options, registry, _) = isolated();
    // A run that does not see its command's end comes to this one instead.
    let options = options.timeout(Duration::from_secs(15));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = |script: &str| runtime.block_on(run_subprocess_agent(Tree::new().sh(script), &options));
    assert_eq!(run("exit 7").unwrap().status.code(), Some(7));
    assert_eq!(run("sleep 60 & exit 3").unwrap().status.code(), Some(3));
    let soon = options.clone().timeout(Duration::from_millis(100));
    let error = runtime.block_on(run_subprocess_agent(Tree::new().sh("exec sleep 60"), &soon)).unwrap_err();
    assert!(matches!(error, AgentError::TimedOut { status: Some(_), .. }), "{error:?}");
    assert_eq!(registry.list(), NO_PIDS);
}
