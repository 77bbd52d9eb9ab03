//! A kill function of one's own, held against every fixture on every runtime: each cell is a test.
//!
//! `cargo test --example conformance`, or `cargo nextest run --example conformance`.

use deadbeat::suite::Conformance;

fn main() {
    Conformance::new()
        .subject("ours", |pgid| async move {
            // Here goes the function that is to be judged. This one is deadbeat's.
            deadbeat::kill_process_group(pgid).await;
        })
        // For a grace other than 5 s: .grace(Duration::from_secs(10))
        // For what is not mended yet: .known_failure("ours/stopped/*", "sends no SIGCONT, see issue 7")
        .main()
}
