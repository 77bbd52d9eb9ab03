//! Fifteen honest ways to be busy: none keeps a worker from its scheduler for long.

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

macro_rules! good {
    ($name:literal, $run:ident) => {
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
    Good { name: "block_in_place", run: |long| Box::pin(in_place(long)), multi_thread_only: true },
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
