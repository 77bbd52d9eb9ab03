//! Tests of a crate of its own, which `tests/attribute` builds outside this repository: bad ones and good ones.

use std::net::UdpSocket;
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rstest::rstest;

const LONG: Duration = Duration::from_millis(200);
const SHORT: Duration = Duration::from_millis(20);

/// Counts the runs of a test, in a file that many processes append to.
fn begins(test: &str) {
    use std::io::Write;
    if let Some(file) = std::env::var_os("ATTRIBUTE_RUNS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        file.write_all(format!("{test}\n").as_bytes()).unwrap();
    }
}

/// A computation, not a time: beside others that want its CPU it takes longer, and costs the same.
fn compute() {
    for n in 0..60_000_000_u32 {
        std::hint::black_box(n);
    }
}

mod bad {
    use super::*;

    #[deadbeat::test]
    async fn thread_sleep() {
        begins("bad::thread_sleep");
        println!("printed before the stall");
        std::thread::sleep(LONG);
    }

    #[deadbeat::test]
    async fn process_output() {
        begins("bad::process_output");
        assert!(Command::new("sleep").arg("0.2").output().unwrap().status.success());
    }

    #[deadbeat::test]
    async fn mutex_held_by_another_thread() {
        begins("bad::mutex_held_by_another_thread");
        let mutex = Arc::new(Mutex::new(()));
        let (locked, is_locked) = mpsc::channel();
        let theirs = Arc::clone(&mutex);
        let holder = std::thread::spawn(move || {
            let _guard = theirs.lock().unwrap();
            locked.send(()).unwrap();
            std::thread::sleep(LONG);
        });
        is_locked.recv().unwrap();
        drop(mutex.lock().unwrap());
        holder.join().unwrap();
    }

    #[deadbeat::test]
    async fn a_computation() {
        begins("bad::a_computation");
        compute();
    }

    #[deadbeat::test]
    async fn udp_recv_with_a_timeout() {
        begins("bad::udp_recv_with_a_timeout");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        assert!(socket.recv(&mut [0; 16]).is_err());
    }

    #[deadbeat::test]
    async fn block_in_a_spawned_task() {
        begins("bad::block_in_a_spawned_task");
        tokio::spawn(async { std::thread::sleep(LONG) }).await.unwrap();
    }

    #[deadbeat::test(flavor = "multi_thread", worker_threads = 2)]
    async fn block_in_the_body_on_two_workers() {
        begins("bad::block_in_the_body_on_two_workers");
        std::thread::sleep(LONG);
    }

    #[deadbeat::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_of_two_workers_blocks() {
        begins("bad::one_of_two_workers_blocks");
        let blocks = tokio::spawn(async { std::thread::sleep(LONG) });
        tokio::time::sleep(LONG).await;
        blocks.await.unwrap();
    }

    #[deadbeat::test(deadline = "1s")]
    async fn never_returns() {
        begins("bad::never_returns");
        loop {
            std::thread::park();
        }
    }

    #[deadbeat::test]
    #[should_panic(expected = "as it should")]
    async fn stalls_before_it_panics() {
        begins("bad::stalls_before_it_panics");
        std::thread::sleep(LONG);
        panic!("as it should");
    }

    #[deadbeat::test]
    #[should_panic]
    async fn stalls_and_does_not_panic() {
        begins("bad::stalls_and_does_not_panic");
        std::thread::sleep(LONG);
    }

    #[deadbeat::test]
    async fn returns_an_error() -> Result<(), String> {
        begins("bad::returns_an_error");
        tokio::time::sleep(SHORT).await;
        Err("its own error".to_owned())
    }

    #[deadbeat::test]
    async fn panics() {
        begins("bad::panics");
        tokio::time::sleep(SHORT).await;
        panic!("its own panic");
    }

    #[deadbeat::test]
    async fn pauses_the_clock() {
        begins("bad::pauses_the_clock");
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    #[deadbeat::test(known = "it blocked once, issue 12", until = "9999-12-31")]
    async fn a_known_stall_that_is_gone() {
        begins("bad::a_known_stall_that_is_gone");
        tokio::time::sleep(SHORT).await;
    }

    #[deadbeat::test(known = "it blocks, issue 12", until = "2020-02-29")]
    async fn a_known_stall_for_too_long() {
        begins("bad::a_known_stall_for_too_long");
        std::thread::sleep(LONG);
    }
}

mod good {
    use super::*;

    #[deadbeat::test]
    async fn sleep() {
        begins("good::sleep");
        tokio::time::sleep(LONG).await;
    }

