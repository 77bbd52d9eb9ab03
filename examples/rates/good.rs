//! Some thirty honest ways to be busy: none keeps a worker from its scheduler for long.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking, yield_now};
use tokio::time::sleep;

use crate::bad::spin;

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Good {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Duration) -> Run,
    /// `block_in_place` is for multi-thread runtimes only.
    pub(crate) multi_thread_only: bool,
}

impl Good {
    /// Whether a doubt is right: the worker did stand still, and not by its own doing.
    pub(crate) fn may_be_doubted(&self) -> bool {
        [TRACED, DESCHEDULED].contains(&self.name)
    }
}

const TRACED: &str = "traced thread";
const DESCHEDULED: &str = "lock of a descheduled thread";

macro_rules! good {
    ($name:expr, $run:ident) => {
        Good { name: $name, run: |long| Box::pin($run(long)), multi_thread_only: false }
    };
}

pub(crate) const ALL: &[Good] = &[
    good!("timer", timer),
    good!("0.5 ms + yield", chunks),
    good!("10 ms + yield", large_chunks),
    good!("2000 short tasks", many_tasks),
    good!("spawn_blocking", blocking_pool),
    good!("busy pool", busy_pool),
    good!("ping-pong", ping_pong),
    good!("async mutex", async_mutex),
    good!("tcp echo", echo),
    good!("200 timers", timers),
    good!("yield storm", yields),
    good!("thread + oneshot", thread),
    good!("child, polled", child),
    good!("killpg + timer", kill_wait),
    good!("20 ms block", short_block),
    good!("files", files),
    good!("child, awaited", child_awaited),
    good!("interval", interval),
    good!("semaphore", semaphore),
    good!("select loop", select_loop),
    good!("broadcast", broadcast),
    good!("notify", notify),
    good!("timeouts", timeouts),
    good!("unix echo", unix_echo),
    good!("memory in pieces", memory_pieces),
    good!("aborted tasks", aborts),
    good!("tasks of 5 ms", medium_tasks),
    good!("thread to channel", thread_to_channel),
    good!("20 ms + 20 ms", spin_then_block),
    good!("40 ms + yield", long_chunks),
    good!("40 ms block + yield", blocking_chunks),
    good!("small jobs for the pool", small_jobs),
    good!(DESCHEDULED, lock_of_a_descheduled_thread),
    good!(TRACED, traced_thread),
    Good { name: "block_in_place", run: |long| Box::pin(in_place(long)), multi_thread_only: true },
    Good { name: "block_in_place in a row", run: |long| Box::pin(in_place_in_a_row(long)), multi_thread_only: true },
    Good { name: "block_in_place in 20 tasks", run: |long| Box::pin(in_place_in_tasks(long)), multi_thread_only: true },
];

async fn timer(long: Duration) {
    sleep(long).await;
}

async fn chunks(long: Duration) {
    for _ in 0..long.as_millis() * 2 {
        spin(Duration::from_micros(500));
        yield_now().await;
    }
}

async fn large_chunks(long: Duration) {
    for _ in 0..long.as_millis() / 10 {
        spin(Duration::from_millis(10));
        yield_now().await;
    }
}

async fn many_tasks(_: Duration) {
    let mut tasks = JoinSet::new();
    for _ in 0..2000 {
        tasks.spawn(async { spin(Duration::from_micros(100)) });
    }
    tasks.join_all().await;
}

#[expect(clippy::disallowed_methods, reason = "on a thread of the blocking pool, where it belongs")]
fn nap(long: Duration) {
    std::thread::sleep(long);
}

async fn blocking_pool(long: Duration) {
    spawn_blocking(move || nap(long)).await.expect("no panic");
}

/// Eight at a time: to start a hundred threads is a stall, if the machine is busy.
async fn busy_pool(_: Duration) {
    for _ in 0..10 {
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            tasks.spawn_blocking(|| nap(Duration::from_millis(5)));
        }
        tasks.join_all().await;
    }
}

async fn ping_pong(_: Duration) {
    let (there, mut here) = mpsc::channel(1);
    let pong = tokio::spawn(async move {
        for number in 0..5000 {
            there.send(number).await.expect("a listener");
        }
    });
    while here.recv().await.is_some() {}
    pong.await.expect("no panic");
}

