//! Being busy is not being stuck. Beside each honest kind runs the block that it must be told from.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, Verdict, with_teeth};
use rstest::rstest;
use tokio::task::{JoinSet, yield_now};

use crate::support::{LONG, SHORT, assert_not_accused, assert_starved, block, cpu_time, spawned, spin, starved};

/// 2000 tasks of 100 µs: a fifth of a second in which a ticker task does not get its turn.
async fn many_short_tasks() {
    let mut tasks = JoinSet::new();
    for _ in 0..2000 {
        tasks.spawn(async { spin(Duration::from_micros(100)) });
    }
    tasks.join_all().await;
}

/// The same, with one among them that blocks.
async fn one_block_among_many_short_tasks() {
    let mut tasks = JoinSet::new();
    for nth in 0..2000 {
        tasks.spawn(async move {
            spin(Duration::from_micros(100));
            if nth == 1000 {
                block(LONG);
            }
        });
    }
    tasks.join_all().await;
}

#[rstest]
fn many_short_tasks_are_no_stall_but_one_long_one_among_them_is(
    #[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor,
) {
    starved(|| spawned(flavor, one_block_among_many_short_tasks));
    assert_not_accused(&spawned(flavor, many_short_tasks));
}

/// Beats come on time all the while, on the other worker and then on this one.
#[test]
fn a_block_in_the_middle_of_a_busy_spell_is_found_whoever_turns_the_driver() {
    let busy = |block: fn(Duration)| {
        move || async move {
            let other = tokio::spawn(short_work(300));
            short_work(20).await;
            block(LONG);
            short_work(100).await;
            other.await.unwrap();
        }
    };
    for _ in 0..3 {
        starved(|| spawned(Flavor::MultiThread(2), busy(block)));
    }
    assert_not_accused(&spawned(Flavor::MultiThread(2), busy(|_| ())));
}

async fn short_work(times: u32) {
    for _ in 0..times {
        spin(Duration::from_millis(1));
        yield_now().await;
    }
}

/// The watch is over before its worker has gone idle, so only an observer can tell where its time went.
#[test]
fn a_block_is_found_though_its_worker_has_been_busy_ever_since() {
    let pulse = |block: fn(Duration)| {
        let lab = Lab::new(Flavor::MultiThread(2));
        let watched = lab.run_root(move || async move {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            tokio::spawn(async move {
                block(LONG);
                sender.send(()).unwrap();
                spin(Duration::from_millis(40));
            });
            receiver.await.unwrap();
        });
        watched.unwrap().pulse
    };
    starved(|| pulse(block));
    assert_not_accused(&pulse(|_| ()));
}

#[tokio::test]
async fn a_beat_behind_many_short_tasks_is_queue_delay() {
    let mut delays = Vec::new();
    // On a busy machine the beat may be the last to come, and then it waits behind nothing.
    while delays.len() < 5 && delays.last().is_none_or(|delay| *delay <= Duration::from_millis(50)) {
        let watch = tokio::spawn(async { Heartbeat::new().watch(many_short_tasks()).await });
        let pulse = watch.await.unwrap().pulse;
        assert_not_accused(&pulse);
        delays.push(pulse.queue_delay);
    }
    assert!(delays.last().is_some_and(|delay| *delay > Duration::from_millis(50)), "{delays:?}");
    let bad = tokio::spawn(async { Heartbeat::new().watch(one_block_among_many_short_tasks()).await });
    assert_starved(&bad.await.unwrap().pulse);
}

/// It is back in its scheduler at every turn: a task that waits behind it waits in a queue.
#[rstest]
fn a_spin_on_yield_now_is_a_queue_and_a_spin_without_is_a_stall(
    #[values(Flavor::CurrentThread, Flavor::MultiThread(1))] flavor: Flavor,
) {
    starved(|| spawned(flavor, || async { spin(LONG) }));
    assert_not_accused(&spawned(flavor, || async {
        let begun = cpu_time();
        while cpu_time() - begun < LONG {
            yield_now().await;
        }
    }));
}

/// All of them between two turns of the driver, which a runtime that is not a lab's turns every 61 polls.
#[tokio::test]
async fn forty_tasks_of_five_milliseconds_are_no_stall_but_a_long_one_among_them_is() {
    let tasks = |long: Duration| async move {
        let mut tasks = JoinSet::new();
        for nth in 0..40 {
            tasks.spawn(async move { spin(if nth == 20 { long } else { Duration::from_millis(5) }) });
        }
        tasks.join_all().await;
    };
    assert_starved(&Heartbeat::new().watch(tasks(LONG)).await.pulse);
    assert_not_accused(&Heartbeat::new().watch(tasks(Duration::from_millis(5))).await.pulse);
}

