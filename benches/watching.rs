//! What it costs to be watched: CPU time of a whole process at a 5 ms beat, and time per poll of a watched future.
//!
//! `cargo bench --bench watching`

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab};
use nix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const IDLE: Duration = Duration::from_secs(5);
const ROUNDS: usize = 41;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        println!("watching for {} s, share of one core spent by the whole process", IDLE.as_secs());
        let alone = cpu_share(tokio::time::sleep(IDLE)).await;
        let heartbeat = Heartbeat::new();
        let workers = cpu_share(async { drop(heartbeat.watch(tokio::time::sleep(IDLE)).await) }).await;
        let heartbeat = heartbeat.blocking_pool(true);
        let all = cpu_share(async { drop(heartbeat.watch(tokio::time::sleep(IDLE)).await) }).await;
        let mut ticker = tokio::time::interval(Duration::from_millis(5));
        let end = Instant::now() + IDLE;
        let ticking = cpu_share(async { while ticker.tick().await.into_std() < end {} }).await;
        println!("  not watched             {alone:.3} %");
        println!("  a bare 5 ms ticker      {ticking:.3} %");
        println!("  watched, workers only   {workers:.3} %");
        println!("  watched, blocking pool  {all:.3} %");
        for flavor in [Flavor::CurrentThread, Flavor::MultiThread(2)] {
            let lab = Lab::new(flavor);
            let run = move || lab.run_root(|| tokio::time::sleep(IDLE)).expect("nothing hangs");
            let lab = cpu_share(async { drop(tokio::task::spawn_blocking(run).await) }).await;
            println!("  {:<22}  {lab:.3} %", format!("lab, {flavor}"));
        }

        println!("\nmedian of {ROUNDS} rounds, plain and watched by turns");
        compare("a round trip through two tasks", 1_000, || async { ping_pong(1_000).await }).await;
        compare("100 µs of work and a yield", 200, || async { work(200).await }).await;
        compare("a round trip over loopback TCP", 200, || async { echo(200).await }).await;
        compare("an empty poll", 100_000, || async { polls(100_000).await }).await;
    });
}

/// CPU time of all threads, in per cent of the time that passed.
async fn cpu_share(future: impl Future<Output = ()>) -> f64 {
    let cpu = || Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock"));
    let (begun, before) = (Instant::now(), cpu());
    future.await;
    (cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0
}

async fn compare<F: Future<Output = ()>>(name: &str, times: u32, run: impl Fn() -> F) {
    let (mut plain, mut watched) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        run().await;
        plain.push(begun.elapsed() / times);
        let timed = Heartbeat::new().watch(async {
            let begun = Instant::now();
            run().await;
            begun.elapsed() / times
        });
        watched.push(timed.await.output);
    }
    let (plain, watched) = (median(plain), median(watched));
    let ratio = watched.as_secs_f64() / plain.as_secs_f64();
    println!("  {name:<32} {plain:>10.1?} plain {watched:>10.1?} watched, ratio {ratio:.3}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn ping_pong(times: u32) {
    let (there, mut here) = tokio::sync::mpsc::channel(1);
    let pong = tokio::spawn(async move {
        for number in 0..times {
            if there.send(number).await.is_err() {
                return;
            }
        }
    });
    while here.recv().await.is_some() {}
    pong.await.expect("no panic");
}

async fn echo(times: u32) {
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
    for _ in 0..times {
        stream.write_all(b"x").await.expect("a peer");
        stream.read_exact(&mut [0]).await.expect("a peer");
    }
    drop(stream);
    server.await.expect("no panic");
}

async fn work(times: u32) {
    for _ in 0..times {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(100) {
            std::hint::spin_loop();
        }
        tokio::task::yield_now().await;
    }
}

async fn polls(times: u32) {
    let mut left = times;
    poll_fn(|cx| {
        left -= 1;
        if left == 0 {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