async fn async_mutex(long: Duration) {
    let (mutex, mut tasks) = (Arc::new(Mutex::new(())), JoinSet::new());
    for _ in 0..4 {
        let mutex = Arc::clone(&mutex);
        tasks.spawn(async move {
            let _guard = mutex.lock().await;
            sleep(long / 4).await;
        });
    }
    tasks.join_all().await;
}

async fn echo(_: Duration) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a guest");
        let mut byte = [0];
        while stream.read_exact(&mut byte).await.is_ok() {
            stream.write_all(&byte).await.expect("a peer");
        }
    });
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a peer");
    for _ in 0..500 {
        stream.write_all(b"x").await.expect("a peer");
        stream.read_exact(&mut [0]).await.expect("a peer");
    }
    drop(stream);
    server.await.expect("no panic");
}

async fn timers(long: Duration) {
    let mut tasks = JoinSet::new();
    for nth in 0..200 {
        tasks.spawn(async move {
            for _ in 0..10 {
                sleep(long / 10 + Duration::from_micros(nth)).await;
            }
        });
    }
    tasks.join_all().await;
}

async fn yields(_: Duration) {
    for _ in 0..20_000 {
        yield_now().await;
    }
}

async fn thread(long: Duration) {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        nap(long);
        let _ = sender.send(());
    });
    receiver.await.expect("a word");
}

/// A process started where that may block, and looked at from the worker.
async fn child(long: Duration) {
    let start = move || std::process::Command::new("sleep").arg(format!("{}", long.as_secs_f64())).spawn();
    let mut child = spawn_blocking(start).await.expect("no panic").expect("sleep(1)");
    while child.try_wait().expect("our child").is_none() {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn kill_wait(long: Duration) {
    for _ in 0..10 {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), None);
        sleep(long / 10).await;
    }
}

async fn short_block(_: Duration) {
    for _ in 0..5 {
        nap(Duration::from_millis(20));
        yield_now().await;
    }
}

async fn in_place(long: Duration) {
    tokio::task::block_in_place(|| nap(long));
}

/// One task hands its worker over, awaits a little, and does it again.
async fn in_place_in_a_row(long: Duration) {
    for _ in 0..6 {
        tokio::task::block_in_place(|| nap(long));
        sleep(Duration::from_millis(5)).await;
    }
}

async fn in_place_in_tasks(long: Duration) {
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        tasks.spawn(async move {
            for _ in 0..2 {
                tokio::task::block_in_place(|| nap(long * 7 / 12));
                sleep(Duration::from_millis(2)).await;
            }
        });
    }
    tasks.join_all().await;
}

/// A long computation, broken up below the budget.
async fn long_chunks(_: Duration) {
    for _ in 0..10 {
        spin(Duration::from_millis(40));
        yield_now().await;
    }
}

/// A blocking call that is tried again and again, below the budget each time.
async fn blocking_chunks(_: Duration) {
    for _ in 0..10 {
        nap(Duration::from_millis(40));
        yield_now().await;
    }
}

async fn files(_: Duration) {
    let dir = spawn_blocking(|| tempfile::tempdir().expect("a directory")).await.expect("no panic");
    for nth in 0..20 {
        let path = dir.path().join(nth.to_string());
        tokio::fs::write(&path, vec![7; 20_000]).await.expect("a file");
        assert_eq!(tokio::fs::read(&path).await.expect("a file").len(), 20_000);
    }
    spawn_blocking(move || drop(dir)).await.expect("no panic");
}

/// Started where that may block.
async fn child_awaited(long: Duration) {
    let start = move || tokio::process::Command::new("sleep").arg(format!("{}", long.as_secs_f64())).spawn();
    let mut child = spawn_blocking(start).await.expect("no panic").expect("sleep(1)");
    assert!(child.wait().await.expect("our child").success());
}

async fn interval(long: Duration) {
    let mut interval = tokio::time::interval(Duration::from_millis(2));
    for _ in 0..long.as_millis() / 2 {
        interval.tick().await;
        spin(Duration::from_micros(100));
    }
}

async fn semaphore(long: Duration) {
    let (semaphore, mut tasks) = (Arc::new(tokio::sync::Semaphore::new(3)), JoinSet::new());
    for _ in 0..30 {
        let semaphore = Arc::clone(&semaphore);
        tasks.spawn(async move {
            let _permit = semaphore.acquire().await.expect("never closed");
            sleep(long / 10).await;
        });
    }
    tasks.join_all().await;
}

