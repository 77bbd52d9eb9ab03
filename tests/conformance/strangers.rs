//! A test target as another project would write it: one kill function, judged on one runtime with a short grace.

use std::io::Write;
use std::time::Duration;

use deadbeat::suite::{Conformance, RUNTIMES};
use deadbeat::{KillPolicy, Signal};

async fn hangs(_pgid: i32) {
    #[expect(clippy::disallowed_methods, reason = "the stranger's bug: it never comes back")]
    std::thread::sleep(Duration::from_secs(3600));
}

/// The variable that names the function.
pub(crate) const STRANGER: &str = "DEADBEAT_TEST_STRANGER";

/// A grace of which half is still a long time for a loaded machine.
pub(crate) const GRACE: Duration = Duration::from_secs(4);

pub(crate) fn main_if_asked() {
    let Ok(stranger) = std::env::var(STRANGER) else { return };
    let tests = Conformance::new().grace(GRACE).budget(GRACE / 8).runtimes([RUNTIMES[0]]);
    let policy = KillPolicy::default().grace(GRACE);
    let kill = |policy: KillPolicy| {
        move |pgid| {
            let policy = policy.clone();
            async move { drop(policy.kill(pgid).await) }
        }
    };
    match stranger.as_str() {
        "right" => tests.subject("ours", kill(policy)).main(),
        "no-cont" => tests.subject("ours", kill(policy.continue_stopped(false))).main(),
        "excused" => tests
            .subject("ours", kill(policy.continue_stopped(false)))
            .known_failure("ours/stopped/*", "sends no SIGCONT")
            .main(),
        "excused-for-nothing" => {
            tests.subject("ours", kill(policy)).known_failure("ours/stopped/*", "sends no SIGCONT").main()
        }
        "flaky" => tests
            .subject("ours", kill(policy.continue_stopped(false)))
            .flaky("ours/stopped/*", "stops at times")
            .flaky("ours/fast-exit/*", "slow at times")
            .main(),
        "flaky-typo" => tests.subject("ours", kill(policy)).flaky("ours/stoped/*", "a typing error").main(),
        "interrupts" => tests.first_signal(Signal::INT).subject("ours", kill(policy.signal(Signal::INT))).main(),
        "interrupts-undeclared" => tests.subject("ours", kill(policy.signal(Signal::INT))).main(),
        "at-once" => tests.subject("ours", kill(policy.signal(Signal::KILL))).main(),
        "unproved-once" => tests.subject("ours", unproved(policy, 1)).main(),
        "unproved" => tests.subject("ours", unproved(policy, usize::MAX)).main(),
        "proved-wrong" => tests.subject("ours", unproved(policy.signal(Signal::KILL), 0)).main(),
        "hangs" => tests.deadline(GRACE + Duration::from_secs(2)).subject("ours", hangs).main(),
        // Longer than any test waits.
        "hangs-on" => tests.deadline(Duration::from_secs(600)).subject("ours", hangs).main(),
        "aborts" => tests.subject("ours", |_| async { std::process::abort() }).main(),
        "forks" => tests
            .subject("ours", move |pgid| {
                let policy = policy.clone();
                async move {
                    fork_and_stay();
                    drop(policy.kill(pgid).await);
                }
            })
            .main(),
        "talks" => tests
            .subject("ours", |pgid| async move {
                println!("killing nothing");
                eprintln!("of group {pgid}");
            })
            .main(),
        "typo" => tests.subject("ours", kill(policy)).known_failure("ours/stoped/*", "a typing error").main(),
        other => crate::mistakes::main_of(other, tests),
    }
}

/// The variable that names the file in which each call of a function is recorded.
pub(crate) const CALLS: &str = "DEADBEAT_TEST_CALLS";

/// Stops the runtime's clock after the first `times` calls, so that nothing can be proved.
fn unproved(policy: KillPolicy, times: usize) -> impl Fn(i32) -> BoxFuture {
    move |pgid| {
        let policy = policy.clone();
        Box::pin(async move {
            let calls = std::env::var(CALLS).unwrap();
            let mut file = std::fs::File::options().create(true).append(true).open(&calls).unwrap();
            file.write_all(b".").unwrap();
            drop(policy.kill(pgid).await);
            if std::fs::read(&calls).unwrap().len() <= times {
                tokio::time::pause();
            }
        })
    }
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Forks a child that never becomes another program, and holds all that this process has open.
#[expect(unsafe_code, reason = "between fork and its death the child makes one system call, again and again")]
fn fork_and_stay() {
    // SAFETY: see `reason`.
    if let Ok(nix::unistd::ForkResult::Child) = unsafe { nix::unistd::fork() } {
        loop {
            nix::unistd::pause();
        }
    }
}