    #[deadbeat::test]
    async fn timers() {
        begins("good::timers");
        let mut interval = tokio::time::interval(Duration::from_millis(7));
        for _ in 0..20 {
            interval.tick().await;
        }
        assert!(tokio::time::timeout(SHORT, std::future::pending::<()>()).await.is_err());
    }

    #[deadbeat::test]
    async fn spawn_blocking() {
        begins("good::spawn_blocking");
        tokio::task::spawn_blocking(|| std::thread::sleep(LONG)).await.unwrap();
    }

    #[deadbeat::test(flavor = "multi_thread", worker_threads = 2)]
    async fn block_in_place() {
        begins("good::block_in_place");
        tokio::task::block_in_place(|| std::thread::sleep(LONG));
    }

    #[deadbeat::test(flavor = "multi_thread")]
    async fn on_as_many_workers_as_there_are_cpus() {
        begins("good::on_as_many_workers_as_there_are_cpus");
        let workers = tokio::runtime::Handle::current().metrics().num_workers();
        assert_eq!(workers, std::thread::available_parallelism().unwrap().get());
        tokio::time::sleep(SHORT).await;
    }

    #[deadbeat::test]
    async fn result_ok() -> Result<(), Box<dyn std::error::Error>> {
        begins("good::result_ok");
        let seven: u32 = "7".parse()?;
        tokio::time::sleep(Duration::from_millis(seven.into())).await;
        Ok(())
    }

    #[deadbeat::test]
    #[should_panic(expected = "as it should")]
    async fn should_panic() {
        begins("good::should_panic");
        tokio::time::sleep(SHORT).await;
        panic!("as it should");
    }

    #[rstest]
    #[case::one(1)]
    #[case::ten(10)]
    #[case::twenty(20)]
    #[deadbeat::test]
    async fn cases(#[case] milliseconds: u64) {
        begins("good::cases");
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    #[deadbeat::test]
    async fn not_send() {
        begins("good::not_send");
        let counter = Rc::new(5);
        tokio::time::sleep(SHORT).await;
        assert_eq!(*counter, 5);
    }

    #[deadbeat::test]
    async fn two_thousand_tasks() {
        begins("good::two_thousand_tasks");
        let naps = (0..2000).map(|n| tokio::time::sleep(Duration::from_millis(n % 50)));
        let tasks: Vec<_> = naps.map(tokio::spawn).collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[deadbeat::test(budget = "500ms", interval = "10ms", deadline = "1m")]
    async fn within_a_budget_of_its_own() {
        begins("good::within_a_budget_of_its_own");
        std::thread::sleep(LONG);
    }

    #[deadbeat::test(known = "it blocks in \"sleep\", issue 12", until = "9999-12-31")]
    async fn a_known_stall() {
        begins("good::a_known_stall");
        std::thread::sleep(LONG);
    }

    #[deadbeat::test]
    async fn thread_has_the_name_of_the_test() {
        begins("good::thread_has_the_name_of_the_test");
        assert_eq!(std::thread::current().name(), Some("good::thread_has_the_name_of_the_test"));
    }

    #[test_log::test(deadbeat::test)]
    async fn with_a_log() {
        begins("good::with_a_log");
        tokio::time::sleep(SHORT).await;
    }

    #[deadbeat::test]
    #[test_log::test]
    async fn above_a_log() {
        begins("good::above_a_log");
        tokio::time::sleep(SHORT).await;
    }

    #[deadbeat::test]
    async fn returns_what_can_end_a_program() -> impl std::process::Termination {
        begins("good::returns_what_can_end_a_program");
        tokio::time::sleep(SHORT).await;
        std::process::ExitCode::SUCCESS
    }

    #[deadbeat::test(crate = "super::by_another_name::ours")]
    async fn by_another_name() {
        begins("good::by_another_name");
        tokio::time::sleep(SHORT).await;
    }

    macro_rules! test {
        ($(#[$attribute:meta])* $visibility:vis $name:ident -> $output:ty, $workers:literal, $body:block) => {
            $(#[$attribute])*
            #[deadbeat::test(flavor = "multi_thread", worker_threads = $workers)]
            $visibility async fn $name() -> $output $body
        };
    }

    test!(
        #[cfg(unix)]
        pub(crate) made_by_a_macro -> Result<(), std::io::Error>,
        1,
        {
            begins("good::made_by_a_macro");
            tokio::time::sleep(SHORT).await;
            Ok(())
        }
    );
}

mod by_another_name {
    pub(crate) use deadbeat as ours;
}