async fn select_loop(long: Duration) {
    let (sender, mut receiver) = mpsc::channel(4);
    let feed = tokio::spawn(async move {
        while sender.send(()).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    let end = sleep(long);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = receiver.recv() => spin(Duration::from_micros(50)),
        }
    }
    drop(receiver);
    feed.await.expect("no panic");
}

async fn broadcast(_: Duration) {
    let (sender, _) = tokio::sync::broadcast::channel(16);
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let mut receiver = sender.subscribe();
        tasks.spawn(async move { while receiver.recv().await.is_ok() {} });
    }
    for number in 0..100 {
        sender.send(number).expect("listeners");
        yield_now().await;
    }
    drop(sender);
    tasks.join_all().await;
}

async fn notify(long: Duration) {
    let bell = Arc::new(tokio::sync::Notify::new());
    let theirs = Arc::clone(&bell);
    let ringer = tokio::spawn(async move {
        for _ in 0..10 {
            sleep(long / 10).await;
            theirs.notify_one();
        }
    });
    for _ in 0..10 {
        bell.notified().await;
    }
    ringer.await.expect("no panic");
}

async fn timeouts(long: Duration) {
    for _ in 0..10 {
        tokio::time::timeout(long / 10, std::future::pending::<()>()).await.expect_err("for ever");
    }
}

async fn unix_echo(_: Duration) {
    let (mut near, mut far) = tokio::net::UnixStream::pair().expect("a pair");
    let server = tokio::spawn(async move {
        let mut byte = [0];
        while far.read_exact(&mut byte).await.is_ok() {
            far.write_all(&byte).await.expect("a peer");
        }
    });
    for _ in 0..500 {
        near.write_all(b"x").await.expect("a peer");
        near.read_exact(&mut [0]).await.expect("a peer");
    }
    drop(near);
    server.await.expect("no panic");
}

async fn memory_pieces(_: Duration) {
    let mut pieces = Vec::new();
    for _ in 0..64 {
        pieces.push(vec![1u8; 1 << 20]);
        yield_now().await;
    }
    while pieces.pop().is_some() {
        yield_now().await;
    }
}

async fn aborts(_: Duration) {
    for _ in 0..200 {
        let task = tokio::spawn(std::future::pending::<()>());
        yield_now().await;
        task.abort();
        assert!(task.await.expect_err("aborted").is_cancelled());
    }
}

async fn medium_tasks(_: Duration) {
    let mut tasks = JoinSet::new();
    for _ in 0..40 {
        tasks.spawn(async { spin(Duration::from_millis(5)) });
    }
    tasks.join_all().await;
}

/// The queue of the pool has a lock, which a thread may hold that is given no CPU.
async fn small_jobs(_: Duration) {
    for _ in 0..40 {
        let mut jobs = JoinSet::new();
        for _ in 0..4 {
            jobs.spawn_blocking(|| spin(Duration::from_micros(200)));
        }
        jobs.join_all().await;
    }
}

/// Three milliseconds of work under a lock of the standard library, as long as the machine makes them.
async fn lock_of_a_descheduled_thread(_: Duration) {
    let lock = Arc::new(std::sync::Mutex::new(()));
    let (hold, held) = oneshot::channel();
    let theirs = Arc::clone(&lock);
    let holder = spawn_blocking(move || {
        let _guard = theirs.lock().expect("never poisoned");
        let _ = hold.send(());
        spin(Duration::from_millis(3));
    });
    held.await.expect("the lock is held");
    drop(lock.lock().expect("never poisoned"));
    holder.await.expect("no panic");
}

/// Short polls of a thread that another process stops for a while, as strace(1) and a debugger do.
async fn traced_thread(long: Duration) {
    let thread = nix::unistd::gettid();
    let tracer = spawn_blocking(move || crate::tracer::stop(thread, long));
    while !tracer.is_finished() {
        spin(Duration::from_millis(1));
        yield_now().await;
    }
    tracer.await.expect("no panic");
}

async fn thread_to_channel(long: Duration) {
    let (sender, mut receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for number in 0..10 {
            nap(long / 10);
            sender.blocking_send(number).expect("a receiver");
        }
    });
    while receiver.recv().await.is_some() {}
}

/// Both below the budget, and so is their sum.
async fn spin_then_block(_: Duration) {
    for _ in 0..3 {
        spin(Duration::from_millis(20));
        nap(Duration::from_millis(20));
        yield_now().await;
    }
}