#[rstest]
fn a_long_computation_that_yields_is_fair(#[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor) {
    starved(|| spawned(flavor, || async { (0..15).for_each(|_| spin(SHORT)) }));
    assert_not_accused(&spawned(flavor, || async {
        for _ in 0..15 {
            spin(SHORT);
            yield_now().await;
        }
    }));
}

#[rstest]
fn a_block_on_the_blocking_pool_is_where_it_belongs(
    #[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor,
) {
    with_teeth(
        || spawned(flavor, || async { block(LONG) }),
        || spawned(flavor, || async { tokio::task::spawn_blocking(|| block(LONG)).await.unwrap() }),
    );
}

#[test]
fn block_in_place_hands_its_worker_over() {
    let two = Flavor::MultiThread(2);
    starved(|| spawned(two, || async { block(LONG) }));
    assert_not_accused(&spawned(two, || async { tokio::task::block_in_place(|| block(LONG)) }));
}

/// In a runtime that is not a lab's, where no hook tells of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_task_that_hands_its_worker_over_is_not_accused() {
    let watch = |block: fn()| tokio::spawn(async move { Heartbeat::new().watch(async move { block() }).await });
    assert_starved(&watch(|| block(LONG)).await.unwrap().pulse);
    assert_not_accused(&watch(|| tokio::task::block_in_place(|| block(LONG))).await.unwrap().pulse);
}

/// The thread that takes the worker over blocks in its first poll, before it was seen to be a worker.
#[rstest]
fn a_block_on_the_thread_that_took_a_worker_over_is_not_missed(#[values(1, 2)] workers: usize) {
    let pulse = |time| {
        spawned(Flavor::MultiThread(workers), move || async move {
            let other = tokio::spawn(async move { block(time) });
            tokio::task::block_in_place(|| block(LONG * 2));
            other.await.unwrap();
        })
    };
    let blocked = pulse(LONG);
    assert_ne!(blocked.verdict(), Verdict::Steady, "\n{blocked}");
    assert_not_accused(&pulse(Duration::ZERO));
}

#[rstest]
fn short_blocks_in_a_row_do_not_add_up(#[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor) {
    starved(|| spawned(flavor, || async { (0..12).for_each(|_| block(SHORT)) }));
    assert_not_accused(&spawned(flavor, || async {
        for _ in 0..12 {
            block(SHORT);
            yield_now().await;
        }
    }));
}

/// With so many threads beside it that spin.
fn beside_hogs<T>(hogs: usize, run: impl FnOnce() -> T) -> T {
    /// Also if that panics: the scope waits for them.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        for _ in 0..hogs {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        run()
    })
}

/// Eight of them to a core while both run. The machine is slow; the code is what it was.
#[test]
fn a_slow_machine_accuses_nobody_and_hides_nobody() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (good, _bad) = beside_hogs(8 * cores, || {
        let good = spawned(Flavor::CurrentThread, || async {
            for _ in 0..40 {
                spin(Duration::from_micros(500));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Each of these takes longer than the budget, and most of it is a wait for a CPU.
            for _ in 0..4 {
                spin(Duration::from_millis(20));
                yield_now().await;
            }
        });
        (good, starved(|| spawned(Flavor::CurrentThread, || async { block(LONG) })))
    });
    assert_not_accused(&good);
}

/// `cargo test --release --test heartbeat thousands -- --ignored --nocapture`: the kernel books some sleeps of a busy
/// machine as waits for a CPU, and this prints how many blocks were taken for that.
#[test]
#[ignore = "a minute and a half of load"]
fn of_thousands_of_blocks_on_a_busy_machine_none_is_taken_for_a_wait_for_a_cpu() {
    let block_for_a_while = |flavor: Flavor| {
        let begun = Instant::now();
        let (mut blocks, mut steady) = (0, 0);
        while begun.elapsed() < Duration::from_secs(45) {
            let pulse = spawned(flavor, || async {
                // The thread is moved to another CPU while it falls asleep only if it has just worked.
                spin(Duration::from_millis(2));
                block(LONG);
            });
            blocks += 1;
            steady += u32::from(pulse.verdict() == Verdict::Steady);
        }
        (blocks, steady)
    };
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread(1)] {
        let (blocks, steady) = beside_hogs(8, || {
            let all: Vec<_> = (0..20).map(|_| std::thread::spawn(move || block_for_a_while(flavor))).collect();
            let all = all.into_iter().map(|one| one.join().unwrap());
            all.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
        });
        println!("{flavor}: {blocks} blocks, {steady} of them not seen");
        assert_eq!(steady, 0, "of {blocks}");
    }
}
