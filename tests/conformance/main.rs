//! The conformance tests of another project, run as a test runner runs them: what they list, print and leave behind.
//!
//! This program is two in one: the tests, and the other project's test target; see `strangers.rs`.

#[cfg(target_os = "linux")]
mod listing;
#[cfg(target_os = "linux")]
mod mistakes;
#[cfg(target_os = "linux")]
mod strangers;
#[cfg(target_os = "linux")]
mod support;
#[cfg(target_os = "linux")]
mod verdicts;

macro_rules! trials {
    ($($room:ident: $($test:ident)*;)*) => {
        vec![$($(libtest_mimic::Trial::test(concat!(stringify!($room), "::", stringify!($test)), || {
            $room::$test();
            Ok(())
        })),*),*]
    };
}

#[cfg(target_os = "linux")]
fn main() {
    strangers::main_if_asked();
    let trials = trials! {
        listing:
            every_cell_is_a_test_and_so_is_the_control
            a_filter_and_an_exact_name_choose_the_cells
            of_several_filters_a_cell_has_to_fit_one
            a_declaration_that_makes_no_sense_is_an_error_before_anything_is_listed;
        mistakes:
            each_mistake_is_named;
        verdicts:
            a_right_function_passes_and_the_control_is_caught
            a_wrong_function_fails_and_says_why
            a_known_failure_is_run_and_forgiven
            a_known_failure_that_passes_is_an_error
            a_flaky_cell_may_pass_and_may_fail_and_is_said_to_have_done_either
            a_function_that_asks_by_another_signal_is_judged_by_that_one
            what_proves_nothing_is_measured_again_and_what_fails_is_not
            a_hang_is_ended_and_reported_with_its_culprit
            an_abort_is_the_failure_of_its_cell_alone
            a_report_counts_whoever_holds_its_socket
            what_the_function_says_is_told_with_its_failure
            an_interruption_leaves_no_fixture;
    };
    let mut arguments = libtest_mimic::Arguments::from_args();
    // The tests wait far more than they compute.
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials).exit();
}

#[cfg(not(target_os = "linux"))]
fn main() {}
