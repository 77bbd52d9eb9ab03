// Tests that must not compile, each with what the compiler is to say and the text that it is to point at.

// at: wurst
// is: there is no such argument: take `flavor`, `worker_threads`, `budget`, `interval`, `deadline`, `known`, `until`, `crate`, `start_paused`, `unhandled_panic` or `name`
#[deadbeat::test(wurst = 1)]
async fn unknown_argument() {}

// at: multi_thread
// is: there is no such argument: take `flavor`,
#[deadbeat::test(multi_thread)]
async fn flavor_without_its_name() {}

// at: flavor
// is: `flavor` needs a value: `flavor = ..`
#[deadbeat::test(flavor)]
async fn argument_without_a_value() {}

// at: 1 + 1
// is: the value of `worker_threads` must be one literal
#[deadbeat::test(worker_threads = 1 + 1)]
async fn computed_value() {}

// at: "multi"
// is: there is no such flavor: take `current_thread` or `multi_thread`
#[deadbeat::test(flavor = "multi")]
async fn unknown_flavor() {}

// at: "local"
// is: the flavor `local` cannot be watched: take `current_thread`, and `tokio::task::LocalSet` for `spawn_local`
#[deadbeat::test(flavor = "local")]
async fn local_flavor() {}

// at: worker_threads
// is: `worker_threads` needs `flavor = "multi_thread"`: `current_thread` has one worker
#[deadbeat::test(flavor = "current_thread", worker_threads = 2)]
async fn workers_on_one_thread() {}

// at: 0
// is: `worker_threads` must be one or more
#[deadbeat::test(flavor = "multi_thread", worker_threads = 0)]
async fn no_workers() {}

// at: "two"
// is: the value of `worker_threads` must be a whole number
#[deadbeat::test(flavor = "multi_thread", worker_threads = "two")]
async fn workers_in_words() {}

// at: budget
// is: `budget` is there twice
#[deadbeat::test(budget = "60ms", budget = "70ms")]
async fn twice() {}

// at: "4ms"
// is: the budget of 4ms is below the interval of INTERVAL: raise the one or lower the other
#[deadbeat::test(budget = "4ms")]
async fn budget_below_the_interval() {}

// at: "60ms"
// is: the budget of BUDGET is below the interval of 60ms: raise the one or lower the other
#[deadbeat::test(interval = "60ms")]
async fn interval_above_the_budget() {}

// at: 50
// is: the value of `budget` must be a text in quotes
#[deadbeat::test(budget = 50)]
async fn budget_without_a_unit() {}

// at: "50 ms"
// is: `budget` must be a whole number with `ms`, `s` or `m` behind it, as in "50ms"
#[deadbeat::test(budget = "50 ms")]
async fn budget_with_a_blank() {}

// at: "1441m"
// is: `deadline` is longer than a day, which is the most
#[deadbeat::test(deadline = "1441m")]
async fn deadline_of_more_than_a_day() {}

// at: "2027-02-29"
// is: `until` must be a date `YYYY-MM-DD`, as in "2027-03-01"
#[deadbeat::test(known = "blocks, issue 12", until = "2027-02-29")]
async fn until_no_day() {}

// at: until
// is: `until` needs `known = ".."`, which says what stalls until then
#[deadbeat::test(until = "2027-03-01")]
async fn until_without_known() {}

// at: " "
// is: `known` is empty: say what stalls, and why it stays for now
#[deadbeat::test(known = " ")]
async fn known_without_a_reason() {}

// at: true
// is: with tokio's clock paused no beat proves anything: keep `#[tokio::test(start_paused = true)]` for this test
#[deadbeat::test(start_paused = true)]
async fn paused() {}

// at: "shutdown_runtime"
// is: `shutdown_runtime` needs an unstable tokio and is not to be had here: leave it out, or keep `#[tokio::test]`
#[deadbeat::test(unhandled_panic = "shutdown_runtime")]
async fn unhandled_panic() {}

// at: name
// is: `name` is not to be had: leave it out, since the thread has the test's name
#[deadbeat::test(name = "mine")]
async fn name() {}

// at: "tokio"
// is: `crate` is the path of deadbeat here, not of tokio: leave it out
#[deadbeat::test(crate = "tokio")]
async fn path_of_tokio() {}

// at: fn
// is: a test is an `async fn`: `async` is missing before `fn`
#[deadbeat::test]
fn not_async() {}

// at: async unsafe
// is: a test is a plain `async fn`, with no other word before `fn`
#[deadbeat::test]
async unsafe fn unsafe_test() {}

// at: (number: u32)
// is: a test has no parameters; `#[rstest]` above `#[deadbeat::test]` gives them values
#[deadbeat::test]
async fn parameters(number: u32) {}

// at: (#[case] number: u32)
// is: `#[rstest]` must stand above `#[deadbeat::test]`, so that it gives the parameters their values first
#[deadbeat::test]
#[rstest::rstest]
#[case(1)]
async fn rstest_below(#[case] number: u32) {}

// at: <T: Default>
// is: a test has no generic parameters
#[deadbeat::test]
async fn generic<T: Default>() {}

// at: #[tokio::test]
// is: a second test attribute: remove it, or put `#[deadbeat::test]` above what adds it
#[deadbeat::test]
#[tokio::test]
async fn two_attributes() {}

// at: struct NoFunction;
// is: `#[deadbeat::test]` stands above an `async fn`
#[deadbeat::test]
struct NoFunction;

// at: not_send
// is: future cannot be sent between threads safely
#[deadbeat::test(flavor = "multi_thread")]
async fn not_send() {
    let counter = std::rc::Rc::new(5);
    tokio::task::yield_now().await;
    drop(counter);
}

// at: returns_no_result
// is: the trait bound `u32: Termination` is not satisfied
#[deadbeat::test]
async fn returns_no_result() -> u32 {
    5
}
