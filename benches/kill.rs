//! What a kill costs, against the naive body and against the kernel's own limit; ratios within one run.
//!
//! `cargo bench --bench kill [latency|scale|table|guarded]...`: all by default. Absolute times are the machine's; there
//! is no pass line.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deadbeat::agent::{AgentOptions, run_subprocess_agent};
use deadbeat::guardian::Guardian;
use deadbeat::kill::KillThread;
use deadbeat::{KillPolicy, Outcome, ProcessGroup, Signal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

fn main() {
    deadbeat::guardian::main_if_requested();
    // `cargo bench` passes `--bench`; names choose.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|c| c == name);
    if wanted("latency") {
        latency();
    }
    if wanted("scale") {
        scale();
    }
    if wanted("table") {
        table();
    }
    if wanted("guarded") {
        guarded();
    }
}

/// A run of `true`, alone and with a guardian that is up.
fn guarded() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let alone = AgentOptions::default();
    let guarded = AgentOptions::default().guardian(Guardian::of_this_program().expect("a guardian"));
    let run = |options: &AgentOptions| {
        let (time, result) =
            timed(|| runtime.block_on(run_subprocess_agent(tokio::process::Command::new("true"), options)));
        result.expect("true");
        time
    };
    let (without, with): (Vec<_>, Vec<_>) = (0..500).map(|_| (run(&alone), run(&guarded))).unzip();
    let limit = quantile(&without, 0.5);
    println!("a run of `true`; the limit is a run without a guardian");
    show("alone", &without, limit);
    show("guarded", &with, limit);
}

/// A group, killed and reaped when dropped.
struct Group {
    leader: Child,
}

impl Group {
    /// A leader and this many members, all of which run when this returns.
    fn start(members: usize, trap: &str) -> Group {
        let script = format!(
            "{trap} i=0; while [ $i -lt {members} ]; do sleep 600 & i=$((i+1)); done; \
             echo ready; exec sleep 600 >/dev/null"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut leader = command.spawn().expect("sh");
        let mut line = String::new();
        BufReader::new(leader.stdout.take().expect("piped")).read_line(&mut line).expect("ready");
        Group { leader }
    }

    fn pgid(&self) -> i32 {
        self.leader.id() as i32
    }

    /// The leader, which is not reaped by this.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.leader)), options).expect("a child").is_some()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Un-reaped until here, so the number is still this group's.
        if let Ok(group) = ProcessGroup::new(self.pgid()) {
            let _ = group.signal(Signal::KILL);
        }
        let _ = self.leader.wait();
    }
}

fn processes() -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())).count()
}

/// Idle processes, until the table has this many.
fn fill_to(count: usize) -> Vec<Group> {
    let missing = count.saturating_sub(processes());
    (0..missing.div_ceil(50)).map(|i| Group::start((missing - i * 50).min(50).saturating_sub(1), "")).collect()
}

fn quantile(times: &[Duration], q: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

fn show(name: &str, times: &[Duration], limit: Duration) {
    let (p50, p99) = (quantile(times, 0.5), quantile(times, 0.99));
    let ratio = p50.as_secs_f64() / limit.as_secs_f64();
    println!("  {name:34} p50 {p50:>10.3?}  p99 {p99:>10.3?}  {ratio:>8.1} x the limit");
}

fn timed<T>(f: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let output = f();
    (start.elapsed(), output)
}

/// SIGTERM to the leader's pidfd being readable: no observer can know earlier.
fn kernels_limit(group: &Group) -> Duration {
    let pidfd = pidfd_open(Pid::from_raw(group.pgid()).expect("a pid"), PidfdFlags::empty()).expect("pidfd_open");
    let kill = ProcessGroup::new(group.pgid()).expect("a group");
    timed(|| {
        kill.signal(Signal::TERM).expect("killpg");
        poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).expect("poll");
    })
    .0
}

fn latency() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let policy = KillPolicy::default();
    let _fill = fill_to(150);
    println!("SIGTERM to return, obedient group, leader un-reaped, {} processes in the table", processes());
    for members in [0, 1, 10, 100] {
        let rounds = if members < 100 { 200 } else { 40 };
        let (mut limit, mut blocking, mut asynchronous, mut on_kill_thread, mut child) =
            (vec![], vec![], vec![], vec![], vec![]);
        let kill_thread = KillThread::new(policy.clone()).expect("a thread");
        // Once for nothing: the probes, the pool's thread.
        runtime.block_on(policy.kill(Group::start(0, "").pgid())).expect("killed");
        for _ in 0..rounds {
            limit.push(kernels_limit(&Group::start(members, "")));
            let group = Group::start(members, "");
            let (time, report) = timed(|| policy.kill_blocking(group.pgid()));
            assert_eq!(report.expect("killed").outcome, Outcome::Terminated);
            blocking.push(time);
            let group = Group::start(members, "");
            let (time, report) = timed(|| runtime.block_on(policy.kill(group.pgid())));
            assert_eq!(report.expect("killed").outcome, Outcome::Terminated);
            asynchronous.push(time);
            let group = Group::start(members, "");
            let (time, report) = timed(|| kill_thread.kill(group.pgid()).wait_blocking());
            assert_eq!(report.expect("killed").outcome, Outcome::Terminated);
            on_kill_thread.push(time);
            if members == 0 {
                child.push(runtime.block_on(async {
                    let mut command = tokio::process::Command::new("sleep");
                    let mut child = command.arg("600").process_group(0).spawn().expect("sleep");
                    let start = Instant::now();
                    let killed = policy.kill_child(&mut child).await.expect("killed");
                    assert!(killed.status.is_some());
                    start.elapsed()
                }));
            }
        }
        let group = Group::start(members, "");
        let (naive, ()) = timed(|| naive_kill(group.pgid(), Duration::from_secs(5)));
        println!("{members} members beside the leader, {rounds} rounds");
        let kernel = quantile(&limit, 0.5);
        show("the kernel's limit (leader only)", &limit, kernel);
        show("kill_blocking", &blocking, kernel);
        show("kill", &asynchronous, kernel);
        show("KillThread::kill", &on_kill_thread, kernel);
        if !child.is_empty() {
            show("kill_child (and reaped)", &child, kernel);
        }
        show("the naive body (once)", &[naive], kernel);
    }
}

/// The body that is written most often: `ESRCH` is gone.
fn naive_kill(pgid: i32, grace: Duration) {
    use nix::sys::signal::{Signal, killpg};
    let group = nix::unistd::Pid::from_raw(pgid);
    let _ = killpg(group, Signal::SIGTERM);
    let start = Instant::now();
    while start.elapsed() < grace {
        #[expect(clippy::disallowed_methods, reason = "this is the bug that is measured")]
        std::thread::sleep(Duration::from_millis(100));
        if killpg(group, None).is_err() {
            return;
        }
    }
    let _ = killpg(group, Signal::SIGKILL);
}

fn cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[derive(Clone, Copy)]
enum Way {
    KillThread,
    Policy,
    /// With a grace of its own: 5 s.
    Seed,
}

fn scale() {
    const GRACE: Duration = Duration::from_secs(2);
    println!("SIGTERM-ignoring groups killed at once, grace {GRACE:?}");
    for count in [100, 1000, 5000] {
        let ways =
            [("KillThread", Way::KillThread), ("KillPolicy::kill", Way::Policy), ("kill_process_group", Way::Seed)];
        for (name, way) in ways {
            let groups: Vec<Group> = (0..count).map(|_| Group::start(0, "trap '' TERM;")).collect();
            // No worker of its own more than needed: what is counted are the threads that the kills take.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let threads_before = status("Threads:");
            let cpu_before = cpu_seconds();
            let policy = KillPolicy::default().grace(GRACE);
            let (wall, (killed, read, threads, fds)) = timed(|| runtime.block_on(kill_all(&groups, &policy, way)));
            let cpu = cpu_seconds() - cpu_before;
            println!(
                "  {count:5} groups, {name:24} {killed} killed in {wall:>7.2?}, {:>4} threads, {fds:>5} descriptors, \
                 {cpu:>5.2} CPU s, slowest fs::read {read:>9.3?}",
                threads - threads_before,
            );
        }
    }
}

/// How many were killed, the slowest file read meanwhile, and the most threads and descriptors.
async fn kill_all(groups: &[Group], policy: &KillPolicy, way: Way) -> (usize, Duration, usize, usize) {
    let mut kills = tokio::task::JoinSet::new();
    let kill_thread = KillThread::new(policy.clone()).expect("a thread");
    for group in groups {
        let pgid = group.pgid();
        match way {
            Way::KillThread => {
                let pending = kill_thread.kill(pgid);
                kills.spawn(async move { drop(pending.await.expect("killed")) });
            }
            Way::Policy => {
                let policy = policy.clone();
                kills.spawn(async move { drop(policy.kill(pgid).await.expect("killed")) });
            }
            Way::Seed => {
                kills.spawn(deadbeat::kill_process_group(pgid));
            }
        }
    }
    let (mut slowest, mut threads, mut fds) = (Duration::ZERO, 0, 0);
    let mut reading: Option<tokio::task::JoinHandle<Duration>> = None;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            done = kills.join_next() => match done {
                Some(result) => result.expect("no panic"),
                None => break,
            },
            _ = beat.tick() => {
                threads = threads.max(status("Threads:"));
                fds = fds.max(descriptors());
                match &mut reading {
                    Some(read) if read.is_finished() => {
                        slowest = slowest.max(read.await.expect("no panic"));
                        reading = None;
                    }
                    Some(_) => {}
                    None => reading = Some(tokio::spawn(async {
                        let start = Instant::now();
                        tokio::fs::read("/proc/self/stat").await.expect("/proc/self/stat");
                        start.elapsed()
                    })),
                }
            }
        }
    }
    if let Some(read) = reading {
        slowest = slowest.max(read.await.expect("no panic"));
    }
    // `kill_process_group` returns right after SIGKILL.
    let end = Instant::now() + Duration::from_secs(10);
    let ended = || groups.iter().filter(|group| group.has_ended()).count();
    while ended() < groups.len() && Instant::now() < end {
        tokio::task::yield_now().await;
    }
    (ended(), slowest, threads, fds)
}

fn table() {
    println!("kill_blocking of a lone obedient leader, by the size of the process table");
    let policy = KillPolicy::default();
    let mut least = None;
    for size in [100, 500, 1000, 2000, 4000] {
        let _fill = fill_to(size);
        let times: Vec<Duration> = (0..60)
            .map(|_| {
                let group = Group::start(0, "");
                let (time, report) = timed(|| policy.kill_blocking(group.pgid()));
                assert_eq!(report.expect("killed").outcome, Outcome::Terminated);
                time
            })
            .collect();
        let p50 = quantile(&times, 0.5);
        let ratio = p50.as_secs_f64() / least.get_or_insert(p50).as_secs_f64();
        println!("  {:5} processes: p50 {p50:>9.3?}, {ratio:>5.1} x the least", processes());
    }
}
